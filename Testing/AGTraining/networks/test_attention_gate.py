"""The gate's equations against loops, its gradients, and how it starts."""

from __future__ import annotations

import itertools
import math

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from AGTraining.networks import GridAttentionGate
from AGTraining.networks.attention_gate import Normalisation, SubGate

CHANNELS = 2
GATING_CHANNELS = 3
NORMALISATIONS: tuple[Normalisation, ...] = ("sigmoid", "softmax")


def make_gate(sub_gates: int = 2, normalisation: Normalisation = "sigmoid", seed: int = 0) -> GridAttentionGate:
    """A gate in float64 and evaluation mode whose every parameter and statistic has a value of its own."""
    torch.manual_seed(seed)
    gate = GridAttentionGate(CHANNELS, GATING_CHANNELS, sub_gates, normalisation).double().eval()
    with torch.no_grad():
        for module in gate.modules():
            if isinstance(module, nn.BatchNorm3d):
                module.running_mean.normal_()
                module.running_var.uniform_(0.5, 2.0)
                module.weight.uniform_(0.5, 1.5)
                module.bias.normal_()
    return gate


def make_input(seed: int = 1, gating_size: tuple[int, int, int] = (2, 3, 2)) -> tuple[Tensor, Tensor]:
    generator = torch.Generator().manual_seed(seed)
    x = torch.randn(1, CHANNELS, 4, 6, 4, dtype=torch.float64, generator=generator)
    gating = torch.randn(1, GATING_CHANNELS, *gating_size, dtype=torch.float64, generator=generator)
    return x, gating


def loop_resize(a: np.ndarray, size: tuple[int, ...]) -> np.ndarray:
    """Trilinear resizing with align_corners=False of (C, D, H, W), voxel by voxel."""
    out = np.zeros((a.shape[0], *size))
    for c, *place in itertools.product(range(a.shape[0]), *(range(n) for n in size)):
        corners = []
        for position, old, new in zip(place, a.shape[1:], size, strict=True):
            centre = max((position + 0.5) * old / new - 0.5, 0.0)
            low = int(centre)
            high = min(low + 1, old - 1)
            corners.append(((low, 1.0 - (centre - low)), (high, centre - low)))
        for (d, wd), (h, wh), (w, ww) in itertools.product(*corners):
            out[c, place[0], place[1], place[2]] += wd * wh * ww * a[c, d, h, w]
    return out


def loop_pointwise(a: np.ndarray, convolution: nn.Conv3d) -> np.ndarray:
    """1×1×1 convolution with bias of (C, D, H, W)."""
    weight = convolution.weight.detach().numpy()[:, :, 0, 0, 0]
    bias = convolution.bias.detach().numpy()
    out = np.zeros((weight.shape[0], *a.shape[1:]))
    for o, d, h, w in np.ndindex(*out.shape):
        out[o, d, h, w] = bias[o] + sum(weight[o, i] * a[i, d, h, w] for i in range(a.shape[0]))
    return out


@torch.no_grad()
def loop_norm(a: np.ndarray, norm: nn.BatchNorm3d) -> np.ndarray:
    out = np.empty_like(a)
    for c in range(a.shape[0]):
        scale = float(norm.weight[c]) / math.sqrt(float(norm.running_var[c]) + norm.eps)
        out[c] = (a[c] - float(norm.running_mean[c])) * scale + float(norm.bias[c])
    return out


def loop_coefficients(gate: SubGate, x: np.ndarray, gating: np.ndarray) -> np.ndarray:
    """α of equations 1 and 2: norm(ψ(ReLU(θ(x) + φ(g)))), upsampled to x: (D, H, W)."""
    weight = gate.theta.weight.detach().numpy()
    theta = np.zeros((CHANNELS, *(n // 2 for n in x.shape[1:])))
    for o, d, h, w in np.ndindex(*theta.shape):
        for i, a, b, c in np.ndindex(CHANNELS, 2, 2, 2):
            theta[o, d, h, w] += weight[o, i, a, b, c] * x[i, 2 * d + a, 2 * h + b, 2 * w + c]
    phi = loop_resize(loop_pointwise(gating, gate.phi), theta.shape[1:])
    score = loop_pointwise(np.maximum(theta + phi, 0.0), gate.psi)[0]
    alpha = np.zeros_like(score)
    if gate.normalisation == "sigmoid":
        for place in np.ndindex(*score.shape):
            alpha[place] = 1.0 / (1.0 + math.exp(-score[place]))
    else:
        total = sum(math.exp(score[place]) for place in np.ndindex(*score.shape))
        for place in np.ndindex(*score.shape):
            alpha[place] = math.exp(score[place]) / total * score.size
    return loop_resize(alpha[None], x.shape[1:])[0]


def loop_gate(gate: GridAttentionGate, x: np.ndarray, gating: np.ndarray) -> tuple[np.ndarray, list[np.ndarray]]:
    """fuse(cat(BN(Wᵢ(αᵢ·x)))) with BN and ReLU."""
    alphas = [loop_coefficients(g, x, gating) for g in gate.gates]
    outputs = [
        loop_norm(loop_pointwise(alpha[None] * x, g.output[0]), g.output[1])
        for g, alpha in zip(gate.gates, alphas, strict=True)
    ]
    fused = loop_norm(loop_pointwise(np.concatenate(outputs), gate.fuse[0]), gate.fuse[1])
    return np.maximum(fused, 0.0), alphas


@pytest.mark.parametrize("gating_size", [(2, 3, 2), (1, 2, 1)], ids=["on the grid of theta", "coarser"])
@pytest.mark.parametrize("sub_gates", [1, 2, 3])
@pytest.mark.parametrize("normalisation", NORMALISATIONS)
def test_equations_against_loops(
    normalisation: Normalisation, sub_gates: int, gating_size: tuple[int, int, int]
) -> None:
    gate = make_gate(sub_gates, normalisation)
    x, gating = make_input(gating_size=gating_size)
    with torch.no_grad():
        output, alphas = gate(x, gating)
    expected, expected_alphas = loop_gate(gate, x[0].numpy(), gating[0].numpy())
    assert len(alphas) == sub_gates
    for alpha, reference in zip(alphas, expected_alphas, strict=True):
        assert float(alpha.std()) > 1e-3, "a constant α would prove nothing"
        np.testing.assert_allclose(alpha[0, 0].numpy(), reference, rtol=0, atol=1e-12)
    np.testing.assert_allclose(output[0].numpy(), expected, rtol=0, atol=1e-12)


def test_residual_gate_adds_the_skip_connection() -> None:
    gate = make_gate(2)
    x, gating = make_input()
    with torch.no_grad():
        plain, alphas = gate(x, gating)
        gate.residual = True
        output, residual_alphas = gate(x, gating)
    assert torch.equal(output, x + plain)
    assert all(torch.equal(a, b) for a, b in zip(alphas, residual_alphas, strict=True))


def test_attention_parameters_are_those_that_decide_on_the_coefficients() -> None:
    gate = make_gate(2)
    x, gating = make_input()
    alphas = gate(x, gating)[1]
    sum(alpha.square().sum() for alpha in alphas).backward()
    reached = {id(parameter) for parameter in gate.parameters() if parameter.grad is not None}
    assert {id(parameter) for parameter in gate.attention_parameters()} == reached


def test_gradients_of_the_whole_gate_are_right() -> None:
    gate = make_gate(sub_gates=2)
    x, gating = make_input()
    parameters = dict(gate.named_parameters())

    def output(x: Tensor, gating: Tensor, *values: Tensor) -> Tensor:
        return torch.func.functional_call(gate, dict(zip(parameters, values, strict=True)), (x, gating))[0]

    values = [p.detach().clone().requires_grad_() for p in parameters.values()]
    assert torch.autograd.gradcheck(output, (x.requires_grad_(), gating.requires_grad_(), *values), fast_mode=True)


def test_softmax_gradients_are_right() -> None:
    gate = make_gate(sub_gates=1, normalisation="softmax")
    x, gating = make_input()
    assert torch.autograd.gradcheck(lambda x, g: gate(x, g)[0], (x.requires_grad_(), gating.requires_grad_()))


def test_gradient_through_the_gate_has_the_two_terms_of_equation_3() -> None:
    # ∂(α·f(x))/∂Φ = α·∂f/∂Φ + f·∂α/∂Φ, for the parameters Φ of the layer f below the gate.
    gate = make_gate(sub_gates=1).gates[0]
    image, gating = make_input()
    layer = nn.Conv3d(CHANNELS, CHANNELS, kernel_size=3, padding=1).double()
    upstream = torch.randn(image.shape, dtype=torch.float64, generator=torch.Generator().manual_seed(2))

    x = layer(image)
    alpha = gate.coefficients(x, gating)
    whole = torch.autograd.grad(alpha * x, layer.weight, upstream, retain_graph=True)[0]
    scaled = torch.autograd.grad(x, layer.weight, alpha.detach() * upstream, retain_graph=True)[0]
    through_alpha = torch.autograd.grad(alpha, layer.weight, (upstream * x.detach()).sum(1, keepdim=True))[0]
    torch.testing.assert_close(whole, scaled + through_alpha, rtol=0, atol=1e-10)
    assert float(through_alpha.abs().max()) > 1e-3


@pytest.mark.parametrize("bias", [-3.0, 0.0, 3.0])
def test_updates_below_the_gate_are_scaled_by_alpha(bias: float) -> None:
    # With an α that does not depend on x only the first term of equation 3 is left.
    image, gating = make_input()
    gate = make_gate(sub_gates=1).gates[0]
    nn.init.zeros_(gate.psi.weight)
    nn.init.constant_(gate.psi.bias, bias)
    layer = nn.Conv3d(CHANNELS, CHANNELS, kernel_size=3, padding=1).double()

    def gradient(through_gate: bool) -> Tensor:
        x = layer(image)
        output = gate(x, gating)[0] if through_gate else gate.output(x)
        return torch.autograd.grad(output.sum(), layer.weight)[0]

    alpha = 1.0 / (1.0 + math.exp(-bias))
    torch.testing.assert_close(gradient(True), alpha * gradient(False), rtol=1e-10, atol=0)


def test_a_closed_gate_stops_the_gradient() -> None:
    image, gating = make_input()
    gate = make_gate(sub_gates=1).gates[0]
    nn.init.zeros_(gate.psi.weight)
    nn.init.constant_(gate.psi.bias, -60.0)
    x = image.requires_grad_()
    gate(x, gating)[0].sum().backward()
    assert float(x.grad.abs().max()) < 1e-20


INPUTS = {
    "random": lambda shape: torch.randn(shape),
    "huge": lambda shape: 1e6 * torch.randn(shape),
    "negative": lambda shape: -10.0 * torch.rand(shape),
    "constant": lambda shape: torch.full(shape, 7.0),
    "zero": lambda shape: torch.zeros(shape),
}


@pytest.mark.parametrize("kind", INPUTS)
@pytest.mark.parametrize("normalisation", NORMALISATIONS)
def test_a_new_gate_lets_everything_through(normalisation: Normalisation, kind: str) -> None:
    torch.manual_seed(0)
    gate = GridAttentionGate(8, 16, sub_gates=3, normalisation=normalisation)
    gate.reset_psi()
    _, alphas = gate(INPUTS[kind]((2, 8, 8, 8, 8)), INPUTS[kind]((2, 16, 4, 4, 4)))
    assert all(float(alpha.mean()) > 0.95 for alpha in alphas)


def test_sigmoid_coefficients_lie_between_0_and_1() -> None:
    gate = make_gate(sub_gates=2)
    x, gating = make_input()
    for alpha in gate(100.0 * x, gating)[1]:
        assert 0.0 <= float(alpha.min()) < float(alpha.max()) <= 1.0


def test_softmax_is_taken_over_space_for_each_image_of_a_batch() -> None:
    # Were it taken over the batch too, a second image would change the first one's coefficients.
    gate = make_gate(sub_gates=1, normalisation="softmax")
    x, gating = make_input()
    alone = gate(x, gating)[1][0]
    together = gate(torch.cat((x, -2.0 * x)), torch.cat((gating, gating)))[1][0]
    torch.testing.assert_close(together[:1], alone, rtol=0, atol=1e-12)
    # Scaled by the number of positions: the mean is 1 on the gate's own grid, here seen through the upsampling,
    # which weights voxels at the border a little differently.
    assert [float(alpha.mean()) for alpha in together] == pytest.approx([1.0, 1.0], abs=0.05)


def test_sub_gates_do_not_share_parameters() -> None:
    gate = make_gate(sub_gates=3)
    x, gating = make_input()
    alphas = gate(x, gating)[1]
    for a, b in itertools.combinations(alphas, 2):
        assert float((a - b).abs().max()) > 1e-3
    assert gate.fuse[0].in_channels == 3 * CHANNELS


@pytest.mark.parametrize("sub_gates", [0, -1])
def test_a_gate_without_sub_gates_is_refused(sub_gates: int) -> None:
    with pytest.raises(ValueError, match="sub_gates must be at least 1"):
        GridAttentionGate(2, 2, sub_gates)


def test_an_unknown_normalisation_is_refused() -> None:
    with pytest.raises(ValueError, match="'sigmoid' or 'softmax', not 'tanh'"):
        GridAttentionGate(2, 2, 1, "tanh")  # type: ignore[arg-type]
