"""What a user chooses for a segmentation."""

from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from AGTraining.errors import InputError
from AGTraining.inference.result import SegmentOptions


@dataclass(frozen=True)
class ProcessingOptions:
    """The choices for a segmentation, in a form that needs no torch.

    modelPath: a bundle; None is the model that comes with the extension. tileSize: model voxels along K, J, I; None is
    automatic. organs: names of the organs to keep; None is all. The others are as in
    `AGTraining.inference.result.SegmentOptions`.
    """

    modelPath: str | Path | None = None
    device: str = "auto"
    attention: Literal["none", "levels", "gates"] = "none"
    tileSize: tuple[int, int, int] | None = None
    mirror: bool = False
    largestComponent: bool = True
    organs: tuple[str, ...] | None = None

    def segmentOptions(self) -> SegmentOptions:
        """These choices as AGTraining takes them.

        Raises InputError when no organ is to be kept, or the tile size is not three positive whole numbers.
        """
        if self.organs is not None and not self.organs:
            raise InputError("No organ was chosen; choose at least one, or None for all.")
        tile = self.tileSize
        if tile is not None and (len(tile) != 3 or not all(isinstance(n, int) and n > 0 for n in tile)):
            raise InputError(f"The tile size {tile} is not three positive whole numbers; None is automatic.")
        return SegmentOptions(
            device=self.device,
            attention=self.attention,
            tile_size=tile,
            mirror=self.mirror,
            largest_component=self.largestComponent,
            organs=self.organs,
        )
