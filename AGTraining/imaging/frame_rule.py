"""From a gray frame to what a plane network sees."""

from __future__ import annotations

import math
from functools import lru_cache
from typing import Any, Literal

import numpy as np
from pydantic import BaseModel, ConfigDict, Field, model_validator
from scipy import sparse

from AGTraining.imaging.box import Box
from AGTraining.imaging.sector import find_sector

# Sizes of the networks' inputs are multiples of this (four max-pools of 2).
MULTIPLE = 16
# A fixed crop belongs to frames of one size, of which little lies beyond its last row and column.
LARGER = 1.25

Crop = Literal["centre", "sector", "fixed"]


class FrameRule(BaseModel):
    """Crop, resampling and z-score.

    size: rows and columns of the network's input, multiples of 16.
    crop: which part of the frame fills it. `centre`: the largest centred rectangle of the size's proportions, times
        `share` (272/288 is the paper's central 208×272 of 224×288). `sector`: the bounding box of the scan sector,
        grown to the size's proportions, so that shapes keep theirs; black where the frame ends. `fixed`: the rows and
        columns of `fixed` (rows from:to, columns from:to), as the published SonoNet weights need them, whose
        proportions are not kept; `centre` for frames too small for it.
    scale: the input is scale·(g − mean)/SD of the cropped and resampled frame; zeros where it is constant.
    rounded: resampling rounds to whole gray levels after each axis, as Pillow does with 8-bit pictures; the published
        SonoNet weights were trained on such frames.
    """

    model_config = ConfigDict(extra="forbid", frozen=True, allow_inf_nan=False)

    size: tuple[int, int] = (208, 272)
    crop: Crop = "sector"
    share: float = Field(default=1.0, gt=0, le=1)
    fixed: tuple[int, int, int, int] | None = None
    scale: float = Field(default=1.0, gt=0)
    rounded: bool = False

    @model_validator(mode="after")
    def _consistent(self) -> FrameRule:
        if any(n < MULTIPLE or n % MULTIPLE for n in self.size):
            raise ValueError(f"size must be two multiples of {MULTIPLE} (rows, columns)")
        if (self.crop == "fixed") != (self.fixed is not None):
            raise ValueError("give 'fixed' (rows from, to, columns from, to) with crop: fixed, and only there")
        if self.fixed is not None:
            top, bottom, left, right = self.fixed
            if not (0 <= top < bottom and 0 <= left < right):
                raise ValueError("fixed must be rows from, to, columns from, to, with from < to")
        return self

    def fits(self, image: np.ndarray) -> bool:
        """Whether the frame is large enough for the fixed crop; true for the other crops."""
        return self.fixed is None or (image.shape[0] >= self.fixed[1] and image.shape[1] >= self.fixed[3])

    def message(self, image: np.ndarray) -> str | None:
        """A sentence for the user where a frame cannot be cropped as the model expects it, else None."""
        if self.fixed is None:
            return None
        if self.fits(image):
            top, bottom, left, right = self.fixed
            if image.shape[0] <= LARGER * bottom and image.shape[1] <= LARGER * right:
                return None
            return (
                f"The frame has {image.shape[0]} rows and {image.shape[1]} columns, of which the model sees rows "
                f"{top} to {bottom} and columns {left} to {right} only: it was made for smaller frames."
            )
        return (
            f"The frame has {image.shape[0]} rows and {image.shape[1]} columns, but the model's crop ends at row "
            f"{self.fixed[1]} and column {self.fixed[3]}; the centre of the frame was taken instead."
        )

    def crop_of(self, image: np.ndarray) -> Box:
        """The part of a frame that fills the input, in the frame's pixels; it may reach beyond. image: as `apply`."""
        rows, columns = image.shape[:2]
        if self.crop == "sector":
            return self.grown(find_sector(image if image.ndim == 2 else image.mean(axis=2, dtype=np.float32)))
        if self.fixed is not None and self.fits(image):
            top, bottom, left, right = self.fixed
            return Box(float(left), float(top), float(right), float(bottom))
        factor = min(rows / self.size[0], columns / self.size[1]) * self.share
        height, width = factor * self.size[0], factor * self.size[1]
        x0, y0 = (columns - width) / 2, (rows - height) / 2
        return Box(x0, y0, x0 + width, y0 + height)

    def grown(self, box: Box) -> Box:
        """The smallest box of the size's proportions around this one, with the same centre."""
        height = max(box.height, box.width * self.size[0] / self.size[1])
        width = height * self.size[1] / self.size[0]
        x, y = (box.x0 + box.x1) / 2, (box.y0 + box.y1) / 2
        return Box(x - width / 2, y - height / 2, x + width / 2, y + height / 2)

    def apply(self, image: np.ndarray, crop: Box | None = None) -> tuple[np.ndarray, Box]:
        """The network's input (rows, columns), float32, and the box of the frame that fills it.

        image: gray (rows, columns), more = brighter, or RGB (rows, columns, 3), whose gray is the mean of the three;
        what is not finite counts as black. crop: `crop_of(image)` where it is known already, or another box.
        """
        box = self.crop_of(image) if crop is None else crop
        channels = [image] if image.ndim == 2 else [image[..., channel] for channel in range(image.shape[2])]
        x = resample(channels[0], box, self.size, self.rounded)
        for channel in channels[1:]:
            x += resample(channel, box, self.size, self.rounded)
        x /= len(channels)
        if _is_flat(image, box):
            return np.zeros(self.size, np.float32), box
        x -= x.mean(dtype=np.float64)
        # A flat frame whose brighter part fell between two pixels of the input is zeros too.
        x *= self.scale / max(float(x.std(dtype=np.float64)), 1e-6)
        return x, box

    def to_frame(self, box: Box, crop: Box) -> Box:
        """A box in pixels of the network's input, in those of the frame that was cropped to `crop`."""
        x, y = crop.width / self.size[1], crop.height / self.size[0]
        return Box(crop.x0 + box.x0 * x, crop.y0 + box.y0 * y, crop.x0 + box.x1 * x, crop.y0 + box.y1 * y)

    def to_input(self, box: Box, crop: Box) -> Box:
        """The inverse of `to_frame`."""
        x, y = self.size[1] / crop.width, self.size[0] / crop.height
        return Box((box.x0 - crop.x0) * x, (box.y0 - crop.y0) * y, (box.x1 - crop.x0) * x, (box.y1 - crop.y0) * y)


def _is_flat(image: np.ndarray, box: Box) -> bool:
    """Whether the part of the frame in the box has one gray value, or color: the black around it is no content."""
    inside = box.clipped(*image.shape[:2])
    if inside is None:
        return True
    part = image[math.floor(inside.y0) : math.ceil(inside.y1), math.floor(inside.x0) : math.ceil(inside.x1)]
    return bool((part.min(axis=(0, 1)) == part.max(axis=(0, 1))).all())


def resample(image: np.ndarray, box: Box, size: tuple[int, int], rounded: bool = False) -> np.ndarray:
    """The part of a gray image (rows, columns) in the box as float32 of `size`, black where the image ends.

    Bilinear with antialiasing as in Pillow: each pixel is a mean under a triangle as wide as two pixels of the coarser
    of both grids; nothing beyond the box counts. rounded: to whole numbers after each axis, columns first.
    """
    down, rows = _weights(image.shape[0], box.y0, box.y1, size[0])
    across, columns = _weights(image.shape[1], box.x0, box.x1, size[1])
    part = image[rows, columns].astype(np.float32)
    if image.dtype.kind == "f":
        np.nan_to_num(part, copy=False, nan=0.0, posinf=0.0, neginf=0.0)
    if rounded:
        return np.asarray(np.floor(down @ np.floor(across @ part.T + 0.5).T + 0.5), np.float32)
    return np.ascontiguousarray((across @ (down @ part).T).T)


@lru_cache(maxsize=64)
def _weights(length: int, start: float, stop: float, count: int) -> tuple[Any, slice]:
    """Weights (count, pixels) of those of a row's `length` pixels that lie in [start, stop), and which these are."""
    first, last = math.floor(start), math.ceil(stop)
    scale = (stop - start) / count
    reach = max(scale, 1.0)
    centres = start + (np.arange(count) + 0.5) * scale
    pixels = np.arange(first, last)
    weights = np.maximum(0.0, 1.0 - np.abs(pixels + 0.5 - centres[:, None]) / reach)
    weights /= weights.sum(axis=1, keepdims=True)
    # Pixels beyond the image are black; they had to take part in the sum of the weights.
    inside = slice(max(0, first), max(0, min(length, last)))
    kept = (pixels >= inside.start) & (pixels < inside.stop)
    return sparse.csr_matrix(weights[:, kept].astype(np.float32)), inside
