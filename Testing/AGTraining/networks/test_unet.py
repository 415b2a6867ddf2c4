"""Sizes, shapes and behaviour of the 3-D networks (DESIGN.md, section 4)."""

from __future__ import annotations

import gc
import weakref
from collections.abc import Iterator
from contextlib import contextmanager

import pytest
import torch
from torch import Tensor, nn
from torch.utils.flop_counter import FlopCounterMode

from AGTraining.networks import AttentionUNet, SegmentationOutput, UNet3D

FEATURES = (4, 6, 8, 10, 12)


@pytest.fixture(autouse=True)
def seed() -> None:
    torch.manual_seed(0)


@pytest.fixture
def image() -> Tensor:
    return torch.randn(1, 1, 32, 32, 32)


@pytest.mark.parametrize(
    ("build", "expected"),
    [
        (lambda: UNet3D(num_classes=4, features=(16, 32, 64, 128, 256)), 5_888_004),
        (lambda: UNet3D(num_classes=4, features=(16, 33, 67, 134, 268)), 6_444_328),
        (lambda: UNet3D(num_classes=4, features=(21, 42, 85, 170, 341)), 10_403_190),
        (lambda: AttentionUNet(num_classes=4, sub_gates=2), 6_473_322),
        (lambda: AttentionUNet(num_classes=4, sub_gates=1), 6_214_151),
        (lambda: AttentionUNet(num_classes=4, sub_gates=2, gating_conv=False), 6_407_018),
        (lambda: AttentionUNet(num_classes=4, sub_gates=2, residual=True, left_out=[1]), 6_473_322),
    ],
)
def test_number_of_trainable_parameters(build: type[UNet3D], expected: int) -> None:
    with torch.device("meta"):
        network = build()
    assert sum(p.numel() for p in network.parameters() if p.requires_grad) == expected


def flops(network: type[UNet3D]) -> int:
    """Of one forward pass, a multiplication and an addition being two; nothing is computed on the meta device."""
    with torch.device("meta"), FlopCounterMode(display=False) as counter:
        network()(torch.empty(1, 1, 160, 160, 96))
    return counter.get_total_flops()


def test_flops_are_those_of_the_design() -> None:
    unet, attention = flops(UNet3D), flops(AttentionUNet)
    assert unet == 339_409_305_600
    assert attention == 346_650_931_200
    assert attention / unet == pytest.approx(1.021, abs=5e-4)


@pytest.mark.parametrize("network", [UNet3D, AttentionUNet])
@pytest.mark.parametrize("size", [(16, 16, 16), (32, 16, 48)])
def test_logits_have_the_size_of_the_input(network: type[UNet3D], size: tuple[int, int, int]) -> None:
    model = network(in_channels=2, num_classes=3, features=FEATURES).eval()
    assert model(torch.randn(2, 2, *size)).shape == (2, 3, *size)


def test_coefficients_have_the_size_of_their_level(image: Tensor) -> None:
    attention = AttentionUNet(features=FEATURES).eval()(image, attention=True).attention
    for name, alpha in attention.items():
        edge = {"level2": 16, "level3": 8, "level4": 4}[name.split(".")[0]]
        assert alpha.shape == (1, 1, edge, edge, edge)


@pytest.mark.parametrize("sub_gates", [1, 2, 5, 11])
def test_coefficients_are_named_by_level_and_gate(image: Tensor, sub_gates: int) -> None:
    # Level 1, the finest skip connection, has no gate.
    attention = AttentionUNet(features=FEATURES, sub_gates=sub_gates).eval()(image, attention=True).attention
    assert set(attention) == {f"level{n}.gate{m}" for n in (2, 3, 4) for m in range(1, sub_gates + 1)}


def test_a_network_without_gates_has_no_coefficients(image: Tensor) -> None:
    assert UNet3D(features=FEATURES).eval()(image, attention=True).attention == {}
    assert AttentionUNet(features=FEATURES[:2]).eval()(image, attention=True).attention == {}


def test_asking_for_attention_changes_no_logit_and_needs_no_second_pass(image: Tensor) -> None:
    network = AttentionUNet(features=FEATURES).eval()
    calls: list[int] = []
    handle = network.encoder[0].register_forward_pre_hook(lambda module, inputs: calls.append(1))
    output = network(image, attention=True)
    handle.remove()
    assert len(calls) == 1
    assert torch.equal(output.logits, network(image))


@pytest.mark.parametrize("deep_supervision", ["fused", "separate"])
def test_levels_are_class_maps_on_the_input_grid(image: Tensor, deep_supervision: str) -> None:
    network = AttentionUNet(features=FEATURES, deep_supervision=deep_supervision).eval()
    output = network(image, levels=True)
    assert [level.shape for level in output.levels] == 4 * [(1, 4, 32, 32, 32)]
    assert output.attention == {}
    assert torch.equal(output.logits, network(image))


def test_fused_deep_supervision_gives_a_linear_combination_of_the_levels(image: Tensor) -> None:
    network = UNet3D(features=FEATURES).eval()
    output = network(image, levels=True)
    weight = network.fuse.weight[:, :, 0, 0, 0]
    expected = torch.einsum("oc,ncdhw->nodhw", weight, torch.cat(output.levels, dim=1)) + network.fuse.bias.view(
        -1, 1, 1, 1
    )
    torch.testing.assert_close(output.logits, expected, rtol=0, atol=1e-5)


def test_separate_deep_supervision_gives_the_finest_level(image: Tensor) -> None:
    network = UNet3D(features=FEATURES, deep_supervision="separate").eval()
    output = network(image, levels=True)
    assert torch.equal(output.logits, output.levels[0])
    assert network.fuse is None


def test_a_loss_on_separate_levels_trains_every_head(image: Tensor) -> None:
    network = UNet3D(features=FEATURES, deep_supervision="separate")
    sum(level.square().mean() for level in network(image, levels=True).levels).backward()
    assert all(float(head.weight.grad.abs().sum()) > 0 for head in network.heads)


def test_every_parameter_learns(image: Tensor) -> None:
    # ψ's weights start at zero, so what lies before them has no gradient in the very first step.
    network = AttentionUNet(features=FEATURES)
    for gate in network.gates:
        for sub_gate in gate.gates:
            nn.init.normal_(sub_gate.psi.weight)
    network(image.repeat(2, 1, 1, 1, 1) * torch.tensor([1.0, -2.0]).view(2, 1, 1, 1, 1)).square().mean().backward()
    assert [name for name, p in network.named_parameters() if p.grad is None or not torch.isfinite(p.grad).all()] == []
    weights = {name: p for name, p in network.named_parameters() if p.dim() > 1}
    assert [name for name, p in weights.items() if float(p.grad.abs().max()) == 0] == []


@pytest.mark.parametrize(
    ("level", "reached", "not_reached"),
    [
        ("level4", "gating.0.weight", "decoder."),
        ("level3", "decoder.3.0.weight", ("decoder.2.", "decoder.1.", "decoder.0.")),
        ("level2", "decoder.2.0.weight", ("decoder.1.", "decoder.0.")),
    ],
)
def test_a_gate_is_steered_by_the_next_coarser_level(
    image: Tensor, level: str, reached: str, not_reached: str | tuple[str, ...]
) -> None:
    network = AttentionUNet(features=FEATURES)
    for gate in network.gates:
        nn.init.normal_(gate.gates[0].psi.weight)
    alpha = network(image, attention=True).attention[f"{level}.gate1"]
    names = [name for name, _ in network.named_parameters()]
    gradients = dict(zip(names, torch.autograd.grad(alpha.sum(), network.parameters(), allow_unused=True), strict=True))
    assert gradients[reached] is not None and float(gradients[reached].abs().max()) > 0
    assert [name for name, g in gradients.items() if name.startswith(not_reached) and g is not None] == []


@pytest.mark.parametrize("gating_conv", [True, False])
@pytest.mark.parametrize("normalisation", ["sigmoid", "softmax"])
@pytest.mark.parametrize("kind", ["random", "huge", "negative", "constant"])
def test_a_new_network_attends_everywhere(kind: str, normalisation: str, gating_conv: bool) -> None:
    network = AttentionUNet(features=FEATURES, normalisation=normalisation, gating_conv=gating_conv).eval()
    noise = torch.randn(1, 1, 16, 16, 32)
    image = {"random": noise, "huge": 1e5 * noise, "negative": -3.0 - noise.abs(), "constant": torch.ones_like(noise)}
    with torch.no_grad():
        attention = network(image[kind], attention=True).attention
    assert len(attention) == 6
    assert all(float(alpha.mean()) > 0.95 for alpha in attention.values())


def test_convolutions_start_with_he_weights() -> None:
    network = AttentionUNet()
    for name, module in network.named_modules():
        if isinstance(module, nn.Conv3d) and not name.endswith("psi") and module.weight.numel() > 1000:
            fan_in = module.weight[0].numel()
            assert float(module.weight.std()) == pytest.approx((2.0 / fan_in) ** 0.5, rel=0.1), name


@pytest.mark.parametrize("network", [UNet3D, AttentionUNet])
@pytest.mark.parametrize("size", [(32, 32, 24), (8, 32, 32), (33, 32, 32)])
def test_a_size_that_does_not_divide_is_refused_with_what_to_do(
    network: type[UNet3D], size: tuple[int, int, int]
) -> None:
    with pytest.raises(ValueError, match=r"input size .* must be multiples of 16; pad it first"):
        network(features=FEATURES)(torch.zeros(1, 1, *size))


def test_the_divisor_follows_the_number_of_levels() -> None:
    network = UNet3D(features=(4, 6, 8)).eval()
    assert network.divisor == 4
    assert network(torch.zeros(1, 1, 4, 8, 12)).shape == (1, 4, 4, 8, 12)


@pytest.mark.parametrize("shape", [(1, 32, 32, 32), (1, 2, 32, 32, 32)])
def test_an_input_without_the_right_channels_is_refused(shape: tuple[int, ...]) -> None:
    with pytest.raises(ValueError, match=r"expected \(N, 1, D, H, W\)"):
        UNet3D(features=FEATURES)(torch.zeros(shape))


def test_wrong_arguments_are_refused() -> None:
    with pytest.raises(ValueError, match="at least two levels"):
        UNet3D(features=(4,))
    with pytest.raises(ValueError, match="'fused' or 'separate', not 'both'"):
        UNet3D(deep_supervision="both")  # type: ignore[arg-type]
    for left_out in ([0], [4], [1, -1]):
        with pytest.raises(ValueError, match="left_out must be foreground classes below 4"):
            UNet3D(features=FEATURES, left_out=left_out)


def test_residual_gates_are_in_every_gated_level() -> None:
    network = AttentionUNet(features=FEATURES, residual=True)
    assert [gate.residual for gate in network.gates] == [True] * (len(FEATURES) - 2)


@pytest.mark.parametrize("deep_supervision", ["fused", "separate"])
def test_classes_that_are_left_out_are_out_of_the_softmax_and_their_nodes_get_no_gradient(
    image: Tensor, deep_supervision: str
) -> None:
    network = AttentionUNet(features=FEATURES, deep_supervision=deep_supervision, left_out=[2])
    plain = AttentionUNet(features=FEATURES, deep_supervision=deep_supervision)
    plain.load_state_dict(network.state_dict())
    network, plain = network.eval(), plain.eval()
    output = network(image, levels=True)
    others = [0, 1, 3]
    assert torch.equal(output.logits[:, others], plain(image)[:, others])
    logits = output.levels if deep_supervision == "separate" else (output.logits,)
    for level in logits:
        p = torch.softmax(level, dim=1)
        assert p[:, 2].max() == 0.0
        torch.testing.assert_close(p[:, others], torch.softmax(level[:, others], dim=1))
    sum(level.log_softmax(1)[:, :2].sum() for level in logits).backward()
    for node in network.heads if deep_supervision == "separate" else [network.fuse]:
        assert (node.weight.grad[2] == 0).all() and node.bias.grad[2] == 0
        assert node.weight.grad[1].abs().max() > 0


@contextmanager
def no_garbage_collection() -> Iterator[None]:
    """Only reference counts free memory inside: what survives there is held by somebody or is in a cycle."""
    gc.collect()
    gc.disable()
    try:
        yield
    finally:
        gc.enable()


def test_nothing_keeps_coefficients_or_graph_alive(image: Tensor) -> None:
    network = AttentionUNet(features=FEATURES)
    alive: list[weakref.ref[Tensor]] = []
    # An activation that only the graph of the logits holds.
    watch = network.encoder[-1].register_forward_hook(lambda module, inputs, y: alive.append(weakref.ref(y)))
    with no_garbage_collection():
        output: SegmentationOutput | None = network(image, attention=True)
        watch.remove()
        assert output is not None
        alive += [weakref.ref(tensor) for tensor in (output.logits, *output.attention.values())]
        assert len(alive) == 8 and all(reference() is not None for reference in alive)
        output = None
        assert [reference for reference in alive if reference() is not None] == []


def test_repeated_calls_leave_no_tensors_behind(image: Tensor) -> None:
    network = AttentionUNet(features=FEATURES).eval()

    def tensors() -> int:
        return sum(issubclass(type(thing), Tensor) for thing in gc.get_objects())

    network(image, attention=True)
    with no_garbage_collection():
        before = tensors()
        for _ in range(3):
            network(image, attention=True)
        assert tensors() == before


def test_no_hooks_are_registered(image: Tensor) -> None:
    network = AttentionUNet(features=FEATURES).eval()
    network(image, attention=True, levels=True)
    for module in network.modules():
        hooks = (module._forward_hooks, module._forward_pre_hooks, module._backward_hooks, module._backward_pre_hooks)
        assert not any(hooks)
