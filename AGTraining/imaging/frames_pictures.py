"""Single pictures (PNG, JPEG, BMP, TIFF, GIF) and folders of them as clips."""

from __future__ import annotations

import re
import warnings
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

import numpy as np
from PIL import Image, UnidentifiedImageError

from AGTraining.errors import InputError
from AGTraining.imaging.frame_sequence import Frame, FrameSequence, Missing, gray, times_of

PICTURE_SUFFIXES = (".png", ".jpg", ".jpeg", ".bmp", ".tif", ".tiff", ".gif")


def is_picture(path: Path) -> bool:
    """Whether the name is one of a picture (hidden files are none: some systems leave such beside each file)."""
    return path.suffix.lower() in PICTURE_SUFFIXES and not path.name.startswith(".")


def natural_order(path: Path) -> tuple[list[str | int], str]:
    """Key to sort names as people do: frame 2 before frame 10."""
    # The split gives text and digits in turn, so that text is never compared with numbers.
    parts = re.split(r"(\d+)", path.name.lower())
    return [int(part) if n % 2 else part for n, part in enumerate(parts)], path.name


class PictureFile(FrameSequence):
    """A picture as a clip of one frame, or the pages of a TIFF (the pictures of a GIF) as its frames."""

    def __init__(self, path: Path) -> None:
        seconds: list[float] | None = None
        try:
            with _opened(path) as picture:
                count = getattr(picture, "n_frames", 1)
                if count > 1 and "duration" in picture.info:
                    seconds = list(_start_times(picture, count))
        except MemoryError:
            raise
        except Exception as error:
            # Damaged pictures end in errors of any kind within Pillow, in TIFF and GIF above all.
            raise InputError(f"{path}: {_reason(error)}; copy or export it again.") from error
        super().__init__(path, count)
        self._seconds = seconds

    def _read_from(self, start: int) -> Iterator[Frame | Missing]:
        assert self.count is not None
        picture: Image.Image | None = None
        try:
            for index in range(start, self.count):
                try:
                    with _quiet():
                        # It stays open: a picture of a GIF is made of all those before it.
                        picture = Image.open(self.path) if picture is None else picture
                        picture.seek(index)
                        image, color = _pixels(picture)
                except MemoryError:
                    raise
                except Exception as error:
                    if picture is not None:
                        picture.close()
                        picture = None
                    yield Missing(index, _reason(error))
                else:
                    yield Frame(index, image, times_of(self._seconds, index), color)
        finally:
            if picture is not None:
                picture.close()


class PictureFolder(FrameSequence):
    """The pictures directly in a folder, in the natural order of their names; each keeps its own size."""

    def __init__(self, path: Path) -> None:
        files = sorted((p for p in path.iterdir() if p.is_file() and not p.name.startswith(".")), key=natural_order)
        self.files: Sequence[Path] = [p for p in files if is_picture(p)]
        others = [p.name for p in files if not is_picture(p)]
        if not self.files:
            what = f"no pictures, but {_some(others)}; name a clip's file" if others else "no pictures; name a folder"
            raise InputError(f"{path}: the folder holds {what} ({', '.join(s[1:].upper() for s in PICTURE_SUFFIXES)}).")
        super().__init__(path, len(self.files))
        if others:
            self._notes.append(f"{path}: files that are no pictures were left aside: {_some(others)}.")

    def _read_from(self, start: int) -> Iterator[Frame | Missing]:
        for index in range(start, len(self.files)):
            try:
                with _opened(self.files[index]) as picture:
                    image, color = _pixels(picture)
            except MemoryError:
                raise
            except Exception as error:
                yield Missing(index, f"{self.files[index].name}: {_reason(error)}")
            else:
                yield Frame(index, image, color=color)


def _some(names: Sequence[str]) -> str:
    return ", ".join(names[:3]) + (", …" if len(names) > 3 else "")


@contextmanager
def _quiet() -> Iterator[None]:
    with warnings.catch_warnings():
        # Large pictures and odd metadata are no news for a user; errors are caught where the file is known.
        warnings.simplefilter("ignore")
        yield


@contextmanager
def _opened(path: Path) -> Iterator[Image.Image]:
    with _quiet(), Image.open(path) as picture:
        yield picture


def _pixels(picture: Image.Image) -> tuple[np.ndarray, np.ndarray | None]:
    """The gray picture, and its colors where it has some; palettes and other color models become RGB first."""
    if picture.mode in ("P", "CMYK", "YCbCr", "LAB", "HSV", "RGBX", "PA", "La", "RGBa"):
        picture = picture.convert("RGB")
    pixels = np.asarray(picture)
    if picture.mode == "I" and pixels.min() >= 0 and pixels.max() <= 65535:
        # 16-bit PNGs in some releases of Pillow.
        pixels = pixels.astype(np.uint16)
    image = gray(pixels)
    colored = pixels.dtype == np.uint8 and image.dtype == np.float32
    return image, np.array(pixels[..., :3]) if colored else None


def _start_times(picture: Image.Image, count: int) -> Iterator[float]:
    """When each picture of an animation begins, in seconds."""
    now = 0.0
    for index in range(count):
        picture.seek(index)
        yield now
        now += float(picture.info.get("duration", 0)) / 1000


def _reason(error: Exception) -> str:
    if isinstance(error, UnidentifiedImageError):
        return "the file is no picture, or damaged"
    if isinstance(error, Image.DecompressionBombError):
        return "the picture is far larger than any ultrasound frame"
    if isinstance(error, OSError) and error.strerror:
        return f"the file cannot be read ({error.strerror})"
    return "the picture is cut off or damaged"
