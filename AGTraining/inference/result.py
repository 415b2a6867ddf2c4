"""What is asked of a segmentation and what comes out. Needs no torch: Slicer's side uses it too."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Literal

from AGTraining.imaging.volume import Volume
from AGTraining.labels import OutputLabel


@dataclass(frozen=True)
class SegmentOptions:
    """How to segment.

    device: auto, cpu, cuda, cuda:N or mps. attention: maps of each level (mean of its sub-gates), of each sub-gate, or
    none. tile_size: model voxels along K, J, I; None takes tiles as large as memory allows. mirror: average over
    mirrored images, along the axes that the model was trained for. largest_component: keep the largest part of each
    organ, and none under 1 ml. organs: names of output labels to keep; None keeps all.
    """

    device: str = "auto"
    attention: Literal["none", "levels", "gates"] = "none"
    tile_size: tuple[int, int, int] | None = None
    mirror: bool = False
    largest_component: bool = True
    organs: tuple[str, ...] | None = None


@dataclass(frozen=True)
class OrganStatistics:
    """An organ in numbers; HU values are NaN when it was not found. confidence: mean probability inside it."""

    label: OutputLabel
    voxels: int
    volume_ml: float
    mean_hu: float
    sd_hu: float
    confidence: float

    @property
    def found(self) -> bool:
        """Whether any voxel has this label."""
        return self.voxels > 0


@dataclass(frozen=True)
class SegmentResult:
    """What came out.

    labels: uint8 label map on exactly the input's grid. organs: in label order, also those that were not found.
    attention: float32 in [0, 1] on the model's grids, by name (`level2`, or `level2.gate1`). messages: sentences for
    the user. device: what was used, in words. seconds: wall time by stage.
    """

    labels: Volume
    organs: tuple[OrganStatistics, ...]
    attention: dict[str, Volume] = field(default_factory=dict)
    messages: tuple[str, ...] = ()
    device: str = ""
    seconds: dict[str, float] = field(default_factory=dict)
