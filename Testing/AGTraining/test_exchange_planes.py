"""What travels between worker and client is the same at both ends."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from AGTraining.errors import Cancelled, InputError, RequestError
from AGTraining.exchange_planes import (
    load_clip_result,
    load_frame,
    load_plane_options,
    load_plane_result,
    save_clip_result,
    save_frame,
    save_plane_options,
    save_plane_result,
)
from AGTraining.imaging.box import Box
from AGTraining.inference.plane_result import ClipFrame, ClipResult, LocaliseOptions, PlaneOptions, PlaneResult


def through_json(document: Any) -> Any:
    return json.loads(json.dumps(document, allow_nan=False))


BOX = Box(1.5, 2, 30.25, 40)


def a_result(box: Box | None = BOX, **fields: Any) -> PlaneResult:
    probabilities = np.array([0.125, 0.75, 0.125], np.float32)
    return PlaneResult("Femur", 0.75, probabilities, box, Box(-10, 0, 90, 80), **fields)


def assert_same(result: PlaneResult, expected: PlaneResult) -> None:
    assert (result.plane, result.box, result.crop) == (expected.plane, expected.box, expected.crop)
    assert (result.is_blank, result.message) == (expected.is_blank, expected.message)
    assert result.confidence == pytest.approx(expected.confidence)
    np.testing.assert_allclose(result.probabilities, expected.probabilities, atol=1e-6)


@pytest.mark.parametrize("dtype", ["uint8", "uint16", "float32", ">u2"])
def test_frame_arrives_as_it_was(dtype: str) -> None:
    image = (np.random.default_rng(0).random((7, 5)) * 250).astype(dtype)
    loaded = load_frame(through_json(save_frame(image)))
    assert loaded.dtype == image.dtype.newbyteorder("=")
    np.testing.assert_array_equal(loaded, image)


def test_part_of_a_larger_frame_arrives_as_it_was() -> None:
    image = np.arange(200, dtype=np.uint8).reshape(10, 20)[::-1, 3:9]
    np.testing.assert_array_equal(load_frame(through_json(save_frame(image))), image)


@pytest.mark.parametrize("image", [np.zeros((3, 4, 3), np.uint8), np.zeros((3, 4)), np.zeros((3, 4), bool)])
def test_array_that_is_no_frame_is_not_sent(image: np.ndarray) -> None:
    with pytest.raises(ValueError, match="cannot be sent"):
        save_frame(image)


@pytest.mark.parametrize(
    "change",
    [
        {"shape": [2, 2]},
        {"shape": [0, 6]},
        {"shape": [6]},
        {"shape": [1 << 20, 1 << 20]},
        {"shape": [2.0, 3]},
        {"shape": [-2, -3]},
        {"dtype": "float64"},
        {"dtype": "object"},
        {"dtype": ["uint8"]},
        {"data": "!!!!"},
        {"data": None},
    ],
    ids=str,
)
def test_document_that_is_no_frame_is_told(change: dict[str, Any]) -> None:
    document = save_frame(np.zeros((2, 3), np.uint8))
    with pytest.raises(RequestError, match="The frame that was handed over is not valid"):
        load_frame(document | change)


@pytest.mark.parametrize("document", [None, {}, [], "frame"])
def test_anything_else_is_no_frame(document: Any) -> None:
    with pytest.raises(RequestError):
        load_frame(document)


def test_options_arrive_as_they_were() -> None:
    options = PlaneOptions("cuda:1", True, LocaliseOptions(4.0, 0.25, "common"), 3)
    assert load_plane_options(through_json(save_plane_options(options))) == options


def test_options_that_are_left_out_have_their_defaults() -> None:
    assert load_plane_options({}) == PlaneOptions()
    assert load_plane_options({"localise": {"sigma": 2}}).localise == LocaliseOptions(sigma=2.0)


@pytest.mark.parametrize(
    "document",
    [
        {"device": 3},
        {"attention": "levels"},
        {"batch": 0},
        {"batch": 2.5},
        {"localise": {"threshold": 1.5}},
        {"localise": {"sigma": True}},
        {"localise": {"around": "none"}},
        {"localise": {"radius": 1}},
        {"localise": None},
        {"planes": []},
        None,
    ],
    ids=str,
)
def test_options_that_are_not_valid_are_told(document: Any) -> None:
    with pytest.raises(RequestError, match="set of options"):
        load_plane_options(document)


def test_result_of_a_frame_arrives_as_it_was() -> None:
    maps = {"block3": np.random.default_rng(0).random((4, 5), dtype=np.float32)}
    expected = a_result(attention=maps, message="Something.")
    result = load_plane_result(through_json(save_plane_result(expected)))
    assert_same(result, expected)
    assert result.attention is not None
    np.testing.assert_array_equal(result.attention["block3"], maps["block3"])


def test_result_without_box_and_maps_arrives_as_it_was() -> None:
    expected = a_result(box=None, is_blank=True)
    result = load_plane_result(through_json(save_plane_result(expected)))
    assert_same(result, expected)
    assert result.attention is None


@pytest.mark.parametrize(
    "change", [{"box": [3, 3, 1, 1]}, {"box": [1, 2]}, {"crop": None}, {"is_blank": 1}, {"plane": 0}]
)
def test_result_of_another_shape_is_told(change: dict[str, Any]) -> None:
    with pytest.raises(RequestError):
        load_plane_result(save_plane_result(a_result()) | change)


@pytest.fixture
def clip() -> ClipResult:
    results = [a_result(), a_result(None, is_blank=True, message="Blank."), a_result(message="Other.")]
    frames = [
        ClipFrame(index, seconds, r)
        for (index, seconds), r in zip([(0, 0.0), (3, 0.1), (4, None)], results, strict=True)
    ]
    return ClipResult(
        "ä.mha", ("Lips", "Femur", "Background"), "Background", tuple(frames), False, 7, (0.3, 0.4), ("Cut off.",),
        "CPU", {"Reading": 1.5},
    )  # fmt: skip


def test_result_of_a_clip_arrives_as_it_was(clip: ClipResult, tmp_path: Path) -> None:
    document = through_json(save_clip_result(clip, tmp_path))
    result = load_clip_result(document, tmp_path)
    assert [(f.index, f.seconds) for f in result.frames] == [(0, 0.0), (3, 0.1), (4, None)]
    for frame, expected in zip(result.frames, clip.frames, strict=True):
        assert_same(frame.result, expected.result)
    fields = ("name", "classes", "background", "is_complete", "count", "spacing_mm", "messages", "device", "seconds")
    assert [getattr(result, name) for name in fields] == [getattr(clip, name) for name in fields]


def test_files_may_go_when_the_result_of_a_clip_was_read(clip: ClipResult, tmp_path: Path) -> None:
    result = load_clip_result(save_clip_result(clip, tmp_path), tmp_path)
    for path in tmp_path.iterdir():
        path.write_bytes(b"")
    assert result.frames[0].result.probabilities[1] == 0.75


def test_cancellation_between_the_files_of_a_clip(clip: ClipResult, tmp_path: Path) -> None:
    def check() -> None:
        raise Cancelled

    with pytest.raises(Cancelled):
        save_clip_result(clip, tmp_path, check)
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize(
    "change", [{"frames": "../frames.npy"}, {"classes": ["Femur"]}, {"count": "7"}, {"frames": None}]
)
def test_result_of_a_clip_of_another_shape_is_told(clip: ClipResult, tmp_path: Path, change: dict[str, Any]) -> None:
    with pytest.raises(RequestError, match="The result that was handed over is not valid"):
        load_clip_result(save_clip_result(clip, tmp_path) | change, tmp_path)


def test_missing_file_of_a_clip_is_told(clip: ClipResult, tmp_path: Path) -> None:
    document = save_clip_result(clip, tmp_path)
    (tmp_path / "probabilities.npy").unlink()
    with pytest.raises(InputError, match="probabilities.npy is missing"):
        load_clip_result(document, tmp_path)
