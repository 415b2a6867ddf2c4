"""What a user chooses for a segmentation."""

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Literal

from AGTraining.errors import InputError

if TYPE_CHECKING:
    from AGTraining.inference.result import SegmentOptions


@dataclass(frozen=True)
class ProcessingOptions:
    """The choices for a segmentation, in a form that needs no torch.

    modelPath: a bundle; None is the model that comes with the extension. organs: names of the organs to keep; None is
    all. The others are as in `AGTraining.inference.segment.SegmentOptions`.
    """

    modelPath: str | Path | None = None
    device: str = "auto"
    attention: Literal["none", "levels", "gates"] = "none"
    mirror: bool = False
    largestComponent: bool = True
    organs: tuple[str, ...] | None = None

    def segmentOptions(self) -> "SegmentOptions":
        """These choices as AGTraining takes them. Raises InputError when no organ is to be kept."""
        if self.organs is not None and not self.organs:
            raise InputError("No organ was chosen; choose at least one, or None for all.")
        from AGTraining.inference.result import SegmentOptions

        return SegmentOptions(
            device=self.device,
            attention=self.attention,
            mirror=self.mirror,
            largest_component=self.largestComponent,
            organs=self.organs,
        )
