"""Boxes from attention: maps whose bright parts lie where the test puts them."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
import pytest

from AGTraining.imaging.box import Box
from AGTraining.inference.localise import LocaliseOptions, localise

SIZE = (208, 272)
FINE, COARSE = (52, 68), (26, 34)
# Unblurred, so that edges are where they were drawn.
SHARP = LocaliseOptions(0.0, 0.5, "all")


def drawn(grid: tuple[int, int], *boxes: tuple[int, int, int, int], levels: tuple[float, ...] = ()) -> np.ndarray:
    """A map on a grid with rectangles (x0, y0, x1, y1 in pixels of the input), each of its level or 1."""
    values = np.zeros(grid, dtype=np.float32)
    step = SIZE[0] // grid[0]
    for number, (x0, y0, x1, y1) in enumerate(boxes):
        values[y0 // step : y1 // step, x0 // step : x1 // step] = levels[number] if levels else 1.0
    return values


def test_box_is_around_the_bright_part() -> None:
    bright = (80, 48, 160, 120)
    box = localise({"block3": drawn(FINE, bright), "block4": drawn(COARSE, bright)}, SIZE, SHARP)
    assert box == Box(80.0, 48.0, 160.0, 120.0)


def test_component_that_overlaps_at_both_scales_is_taken_not_the_larger_one() -> None:
    target = (160, 96, 208, 144)
    fine = drawn(FINE, (0, 0, 120, 80), target)
    coarse = drawn(COARSE, target, (0, 160, 136, 208))
    assert localise({"block3": fine, "block4": coarse}, SIZE, SHARP) == Box(160.0, 96.0, 208.0, 144.0)


def test_of_several_overlapping_pairs_the_one_with_most_in_common_is_taken() -> None:
    small, large = (16, 16, 48, 48), (120, 80, 200, 160)
    maps = {"block3": drawn(FINE, small, large), "block4": drawn(COARSE, small, large)}
    assert localise(maps, SIZE, SHARP) == Box(120.0, 80.0, 200.0, 160.0)


@pytest.mark.parametrize(
    ("around", "expected"), [("all", Box(64.0, 48.0, 160.0, 128.0)), ("common", Box(96.0, 64.0, 128.0, 112.0))]
)
def test_box_is_around_the_chosen_components_or_what_they_have_in_common(around: str, expected: Box) -> None:
    maps = {"block3": drawn(FINE, (64, 48, 128, 112)), "block4": drawn(COARSE, (96, 64, 160, 128))}
    assert localise(maps, SIZE, LocaliseOptions(0.0, 0.5, around)) == expected  # type: ignore[arg-type]


def test_threshold_is_a_share_of_the_way_from_lowest_to_highest() -> None:
    inner, outer = (104, 80, 136, 112), (80, 64, 160, 128)
    levels = (0.4, 1.0)
    # On top of a constant, which says nothing.
    maps = {"block3": drawn(FINE, outer, inner, levels=levels) + 5, "block4": drawn(COARSE, inner) + 5}
    assert localise(maps, SIZE, LocaliseOptions(0.0, 0.5, "all")) == Box(104.0, 80.0, 136.0, 112.0)
    assert localise(maps, SIZE, LocaliseOptions(0.0, 0.3, "all")) == Box(80.0, 64.0, 160.0, 128.0)


def test_blur_removes_single_bright_pixels() -> None:
    target = (96, 64, 176, 136)
    fine = drawn(FINE, target)
    fine[2, 2] = 1.6
    box = localise({"block3": fine, "block4": drawn(COARSE, target)}, SIZE, LocaliseOptions(8 / SIZE[0], 0.5, "all"))
    assert box is not None
    # Half a sigma at most is lost or won at an edge that was blurred and cut at half of its height.
    assert box.iou(Box(*map(float, target))) > 0.85


@pytest.mark.parametrize("level", [0.0, 1 / 884, 0.5])
def test_flat_maps_give_no_box(level: float) -> None:
    maps = {"block3": np.full(FINE, level, np.float32), "block4": np.full(COARSE, level, np.float32)}
    maps["block3"][3, 4] *= 1 + 1e-7
    assert localise(maps, SIZE) is None


@pytest.mark.parametrize("value", [np.nan, np.inf])
def test_maps_that_are_not_finite_give_no_box(value: float) -> None:
    broken = drawn(FINE, (80, 48, 160, 120))
    broken[10, 10] = value
    assert localise({"block3": broken}, SIZE) is None


def test_without_maps_there_is_no_box() -> None:
    empty: Mapping[str, np.ndarray] = {}
    assert localise(empty, SIZE) is None


def test_flat_scale_leaves_the_choice_to_the_other_one() -> None:
    maps = {"block3": np.ones(FINE, np.float32), "block4": drawn(COARSE, (16, 16, 48, 48), (120, 80, 200, 160))}
    assert localise(maps, SIZE, SHARP) == Box(120.0, 80.0, 200.0, 160.0)


def test_scales_without_anything_in_common_fall_back_to_the_finest() -> None:
    maps = {"block4": drawn(COARSE, (160, 96, 240, 176)), "block3": drawn(FINE, (16, 16, 64, 64))}
    assert localise(maps, SIZE, SHARP) == Box(16.0, 16.0, 64.0, 64.0)


def test_third_scale_adds_the_component_that_overlaps() -> None:
    target = (112, 80, 176, 128)
    maps = {
        "block3": drawn(FINE, target),
        "block4": drawn(COARSE, target),
        "block5": drawn((13, 17), (112, 80, 208, 144), (0, 160, 64, 208)),
    }
    assert localise(maps, SIZE, SHARP) == Box(112.0, 80.0, 208.0, 144.0)


def test_touching_corners_are_one_component() -> None:
    fine = drawn(FINE, (80, 48, 120, 88), (120, 88, 160, 128))
    assert localise({"block3": fine}, SIZE, SHARP) == Box(80.0, 48.0, 160.0, 128.0)


def test_grids_that_are_no_multiples_of_each_other() -> None:
    fine, coarse = np.zeros((50, 70), np.float32), np.zeros((21, 31), np.float32)
    fine[10:20, 14:28] = 1
    coarse[4:8, 6:12] = 1
    box = localise({"block3": fine, "block4": coarse}, (100, 140), SHARP)
    assert box is not None
    # Within a pixel of the coarser grid.
    assert box.edges == pytest.approx((28, 20, 56, 40), abs=5)
