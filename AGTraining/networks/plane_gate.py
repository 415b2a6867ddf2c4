"""The 2-D attention gate of AG-Sononet (Schlemper et al. 2019, section 3.3)."""

from __future__ import annotations

from typing import Literal, cast

import torch
from torch import Tensor, nn
from torch.nn import functional as F

PlaneNormalisation = Literal["shifted", "softmax", "sigmoid"]
NORMALISATIONS: tuple[PlaneNormalisation, ...] = ("shifted", "softmax", "sigmoid")

# Added to each ψ − min ψ: a constant ψ gives even attention, and otherwise it is too small to be seen.
EVEN = 1e-6


class PlaneGate(nn.Module):
    """α = norm(ψ(ReLU(θ(x) + φ(g)))) and the attended features Σ α·x.

    θ: 1×1 convolution without bias from x's channels C to `inner`; φ: 1×1 without bias from the gating signal's
    channels, resized bilinearly to x's grid; ψ: 1×1 with bias to one channel. Nothing is subsampled, and there is no
    output transform: what counts are the pooled features.
    """

    def __init__(
        self, channels: int, gating_channels: int, inner: int, normalisation: PlaneNormalisation = "shifted"
    ) -> None:
        super().__init__()
        if normalisation not in NORMALISATIONS:
            raise ValueError(f"normalisation must be one of {', '.join(NORMALISATIONS)}, not {normalisation!r}")
        self.normalisation = normalisation
        self.theta = nn.Conv2d(channels, inner, kernel_size=1, bias=False)
        self.phi = nn.Conv2d(gating_channels, inner, kernel_size=1, bias=False)
        self.psi = nn.Conv2d(inner, 1, kernel_size=1)

    def forward(self, x: Tensor, gating: Tensor) -> tuple[Tensor, Tensor]:
        """x: (N, C, H, W); gating: (N, G, h, w). Returns Σ α·x, (N, C), and α, (N, 1, H, W), float32 at least.

        The 1×1 convolutions are products of matrices with a row for each pixel: on CPUs they take half the time of
        PyTorch's convolutions, and the resized φ(g) is added by the product. α·x itself, as large as x, is never made.
        """
        n, channels, height, width = x.shape
        pixels = _pixels(x)
        phi = F.linear(_pixels(gating), self.phi.weight.flatten(1))
        phi = phi.unflatten(0, (n, *gating.shape[2:])).permute(0, 3, 1, 2)
        resized = F.interpolate(phi, size=(height, width), mode="bilinear", align_corners=False)
        inner = F.relu(_add_product(_pixels(resized), pixels, self.theta.weight.flatten(1).T), inplace=True)
        score = torch.matmul(inner, self.psi.weight.flatten(1).T) + cast(Tensor, self.psi.bias)
        alpha = normalised(score.view(n, 1, height, width), self.normalisation)
        pooled = torch.bmm(alpha.to(x.dtype).flatten(2), pixels.view(n, height * width, channels))
        return pooled.squeeze(1), alpha


def _add_product(total: Tensor, a: Tensor, b: Tensor) -> Tensor:
    """The sum total + a·b; in the place of `total` where no gradient needs it: new memory takes as long as the rest."""
    if torch.is_grad_enabled() or not total.dtype == a.dtype == b.dtype:
        return torch.addmm(total, a, b)
    return torch.addmm(total, a, b, out=total)


def _pixels(x: Tensor) -> Tensor:
    """(N, C, H, W) as a matrix (N·H·W, C); nothing is copied where x is channels-last."""
    return x.permute(0, 2, 3, 1).reshape(-1, x.shape[1])


def normalised(score: Tensor, normalisation: PlaneNormalisation) -> Tensor:
    """The coefficients α of the scores ψ, (N, 1, H, W), in float32 at least.

    shifted: (ψ − min ψ) / Σ (ψ − min ψ), even where ψ is constant. softmax: over space. sigmoid: each by itself,
    divided by their number, so that all three sum to the order of 1 (an α of 1 everywhere pools the mean).
    """
    if score.dtype in (torch.float16, torch.bfloat16):
        score = score.float()
    flat = score.flatten(2)
    if normalisation == "softmax":
        alpha = torch.softmax(flat, dim=2)
    elif normalisation == "sigmoid":
        alpha = torch.sigmoid(flat) / flat.shape[2]
    else:
        shifted = flat - flat.amin(dim=2, keepdim=True) + EVEN
        alpha = shifted / shifted.sum(dim=2, keepdim=True)
    return alpha.view_as(score)
