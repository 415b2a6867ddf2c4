"""The network prepared for inference computes what the trained network computes."""

from __future__ import annotations

import itertools
from collections.abc import Callable

import pytest
import torch
from torch import Tensor, nn

from AGTraining.inference import optimise
from AGTraining.inference.optimise import InferenceUNet, inference_dtype, prepare_for_inference
from AGTraining.networks import AttentionUNet, SegmentationOutput, UNet3D

FEATURES = (4, 6, 8, 10, 12)
CPU = torch.device("cpu")

NETWORKS = {
    "unet": lambda: UNet3D(features=FEATURES),
    "unet-separate": lambda: UNet3D(features=FEATURES, deep_supervision="separate"),
    "unet-three-levels-two-channels": lambda: UNet3D(in_channels=2, num_classes=3, features=(3, 5, 7)),
    "unet-left-out": lambda: UNet3D(features=FEATURES, left_out=[2]),
    "attention-separate-left-out": lambda: AttentionUNet(
        features=FEATURES, deep_supervision="separate", left_out=[1, 3]
    ),
    "attention-residual": lambda: AttentionUNet(features=FEATURES, residual=True),
} | {
    f"attention-{normalisation}-{sub_gates}-{'conv' if gating_conv else 'plain'}-{supervision}": (
        lambda n=normalisation, m=sub_gates, g=gating_conv, d=supervision: AttentionUNet(
            features=FEATURES, deep_supervision=d, sub_gates=m, normalisation=n, gating_conv=g
        )
    )
    for normalisation, (sub_gates, gating_conv), supervision in itertools.product(
        ("sigmoid", "softmax"), ((1, True), (2, False), (3, True)), ("fused", "separate")
    )
}


def trained_like(network: UNet3D, seed: int = 0) -> UNet3D:
    """Gives every part that starts as zero or one a value of its own, so that no term can hide."""
    generator = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for name, module in network.named_modules():
            if isinstance(module, nn.BatchNorm3d):
                module.running_mean.normal_(0.0, 0.3, generator=generator)
                module.running_var.uniform_(0.5, 2.0, generator=generator)
                module.weight.uniform_(0.5, 1.5, generator=generator)
                module.bias.normal_(0.0, 0.2, generator=generator)
            elif isinstance(module, nn.Conv3d):
                if name.endswith("psi"):
                    module.weight.normal_(0.0, 1.0, generator=generator)
                if module.bias is not None:
                    module.bias.normal_(0.0, 0.2, generator=generator)
    return network.eval()


def image(network: UNet3D, batch: int = 1, seed: int = 1) -> Tensor:
    return torch.randn(batch, network.in_channels, 32, 48, 16, generator=torch.Generator().manual_seed(seed))


def run(network: nn.Module, x: Tensor) -> SegmentationOutput:
    with torch.no_grad():
        return network(x, attention=True)


@pytest.fixture(autouse=True)
def seed() -> None:
    torch.manual_seed(0)


@pytest.fixture(params=NETWORKS.values(), ids=NETWORKS.keys())
def network(request: pytest.FixtureRequest) -> UNet3D:
    return trained_like(request.param())


def test_float32_logits_are_those_of_the_network(network: UNet3D) -> None:
    x = image(network, batch=2)
    expected = run(network, x).logits
    logits = prepare_for_inference(network, CPU, mixed_precision=False)(x)
    assert logits.dtype == torch.float32 and logits.is_contiguous()
    # Another order of additions over 14 layers: some hundred roundings of 1.2e-7.
    torch.testing.assert_close(logits, expected, rtol=0, atol=2e-5 * float(expected.abs().max()))


def test_float32_coefficients_are_those_of_the_network(network: UNet3D) -> None:
    x = image(network)
    expected = run(network, x).attention
    attention = run(prepare_for_inference(network, CPU, mixed_precision=False), x).attention
    assert list(attention) == list(expected)
    for name, alpha in expected.items():
        assert attention[name].dtype == torch.float32
        torch.testing.assert_close(attention[name], alpha, rtol=0, atol=1e-4 * max(1.0, float(alpha.max())))


def test_the_reference_network_is_not_trivial() -> None:
    # The comparisons above mean something only where attention varies and all classes are alive.
    network = trained_like(NETWORKS["attention-sigmoid-2-plain-fused"]())
    output = run(network, image(network))
    assert all(float(alpha.std()) > 0.01 for alpha in output.attention.values())
    assert all(float(channel.std()) > 0.1 for channel in output.logits[0])


def test_mixed_precision_changes_probabilities_little(network: UNet3D) -> None:
    x = image(network)
    prepared = prepare_for_inference(network, CPU, mixed_precision=True)
    assert prepared.dtype == torch.bfloat16
    output = run(prepared, x)
    reference = run(network, x)
    assert output.logits.dtype == torch.float32
    assert all(alpha.dtype == torch.float32 for alpha in output.attention.values())
    difference = (output.logits.softmax(1) - reference.logits.softmax(1)).abs()
    # bfloat16 has 8 bits: 0.4 % a rounding, of which the random weights here average little away.
    assert float(difference.mean()) < 0.01


def test_logits_are_the_same_with_and_without_attention(network: UNet3D) -> None:
    x = image(network)
    prepared = prepare_for_inference(network, CPU, mixed_precision=False)
    assert torch.equal(prepared(x), prepared(x, attention=True).logits)


@pytest.mark.parametrize("slab_voxels", [1, 8 * 48 * 16, 20 * 48 * 16])
def test_slabs_of_the_finest_level_join_without_a_seam(monkeypatch: pytest.MonkeyPatch, slab_voxels: int) -> None:
    network = trained_like(AttentionUNet(features=FEATURES))
    x = image(network)
    prepared = prepare_for_inference(network, CPU, mixed_precision=False)
    monkeypatch.setattr(optimise, "SLAB_VOXELS", 10**9)
    whole = prepared(x)
    monkeypatch.setattr(optimise, "SLAB_VOXELS", slab_voxels)
    torch.testing.assert_close(prepared(x), whole, rtol=0, atol=1e-5 * float(whole.abs().max()))


def test_the_given_network_is_not_touched() -> None:
    network = trained_like(AttentionUNet(features=FEATURES)).train()
    before = {name: value.clone() for name, value in network.state_dict().items()}
    prepared = prepare_for_inference(network, CPU, mixed_precision=True)
    prepared(image(network))
    assert network.training
    assert all(torch.equal(value, before[name]) for name, value in network.state_dict().items())
    own = {tensor.data_ptr() for tensor in network.parameters()}
    assert own.isdisjoint(parameter.data_ptr() for parameter in prepared.parameters())
    assert all(parameter.requires_grad for parameter in network.parameters())


def test_the_prepared_network_is_smaller() -> None:
    network = AttentionUNet(features=FEATURES)
    prepared = prepare_for_inference(network, CPU, mixed_precision=False)
    count = [sum(p.numel() for p in n.parameters()) for n in (network, prepared)]
    assert count[1] < count[0]
    assert not any(isinstance(module, nn.BatchNorm3d) for module in prepared.modules())


def test_the_input_is_not_changed() -> None:
    network = trained_like(AttentionUNet(features=FEATURES))
    x = image(network)
    before = x.clone()
    prepare_for_inference(network, CPU, mixed_precision=False)(x)
    assert torch.equal(x, before)


def test_it_computes_no_gradients() -> None:
    network = trained_like(UNet3D(features=FEATURES))
    logits = prepare_for_inference(network, CPU)(image(network).requires_grad_())
    assert not logits.requires_grad


def test_sizes_that_do_not_fit_are_refused_as_by_the_network() -> None:
    network = UNet3D(features=FEATURES)
    prepared = prepare_for_inference(network, CPU)
    for shape in ((1, 1, 32, 30, 32), (1, 2, 32, 32, 32), (1, 32, 32, 32)):
        messages = []
        for module in (network, prepared):
            with pytest.raises(ValueError) as caught:
                module(torch.zeros(shape))
            messages.append(str(caught.value))
        assert messages[0] == messages[1]


def test_a_network_of_another_kind_is_refused() -> None:
    class Changed(UNet3D):
        pass

    with pytest.raises(TypeError, match="Changed"):
        prepare_for_inference(Changed(features=FEATURES), CPU)


def test_check_can_end_the_forward_pass_anywhere() -> None:
    class Stop(Exception):
        pass

    def passes(calls: int) -> Callable[[], None]:
        """A check that lets so many calls pass and then stops."""
        left = itertools.chain(itertools.repeat(None, calls), [Stop()])

        def check() -> None:
            stop = next(left)
            if stop is not None:
                raise stop

        return check

    network = UNet3D(features=FEATURES)
    # Once before each level, down and up: cancellation within a second means that none of them is left out.
    for calls in range(2 * len(FEATURES) - 1):
        with pytest.raises(Stop):
            prepare_for_inference(network, CPU, check=passes(calls))(torch.zeros(1, 1, 16, 16, 16))


@pytest.mark.parametrize("native", [True, False])
def test_a_cpu_takes_bfloat16_only_where_it_computes_with_it(monkeypatch: pytest.MonkeyPatch, native: bool) -> None:
    monkeypatch.setattr(torch.cpu, "get_capabilities", lambda: {"avx512_f": True, "avx512_bf16": native}, raising=False)
    assert inference_dtype(CPU) == (torch.bfloat16 if native else torch.float32)
    assert inference_dtype(CPU, mixed_precision=False) == torch.float32
    assert inference_dtype(CPU, mixed_precision=True) == torch.bfloat16


def test_apple_gpus_stay_in_float32() -> None:
    assert inference_dtype(torch.device("mps")) == torch.float32


@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA GPU")
def test_cuda_agrees_with_the_cpu() -> None:
    network = trained_like(AttentionUNet(features=FEATURES))
    x = image(network)
    expected = run(network, x)
    prepared: InferenceUNet = prepare_for_inference(network, "cuda")
    output = run(prepared, x.cuda())
    assert prepared.dtype != torch.float32 or torch.cuda.get_device_capability()[0] < 7
    difference = (output.logits.cpu().softmax(1) - expected.logits.softmax(1)).abs()
    assert float(difference.mean()) < 0.01
