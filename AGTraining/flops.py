"""What a network costs: parameters, floating-point operations, and seconds of a forward pass beside other networks."""

from __future__ import annotations

import statistics
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn
from torch.utils.flop_counter import FlopCounterMode

from AGTraining.bundle import NETWORKS

# The size that the papers give their inference times for, along K, J, I.
PAPER_SIZE = (96, 160, 160)


@dataclass(frozen=True)
class Cost:
    """parameters: trainable ones. flops: of one forward pass; a multiplication and an addition count as two."""

    parameters: int
    flops: int


def network_cost(name: str, arguments: Mapping[str, Any], size: Sequence[int] = PAPER_SIZE) -> Cost:
    """The cost of a network of `bundle.NETWORKS` for one image of this size; exact, and nothing is computed.

    size: (D, H, W), or (H, W) for planes. Convolutions and matrix products are counted; what is done to each voxel by
    itself (batch norm, ReLU, pooling, interpolation, the product of the gates) is not, as is usual. Raises ValueError
    for a size that does not fit.
    """
    with torch.device("meta"):
        network = NETWORKS[name](**arguments).eval()
    counter = FlopCounterMode(display=False)
    with counter, torch.no_grad():
        network(_image(network, size, torch.device("meta")))
    parameters = sum(parameter.numel() for parameter in network.parameters() if parameter.requires_grad)
    return Cost(parameters, int(counter.get_total_flops()))


def inference_seconds(
    networks: Mapping[str, nn.Module], size: Sequence[int], device: torch.device, repeats: int = 3
) -> dict[str, float]:
    """The median seconds of a forward pass of each network for one image of this size (D, H, W), as PyTorch runs it.

    The networks take turns, so that whatever else the machine does falls on all of them alike: compare them with each
    other, not with those of another run. They are put on the device and into evaluation mode.
    """
    seconds: dict[str, list[float]] = {name: [] for name in networks}
    with torch.inference_mode():
        for turn in range(repeats + 1):
            for name, network in networks.items():
                network.to(device).eval()
                image = _image(network, size, device)
                _wait(device)
                start = time.perf_counter()
                network(image)
                _wait(device)
                # The first turn finds the fastest algorithms and fills caches.
                if turn:
                    seconds[name].append(time.perf_counter() - start)
    return {name: statistics.median(values) for name, values in seconds.items()}


def _image(network: nn.Module, size: Sequence[int], device: torch.device) -> Tensor:
    return torch.zeros(1, int(network.in_channels), *size, device=device)  # type: ignore[arg-type]


def _wait(device: torch.device) -> None:
    if device.type == "cuda":
        torch.cuda.synchronize(device)
    elif device.type == "mps":
        torch.mps.synchronize()
