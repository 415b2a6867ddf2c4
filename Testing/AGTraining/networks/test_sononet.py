"""Sononet and AG-Sononet: counts, costs, shapes, aggregations, gradients."""

from __future__ import annotations

from typing import Any, get_args

import pytest
import torch
from torch import nn
from torch.nn import functional as F

from AGTraining.flops import network_cost
from AGTraining.networks import AGSononet, PlaneOutput, Sononet
from AGTraining.networks.sononet import AGGREGATIONS, Aggregation

# Trainable parameters for features 8, 16, 32 and 14 classes (the paper's 0.16/0.65/2.58 M and 0.18/0.70/2.79 M).
COUNTS: dict[str, tuple[int, int, int]] = {
    "Sononet": (162_954, 647_914, 2_583_978),
    "ft": (177_670, 701_318, 2_788_486),
    "mean": (177_068, 700_716, 2_787_884),
    "concat": (177_040, 700_688, 2_787_856),
    # The classifiers of `mean` and that of `concat`.
    "deep_sup": (177_068 + 2_254, 700_716 + 4_494, 2_787_884 + 8_974),
}
SIZE = (32, 48)


def tiny(aggregation: Aggregation = "ft", **arguments: Any) -> AGSononet:
    torch.manual_seed(0)
    return AGSononet(num_classes=5, features=2, aggregation=aggregation, **arguments)


def images(n: int = 2) -> torch.Tensor:
    return torch.randn(n, 1, *SIZE, generator=torch.Generator().manual_seed(1))


@pytest.mark.parametrize("width", [0, 1, 2], ids=["8", "16", "32"])
@pytest.mark.parametrize("kind", COUNTS)
def test_number_of_parameters_is_exact(kind: str, width: int) -> None:
    arguments: dict[str, Any] = {"features": (8, 16, 32)[width]}
    if kind != "Sononet":
        arguments["aggregation"] = kind
    name = "Sononet" if kind == "Sononet" else "AGSononet"
    assert network_cost(name, arguments, SIZE).parameters == COUNTS[kind][width]


@pytest.mark.parametrize(("features", "rows", "columns"), [(8, 208, 272), (16, 208, 272), (16, 64, 32)])
def test_floating_point_operations_are_those_of_the_layers(features: int, rows: int, columns: int) -> None:
    channels = [features * width for width in (1, 2, 4, 8, 8)]
    pixels = [rows * columns // 4**n for n in range(5)]
    trunk = 0
    before = 1
    for width, place, convs in zip(channels, pixels, (3, 3, 3, 2, 2), strict=True):
        for _ in range(convs):
            trunk += 2 * 9 * before * width * place
            before = width
    top = channels[-1]
    adaptation = 2 * pixels[4] * (top * top // 2 + top // 2 * 14)
    assert network_cost("Sononet", {"features": features}, (rows, columns)).flops == trunk + adaptation
    # Each gate: θ, ψ and the pooled vector on its own grid, φ on block 5's; then the classifiers and the fusing layer.
    gates = sum(2 * pixels[n] * (channels[n] * top + top + channels[n]) + 2 * pixels[4] * top * top for n in (2, 3))
    classifiers = 2 * 14 * sum(channels[2:]) + 2 * 14 * 3 * 14
    cost = network_cost("AGSononet", {"features": features, "aggregation": "ft"}, (rows, columns))
    assert cost.flops == trunk + gates + classifiers


def test_published_layout_has_its_convolutions_and_no_bias() -> None:
    network = Sononet(convs=(2, 2, 3, 3, 3), bias=False)
    convolutions = [module for module in network.modules() if isinstance(module, nn.Conv2d)]
    assert len(convolutions) == 15
    assert all(convolution.bias is None for convolution in convolutions)
    shapes = [(c.in_channels, c.out_channels, c.kernel_size[0]) for c in convolutions]
    assert shapes[:5] == [(1, 16, 3), (16, 16, 3), (16, 32, 3), (32, 32, 3), (32, 64, 3)]
    assert shapes[-2:] == [(128, 64, 1), (64, 14, 1)]
    # Of the weights file: the convolutions alone, and gamma and beta of each batch norm.
    assert sum(p.numel() for p in network.parameters()) == 930_796


@pytest.mark.parametrize("aggregation", AGGREGATIONS)
def test_output_has_logits_attention_by_name_and_levels(aggregation: Aggregation) -> None:
    network = tiny(aggregation).eval()
    output = network(images(), attention=True, levels=True)
    assert isinstance(output, PlaneOutput)
    assert output.logits.shape == (2, 5)
    assert {name: tuple(alpha.shape) for name, alpha in output.attention.items()} == {
        "block3": (2, 1, 8, 12),
        "block4": (2, 1, 4, 6),
    }
    assert [tuple(level.shape) for level in output.levels] == ([] if aggregation == "concat" else [(2, 5)] * 3)
    assert torch.equal(network(images()), output.logits)
    only_attention = network(images(), attention=True)
    assert isinstance(only_attention, PlaneOutput)
    assert (len(only_attention.attention), only_attention.levels) == (2, ())


def test_sononet_has_neither_attention_nor_levels() -> None:
    network = Sononet(num_classes=5, features=2).eval()
    output = network(images(), attention=True, levels=True)
    assert isinstance(output, PlaneOutput)
    assert (output.attention, output.levels) == ({}, ())
    assert torch.equal(network(images()), output.logits)
    assert output.logits.shape == (2, 5)
    assert network.attention_parameters() == []


def test_sononets_logits_are_the_mean_of_the_class_maps() -> None:
    network = Sononet(num_classes=5, features=2).eval()
    x = images()
    for n, block in enumerate(network.blocks):
        x = block(F.max_pool2d(x, 2) if n else x)
    torch.testing.assert_close(network(images()), network.adaptation(x).mean(dim=(2, 3)))


def test_mean_gives_the_mean_of_the_scales_probabilities() -> None:
    output = tiny("mean").eval()(images(), levels=True)
    assert isinstance(output, PlaneOutput)
    expected = torch.stack([torch.softmax(level, dim=1) for level in output.levels]).mean(dim=0)
    torch.testing.assert_close(torch.softmax(output.logits, dim=1), expected)
    torch.testing.assert_close(output.logits.exp(), expected)


def test_fused_layer_starts_as_the_mean_of_the_logits_and_can_be_reset() -> None:
    network = tiny("ft").eval()
    output = network(images(), levels=True)
    assert isinstance(output, PlaneOutput)
    torch.testing.assert_close(output.logits, torch.stack(output.levels).mean(dim=0))
    nn.init.normal_(network.classifier.weight)
    assert not torch.allclose(network(images()), output.logits)
    network.reset_fusion()
    torch.testing.assert_close(network(images()), output.logits)


@pytest.mark.parametrize("aggregation", ["concat", "deep_sup"])
def test_joined_classifier_sees_all_three_vectors(aggregation: Aggregation) -> None:
    network = tiny(aggregation).eval()
    before = network(images())
    for start, stop in ((0, 8), (8, 24), (24, 40)):
        changed = tiny(aggregation).eval()
        with torch.no_grad():
            changed.classifier.weight[:, start:stop] = 0
        assert not torch.allclose(changed(images()), before)


def test_reset_of_a_layer_that_is_not_there_is_refused() -> None:
    with pytest.raises(ValueError, match="aggregation 'mean' has no layer that fuses the scales"):
        tiny("mean").reset_fusion()


@pytest.mark.parametrize("aggregation", AGGREGATIONS)
@pytest.mark.parametrize("normalisation", ["shifted", "softmax", "sigmoid"])
def test_every_parameter_gets_a_gradient(aggregation: Aggregation, normalisation: Any) -> None:
    network = tiny(aggregation, normalisation=normalisation)
    output = network(images(4), levels=True)
    assert isinstance(output, PlaneOutput)
    target = torch.arange(4)
    loss = sum((F.cross_entropy(logits, target) for logits in (output.logits, *output.levels)), torch.zeros(()))
    loss.backward()
    for name, parameter in network.named_parameters():
        assert parameter.grad is not None, name
        assert bool(torch.isfinite(parameter.grad).all()), name
    # A bias of ψ shifts all scores alike, and one before a batch norm is subtracted again: both have no effect.
    for name, parameter in network.named_parameters():
        if name.endswith("weight"):
            assert float(parameter.grad.abs().max()) > 0, name  # type: ignore[union-attr]


def test_attention_parameters_are_those_of_the_gates() -> None:
    network = tiny()
    names = {id(parameter): name for name, parameter in network.named_parameters()}
    found = {names[id(parameter)] for parameter in network.attention_parameters()}
    assert found == {name for name in names.values() if name.startswith("gates.")}
    assert len(found) == 8


def test_every_weight_of_the_blocks_has_the_name_and_shape_that_a_sononet_gives_it() -> None:
    plain, gated = Sononet(num_classes=5, features=2).state_dict(), tiny().state_dict()
    common = {name for name in plain if name in gated and plain[name].shape == gated[name].shape}
    assert common == {name for name in plain if not name.startswith("adaptation.")}
    assert common == {name for name in gated if name.startswith("blocks.")}


def test_a_constant_image_has_finite_logits() -> None:
    with torch.no_grad():
        output = tiny().eval()(torch.zeros(1, 1, *SIZE), attention=True)
    assert isinstance(output, PlaneOutput)
    assert bool(torch.isfinite(output.logits).all())
    assert all(float(alpha.sum()) == pytest.approx(1.0, abs=1e-5) for alpha in output.attention.values())


@pytest.mark.parametrize("gradients", [True, False])
def test_bfloat16_autocast_gives_nearly_the_same(gradients: bool) -> None:
    network = tiny().eval()
    with torch.no_grad():
        expected = network(images())
    with torch.set_grad_enabled(gradients), torch.autocast("cpu", torch.bfloat16):
        output = network(images(), attention=True)
    assert isinstance(output, PlaneOutput)
    assert output.attention["block3"].dtype == torch.float32
    # Eight bits of precision in thirteen layers.
    torch.testing.assert_close(
        output.logits.detach().float(), expected, atol=0.1 * float(expected.abs().max()), rtol=0.1
    )


@pytest.mark.parametrize("kind", [Sononet, AGSononet])
def test_is_built_without_memory_on_the_meta_device(kind: type[nn.Module]) -> None:
    with torch.device("meta"):
        network = kind()
    assert all(parameter.is_meta for parameter in network.parameters())
    assert network(torch.zeros(2, 1, *SIZE, device="meta")).shape == (2, 14)


@pytest.mark.parametrize("shape", [(1, 1, 30, 48), (1, 2, 32, 48), (1, 1, 32), (1, 1, 0, 48)], ids=str)
def test_input_that_does_not_fit_is_refused(shape: tuple[int, ...]) -> None:
    with pytest.raises(ValueError, match="must be multiples of 16|expected .N, 1, H, W."):
        tiny()(torch.zeros(shape))


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"convs": (3, 3)}, "convs must be 5 numbers"),
        ({"convs": (3, 3, 3, 0, 2)}, "convs must be 5 numbers"),
        ({"features": 0}, "at least 1"),
        ({"aggregation": "max"}, "aggregation must be one of concat, mean, deep_sup, ft"),
        ({"normalisation": "none"}, "normalisation must be one of"),
    ],
)
def test_wrong_arguments_are_refused(arguments: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        AGSononet(**arguments)


def test_constants_name_all_aggregations() -> None:
    assert get_args(Aggregation) == AGGREGATIONS
