"""Boxes against areas that can be counted by hand."""

from __future__ import annotations

import math

import pytest

from AGTraining.imaging.box import Box


def test_sizes_are_differences_of_edges() -> None:
    box = Box(2, 3, 7, 5)

    assert (box.width, box.height, box.area, box.centre) == (5, 2, 10, (4.5, 4))


def test_iou_is_the_common_area_over_that_of_both() -> None:
    # 2 × 1 of 4 + 4 - 2 pixels.
    assert Box(0, 0, 2, 2).iou(Box(0, 1, 2, 3)) == pytest.approx(2 / 6)
    assert Box(0, 0, 2, 2).iou(Box(0, 0, 2, 2)) == 1


def test_boxes_that_share_an_edge_do_not_overlap() -> None:
    assert Box(0, 0, 2, 2).iou(Box(2, 0, 4, 2)) == 0
    assert Box(0, 0, 2, 2).intersection(Box(2, 0, 4, 2)) is None


def test_clipping_keeps_what_lies_on_the_frame() -> None:
    assert Box(-3, 2, 5, 99).clipped(rows=10, columns=4) == Box(0, 2, 4, 10)
    assert Box(20, 0, 30, 5).clipped(rows=10, columns=20) is None


def test_shifting_and_scaling_move_all_edges() -> None:
    assert Box(1, 2, 3, 4).shifted(10, -1) == Box(11, 1, 13, 3)
    assert Box(1, 2, 3, 4).scaled(2) == Box(2, 4, 6, 8)
    assert Box(1, 2, 3, 4).scaled(2, 0.5) == Box(2, 1, 6, 2)


@pytest.mark.parametrize("edges", [(0, 0, 0, 1), (0, 2, 1, 1), (0, 0, math.nan, 1)])
def test_a_box_without_area_is_refused(edges: tuple[float, float, float, float]) -> None:
    with pytest.raises(ValueError, match="no area"):
        Box(*edges)
