"""Batch norm over the batches of all processes."""

from __future__ import annotations

from typing import Any

import torch
import torch.distributed as dist
from torch import Tensor, nn


class SynchronisedBatchNorm(nn.modules.batchnorm._BatchNorm):
    """What nn.SyncBatchNorm does, which runs on GPUs only: for CPUs, with two messages a layer.

    All processes must have batches of one size, as they have in training.
    """

    def forward(self, input: Tensor) -> Tensor:
        """input: (N, C, …); the same shape comes back, normalised by mean and variance over all processes."""
        if not self.training or not dist.is_initialized():
            return super().forward(input)
        processes = dist.get_world_size()
        axes, shape = (0, *range(2, input.dim())), (1, -1, *(1 for _ in range(2, input.dim())))
        x = input.to(self.weight.dtype)
        mean: Tensor = _Sum.apply(x.mean(axes)) / processes
        centred = x - mean.view(shape)
        variance: Tensor = _Sum.apply(centred.square().mean(axes)) / processes
        self._follow(mean, variance, processes * x.numel() // x.shape[1])
        scale = self.weight * torch.rsqrt(variance + self.eps)
        return torch.addcmul(self.bias.view(shape), centred, scale.view(shape)).to(input.dtype)

    def _check_input_dim(self, input: Tensor) -> None:
        """Of any number of axes."""

    @torch.no_grad()
    def _follow(self, mean: Tensor, variance: Tensor, count: int) -> None:
        """The running statistics, as batch norm keeps them: with the unbiased variance of `count` values."""
        assert self.running_mean is not None and self.running_var is not None and self.num_batches_tracked is not None
        self.num_batches_tracked.add_(1)
        momentum = 1.0 / float(self.num_batches_tracked) if self.momentum is None else self.momentum
        self.running_mean.lerp_(mean, momentum)
        self.running_var.lerp_(variance * (count / max(1, count - 1)), momentum)


class _Sum(torch.autograd.Function):
    """The sum over all processes; so is its gradient, because each process's loss depends on the values of all."""

    @staticmethod
    def forward(ctx: Any, values: Tensor) -> Tensor:
        return _sum(values)

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> Tensor:
        return _sum(gradients[0])


def _sum(values: Tensor) -> Tensor:
    total = values.clone(memory_format=torch.contiguous_format)
    dist.all_reduce(total)
    return total


def synchronise_batch_norm(network: nn.Module, device: torch.device) -> nn.Module:
    """The network with batch norm over all processes: PyTorch's on GPUs, `SynchronisedBatchNorm` on CPUs."""
    if device.type != "cpu":
        converted: nn.Module = nn.SyncBatchNorm.convert_sync_batchnorm(network)
        return converted
    for parent in network.modules():
        for name, child in list(parent.named_children()):
            if isinstance(child, nn.BatchNorm2d | nn.BatchNorm3d):
                layer = SynchronisedBatchNorm(child.num_features, child.eps, child.momentum)
                layer.load_state_dict(child.state_dict())
                setattr(parent, name, layer)
    return network
