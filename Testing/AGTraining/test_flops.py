"""Parameters and floating-point operations are exact, and networks are timed beside each other."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import nn

from AGTraining.flops import Cost, inference_seconds, network_cost
from AGTraining.networks import AttentionUNet, UNet3D


@pytest.mark.parametrize(
    ("name", "arguments", "parameters", "gflop"),
    [
        ("UNet3D", {}, 5_888_004, 339.4),
        ("AttentionUNet", {"sub_gates": 2}, 6_473_322, 346.7),
        ("AttentionUNet", {"sub_gates": 2, "gating_conv": False}, 6_407_018, 346.6),
        ("UNet3D", {"features": (16, 33, 67, 134, 268)}, 6_444_328, 354.7),
        ("UNet3D", {"features": (21, 42, 85, 170, 341)}, 10_403_190, 587.1),
    ],
)
def test_networks_of_the_papers_cost_what_the_design_says(
    name: str, arguments: dict[str, Any], parameters: int, gflop: float
) -> None:
    cost = network_cost(name, arguments)

    assert cost.parameters == parameters
    # The design gives one decimal.
    assert cost.flops / 1e9 == pytest.approx(gflop, abs=0.05)


def test_flops_are_twice_the_multiplications_of_the_convolutions() -> None:
    # Two levels, one class pair: counted by hand for an image of 4 × 4 × 4, 64 voxels, 8 at the coarse level.
    fine, coarse = 64, 8
    by_hand = 27 * (1 * 2 + 2 * 2) * fine + 27 * (2 * 3 + 3 * 3) * coarse + 27 * (5 * 2 + 2 * 2) * fine
    by_hand += 2 * 2 * fine + 2 * 2 * fine  # head and fusion, 1 × 1 × 1

    assert network_cost("UNet3D", {"num_classes": 2, "features": (2, 3)}, (4, 4, 4)).flops == 2 * by_hand


def test_counting_computes_nothing_and_leaves_random_numbers_alone() -> None:
    before = torch.get_rng_state()

    # 40 GB of activations, if they were made.
    cost = network_cost("UNet3D", {}, (512, 512, 512))

    assert isinstance(cost, Cost)
    assert torch.equal(torch.get_rng_state(), before)


def test_times_are_medians_of_turns_after_a_first_one() -> None:
    calls: list[str] = []

    class Told(UNet3D):
        def __init__(self, name: str) -> None:
            super().__init__(num_classes=2, features=(2, 3))
            self.name = name

        def forward(self, *arguments: Any, **options: Any) -> Any:
            assert not self.training and torch.is_inference_mode_enabled()
            calls.append(self.name)
            return super().forward(*arguments, **options)

    networks: dict[str, nn.Module] = {"a": Told("a"), "b": Told("b")}
    seconds = inference_seconds(networks, (4, 4, 4), torch.device("cpu"), repeats=2)

    assert calls == ["a", "b"] * 3
    assert all(value > 0 for value in seconds.values()) and list(seconds) == ["a", "b"]


def test_a_larger_network_takes_longer_in_the_same_run() -> None:
    networks = {
        "small": AttentionUNet(features=(2, 4), sub_gates=1),
        "large": AttentionUNet(features=(24, 48), sub_gates=1),
    }

    seconds = inference_seconds(networks, (32, 32, 32), torch.device("cpu"))

    # Over a hundred times the operations: true whatever else the machine does.
    assert seconds["large"] > 2 * seconds["small"]
