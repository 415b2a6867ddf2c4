"""A model of planes against labelled frames, with one that is right by construction."""

from __future__ import annotations

import csv
import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from AGTraining.data.planes.decode import read_frame as plane_decode
from AGTraining.data.planes.labelled import LabelledFrame
from AGTraining.errors import ConfigurationError, InputError
from AGTraining.evaluation import plane_report
from AGTraining.evaluation.plane_report import messages, surest_mistakes, write_plane_report
from AGTraining.evaluation.plane_results import PlaneEvaluation, read_plane_evaluation, write_plane_evaluation
from AGTraining.evaluation.planes import Answers, evaluate_planes
from AGTraining.imaging.box import Box
from AGTraining.inference.plane_result import PlaneOptions
from AGTraining.inference.planes import PlaneDetector
from Testing.AGTraining.inference.synthetic_planes import CLASSES, LARGE, MIDDLE, SMALL, blob_bundle, frame


@pytest.fixture(scope="module")
def detector() -> PlaneDetector:
    return PlaneDetector(blob_bundle(), PlaneOptions(device="cpu", batch=3))


def labelled(folder: Path, name: str, rectangle: tuple[int, int, int, int], label: str | None) -> LabelledFrame:
    """A frame with a bright rectangle, whose box is known."""
    path = folder / f"{name}.png"
    Image.fromarray(frame(rectangle)).save(path)
    return LabelledFrame(path, label, f"patient of {name}", box=Box(*rectangle))


@pytest.fixture
def frames(tmp_path: Path) -> list[LabelledFrame]:
    """Two small and a large one, and a small one that the data set calls large."""
    return [
        labelled(tmp_path, "a", SMALL, "Small"),
        labelled(tmp_path, "b", LARGE, "large"),
        labelled(tmp_path, "c", SMALL, "Small/left"),
        labelled(tmp_path, "d", SMALL, "Large"),
    ]


@pytest.fixture
def evaluation(frames: list[LabelledFrame], detector: PlaneDetector) -> PlaneEvaluation:
    return evaluate_planes(frames, detector, "blobs")


def test_planes_are_compared_with_labels(evaluation: PlaneEvaluation) -> None:
    assert [(row.truth, row.predicted) for row in evaluation.rows] == [
        ("Small", "Small"), ("Large", "Large"), ("Small", "Small"), ("Large", "Small"),
    ]  # fmt: skip
    assert evaluation.scores.accuracy == 0.75
    small, large, _ = evaluation.scores.classes
    assert (small.precision, small.recall) == pytest.approx((2 / 3, 1))
    assert (large.precision, large.recall) == (1, 0.5)
    assert messages(evaluation) == ["No frame shows Background: without scores, and not counted in the means."]


def test_probabilities_are_those_of_the_detector(
    evaluation: PlaneEvaluation, frames: list[LabelledFrame], detector: PlaneDetector
) -> None:
    for row, item in zip(evaluation.rows, frames, strict=True):
        result = detector.detect(np.asarray(Image.open(item.source)))
        assert row.probabilities == pytest.approx(result.probabilities.tolist(), abs=1e-6)
        assert row.confidence == pytest.approx(result.confidence, abs=1e-6)


def test_boxes_are_compared_with_known_ones(evaluation: PlaneEvaluation) -> None:
    for row in evaluation.rows:
        assert row.box is not None and row.found is not None
        assert row.iou == pytest.approx(Box(*row.box).iou(Box(*row.found)))
    assert evaluation.rows[1].iou > 0.5
    names = [row.name for row in evaluation.localisation()]
    assert names == ["Small", "Large", "all"]
    assert sum(row.frames for row in evaluation.localisation(right_only=True)[:-1]) == 3


def test_a_model_without_attention_has_no_localisation(frames: list[LabelledFrame]) -> None:
    plain = PlaneDetector(blob_bundle(with_attention=False), PlaneOptions(device="cpu"))

    assert evaluate_planes(frames, plain, "blobs").localisation() == ()


def test_of_several_right_classes_the_most_probable_is_the_truth(tmp_path: Path, detector: PlaneDetector) -> None:
    frames = [
        labelled(tmp_path, "a", LARGE, "Anything"),
        labelled(tmp_path, "b", SMALL, "Anything"),
        labelled(tmp_path, "c", MIDDLE, "Anything"),
    ]

    rows = evaluate_planes(frames, detector, "x", Answers(CLASSES, {"Anything": ["Small", "Large"]})).rows

    assert [row.truth for row in rows[:2]] == ["Large", "Small"]
    assert rows[2].truth in ("Small", "Large") and rows[2].predicted == "Background"


def test_merged_classes_count_as_one(tmp_path: Path, detector: PlaneDetector) -> None:
    answers = Answers(CLASSES, {"Lesion": ["Blob"]}, {"Blob": ["Small", "Large"]})
    frames = [labelled(tmp_path, "a", LARGE, "lesion"), labelled(tmp_path, "b", SMALL, "Blob")]

    found = evaluate_planes(frames, detector, "x", answers)

    assert found.classes == ("Blob", "Background") and found.background == "Background"
    assert [(row.truth, row.predicted) for row in found.rows] == [("Blob", "Blob")] * 2
    assert all(sum(row.probabilities) == pytest.approx(1, abs=1e-5) for row in found.rows)


def test_labels_of_merged_classes_are_still_understood() -> None:
    assert Answers(CLASSES, merged={"Blob": ["Small", "Large"]}).right("small") == [0]


def test_labels_and_classes_that_do_not_exist_are_said(tmp_path: Path, detector: PlaneDetector) -> None:
    with pytest.raises(ConfigurationError, match="'Tiny' is no class of the model, which has Small, Large, Background"):
        Answers(CLASSES, {"x": ["Tiny"]})
    with pytest.raises(ConfigurationError, match="the labels Kidney, Lips belong to no class"):
        evaluate_planes(
            [labelled(tmp_path, "a", SMALL, "Lips"), labelled(tmp_path, "b", SMALL, "Kidney")], detector, "x"
        )


def test_frames_that_fail_do_not_stop_the_others(
    tmp_path: Path, frames: list[LabelledFrame], detector: PlaneDetector
) -> None:
    frames[1].source.write_bytes(b"nothing")
    unlabelled = replace(frames[0], label=None)
    said: list[str] = []

    found = evaluate_planes([*frames, unlabelled], detector, "x", on_failure=lambda name, error: said.append(name))

    assert len(found.rows) == 3 and said == [str(frames[1].source)]
    assert "b.png: cannot be read" in found.failures[0].error
    assert "1 frames without a label were left out." in found.messages
    assert "1 of 4 frames have no scores." in found.messages
    with pytest.raises(InputError, match="has no frame that can be scored"):
        evaluate_planes([unlabelled], detector, "x")


def test_what_is_written_is_read_again(tmp_path: Path, evaluation: PlaneEvaluation) -> None:
    files = write_plane_evaluation(evaluation, tmp_path)

    assert read_plane_evaluation(tmp_path) == evaluation
    document = json.loads(files[0].read_text(encoding="utf-8"))
    assert document["summary"]["accuracy"] == 0.75
    assert document["summary"]["classes"]["Background"]["recall"] is None
    assert document["summary"]["without_cases"] == ["Background"]
    with files[1].open(newline="", encoding="utf-8") as file:
        rows = list(csv.DictReader(file))
    assert [row["right"] for row in rows] == ["1", "1", "1", "0"]
    assert float(rows[3]["p Small"]) > 0.5


def test_another_file_is_no_evaluation_of_planes(tmp_path: Path) -> None:
    (tmp_path / "evaluation.json").write_text('{"format": "AGTraining evaluation"}', encoding="utf-8")
    with pytest.raises(ConfigurationError, match="not an evaluation of planes"):
        read_plane_evaluation(tmp_path)
    with pytest.raises(ConfigurationError, match="name a folder that 'evaluate-planes' has written"):
        read_plane_evaluation(tmp_path / "gone")


def test_the_report_has_its_tables_and_the_surest_mistakes(
    tmp_path: Path, evaluation: PlaneEvaluation, frames: list[LabelledFrame]
) -> None:
    report, picture = write_plane_report(evaluation, frames, tmp_path)

    page = report.read_text(encoding="utf-8")
    for text in ("Confusion matrix", "Calibration", "Localization", "Surest mistakes", "mean of classes"):
        assert text in page
    assert "http" not in page.replace("http-equiv", "")
    assert Image.open(picture).width > 300
    assert [row.frame for row in surest_mistakes(evaluation, 5)] == ["d.png"]


def test_frames_of_one_name_in_two_folders_are_not_mixed_up(
    tmp_path: Path, detector: PlaneDetector, monkeypatch: pytest.MonkeyPatch
) -> None:
    for folder in ("Small", "Large"):
        (tmp_path / folder).mkdir()
    same = [
        replace(labelled(tmp_path / folder, "1", SMALL, folder), patient="1", known_patient=False)
        for folder in ("Large", "Small")
    ]
    shown: list[str] = []
    monkeypatch.setattr(
        plane_report, "read_frame", lambda frame: (shown.append(str(frame.label)), plane_decode(frame))[1]
    )

    report, _ = write_plane_report(evaluate_planes(same, detector, "x"), same, tmp_path)

    assert shown == ["Large"]
    assert "2 frames of unknown patients" in report.read_text(encoding="utf-8")


def test_the_report_stands_without_the_picture_of_a_frame(
    tmp_path: Path, evaluation: PlaneEvaluation, frames: list[LabelledFrame]
) -> None:
    frames[3].source.unlink()

    report, _ = write_plane_report(evaluation, frames, tmp_path)

    assert "No picture of d.png" in report.read_text(encoding="utf-8")
