"""The pictures of a clip, looked at as pixels and as what is drawn."""

from __future__ import annotations

import dataclasses
from pathlib import Path

import numpy as np
import pytest
from matplotlib.figure import Figure

from AGTraining.evaluation.clip_pictures import BOX_COLOR, draw_best_frame, draw_confidence
from AGTraining.imaging.box import Box
from AGTraining.inference.plane_result import ClipFrame, ClipResult, PlaneResult

CLASSES = ("Femur", "Background", "Lips", "Profile")


def clip(*probabilities: tuple[float, ...], seconds: list[float | None] | None = None) -> ClipResult:
    frames = []
    for index, values in enumerate(probabilities):
        best = int(np.argmax(values))
        result = PlaneResult(CLASSES[best], values[best], np.array(values, np.float32), None, Box(0, 0, 9, 9))
        frames.append(ClipFrame(index, None if seconds is None else seconds[index], result))
    return ClipResult("clip.mha", CLASSES, "Background", tuple(frames))


FEMUR, NOTHING, LIPS = (0.9, 0.1, 0, 0), (0.1, 0.85, 0.05, 0), (0, 0.3, 0.6, 0.1)


def curves(figure: Figure) -> dict[str, np.ndarray]:
    """What is drawn by name, x and y."""
    return {line.get_label(): line.get_xydata() for line in figure.axes[0].lines if line.get_label() in CLASSES}


def test_curve_of_each_class_that_is_named_or_probable() -> None:
    drawn = curves(draw_confidence(clip(FEMUR, NOTHING, LIPS)))
    assert set(drawn) == {"Femur", "Background", "Lips"}
    assert drawn["Femur"] == pytest.approx(np.array([[1, 0.9], [2, 0.1], [3, 0]]))


def test_times_are_the_axis_where_all_frames_have_rising_ones() -> None:
    figure = draw_confidence(clip(FEMUR, NOTHING, LIPS, seconds=[10.0, 10.5, 12.0]))
    assert curves(figure)["Lips"][:, 0] == pytest.approx([10, 10.5, 12])
    assert figure.axes[1].get_xlabel() == "time (s)"


@pytest.mark.parametrize("seconds", [[0.0, None, 1.0], [0.0, 0.0, 0.0], [0.0, 2.0, 1.0]])
def test_frames_are_the_axis_where_times_are_missing_or_do_not_rise(seconds: list[float | None]) -> None:
    figure = draw_confidence(clip(FEMUR, NOTHING, LIPS, seconds=seconds))
    assert curves(figure)["Lips"][:, 0] == pytest.approx([1, 2, 3])
    assert figure.axes[1].get_xlabel() == "frame"


def test_strip_has_the_color_of_the_plane_that_is_named() -> None:
    figure = draw_confidence(clip(FEMUR, NOTHING, LIPS, LIPS))
    (strip,) = figure.axes[1].collections
    figure.canvas.draw()
    colors = [tuple(color) for color in strip.get_facecolors()]
    lines = {line.get_label(): line.get_color() for line in figure.axes[0].lines}
    assert colors[0] == pytest.approx(lines["Femur"], abs=0.01)
    assert colors[2] == pytest.approx(lines["Lips"], abs=0.01)
    assert colors[2] == colors[3]


def test_single_frame_can_be_drawn() -> None:
    figure = draw_confidence(clip(FEMUR))
    assert curves(figure)["Femur"] == pytest.approx(np.array([[1, 0.9]]))


def pixels(figure: Figure) -> np.ndarray:
    figure.canvas.draw()
    return np.asarray(figure.canvas.buffer_rgba())[..., :3].astype(int)  # type: ignore[attr-defined]


def best_frame(box: Box | None = None, crop: Box | None = None) -> ClipFrame:
    result = PlaneResult("Femur", 0.9, np.array([0.9, 0.1], np.float32), box, crop or Box(0, 0, 60, 40))
    return ClipFrame(11, 0.44, result)


def test_title_says_plane_confidence_and_frame() -> None:
    figure = draw_best_frame(np.zeros((40, 60), np.uint8), best_frame(), {})
    assert figure.get_suptitle() == "Femur  0.90   (frame 12, 0.44 s)"


def test_box_is_drawn_where_it_is() -> None:
    figure = draw_best_frame(np.zeros((40, 60), np.uint8), best_frame(Box(12, 8, 30, 32)), {})
    (rectangle,) = figure.axes[0].patches
    assert (rectangle.get_x(), rectangle.get_y(), rectangle.get_width(), rectangle.get_height()) == (12, 8, 18, 24)
    blue = [int(BOX_COLOR[n : n + 2], 16) for n in (1, 3, 5)]
    assert (np.abs(pixels(figure) - blue).max(axis=2) < 20).sum() > 100


def test_frame_without_box_has_none() -> None:
    figure = draw_best_frame(np.zeros((40, 60), np.uint8), best_frame(), {})
    assert not figure.axes[0].patches


def test_attention_spans_the_crop_not_the_frame() -> None:
    attention = {"block3": np.eye(4, dtype=np.float32), "block4": np.eye(2, dtype=np.float32)}
    figure = draw_best_frame(np.zeros((40, 60), np.uint8), best_frame(crop=Box(10, -5, 50, 45)), attention)
    assert len(figure.axes) == 3
    gray, overlay = figure.axes[1].images
    assert tuple(gray.get_extent()) == (0, 60, 40, 0)
    assert tuple(overlay.get_extent()) == (10, 50, 45, -5)
    assert figure.axes[1].get_xlim() == (0, 60)


def test_pixels_that_are_not_square_are_shown_in_proportion() -> None:
    figure = draw_best_frame(np.zeros((40, 60), np.uint8), best_frame(), {}, spacing_mm=(0.2, 0.4))
    assert figure.axes[0].get_aspect() == 2


@pytest.mark.parametrize("name", [r"$\frac$.mha", "bytes \udcff.mha", "_$x^$"])
def test_names_are_no_formulas_and_may_have_any_bytes(name: str, tmp_path: Path) -> None:
    result = dataclasses.replace(clip(FEMUR, NOTHING), name=name)
    figure = draw_confidence(result)
    figure.savefig(tmp_path / "plot.png")
    assert figure.axes[0].get_title(loc="left") == name.replace("\udcff", "?")
