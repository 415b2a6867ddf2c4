"""Is a file whole? Checks that image readers leave out, and the errors they lead to."""

from __future__ import annotations

import gzip
import zlib
from collections.abc import Iterable
from pathlib import Path

from AGTraining.errors import InputError

GZIP_MAGIC = b"\x1f\x8b"
CHUNK = 1 << 22
CUT_OFF = "cut off before its end"
DAMAGED = "damaged (its compressed data do not match their checksum)"


def is_gzip(path: Path) -> bool:
    """Whether the file is gzip-compressed, by its content."""
    with open(path, "rb") as file:
        return file.read(2) == GZIP_MAGIC


def check_compressed(path: Path) -> None:
    """Raises InputError when the file is gzip-compressed and its data are cut off or damaged."""
    if is_gzip(path):
        uncompressed_size(path)


def damaged(path: Path, what: str) -> InputError:
    """The error for a file that is not whole."""
    return InputError(f"{path}: the file is {what}; copy or export it again.")


def uncompressed_size(path: Path) -> int:
    """Bytes in a gzip file. Raises InputError when its data are cut off or damaged."""
    count = 0
    try:
        with gzip.open(path) as file:
            while chunk := file.read(CHUNK):
                count += len(chunk)
    except EOFError as error:
        raise damaged(path, CUT_OFF) from error
    except (OSError, zlib.error) as error:
        raise damaged(path, DAMAGED) from error
    return count


def bad_spacing(path: Path, spacing: Iterable[float]) -> InputError:
    """The error for a spacing that no image can have."""
    text = " × ".join(f"{s:g}" for s in spacing)
    return InputError(
        f"{path}: its header gives a voxel spacing of {text} mm, which must be positive numbers; correct the header."
    )
