"""The scan sector among what a scanner draws around it."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from PIL import Image, ImageDraw

from AGTraining.imaging.sector import find_sector

ROWS, COLUMNS = 600, 800
# Two blocks of the search, and the speckle that opening takes off a corner.
MARGIN = 12


def fan() -> np.ndarray:
    """Whether a pixel is in a fan whose box is x 200…600, y 120…520."""
    rows, columns = np.mgrid[:ROWS, :COLUMNS]
    angle = np.arctan2(columns - 400, rows - 20)
    radius = np.hypot(columns - 400, rows - 20)
    return (radius < 500) & (radius > 150) & (np.abs(angle) < np.arcsin(200 / 500))


def frame(drawn: bool = False, fluid: bool = False) -> np.ndarray:
    """Speckle in a fan; drawn: with a title bar, texts, a gray scale and a panel. fluid: with a black part in it."""
    draw = np.random.default_rng(0)
    image = np.where(fan(), draw.gamma(2, 30, (ROWS, COLUMNS)), 0).clip(0, 255).astype(np.uint8)
    if fluid:
        image[250:400, 330:480] = 0
    if drawn:
        picture = Image.fromarray(image)
        pen = ImageDraw.Draw(picture)
        pen.rectangle((0, 0, COLUMNS, 40), fill=60)
        pen.text((300, 12), "C1-5 / OB   MI 1.1   TIs 0.2   12:34:56", fill=255)
        pen.rectangle((20, 100, 34, 300), fill=180)
        pen.rectangle((650, 420, 790, 580), fill=110)
        for line in range(8):
            pen.text((660, 60 + 14 * line), "Gain 12 dB / FR 33 Hz", fill=220)
            pen.text((660, 430 + 16 * line), "Dist 1.23 cm", fill=255)
        image = np.asarray(picture)
    return image


@pytest.mark.parametrize("drawn", [False, True])
@pytest.mark.parametrize("fluid", [False, True])
def test_box_is_that_of_the_fan_whatever_is_drawn_around_it(drawn: bool, fluid: bool) -> None:
    places = np.argwhere(fan())
    (y0, x0), (y1, x1) = places.min(axis=0), places.max(axis=0) + 1
    box = find_sector(frame(drawn, fluid))
    assert box.edges == pytest.approx((x0, y0, x1, y1), abs=MARGIN)


@pytest.mark.parametrize("factor", [np.uint16(200), np.float32(1 / 255)], ids=["16 bits", "0 to 1"])
def test_gray_range_does_not_matter(factor: np.generic) -> None:
    assert find_sector(frame(drawn=True) * factor) == find_sector(frame(drawn=True))


def test_frame_that_is_sector_everywhere_is_taken_whole() -> None:
    image = np.random.default_rng(0).integers(1, 256, (271, 403), dtype=np.uint8)
    assert find_sector(image).edges == (0, 0, 403, 271)


@pytest.mark.parametrize("shape", [(1, 1), (5, 300), (480, 640)], ids=str)
def test_frame_that_shows_nothing_is_taken_whole(shape: tuple[int, int]) -> None:
    for value in (0, 90):
        assert find_sector(np.full(shape, value, np.uint8)).edges == (0, 0, shape[1], shape[0])


def test_labelled_heads_lie_in_the_sectors_of_their_frames(shared_data: Path) -> None:
    folder = shared_data / "ultrasound" / "head_circumference"
    rows = (folder / "labels.csv").read_text(encoding="utf-8").splitlines()
    head = [rows[0].split(",").index(f"head_{edge}") for edge in ("x0", "y0", "x1", "y1")]
    shares = []
    for row in rows[1::20]:
        fields = row.split(",")
        image = np.asarray(Image.open(folder / fields[0]).convert("L"))
        sector = find_sector(image)
        x0, y0, x1, y1 = (float(fields[n]) for n in head)
        inside = max(0, min(x1, sector.x1) - max(x0, sector.x0)) * max(0, min(y1, sector.y1) - max(y0, sector.y0))
        shares.append(inside / ((x1 - x0) * (y1 - y0)))
    # Some heads end in the black beside the sector.
    assert float(np.mean(shares)) > 0.99
    assert min(shares) > 0.85
