"""Small pictures that stand for frames."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
from PIL import Image


@dataclass(frozen=True)
class NamedClass:
    """A class of a network as configurations describe it."""

    name: str
    background: bool = False
    labels: Sequence[str] = field(default_factory=tuple)


def picture(seed: int, size: tuple[int, int] = (72, 96)) -> np.ndarray:
    """Smooth and unlike that of any other seed: (rows, columns) uint8 from 40 on."""
    random = np.random.default_rng(seed)
    rows, columns = (np.linspace(0, 2 * np.pi, n) for n in size)
    a, b, c = random.uniform(0.5, 2, 3)
    return (140 + 95 * np.sin(a * rows + c)[:, None] * np.cos(b * columns + a)[None]).astype(np.uint8)


def write_picture(path: Path, seed: int = 0, size: tuple[int, int] = (72, 96)) -> Path:
    """Writes a picture, with its folder."""
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(picture(seed, size)).save(path)
    return path


def write_table(folder: Path, rows: Sequence[Sequence[str]], head: str = "file,patient,plane,official_split") -> Path:
    """A labels.csv with these rows, and a picture for each file of the first column."""
    for number, row in enumerate(rows):
        write_picture(folder / row[0], number)
    path = folder / "labels.csv"
    path.write_text("\n".join([head, *(",".join(row) for row in rows)]) + "\n", encoding="utf-8")
    return path
