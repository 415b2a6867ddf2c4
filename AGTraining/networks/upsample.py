"""Trilinear upsampling whose gradient is fast, and the same each time on a GPU too."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor
from torch.nn import functional as F


def upsample(x: Tensor, factor: int) -> Tensor:
    """x, (N, C, D, H, W), upsampled trilinearly (align_corners=False) by a whole factor along each spatial axis.

    The value is that of F.interpolate. Its own backward pass first copies channels-last gradients into another layout
    (on two CPU cores it took a tenth of a training step, nine times what this one takes), and on GPUs adds them up in
    an order that changes from run to run.
    """
    if torch.is_grad_enabled() and x.requires_grad:
        upsampled: Tensor = _Upsample.apply(x, factor)
        return upsampled
    return _interpolate(x, factor)


def _interpolate(x: Tensor, factor: int) -> Tensor:
    return F.interpolate(x, scale_factor=float(factor), mode="trilinear", align_corners=False)


class _Upsample(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, x: Tensor, factor: int) -> Tensor:
        ctx.factor = factor
        return _interpolate(x, factor)

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor, None]:
        (gradient,) = gradients
        for axis in (2, 3, 4):
            gradient = _gather(gradient, axis, ctx.factor)
        return gradient, None


def _gather(gradient: Tensor, axis: int, factor: int) -> Tensor:
    """What linear upsampling along one axis does, transposed: each output's gradient goes to the inputs it came from.

    Output number f·i + p lies at i + (p + ½)/f − ½, between input i and a neighbour; there is none beyond the border.
    """
    size = gradient.shape[axis] // factor
    total = torch.zeros_like(gradient.narrow(axis, 0, size))
    for p, part in enumerate(gradient.unflatten(axis, (size, factor)).unbind(axis + 1)):
        place = (p + 0.5) / factor - 0.5
        total.add_(part, alpha=1.0 - abs(place))
        far = abs(place)
        if place < 0:
            total.narrow(axis, 0, size - 1).add_(part.narrow(axis, 1, size - 1), alpha=far)
            total.narrow(axis, 0, 1).add_(part.narrow(axis, 0, 1), alpha=far)
        elif place > 0:
            total.narrow(axis, 1, size - 1).add_(part.narrow(axis, 0, size - 1), alpha=far)
            total.narrow(axis, size - 1, 1).add_(part.narrow(axis, size - 1, 1), alpha=far)
    return total
