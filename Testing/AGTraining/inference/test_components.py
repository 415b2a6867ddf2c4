from __future__ import annotations

import numpy as np
import pytest

from AGTraining.inference.components import body_box, keep_largest_components, label_boxes


def test_the_largest_part_of_each_label_stays():
    labels = np.zeros((10, 10, 10), np.uint8)
    labels[1:4, 1:4, 1:4] = 1
    labels[6:8, 6:8, 6:8] = 1
    labels[8, 1, 1] = 2
    labels[5, 5, 1:4] = 2
    expected = labels.copy()
    expected[6:8, 6:8, 6:8] = 0
    expected[8, 1, 1] = 0
    boxes = keep_largest_components(labels, label_boxes(labels))
    assert np.array_equal(labels, expected)
    assert boxes == label_boxes(expected)


def test_parts_that_touch_at_an_edge_only_are_two():
    labels = np.zeros((4, 4, 4), np.uint8)
    labels[0, 0, 0:3] = 1
    labels[1, 1, 3] = 1
    keep_largest_components(labels, label_boxes(labels))
    assert labels.sum() == 3


@pytest.mark.parametrize(("minimum", "left"), [(27, 27), (28, 0)])
def test_a_part_under_the_minimum_is_removed(minimum, left):
    labels = np.zeros((10, 10, 10), np.uint8)
    labels[1:4, 1:4, 1:4] = 3
    keep_largest_components(labels, label_boxes(labels), minimum)
    assert (labels == 3).sum() == left


def test_the_body_box_leaves_air_and_the_table_out():
    hounsfield = np.full((10, 120, 120), -1000.0, np.float32)
    hounsfield[:, 30:70, 35:85] = 40
    hounsfield[:, 95:97, 10:110] = 0
    box = body_box(hounsfield, np.array([3.0, 3.0, 3.0]), margin_mm=9)
    assert box[0] == slice(0, 10)
    for axis, (start, stop) in ((1, (30, 70)), (2, (35, 85))):
        assert start - 8 <= box[axis].start <= start - 3
        assert stop + 3 <= box[axis].stop <= stop + 8


def test_without_a_body_the_whole_image_is_taken():
    box = body_box(np.full((5, 20, 30), -1000.0, np.float32), np.array([3.0, 3.0, 3.0]))
    assert box == (slice(0, 5), slice(0, 20), slice(0, 30))
