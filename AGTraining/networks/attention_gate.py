"""The grid attention gate of Oktay et al. 2018 (section 2.1) with any number of sub-gates."""

from __future__ import annotations

from typing import Literal

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from AGTraining.networks.upsample import upsample

Normalisation = Literal["sigmoid", "softmax"]

# σ(3) = 0.953: with ψ's weights at zero a new gate lets everything through, whatever the input.
PASS_THROUGH_BIAS = 3.0


class SubGate(nn.Module):
    """One additive attention gate: α = norm(ψ(ReLU(θ(x) + φ(g)))), output W(α·x) (equations 1 and 2).

    θ: 2×2×2 convolution with stride 2, no bias; φ: 1×1×1 with bias, resized to θ's grid; ψ: 1×1×1 to one
    channel; W: 1×1×1 convolution and batch norm. The intermediate channels are those of x.
    """

    def __init__(self, channels: int, gating_channels: int, normalisation: Normalisation = "sigmoid") -> None:
        super().__init__()
        if normalisation not in ("sigmoid", "softmax"):
            raise ValueError(f"normalisation must be 'sigmoid' or 'softmax', not {normalisation!r}")
        self.normalisation = normalisation
        self.theta = nn.Conv3d(channels, channels, kernel_size=2, stride=2, bias=False)
        self.phi = nn.Conv3d(gating_channels, channels, kernel_size=1)
        self.psi = nn.Conv3d(channels, 1, kernel_size=1)
        self.output = nn.Sequential(nn.Conv3d(channels, channels, kernel_size=1), nn.BatchNorm3d(channels))

    def reset_psi(self) -> None:
        """Makes the gate pass-through: mean α > 0.95 for any input."""
        nn.init.zeros_(self.psi.weight)
        nn.init.constant_(self.psi.bias, PASS_THROUGH_BIAS)  # type: ignore[arg-type]

    def coefficients(self, x: Tensor, gating: Tensor) -> Tensor:
        """Attention coefficients α on x's grid, (N, 1, D, H, W).

        Sigmoid: in (0, 1). Softmax over space: scaled by the number of positions, so that their mean on the
        gate's own grid is 1 and even attention lets x through unchanged (unscaled they would be of the order of
        1/positions, and the batch norm behind the gate could not recover x).
        """
        theta = self.theta(x)
        phi = self.phi(gating)
        if phi.shape[2:] != theta.shape[2:]:
            phi = F.interpolate(phi, size=theta.shape[2:], mode="trilinear", align_corners=False)
        score = self.psi(F.relu(theta + phi))
        if self.normalisation == "sigmoid":
            alpha = torch.sigmoid(score)
        else:
            positions = score.shape[2] * score.shape[3] * score.shape[4]
            alpha = torch.softmax(score.flatten(2), dim=2).view_as(score) * positions
        return upsample(alpha, 2)

    def forward(self, x: Tensor, gating: Tensor) -> tuple[Tensor, Tensor]:
        """x: (N, C, D, H, W); gating: (N, G, d, h, w). Returns W(α·x) and α, both on x's grid."""
        alpha = self.coefficients(x, gating)
        return self.output(alpha * x), alpha


class GridAttentionGate(nn.Module):
    """m sub-gates side by side; their outputs are concatenated and fused by 1×1×1 conv + BN + ReLU.

    channels: C of the skip connection x; gating_channels: G of the gating signal g.
    sub_gates: m ≥ 1 (the fusing convolution is there for m = 1 too, as in the released network).
    residual: x is also led around the gates and added to what they give (named in both papers' discussions).
    """

    def __init__(
        self,
        channels: int,
        gating_channels: int,
        sub_gates: int = 1,
        normalisation: Normalisation = "sigmoid",
        residual: bool = False,
    ) -> None:
        super().__init__()
        if sub_gates < 1:
            raise ValueError(f"sub_gates must be at least 1, not {sub_gates}")
        self.residual = residual
        self.gates = nn.ModuleList(SubGate(channels, gating_channels, normalisation) for _ in range(sub_gates))
        self.fuse = nn.Sequential(
            nn.Conv3d(sub_gates * channels, channels, kernel_size=1), nn.BatchNorm3d(channels), nn.ReLU(inplace=True)
        )

    def attention_parameters(self) -> list[nn.Parameter]:
        """The parameters of θ, φ and ψ: those that decide on the coefficients."""
        parts = (part for gate in self.gates for part in (gate.theta, gate.phi, gate.psi))
        return [parameter for part in parts for parameter in part.parameters()]  # type: ignore[union-attr]

    def reset_psi(self) -> None:
        """Makes every sub-gate pass-through."""
        for gate in self.gates:
            gate.reset_psi()  # type: ignore[operator]

    def forward(self, x: Tensor, gating: Tensor) -> tuple[Tensor, list[Tensor]]:
        """x: (N, C, D, H, W) with even D, H, W; gating: (N, G, d, h, w).

        Returns the gated skip connection (N, C, D, H, W) and the coefficients of each sub-gate, (N, 1, D, H, W).
        """
        gated, alphas = [], []
        for gate in self.gates:
            output, alpha = gate(x, gating)
            gated.append(output)
            alphas.append(alpha)
        fused = self.fuse(torch.cat(gated, dim=1) if len(gated) > 1 else gated[0])
        return x + fused if self.residual else fused, alphas
