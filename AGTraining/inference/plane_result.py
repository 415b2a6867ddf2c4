"""What is asked of a plane detection and what comes out. Needs no torch: Slicer's side uses it too."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Literal

import numpy as np

from AGTraining.imaging.box import Box


@dataclass(frozen=True)
class LocaliseOptions:
    """How attention becomes a box.

    sigma: of the blur, as a share of the rows of the network's input, so that maps of all scales are blurred alike.
    threshold: what counts as attention, as a share of the way from the lowest to the highest value of a blurred map.
    around: the box is that around "all" chosen components, one a scale, or around what is "common" to them.

    The defaults did best on training heads of HC18 for three models (`benchmarks/starter_planes.py --choose`):
    attention lies on the skull's bright parts, which only a wide blur joins.
    """

    sigma: float = 48 / 208
    threshold: float = 0.3
    around: Literal["all", "common"] = "common"


@dataclass(frozen=True)
class PlaneOptions:
    """How to detect.

    device: auto, cpu, cuda, cuda:N or mps. attention: keep the attention maps of each frame. localise: how attention
    becomes a box. batch: frames of a clip that are computed at once; fewer where memory is short.
    """

    device: str = "auto"
    attention: bool = False
    localise: LocaliseOptions = field(default_factory=LocaliseOptions)
    batch: int = 16


@dataclass(frozen=True)
class PlaneResult:
    """What a frame shows.

    plane: the class with the highest probability. confidence: that probability, of the softmax over all classes.
    probabilities: float32 (classes,), in the order of the model's classes. box: where the attention lies, in pixels of
    the frame; None for a model without attention, or attention that points to nothing. crop: the part of the frame
    that filled the network's input; it may reach beyond the frame, into black. attention: float32 maps by name on
    their own grids, which span `crop`; None unless asked for. is_blank: nothing can be seen in the frame: all classes
    are alike. message: a sentence on what is wrong with the frame.
    """

    plane: str
    confidence: float
    probabilities: np.ndarray
    box: Box | None
    crop: Box
    attention: dict[str, np.ndarray] | None = None
    is_blank: bool = False
    message: str = ""


@dataclass(frozen=True)
class ClipFrame:
    """A frame of a clip: its number in the file from 0 on, its time in seconds where the file has times, its result."""

    index: int
    seconds: float | None
    result: PlaneResult


@dataclass(frozen=True)
class ClipResult:
    """What a clip shows, frame by frame.

    classes: names in the order of the probabilities; background: the one among them that is no plane. is_complete:
    False when the clip broke off; a message says where and why. count: of frames as the file states it, None when it
    does not. spacing_mm: of pixels along x and y, where the file states it. messages: sentences for the user. device:
    what was used, in words. seconds: wall time by stage.
    """

    name: str
    classes: tuple[str, ...]
    background: str | None
    frames: tuple[ClipFrame, ...]
    is_complete: bool = True
    count: int | None = None
    spacing_mm: tuple[float, float] | None = None
    messages: tuple[str, ...] = ()
    device: str = ""
    seconds: dict[str, float] = field(default_factory=dict)

    def best_frames(self) -> dict[str, ClipFrame]:
        """For each plane that was found, in the order of the classes: the most confident of the frames that show it.

        The background is no plane, and a frame in which nothing can be seen shows none.
        """
        best: dict[str, ClipFrame] = {}
        for frame in self.frames:
            plane = frame.result.plane
            if plane == self.background or frame.result.is_blank:
                continue
            if plane not in best or frame.result.confidence > best[plane].result.confidence:
                best[plane] = frame
        return {plane: best[plane] for plane in self.classes if plane in best}
