from __future__ import annotations

import pytest
import torch
from torch import Tensor
from torch.nn import functional as F

from AGTraining.networks.upsample import upsample

# Sizes of one (where every neighbour lies beyond the border), odd and even.
SHAPES = [(1, 2, 3, 4, 5), (2, 3, 1, 1, 1), (1, 1, 2, 1, 6)]


def a_pair(shape: tuple[int, ...], factor: int, dtype: torch.dtype = torch.float64) -> tuple[Tensor, Tensor]:
    """An input and the gradient of its upsampled version, channels-last."""
    random = torch.Generator().manual_seed(0)
    large = (*shape[:2], *(factor * n for n in shape[2:]))
    x, gradient = (torch.randn(s, generator=random, dtype=torch.float64).to(dtype) for s in (shape, large))
    return x.contiguous(memory_format=torch.channels_last_3d).requires_grad_(), gradient


@pytest.mark.parametrize("shape", SHAPES)
@pytest.mark.parametrize("factor", [1, 2, 3, 4, 8])
def test_value_and_gradient_are_those_of_interpolate(shape: tuple[int, ...], factor: int) -> None:
    x, gradient = a_pair(shape, factor)
    expected = F.interpolate(x, scale_factor=float(factor), mode="trilinear", align_corners=False)
    (expected_gradient,) = torch.autograd.grad(expected, x, gradient)
    actual = upsample(x, factor)
    assert torch.equal(actual, expected)
    torch.testing.assert_close(torch.autograd.grad(actual, x, gradient)[0], expected_gradient, rtol=0, atol=1e-12)


def test_gradient_stays_channels_last() -> None:
    x, gradient = a_pair((1, 4, 3, 4, 5), 2)
    gradient = gradient.contiguous(memory_format=torch.channels_last_3d)
    (result,) = torch.autograd.grad(upsample(x, 2), x, gradient)
    assert result.is_contiguous(memory_format=torch.channels_last_3d)


def test_gradient_in_half_precision_is_right_but_for_rounding() -> None:
    x, gradient = a_pair((1, 8, 6, 6, 6), 2, torch.bfloat16)
    (actual,) = torch.autograd.grad(upsample(x, 2), x, gradient)
    reference = x.detach().double().requires_grad_()
    (expected,) = torch.autograd.grad(upsample(reference, 2), reference, gradient.double())
    # Twelve additions, each rounded to eight bits, mostly in different directions.
    error = (actual.double() - expected).abs().mean() / expected.abs().mean()
    assert actual.dtype == torch.bfloat16
    assert 0 < error < 2**-7


def test_without_gradients_it_is_plain_interpolation() -> None:
    x, _ = a_pair((1, 1, 2, 2, 2), 2)
    with torch.no_grad():
        assert upsample(x, 2).grad_fn is None
    assert upsample(x.detach(), 2).grad_fn is None


def test_it_compiles_into_one_graph_with_its_gradient() -> None:
    x, gradient = a_pair((1, 2, 3, 4, 5), 2)
    compiled = torch.compile(upsample, backend="aot_eager", fullgraph=True)
    (actual,) = torch.autograd.grad(compiled(x, 2), x, gradient)
    (expected,) = torch.autograd.grad(upsample(x, 2), x, gradient)
    torch.testing.assert_close(actual, expected)
