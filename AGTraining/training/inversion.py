"""Pictures from a trained plane network alone: data-free distillation (Yin et al. 2020, "Dreaming to Distill").

A network with batch norm keeps the mean and variance of each channel over the images it was trained on. A picture
that it is sure of and whose channels have these statistics stands in for images of planes of which there are none.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from AGTraining.inference.device import has_native_bfloat16


@dataclass(frozen=True)
class InversionSettings:
    """How pictures are optimised.

    stages: (grain, steps) one after another: in a stage, pictures change in spots of `grain` pixels, so that shapes
    come before grain and no pattern of single pixels carries the class. learning_rate: of Adam, in gray values of 0 to
    1; in each stage half a cosine down to a tenth. statistics: weight of the channels' statistics. variation,
    square_variation: weights of the mean absolute and the mean squared step between neighbours, of the picture's SD 1.
    jitter: largest shift in pixels, new in each step.
    """

    stages: tuple[tuple[int, int], ...] = ((8, 15), (4, 15), (2, 30))
    learning_rate: float = 0.05
    statistics: float = 5.0
    variation: float = 0.5
    square_variation: float = 0.5
    jitter: int = 16


def invert(
    network: nn.Module,
    starts: Tensor,
    targets: Sequence[int] | Tensor,
    scale: float = 1.0,
    settings: InversionSettings | None = None,
    seed: int = 0,
    progress: Callable[[int, float], None] | None = None,
) -> tuple[Tensor, Tensor]:
    """Changes pictures until the network sees their targets in them.

    network: in evaluation mode, (N, 1, H, W) → logits (N, classes). starts: (N, 1, H, W), gray of 0 to 1, of the size
    that the network sees. targets: a class of each. scale: of the network's frame rule, x = scale·(g − mean)/SD.
    progress: called after each step with its number, from 1, and the loss.

    Minimises cross entropy + statistics·D + variation, with D the mean over batch norms and their channels of
    ((μ − μ̂)/σ̂)² + ln²(σ²/σ̂²), where μ, σ are the batch's and μ̂, σ̂ those that are kept. Returns the pictures,
    (N, 1, H, W) in 0 to 1 on the CPU, and the probability of each one's target, (N,). The same arguments give the same
    pictures. Raises ValueError for targets that do not fit the pictures.
    """
    settings = settings or InversionSettings()
    targets = torch.as_tensor(targets, dtype=torch.long)
    if starts.dim() != 4 or len(targets) != len(starts):
        raise ValueError(f"{len(targets)} targets for pictures of shape {tuple(starts.shape)}; one each is needed")
    device = next(network.parameters()).device
    targets = targets.to(device)
    draws = torch.Generator().manual_seed(seed)
    pictures = starts.detach().to(device).float()
    autocast = torch.autocast(device.type, torch.bfloat16, enabled=has_native_bfloat16(device))
    number = 0
    with _without_weight_gradients(network), _statistics_of(network) as distances:
        for grain, steps in settings.stages:
            size = (pictures.shape[2] // grain, pictures.shape[3] // grain)
            change = torch.zeros((len(pictures), 1, *size), device=device, requires_grad=True)
            optimizer = torch.optim.Adam([change], lr=settings.learning_rate)
            schedule = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, steps, settings.learning_rate / 10)
            for _ in range(steps):
                distances.clear()
                optimizer.zero_grad(set_to_none=True)
                changed = _changed(pictures, change)
                seen = standardised(_jittered(changed, settings.jitter, draws))
                with autocast:
                    logits = network(seen * scale)
                loss = F.cross_entropy(logits.float(), targets) + _variation(seen, settings)
                if distances:
                    loss = loss + settings.statistics * torch.stack(distances).mean()
                loss.backward()
                optimizer.step()
                schedule.step()
                number += 1
                if progress is not None:
                    progress(number, float(loss.detach()))
            pictures = _changed(pictures, change).detach()
        with torch.no_grad(), autocast:
            probabilities = torch.softmax(network(standardised(pictures) * scale).float(), dim=1)
    sure = probabilities.gather(1, targets[:, None]).squeeze(1)
    return pictures.cpu(), sure.cpu()


def noise_pictures(count: int, size: tuple[int, int], seed: int = 0) -> Tensor:
    """Pictures to start from, (count, 1, *size) in 0 to 1: dark, with spots of many sizes."""
    draws = torch.Generator().manual_seed(seed)
    total = torch.zeros(count, 1, *size)
    for grain in (2, 8, 32):
        coarse = torch.rand(count, 1, size[0] // grain + 1, size[1] // grain + 1, generator=draws)
        total += F.interpolate(coarse, size=size, mode="bilinear", align_corners=False)
    return (total / 3).square()


def _changed(pictures: Tensor, change: Tensor) -> Tensor:
    if change.shape != pictures.shape:
        change = F.interpolate(change, size=pictures.shape[2:], mode="bilinear", align_corners=False)
    return (pictures + change).clamp(0.0, 1.0)


def standardised(pictures: Tensor) -> Tensor:
    """(N, 1, H, W) with mean 0 and SD 1 each, as a frame rule makes it; zeros for a constant one."""
    centred = pictures - pictures.mean(dim=(1, 2, 3), keepdim=True)
    return centred / (centred.square().mean(dim=(1, 2, 3), keepdim=True) + 1e-8).sqrt()


def _jittered(pictures: Tensor, most: int, draws: torch.Generator) -> Tensor:
    """All pictures shifted by one random vector, around the edges, and mirrored left to right half of the time."""
    down, right = torch.randint(-most, most + 1, (2,), generator=draws).tolist()
    mirrored = bool(torch.randint(2, (), generator=draws))
    pictures = pictures.roll((down, right), dims=(2, 3))
    return pictures.flip(3) if mirrored else pictures


def _variation(pictures: Tensor, settings: InversionSettings) -> Tensor:
    down = pictures[:, :, 1:] - pictures[:, :, :-1]
    right = pictures[..., 1:] - pictures[..., :-1]
    absolute = down.abs().mean() + right.abs().mean()
    return settings.variation * absolute + settings.square_variation * (down.square().mean() + right.square().mean())


@contextmanager
def _statistics_of(network: nn.Module) -> Iterator[list[Tensor]]:
    """A list that each forward pass fills with the distances of the batch norms' inputs from what they have kept."""
    distances: list[Tensor] = []

    def measure(norm: nn.BatchNorm2d, inputs: tuple[Tensor, ...]) -> None:
        x = inputs[0].float()
        variance, mean = torch.var_mean(x, dim=(0, 2, 3), correction=0)
        kept_mean, kept_variance = norm.running_mean, norm.running_var
        assert kept_mean is not None and kept_variance is not None
        kept_variance = kept_variance + norm.eps
        shift = (mean - kept_mean).square() / kept_variance
        spread = torch.log((variance + norm.eps) / kept_variance).square()
        distances.append((shift + spread).mean())

    norms = [
        module for module in network.modules() if isinstance(module, nn.BatchNorm2d) and module.track_running_stats
    ]
    handles = [norm.register_forward_pre_hook(measure) for norm in norms]
    try:
        yield distances
    finally:
        for handle in handles:
            handle.remove()


@contextmanager
def _without_weight_gradients(network: nn.Module) -> Iterator[None]:
    """Only the pictures change: gradients of weights would double the work."""
    wanted = [parameter for parameter in network.parameters() if parameter.requires_grad]
    for parameter in wanted:
        parameter.requires_grad_(False)
    try:
        yield
    finally:
        for parameter in wanted:
            parameter.requires_grad_(True)
