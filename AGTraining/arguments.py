"""Values on command lines: what argparse calls to read them."""

from __future__ import annotations

import argparse
import os
from collections.abc import Sequence
from pathlib import Path

ATTENTION = ("none", "levels", "gates")


def spell_out_attention(arguments: Sequence[str]) -> list[str]:
    """`--attention` before the path of a scan as `--attention=levels`: argparse would take the path for its value."""
    following = [*arguments[1:], ""]
    return [
        "--attention=levels"
        if word == "--attention" and after not in ATTENTION and os.path.exists(os.path.expanduser(after))
        else word
        for word, after in zip(arguments, following, strict=False)
    ]


def attention_maps(text: str) -> str:
    """The value of `--attention`. Raises ArgumentTypeError."""
    if text not in ATTENTION:
        raise argparse.ArgumentTypeError(f"'{text}' is neither levels nor gates, nor a scan that exists")
    return text


def expanded_path(text: str) -> Path:
    """The home folder for ~, which shells leave alone in --out=~/results."""
    return Path(os.path.expanduser(text))


def seed(text: str) -> int:
    """A seed from 0 up. Raises ArgumentTypeError, or ValueError for what is no whole number."""
    value = int(text)
    if value < 0:
        raise argparse.ArgumentTypeError(f"{text} is not a whole number from 0 up")
    return value


def positive_voxels(text: str) -> int:
    """A number of voxels from 1 up. Raises as `seed` does."""
    value = int(text)
    if value < 1:
        raise argparse.ArgumentTypeError(f"{text} is not a positive number of voxels")
    return value


def positive_mm(text: str) -> float:
    """A finite length above 0. Raises as `seed` does."""
    value = float(text)
    if not 0 < value < float("inf"):
        raise argparse.ArgumentTypeError(f"{text} is not a positive number of mm")
    return value


def positive_count(text: str) -> int:
    """A number from 1 up. Raises as `seed` does."""
    value = int(text)
    if value < 1:
        raise argparse.ArgumentTypeError(f"{text} is not a whole number from 1 up")
    return value


def positive_share(text: str) -> float:
    """A share between 0 and 1. Raises as `seed` does."""
    value = float(text)
    if not 0 < value < 1:
        raise argparse.ArgumentTypeError(f"{text} is not a share between 0 and 1")
    return value


def positive_seconds(text: str) -> float:
    """A time above 0 and up to a year. Raises as `seed` does."""
    value = float(text)
    if not 0 < value <= 31_536_000:
        raise argparse.ArgumentTypeError(f"{text} is not a time in seconds, above 0 and up to a year")
    return value
