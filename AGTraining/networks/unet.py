"""The 3-D U-Net and the Attention U-Net of Oktay et al. 2018 (figure 1)."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal, NamedTuple

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from AGTraining.networks.attention_gate import GridAttentionGate, Normalisation
from AGTraining.networks.upsample import upsample

DeepSupervision = Literal["fused", "separate"]

# The logit of a class that is left out: its probability is exactly 0, and float16 can hold it.
LEFT_OUT = -1e4


class SegmentationOutput(NamedTuple):
    """What a segmentation network can give besides its logits.

    logits: (N, classes, D, H, W).
    attention: coefficients by name, `level2.gate1`, …; each (N, 1, d, h, w) on its level's grid.
    levels: logits of each decoder level, finest first, on the input's grid; empty unless asked for.
    """

    logits: Tensor
    attention: dict[str, Tensor]
    levels: tuple[Tensor, ...]


class ConvBlock(nn.Sequential):
    """Two times 3×3×3 convolution, batch norm, ReLU."""

    def __init__(self, in_channels: int, out_channels: int) -> None:
        layers: list[nn.Module] = []
        for channels in (in_channels, out_channels):
            layers += [
                nn.Conv3d(channels, out_channels, kernel_size=3, padding=1),
                nn.BatchNorm3d(out_channels),
                nn.ReLU(inplace=True),
            ]
        super().__init__(*layers)


class UNet3D(nn.Module):
    """3-D U-Net with deep supervision.

    in_channels: image channels; num_classes: output classes with the background.
    features: channels of the encoder levels, the last one being the bottleneck; n levels need input sizes that
        are multiples of 2^(n-1) (16 for five levels): see `AGTraining.inference.tiles.pad_to_multiple`.
    deep_supervision: `fused` concatenates the class maps of all decoder levels and fuses them by 1×1×1 into the
        logits; `separate` takes the finest level's map as logits and lets the loss score each level.
    left_out: classes whose output nodes are kept, but take no part: out of the softmax, without gradients (the papers'
        fine-tuning on a data set with fewer labels, "AFT").
    """

    def __init__(
        self,
        in_channels: int = 1,
        num_classes: int = 4,
        features: Sequence[int] = (16, 32, 64, 128, 256),
        deep_supervision: DeepSupervision = "fused",
        left_out: Sequence[int] = (),
    ) -> None:
        super().__init__()
        if not set(left_out) <= set(range(1, num_classes)):
            raise ValueError(f"left_out must be foreground classes below {num_classes}, not {tuple(left_out)}")
        if len(features) < 2:
            raise ValueError(f"features needs at least two levels, got {tuple(features)}")
        if deep_supervision not in ("fused", "separate"):
            raise ValueError(f"deep_supervision must be 'fused' or 'separate', not {deep_supervision!r}")
        features = tuple(features)
        self.in_channels = in_channels
        self.num_classes = num_classes
        self.features = features
        self.deep_supervision = deep_supervision
        self.left_out = tuple(left_out)
        self.encoder = nn.ModuleList(
            ConvBlock(i, o) for i, o in zip((in_channels, *features[:-1]), features, strict=True)
        )
        self.decoder = nn.ModuleList(
            ConvBlock(features[n] + features[n + 1], features[n]) for n in range(len(features) - 1)
        )
        self.heads = nn.ModuleList(nn.Conv3d(channels, num_classes, kernel_size=1) for channels in features[:-1])
        self.fuse = (
            nn.Conv3d(num_classes * (len(features) - 1), num_classes, kernel_size=1)
            if deep_supervision == "fused"
            else None
        )
        self.apply(_initialise)

    @property
    def divisor(self) -> int:
        """Input sizes must be multiples of this."""
        return int(2 ** (len(self.features) - 1))

    def attention_parameters(self) -> list[nn.Parameter]:
        """The parameters that decide on the attention coefficients: none here."""
        return []

    def _without_left_out(self, logits: Tensor) -> Tensor:
        if not self.left_out:
            return logits
        return logits.index_fill(1, torch.tensor(self.left_out, device=logits.device), LEFT_OUT)

    def _gate(self, level: int, skip: Tensor, gating: Tensor) -> tuple[Tensor, list[Tensor]]:
        """The skip connection of a level (0 = finest) as the decoder takes it; the plain U-Net passes it on."""
        return skip, []

    def _bottleneck_gating(self, bottleneck: Tensor) -> Tensor:
        return bottleneck

    def forward(self, x: Tensor, attention: bool = False, levels: bool = False) -> Tensor | SegmentationOutput:
        """x: (N, in_channels, D, H, W), D, H, W multiples of `divisor`.

        Returns the logits (N, num_classes, D, H, W); with `attention` or `levels`, a SegmentationOutput.
        Raises ValueError for an input that does not fit.
        """
        if x.dim() != 5 or x.shape[1] != self.in_channels:
            raise ValueError(f"input of shape {tuple(x.shape)}; expected (N, {self.in_channels}, D, H, W)")
        if any(n % self.divisor for n in x.shape[2:]):
            raise ValueError(f"input size {tuple(x.shape[2:])} must be multiples of {self.divisor}; pad it first")
        skips: list[Tensor] = []
        for n, block in enumerate(self.encoder):
            x = block(x if n == 0 else F.max_pool3d(x, 2))
            skips.append(x)
        gating = self._bottleneck_gating(x)
        coefficients: dict[str, Tensor] = {}
        maps: list[Tensor] = []
        skips.pop()
        for n in reversed(range(len(self.decoder))):
            skip, alphas = self._gate(n, skips.pop(), gating)
            if attention:
                coefficients = {f"level{n + 1}.gate{m}": alpha for m, alpha in enumerate(alphas, 1)} | coefficients
            x = self.decoder[n](torch.cat((skip, upsample(x, 2)), dim=1))
            del skip
            gating = x
            if self.fuse is not None or levels or n == 0:
                level_map = self.heads[n](x)
                if n > 0:
                    level_map = upsample(level_map, 2**n)
                maps.insert(0, level_map)
        logits = self._without_left_out(self.fuse(torch.cat(maps, dim=1)) if self.fuse is not None else maps[0])
        if not (attention or levels):
            return logits
        if self.fuse is None:
            maps = [self._without_left_out(level_map) for level_map in maps]
        return SegmentationOutput(logits, coefficients, tuple(maps) if levels else ())


class AttentionUNet(UNet3D):
    """U-Net whose skip connections, but the finest, pass through grid attention gates.

    sub_gates: gates side by side at each level (2 in the authors' released network).
    normalisation: of the coefficients, `sigmoid` (paper) or `softmax` over space.
    gating_conv: whether the bottleneck passes a 1×1×1 convolution + BN + ReLU before it gates the coarsest skip.
    residual: whether each skip connection is also led around its gate.

    Each gate is steered by the next coarser decoder level: gating information of several scales.
    """

    def __init__(
        self,
        in_channels: int = 1,
        num_classes: int = 4,
        features: Sequence[int] = (16, 32, 64, 128, 256),
        deep_supervision: DeepSupervision = "fused",
        sub_gates: int = 2,
        normalisation: Normalisation = "sigmoid",
        gating_conv: bool = True,
        residual: bool = False,
        left_out: Sequence[int] = (),
    ) -> None:
        super().__init__(in_channels, num_classes, features, deep_supervision, left_out)
        features = self.features
        self.sub_gates = sub_gates
        self.normalisation = normalisation
        self.gating = (
            nn.Sequential(
                nn.Conv3d(features[-1], features[-1], kernel_size=1),
                nn.BatchNorm3d(features[-1]),
                nn.ReLU(inplace=True),
            )
            if gating_conv
            else None
        )
        self.gates = nn.ModuleList(
            GridAttentionGate(features[n], features[n + 1], sub_gates, normalisation, residual)
            for n in range(1, len(features) - 1)
        )
        self.apply(_initialise)
        for gate in self.gates:
            gate.reset_psi()  # type: ignore[operator]

    def attention_parameters(self) -> list[nn.Parameter]:
        """θ, φ and ψ of all gates."""
        return [parameter for gate in self.gates for parameter in gate.attention_parameters()]  # type: ignore[operator]

    def _bottleneck_gating(self, bottleneck: Tensor) -> Tensor:
        return bottleneck if self.gating is None else self.gating(bottleneck)

    def _gate(self, level: int, skip: Tensor, gating: Tensor) -> tuple[Tensor, list[Tensor]]:
        if level == 0:
            return skip, []
        gated: tuple[Tensor, list[Tensor]] = self.gates[level - 1](skip, gating)
        return gated


def _initialise(module: nn.Module) -> None:
    """He initialisation of convolutions; unit batch norm."""
    if any(parameter.is_meta for parameter in module.parameters(recurse=False)):
        return  # Nothing to fill; and PyTorch takes a second to get its random numbers for meta tensors ready.
    if isinstance(module, nn.Conv3d):
        nn.init.kaiming_normal_(module.weight, nonlinearity="relu")
        if module.bias is not None:
            nn.init.zeros_(module.bias)
    elif isinstance(module, nn.BatchNorm3d):
        nn.init.ones_(module.weight)
        nn.init.zeros_(module.bias)
