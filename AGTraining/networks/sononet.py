"""Sononet and AG-Sononet of Schlemper et al. 2019 (sections 3.3 and 4.2): which standard plane a frame shows."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Literal, NamedTuple

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from AGTraining.networks.plane_gate import PlaneGate, PlaneNormalisation

Aggregation = Literal["concat", "mean", "deep_sup", "ft"]
AGGREGATIONS: tuple[Aggregation, ...] = ("concat", "mean", "deep_sup", "ft")

# Channels of the five blocks as multiples of the first block's.
WIDTHS = (1, 2, 4, 8, 8)


class PlaneOutput(NamedTuple):
    """What a plane network can give besides its logits.

    logits: (N, classes). attention: the coefficients α by name, `block3` and `block4`, each (N, 1, h, w) in float32 on
    its block's grid; empty for a Sononet. levels: the logits of each scale by itself (block 3, 4 and 5, each
    (N, classes)); empty unless asked for, and where the network has no classifier for each scale.
    """

    logits: Tensor
    attention: dict[str, Tensor]
    levels: tuple[Tensor, ...]


class PlaneBlock(nn.Sequential):
    """n times 3×3 convolution, batch norm, ReLU."""

    def __init__(self, in_channels: int, out_channels: int, convs: int, bias: bool) -> None:
        layers: list[nn.Module] = []
        for n in range(convs):
            channels = out_channels if n else in_channels
            layers += [
                nn.Conv2d(channels, out_channels, kernel_size=3, padding=1, bias=bias),
                nn.BatchNorm2d(out_channels),
                nn.ReLU(inplace=True),
            ]
        super().__init__(*layers)


class PlaneNetwork(nn.Module):
    """What Sononet and AG-Sononet have in common: five blocks of convolutions with max-pools of 2 between them.

    in_channels: image channels; num_classes: output classes with the background.
    features: channels F of the first block; the five have F·(1, 2, 4, 8, 8).
    convs: convolutions of each block. The papers' count of parameters is that of (3, 3, 3, 2, 2); the published
        SonoNet weights are for (2, 2, 3, 3, 3).
    bias: whether convolutions before a batch norm have a bias; those of the published weights have none.
    """

    def __init__(
        self,
        in_channels: int = 1,
        num_classes: int = 14,
        features: int = 16,
        convs: Sequence[int] = (3, 3, 3, 2, 2),
        bias: bool = True,
    ) -> None:
        super().__init__()
        convs = tuple(convs)
        if len(convs) != len(WIDTHS) or min(convs) < 1:
            raise ValueError(f"convs must be {len(WIDTHS)} numbers from 1 up, not {convs}")
        if min(in_channels, num_classes, features) < 1:
            raise ValueError("in_channels, num_classes and features must be at least 1")
        self.in_channels = in_channels
        self.num_classes = num_classes
        self.features = features
        self.convs = convs
        self.bias = bias
        self.channels = tuple(features * width for width in WIDTHS)
        self.blocks = nn.ModuleList(
            PlaneBlock(i, o, n, bias)
            for i, o, n in zip((in_channels, *self.channels[:-1]), self.channels, convs, strict=True)
        )

    @property
    def divisor(self) -> int:
        """Input sizes must be multiples of this."""
        return int(2 ** (len(WIDTHS) - 1))

    def attention_parameters(self) -> list[nn.Parameter]:
        """The parameters that decide on the attention coefficients: none here."""
        return []

    def _feature_maps(self, x: Tensor) -> list[Tensor]:
        """The output of each block. Raises ValueError for an input that does not fit."""
        if x.dim() != 4 or x.shape[1] != self.in_channels:
            raise ValueError(f"input of shape {tuple(x.shape)}; expected (N, {self.in_channels}, H, W)")
        if any(n < self.divisor or n % self.divisor for n in x.shape[2:]):
            raise ValueError(f"input size {tuple(x.shape[2:])} must be multiples of {self.divisor}")
        maps: list[Tensor] = []
        for n, block in enumerate(self.blocks):
            x = block(F.max_pool2d(x, 2) if n else x)
            maps.append(x)
        return maps


class Sononet(PlaneNetwork):
    """Sononet (Baumgartner et al. 2017): the class maps of the last block, averaged over space.

    Behind the blocks an adaptation layer: 1×1 to half the channels, BN, ReLU, 1×1 to the classes, BN; then the mean.
    Arguments as `PlaneNetwork`.
    """

    def __init__(
        self,
        in_channels: int = 1,
        num_classes: int = 14,
        features: int = 16,
        convs: Sequence[int] = (3, 3, 3, 2, 2),
        bias: bool = True,
    ) -> None:
        super().__init__(in_channels, num_classes, features, convs, bias)
        top = self.channels[-1]
        self.adaptation = nn.Sequential(
            nn.Conv2d(top, top // 2, kernel_size=1, bias=bias),
            nn.BatchNorm2d(top // 2),
            nn.ReLU(inplace=True),
            nn.Conv2d(top // 2, num_classes, kernel_size=1, bias=bias),
            nn.BatchNorm2d(num_classes),
        )
        self.apply(_initialise)

    def forward(self, x: Tensor, attention: bool = False, levels: bool = False) -> Tensor | PlaneOutput:
        """x: (N, in_channels, H, W), H and W multiples of `divisor`.

        Returns the logits (N, num_classes); with `attention` or `levels`, a PlaneOutput. Raises ValueError for an input
        that does not fit.
        """
        logits = self.adaptation(self._feature_maps(x)[-1]).mean(dim=(2, 3))
        return PlaneOutput(logits, {}, ()) if attention or levels else logits


class AGSononet(PlaneNetwork):
    """AG-Sononet: blocks 3 and 4 pooled under attention that block 5 steers, and the mean of block 5.

    aggregation: what becomes of the three vectors (block 3, block 4, block 5).
        `concat`: one linear classifier on all of them.
        `mean`: a classifier for each; the mean of their probabilities (the logits are its logarithm).
        `deep_sup`: `concat`, and a classifier for each beside it, for the loss.
        `ft`: a classifier for each, and a linear layer that fuses their logits. It starts as their mean, so that the
        classifiers may be trained first and the layer fine-tuned after it, as the paper found best.
    normalisation: of the coefficients, see `AGTraining.networks.plane_gate`.
    Other arguments as `PlaneNetwork`. The weights that a Sononet has too go by the same names.
    """

    def __init__(
        self,
        in_channels: int = 1,
        num_classes: int = 14,
        features: int = 16,
        convs: Sequence[int] = (3, 3, 3, 2, 2),
        bias: bool = True,
        aggregation: Aggregation = "ft",
        normalisation: PlaneNormalisation = "shifted",
    ) -> None:
        super().__init__(in_channels, num_classes, features, convs, bias)
        if aggregation not in AGGREGATIONS:
            raise ValueError(f"aggregation must be one of {', '.join(AGGREGATIONS)}, not {aggregation!r}")
        self.aggregation = aggregation
        self.normalisation = normalisation
        scales = self.channels[2:]
        top = scales[-1]
        self.gates = nn.ModuleDict(
            {
                "block3": PlaneGate(scales[0], top, top, normalisation),
                "block4": PlaneGate(scales[1], top, top, normalisation),
            }
        )
        self.classifiers = nn.ModuleList(
            nn.Linear(channels, num_classes) for channels in (scales if aggregation != "concat" else ())
        )
        joined = len(scales) * num_classes if aggregation == "ft" else sum(scales)
        self.classifier = None if aggregation == "mean" else nn.Linear(joined, num_classes)
        self.apply(_initialise)
        if aggregation == "ft":
            self.reset_fusion()

    def attention_parameters(self) -> list[nn.Parameter]:
        """θ, φ and ψ of both gates."""
        return list(self.gates.parameters())

    def reset_fusion(self) -> None:
        """Makes the fusing layer of `ft` the mean of the scales' logits."""
        if self.aggregation != "ft" or self.classifier is None:
            raise ValueError(f"aggregation '{self.aggregation}' has no layer that fuses the scales")
        weight = self.classifier.weight
        if not weight.is_meta:
            mean = torch.eye(self.num_classes).repeat(1, len(self.classifiers)) / len(self.classifiers)
            with torch.no_grad():
                weight.copy_(mean)
                self.classifier.bias.zero_()

    def forward(self, x: Tensor, attention: bool = False, levels: bool = False) -> Tensor | PlaneOutput:
        """As `Sononet.forward`; `levels` are empty for the aggregation `concat`."""
        *_, block3, block4, block5 = self._feature_maps(x)
        pooled3, alpha3 = self.gates["block3"](block3, block5)
        pooled4, alpha4 = self.gates["block4"](block4, block5)
        vectors = (pooled3, pooled4, block5.mean(dim=(2, 3)))
        scales: list[Tensor] = []
        if levels or self.aggregation in ("mean", "ft"):
            scales = [classifier(vector) for classifier, vector in zip(self.classifiers, vectors, strict=False)]
        logits = self._aggregate(vectors, scales)
        if not (attention or levels):
            return logits
        coefficients = {"block3": alpha3, "block4": alpha4} if attention else {}
        return PlaneOutput(logits, coefficients, tuple(scales) if levels else ())

    def _aggregate(self, vectors: Sequence[Tensor], scales: Sequence[Tensor]) -> Tensor:
        if self.classifier is None:
            log_probabilities = torch.stack([F.log_softmax(logits.float(), dim=1) for logits in scales])
            return torch.logsumexp(log_probabilities, dim=0) - math.log(len(scales))
        logits: Tensor = self.classifier(torch.cat(tuple(scales if self.aggregation == "ft" else vectors), dim=1))
        return logits


def _initialise(module: nn.Module) -> None:
    """He initialisation of convolutions; unit batch norm; small classifiers."""
    if any(parameter.is_meta for parameter in module.parameters(recurse=False)):
        return
    if isinstance(module, nn.Conv2d):
        nn.init.kaiming_normal_(module.weight, nonlinearity="relu")
        if module.bias is not None:
            nn.init.zeros_(module.bias)
    elif isinstance(module, nn.BatchNorm2d):
        nn.init.ones_(module.weight)
        nn.init.zeros_(module.bias)
    elif isinstance(module, nn.Linear):
        nn.init.xavier_normal_(module.weight)
        nn.init.zeros_(module.bias)
