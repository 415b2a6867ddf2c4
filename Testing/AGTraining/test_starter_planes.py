"""The bundled models of planes on frames that they were not trained on."""

from __future__ import annotations

from pathlib import Path

import pytest

from AGTraining import bundle
from AGTraining.data.planes.decode import read_frame
from AGTraining.data.planes.settings import PlaneSourceSettings
from AGTraining.data.planes.sources import read_plane_source
from AGTraining.inference.plane_result import PlaneOptions
from AGTraining.inference.planes import PlaneDetector
from benchmarks.starter_planes import EXAMPLES, HEADS, TEST_ROWS, head_frames, measure

SIZES = (16, 8)


def path_of(size: int) -> Path:
    return bundle.default_path("planes").with_name(f"fetal-planes-starter-{size}.safetensors")


@pytest.mark.parametrize("size", SIZES)
def test_description_says_what_it_is_and_where_it_comes_from(size: int) -> None:
    model = bundle.load_planes(path_of(size))
    info = model.info
    assert info.network == "AGSononet"
    assert info.arguments["features"] == size
    assert len(info.names) == 14 and info.names[info.background or 0] == "Background"
    assert "sononet" in str(info.provenance["teacher"]).lower()
    assert info.provenance["commit"]
    assert info.metrics["unseen"] and info.metrics["cannot"]
    assert model.path.stat().st_size < 2 * 1024**2


def test_the_default_is_the_larger_one() -> None:
    assert bundle.default_path("planes") == path_of(16)


@pytest.mark.slow
@pytest.mark.parametrize("size", SIZES)
def test_measured_numbers_are_those_in_the_file(size: int, shared_data: Path) -> None:
    found = measure(path_of(size), shared_data / "ultrasound")
    info = bundle.read_info(path_of(size))
    told = info.metrics["unseen"]
    for name, row in zip((TEST_ROWS, EXAMPLES), told.values(), strict=True):
        # A frame on the edge between two planes may fall to either side on another processor.
        assert found[name]["accuracy"] == pytest.approx(row["accuracy"], abs=0.08)  # type: ignore[index]
    boxes = found[f"{HEADS}, unseen heads"]["boxes"]  # type: ignore[index]
    told_boxes = info.metrics["boxes_of_heads_of_HC18"]["unseen examinations"]
    assert boxes["iou"] == pytest.approx(told_boxes["IOU mean"], abs=0.02)


def test_a_head_of_an_unseen_examination_is_found(shared_data: Path) -> None:
    heads, unseen = head_frames(shared_data / "ultrasound/head_circumference")
    some = [head for head in heads if head.patient in unseen][:20]
    detector = PlaneDetector(bundle.load_planes(path_of(16)), PlaneOptions(device="cpu"))
    results = detector.detect_batch([read_frame(head) for head in some])
    named = [result.plane.startswith("Brain") for result in results]
    assert sum(named) >= 14
    ious = [head.box.iou(r.box) for head, r in zip(some, results, strict=True) if head.box and r.box]
    assert sum(ious) / len(some) > 0.35


def test_no_unseen_frame_was_trained_on(shared_data: Path) -> None:
    """By their numbers: the provenance counts the frames of each source."""
    folder = shared_data / "ultrasound"
    trained = read_plane_source(PlaneSourceSettings(csv=folder / "fetal_planes/labels.csv", official=["train"]))
    heads, unseen = head_frames(folder / "head_circumference")
    counts = {item["name"]: item["frames"] for item in bundle.read_info(path_of(16)).provenance["data"]}
    assert counts["fetal_planes"] == len(trained.frames)
    assert counts["head_circumference"] == sum(head.patient not in unseen for head in heads)
