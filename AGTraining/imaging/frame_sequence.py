"""What all ultrasound clips have in common, whatever file they come from: frames, one at a time."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Generator, Iterator, Sequence
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import Self

import numpy as np

from AGTraining.errors import InputError


@dataclass(frozen=True, eq=False)
class Frame:
    """
    One picture of a clip.

    index: its place in the clip, from 0. image: gray, (rows, columns), uint8, uint16 or float32, more is brighter.
    seconds: its time as the file states it (DICOM and video count from the first frame, the Plus toolkit and Slicer
    from a moment of their own), None where the file has no times. color: (rows, columns, 3) uint8 of a picture file in
    color, else None: models that were trained on resampled colors (`FrameRule.rounded`) tell the last digit.
    """

    index: int
    image: np.ndarray
    seconds: float | None = None
    color: np.ndarray | None = None


@dataclass(frozen=True)
class Missing:
    """A frame that cannot be used, while those after it can; reason: for a message, without a full stop."""

    index: int
    reason: str


class FrameError(InputError):
    """A clip breaks off: frame `index` (from 0) and those after it cannot be read, those before it are whole."""

    def __init__(self, message: str, index: int) -> None:
        super().__init__(message)
        self.index = index


class FrameSequence(ABC):
    """
    A clip, as `AGTraining.imaging.frames.open_frames` gives it: iterate over it for its frames, from the first.

    Memory holds one frame at a time. A frame that is damaged while others are not is left out, with a sentence in
    `messages`; where nothing after it can be read (a file that was cut off), FrameError comes after the frames before
    it. InputError comes when no frame can be read at all.

    path, name: the file or folder and its last part. count: frames as the file states them, None if it does not.
    spacing_mm: size of a pixel (x, y) in mm, None if the file does not state it (or gives the 1 × 1 that stands for
    "not calibrated" in image files).
    """

    seekable = True

    def __init__(self, path: Path, count: int | None, spacing_mm: tuple[float, float] | None = None) -> None:
        if count is not None and count <= 0:
            raise InputError(f"{path}: it holds no frame; export the clip again.")
        self.path = path
        self.name = path.name
        self.count = count
        self.spacing_mm = spacing_mm
        self._notes: list[str] = []
        self._left_out: dict[int, str] = {}
        self._following: Iterator[Frame | Missing] | None = None
        self._next = 0

    @abstractmethod
    def _read_from(self, start: int) -> Iterator[Frame | Missing]:
        """Frames from number `start`, with gray images (see `gray`). Each call reads on its own."""

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def __iter__(self) -> Iterator[Frame]:
        found = False
        with closing(self._checked(0)) as items:
            for item in items:
                if isinstance(item, Frame):
                    found = True
                    yield item
        if not found:
            reason = next(iter(self._left_out.values()), "it is empty")
            raise InputError(f"{self.path}: none of its frames can be read ({reason}); export the clip again.")

    @property
    def messages(self) -> list[str]:
        """Sentences that the user should read; after an iteration they name the frames that were left out."""
        return [*self._notes, *self._left_out_messages()]

    def read(self, index: int) -> Frame:
        """
        The frame with this number, counted from 0.

        In compressed files and videos going back means reading from the start again.
        Raises FrameError if it cannot be read, IndexError if the clip does not have it.
        """
        if index < 0 or (self.count is not None and index >= self.count):
            raise IndexError(f"{self.name} has no frame {index}.")
        if self._following is None or index < self._next or (self.seekable and index != self._next):
            self._rewind(index if self.seekable else 0)
        assert self._following is not None
        for item in self._following:
            self._next = item.index + 1
            if item.index == index:
                if isinstance(item, Frame):
                    return item
                raise FrameError(f"{self.path}: frame {index + 1} cannot be used ({item.reason}).", index)
        self._following = None
        raise IndexError(f"{self.name} has no frame {index}.")

    def close(self) -> None:
        """Gives back what an open clip holds: files, temporary files."""
        self._following = None

    def _rewind(self, start: int) -> None:
        self._following, self._next = self._checked(start), start

    def _checked(self, start: int) -> Generator[Frame | Missing]:
        for item in self._read_from(start):
            if isinstance(item, Frame) and item.image.dtype.kind == "f" and not np.isfinite(item.image).all():
                item = Missing(item.index, "it has pixels that are not numbers")
            if isinstance(item, Missing):
                self._left_out[item.index] = item.reason
            yield item

    def _broken(self, index: int, what: str) -> FrameError:
        """The error for a clip that ends too early; what: 'cut off' or 'damaged'."""
        if index == 0:
            return FrameError(
                f"{self.path}: the file is {what} before its first frame; copy or export it again.", index
            )
        of = f" of {self.count}" if self.count is not None else ""
        return FrameError(
            f"{self.path}: the file is {what} after {index}{of} frames, which are whole; copy or export it again.",
            index,
        )

    def _left_out_messages(self) -> Iterator[str]:
        by_reason: dict[str, list[int]] = {}
        for index, reason in sorted(self._left_out.items()):
            by_reason.setdefault(reason, []).append(index + 1)
        for reason, numbers in by_reason.items():
            which = ", ".join(str(n) for n in numbers[:5]) + (", …" if len(numbers) > 5 else "")
            if len(numbers) == 1:
                yield f"{self.path}: frame {which} was left out: {reason}."
            else:
                yield f"{self.path}: {len(numbers)} frames were left out ({which}): {reason}."


def times_of(values: Sequence[float] | None, index: int) -> float | None:
    """The time of a frame, where there are times at all and for this frame."""
    if values is None or index >= len(values) or not np.isfinite(values[index]):
        return None
    return float(values[index])


def known_spacing(x: float, y: float) -> tuple[float, float] | None:
    """The spacing, or None where it is no size or the 1 × 1 that image files have when nobody calibrated them."""
    if not (np.isfinite(x) and np.isfinite(y) and x > 0 and y > 0) or (x == 1 and y == 1):
        return None
    return float(x), float(y)


def gray(pixels: np.ndarray) -> np.ndarray:
    """
    A frame's gray picture (rows, columns) as uint8, uint16 or float32.

    pixels: (rows, columns) or (rows, columns, channels): 1 gray, 2 gray and alpha, 3 RGB, 4 RGBA. Alpha is ignored.
    Colors become the mean of the three, as in the preprocessing of the published SonoNet; not rounded, therefore
    float32, unless all three are equal.
    """
    if pixels.ndim == 3:
        channels = pixels.shape[2]
        if channels >= 3:
            red, green, blue = (pixels[..., n] for n in range(3))
            equal = bool((red == green).all()) and bool((green == blue).all())
            pixels = red if equal else (red.astype(np.float32) + green + blue) / 3
        else:
            pixels = pixels[..., 0]
    if pixels.dtype == bool:
        pixels = pixels.astype(np.uint8) * np.uint8(255)
    if pixels.dtype.kind != "u" or pixels.itemsize > 2:
        pixels = pixels.astype(np.float32)
    # A copy: files of other machines have bytes in another order, and what is a view of a file cannot be written.
    return np.array(pixels, dtype=pixels.dtype.newbyteorder("="), order="C")


def display(image: np.ndarray) -> np.ndarray:
    """
    A frame as uint8 for pictures.

    What lies within 0 to 255 is only rounded; wider ranges (12 or 16 bits) are scaled to their own minimum and maximum.
    """
    if image.dtype == np.uint8:
        return image
    low, high = float(image.min()), float(image.max())
    if low < 0 or high > 255:
        return np.rint((image.astype(np.float32) - low) * (255 / max(high - low, 1e-6))).astype(np.uint8)
    return np.rint(image).astype(np.uint8)
