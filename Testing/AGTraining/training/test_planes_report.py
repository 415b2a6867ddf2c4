from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from AGTraining.training.plane_history import PlaneSnapshot, read_plane_snapshots, write_plane_snapshots
from AGTraining.training.report import write_report
from AGTraining.training.run import train
from Testing.AGTraining.training.toy_planes import CLASSES, make_plane_config


@pytest.fixture(scope="module")
def run(frames: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of a run whose attention is kept in the first and in the last epoch."""
    folder = tmp_path_factory.mktemp("report") / "run"
    report = {"attention_epochs": [1], "cases": 3}
    train(make_plane_config(frames, folder, epochs=2, validate_every=1, fused_from_epoch=1, report=report), "cpu")
    return folder


def test_report_has_a_table_by_class_and_pictures(run: Path) -> None:
    text = (run / "report.html").read_text(encoding="utf-8")
    assert "AGSononet, 2 of 2 epochs, seed 0. Best macro F1" in text
    for item in CLASSES:
        assert f"<td>{item['name']}</td><td>2</td>" in text
    # Curves, confusion matrix, and a row of pictures of each of three frames.
    assert text.count("data:image/png;base64,") == 5
    assert "fused_from_epoch: 1" in text


def test_frames_are_kept_with_what_was_said_and_attended_to(run: Path) -> None:
    epochs = read_plane_snapshots(run)
    assert list(epochs) == [1, 2]
    assert [item.target for item in epochs[2]] == ["background", "brain", "abdomen"]
    first = epochs[2][0]
    assert first.predicted in {item["name"] for item in CLASSES} and 0.25 <= first.confidence <= 1
    assert first.image.shape == (32, 48) and 0 <= first.image.min() < first.image.max() <= 1
    assert {name: alpha.shape for name, alpha in first.attention.items()} == {"block3": (8, 12), "block4": (4, 6)}


def test_snapshots_are_read_as_they_were_written(tmp_path: Path) -> None:
    alpha = np.linspace(0, 1, 6, dtype=np.float32).reshape(2, 3)
    image = np.full((4, 4), 0.5, dtype=np.float32)
    write_plane_snapshots(tmp_path, 7, [PlaneSnapshot("a.png", "brain", "femur", 0.625, image, {"block3": alpha})])
    (found,) = read_plane_snapshots(tmp_path)[7]
    assert (found.case, found.target, found.predicted, found.confidence) == ("a.png", "brain", "femur", 0.625)
    np.testing.assert_allclose(found.attention["block3"], alpha, atol=1e-3)
    np.testing.assert_array_equal(found.image, image)


def test_report_without_validation_says_so(frames: Path, tmp_path: Path) -> None:
    config = make_plane_config(frames, tmp_path, validation=[])
    write_report(tmp_path, config, [{"epoch": 1, "loss": 1.0, "learning_rate": 0.1}])
    assert "There was no validation." in (tmp_path / "report.html").read_text(encoding="utf-8")


def test_names_with_dollars_are_shown_as_they_are(frames: Path, tmp_path: Path) -> None:
    classes = [CLASSES[0], CLASSES[1] | {"name": "$brain_{$"}, *CLASSES[2:]]
    config = make_plane_config(frames, tmp_path, classes=classes)
    details = {"accuracy": 0.5, "loss": 0.7, "confusion": [[1, 0, 0, 0], [1, 1, 0, 0], [0, 0, 1, 0], [0, 0, 0, 1]]}
    scores = {item["name"]: 0.5 for item in classes}
    write_report(
        tmp_path, config, [{"epoch": 1, "loss": 1.0, "learning_rate": 0.1, "scores": scores, "details": details}]
    )
    assert "<td>$brain_{$</td>" in (tmp_path / "report.html").read_text(encoding="utf-8")
