"""A trained plane network rewritten for fast inference: the same function, less arithmetic and less memory traffic.

Batch norm is folded into the convolution before it (algebra; only rounding differs), and weights and activations are
channels-last where the device gains from it.
"""

from __future__ import annotations

import copy
from typing import cast

import torch
from torch import Tensor, nn

from AGTraining.networks import AGSononet, PlaneOutput, Sononet


def prepare_for_frames(
    network: nn.Module, device: torch.device | str, dtype: torch.dtype = torch.float32
) -> InferencePlanes:
    """The network as an `InferencePlanes` on the device; the given network stays as it is.

    dtype: of weights and activations; logits and coefficients are float32 always.
    Raises TypeError for a network that is neither a Sononet nor an AGSononet: a subclass may compute something else.
    """
    if type(network) not in (Sononet, AGSononet):
        raise TypeError(f"cannot prepare a {type(network).__name__}; expected a Sononet or an AGSononet")
    return InferencePlanes(cast(Sononet | AGSononet, network), torch.device(device), dtype)


class InferencePlanes(nn.Module):
    """What `prepare_for_frames` returns: forward only, evaluation mode, no gradients.

    in_channels, num_classes, divisor: as of the network it came from. dtype: of weights and activations.
    """

    def __init__(self, network: Sononet | AGSononet, device: torch.device, dtype: torch.dtype) -> None:
        super().__init__()
        self.in_channels = network.in_channels
        self.num_classes = network.num_classes
        self.divisor = network.divisor
        self.dtype = dtype
        self.memory_format = torch.contiguous_format if device.type == "mps" else torch.channels_last
        self.network = copy.deepcopy(network).eval().requires_grad_(False)
        for number, block in enumerate(self.network.blocks):
            self.network.blocks[number] = _folded(cast(nn.Sequential, block))
        if isinstance(self.network, Sononet):
            self.network.adaptation = _folded(self.network.adaptation)
        self.network.to(device=device, dtype=dtype, memory_format=self.memory_format)  # type: ignore[call-overload]

    @torch.no_grad()
    def forward(self, x: Tensor, attention: bool = False, levels: bool = False) -> Tensor | PlaneOutput:
        """As the network it came from; x of any number type. All that it returns is float32."""
        x = x.to(dtype=self.dtype, memory_format=self.memory_format)
        output = self.network(x, attention=attention, levels=levels)
        if isinstance(output, PlaneOutput):
            return PlaneOutput(output.logits.float(), output.attention, tuple(level.float() for level in output.levels))
        return cast(Tensor, output.float())


def _folded(layers: nn.Sequential) -> nn.Sequential:
    """The layers with each batch norm (its running statistics) folded into the convolution before it."""
    folded: list[nn.Module] = []
    for layer in layers:
        if isinstance(layer, nn.BatchNorm2d):
            folded[-1] = _fold(cast(nn.Conv2d, folded[-1]), layer)
        else:
            folded.append(layer)
    return nn.Sequential(*folded)


def _fold(convolution: nn.Conv2d, norm: nn.BatchNorm2d) -> nn.Conv2d:
    mean, variance = cast(Tensor, norm.running_mean), cast(Tensor, norm.running_var)
    scale = norm.weight.double() / torch.sqrt(variance.double() + norm.eps)
    bias = -mean.double() if convolution.bias is None else convolution.bias.double() - mean.double()
    folded = nn.Conv2d(
        convolution.in_channels,
        convolution.out_channels,
        convolution.kernel_size,  # type: ignore[arg-type]
        padding=convolution.padding,  # type: ignore[arg-type]
        device=convolution.weight.device,
    ).requires_grad_(False)
    folded.weight.copy_(convolution.weight.double() * scale[:, None, None, None])
    cast(Tensor, folded.bias).copy_(bias * scale + norm.bias.double())
    return folded
