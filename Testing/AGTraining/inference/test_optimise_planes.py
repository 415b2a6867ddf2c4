"""Networks for frames made ready for inference give what they gave before."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import nn

from AGTraining.inference.optimise_planes import prepare_for_frames
from AGTraining.networks import AGSononet, PlaneOutput, Sononet
from Testing.AGTraining.planes_model import planes_network

KINDS: dict[str, tuple[type[Sononet] | type[AGSononet], dict[str, Any]]] = {
    "sononet": (Sononet, {}),
    "published": (Sononet, {"bias": False, "convs": (2, 2, 3, 3, 3)}),
    "ft": (AGSononet, {}),
    "mean-softmax": (AGSononet, {"aggregation": "mean", "normalisation": "softmax"}),
    "deep_sup-sigmoid-without-bias": (
        AGSononet,
        {"aggregation": "deep_sup", "normalisation": "sigmoid", "bias": False},
    ),
    "concat": (AGSononet, {"aggregation": "concat"}),
}


def images() -> torch.Tensor:
    return torch.randn(2, 1, 32, 48, generator=torch.Generator().manual_seed(0))


@pytest.fixture(params=KINDS.values(), ids=KINDS.keys())
def network(request: pytest.FixtureRequest) -> Sononet | AGSononet:
    kind, arguments = request.param
    return planes_network(kind, **arguments)


def test_logits_levels_and_coefficients_are_the_networks(network: Sononet | AGSononet) -> None:
    with torch.no_grad():
        expected = network(images(), attention=True, levels=True)
    ready = prepare_for_frames(network, "cpu")
    actual = ready(images(), attention=True, levels=True)
    assert isinstance(actual, PlaneOutput)
    # Rounding of float32 in thirteen layers.
    torch.testing.assert_close(actual, expected, atol=1e-5, rtol=1e-4)
    torch.testing.assert_close(ready(images()), expected.logits, atol=1e-5, rtol=1e-4)


def test_batch_norm_is_gone_and_the_given_network_is_as_it_was(network: Sononet | AGSononet) -> None:
    before = {name: value.clone() for name, value in network.state_dict().items()}
    ready = prepare_for_frames(network, "cpu")
    assert not any(isinstance(module, nn.BatchNorm2d) for module in ready.modules())
    assert any(isinstance(module, nn.BatchNorm2d) for module in network.modules())
    after = network.state_dict()
    assert before.keys() == after.keys()
    assert all(torch.equal(value, after[name]) for name, value in before.items())


def test_bfloat16_is_near_and_what_it_returns_is_float32() -> None:
    network = planes_network()
    with torch.no_grad():
        expected = network(images())
    output = prepare_for_frames(network, "cpu", torch.bfloat16)(images(), attention=True)
    assert isinstance(output, PlaneOutput)
    assert output.logits.dtype == output.attention["block3"].dtype == torch.float32
    # Eight bits of precision in thirteen layers.
    torch.testing.assert_close(output.logits, expected, atol=0.1 * float(expected.abs().max()), rtol=0)


def test_input_of_another_type_or_layout_is_taken() -> None:
    ready = prepare_for_frames(planes_network(), "cpu")
    expected = ready(images())
    torch.testing.assert_close(ready(images().double()), expected)
    torch.testing.assert_close(ready(images().transpose(2, 3).contiguous().transpose(2, 3)), expected)


def test_what_may_compute_something_else_is_refused() -> None:
    class Other(Sononet):
        pass

    with pytest.raises(TypeError, match="cannot prepare a Other; expected a Sononet or an AGSononet"):
        prepare_for_frames(Other(num_classes=3, features=2), "cpu")
