"""Synthetic frames."""

from __future__ import annotations

import csv
from pathlib import Path

import numpy as np
import pytest

from AGTraining.data.planes.csv_table import read_table
from AGTraining.data.planes.phantom import BACKGROUND, PLANES, make_phantom_frames, phantom_frame


@pytest.mark.parametrize("plane", PLANES)
def test_a_frame_is_the_same_for_the_same_numbers_only(plane: str) -> None:
    image, box = phantom_frame(plane, 3, 1)

    again, same = phantom_frame(plane, 3, 1)
    assert np.array_equal(image, again) and box == same
    assert image.dtype == np.uint8 and image.min() == 0 and image.max() == 255
    for other in (phantom_frame(plane, 3, 2)[0], phantom_frame(plane, 4, 1)[0]):
        assert other.shape != image.shape or (other != image).any()
    assert (box is None) == (plane == BACKGROUND)


def test_the_box_is_around_the_structure() -> None:
    """The skull and the femur are the brightest things in their frames, and nearly all of that lies in the box."""
    for plane in ("Fetal brain", "Fetal femur"):
        for patient in range(6):
            image, box = phantom_frame(plane, patient, 0)
            assert box is not None
            bright = np.zeros(image.shape, dtype=bool)
            # Not the marks at the sides, nor the tissue near the probe.
            bright[image.shape[0] // 4 :, 20:-20] = image[image.shape[0] // 4 :, 20:-20] > 250
            rows, columns = np.nonzero(bright)
            inside = (columns > box.x0 - 6) & (columns < box.x1 + 6) & (rows > box.y0 - 6) & (rows < box.y1 + 6)
            assert inside.mean() > 0.8, (plane, patient)


def test_planes_can_be_told_apart_by_what_defines_them() -> None:
    """A femur throws a shadow below its box, an abdomen holds fluid, a skull is brighter than what is within."""
    for patient in range(6):
        image, box = phantom_frame("Fetal femur", patient, 1)
        assert box is not None
        below = image[
            int(box.y1) + 12 : int(box.y1) + 40, int((box.x0 + box.x1) / 2) - 6 : int((box.x0 + box.x1) / 2) + 6
        ]
        assert below.mean() < 0.5 * np.mean(image[image > 0])


def test_a_data_set_is_read_as_any_other(tmp_path: Path) -> None:
    path = make_phantom_frames(tmp_path / "phantoms", range(2, 4), frames=2)

    dataset = read_table(path)

    assert dataset.problems == () and len(dataset.frames) == 2 * len(PLANES) * 2
    assert dataset.labels == dict.fromkeys(sorted(PLANES), 4)
    assert {(frame.patient, frame.part) for frame in dataset.frames} == {("2", "train"), ("3", "test")}
    boxes = [frame.box is not None for frame in dataset.frames]
    assert boxes == [frame.label != BACKGROUND for frame in dataset.frames]
    with path.open(newline="", encoding="utf-8") as file:
        assert len(list(csv.DictReader(file))) == len(dataset.frames)
