"""The 2-D gate's equations against loops, its normalisations, and its gradients."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor

from AGTraining.networks.plane_gate import NORMALISATIONS, PlaneGate, PlaneNormalisation, normalised

CHANNELS, GATING, INNER = 2, 3, 4


def make_gate(normalisation: PlaneNormalisation = "shifted") -> PlaneGate:
    torch.manual_seed(0)
    gate = PlaneGate(CHANNELS, GATING, INNER, normalisation).double()
    torch.nn.init.normal_(gate.psi.bias)
    return gate


def make_input() -> tuple[Tensor, Tensor]:
    generator = torch.Generator().manual_seed(1)
    x = torch.randn(2, CHANNELS, 4, 6, dtype=torch.float64, generator=generator)
    return x, torch.randn(2, GATING, 2, 3, dtype=torch.float64, generator=generator)


def loop_scores(gate: PlaneGate, x: Tensor, gating: Tensor) -> Tensor:
    """ψ(ReLU(θ(x) + φ(g))) of one image, (H, W), with φ(g) doubled in size bilinearly, pixel by pixel."""
    theta, phi, psi = (layer.weight[:, :, 0, 0] for layer in (gate.theta, gate.phi, gate.psi))
    rows, columns = x.shape[1:]
    scores = torch.zeros(rows, columns, dtype=torch.float64)
    for i in range(rows):
        for j in range(columns):
            places = []
            for n, size in ((i, gating.shape[1]), (j, gating.shape[2])):
                centre = max((n + 0.5) / 2 - 0.5, 0.0)
                low = int(centre)
                places.append(((low, 1 - (centre - low)), (min(low + 1, size - 1), centre - low)))
            g = sum(wy * wx * gating[:, y, z] for y, wy in places[0] for z, wx in places[1])
            scores[i, j] = (psi @ torch.relu(theta @ x[:, i, j] + phi @ g) + gate.psi.bias)[0]
    return scores


def test_coefficients_are_those_of_the_equations() -> None:
    gate = make_gate()
    x, gating = make_input()
    _, alpha = gate(x, gating)
    for n in range(2):
        scores = loop_scores(gate, x[n], gating[n])
        shifted = scores - scores.min()
        # Off by the millionth that keeps even attention defined.
        torch.testing.assert_close(alpha[n, 0], shifted / shifted.sum(), atol=2e-6, rtol=1e-5)


@pytest.mark.parametrize("normalisation", NORMALISATIONS)
def test_pooled_vector_is_the_sum_of_what_the_coefficients_let_through(normalisation: PlaneNormalisation) -> None:
    x, gating = make_input()
    pooled, alpha = make_gate(normalisation)(x, gating)
    torch.testing.assert_close(pooled, (alpha * x).sum(dim=(2, 3)))


@pytest.mark.parametrize("layout", [torch.contiguous_format, torch.channels_last])
def test_memory_layout_changes_nothing(layout: torch.memory_format) -> None:
    gate = make_gate()
    x, gating = make_input()
    pooled, alpha = gate(x, gating)
    other = gate(x.contiguous(memory_format=layout), gating.contiguous(memory_format=layout))
    torch.testing.assert_close(other, (pooled, alpha))


def test_without_gradients_it_gives_the_same_and_leaves_its_input_alone() -> None:
    gate = make_gate()
    x, gating = make_input()
    expected = gate(x, gating)
    before = x.clone(), gating.clone()
    with torch.no_grad():
        # The same size: φ(g) is resized to itself.
        gate(x, torch.cat([x, x[:, :1]], dim=1))
        torch.testing.assert_close(gate(x, gating), tuple(part.detach() for part in expected))
    assert torch.equal(x, before[0])
    assert torch.equal(gating, before[1])


def test_shifted_and_softmax_coefficients_sum_to_one_and_the_least_shifted_one_is_zero() -> None:
    scores = torch.randn(3, 1, 5, 7, generator=torch.Generator().manual_seed(2))
    for normalisation in ("shifted", "softmax"):
        alpha = normalised(scores, normalisation)
        assert bool((alpha >= 0).all())
        torch.testing.assert_close(alpha.sum(dim=(1, 2, 3)), torch.ones(3))
    assert float(normalised(scores, "shifted").amin()) < 1e-6
    torch.testing.assert_close(normalised(scores, "softmax").flatten(1), torch.softmax(scores.flatten(1), dim=1))
    torch.testing.assert_close(normalised(scores, "sigmoid") * 35, torch.sigmoid(scores))


@pytest.mark.parametrize("value", [0.0, -3.0, 1e4])
def test_constant_score_gives_even_attention_and_finite_gradients(value: float) -> None:
    scores = torch.full((1, 1, 4, 4), value, requires_grad=True)
    alpha = normalised(scores, "shifted")
    torch.testing.assert_close(alpha, torch.full((1, 1, 4, 4), 1 / 16))
    (alpha * torch.randn(4, 4)).sum().backward()
    assert scores.grad is not None
    assert bool(torch.isfinite(scores.grad).all())


@pytest.mark.parametrize("normalisation", NORMALISATIONS)
def test_gradients_are_those_of_finite_differences(normalisation: PlaneNormalisation) -> None:
    gate = make_gate(normalisation)
    tensors = [*(part.requires_grad_() for part in make_input()), *gate.parameters()]

    def pooled(x: Tensor, gating: Tensor, *weights: Tensor) -> Tensor:
        return gate(x, gating)[0]

    assert torch.autograd.gradcheck(pooled, tensors, atol=1e-6)


def test_unknown_normalisation_is_refused() -> None:
    with pytest.raises(ValueError, match="must be one of shifted, softmax, sigmoid, not 'softplus'"):
        PlaneGate(2, 2, 2, "softplus")  # type: ignore[arg-type]
