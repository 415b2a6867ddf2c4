"""`evaluate-planes`, and `check` and `split` of frames, on the command line."""

from __future__ import annotations

import csv
import json
from pathlib import Path

import pytest
from PIL import Image

from AGTraining.cli import main
from Testing.AGTraining.inference.synthetic_planes import LARGE, SMALL, frame, save_blobs


def run(*arguments: object) -> int:
    return main([str(argument) for argument in arguments])


@pytest.fixture
def data(tmp_path: Path) -> Path:
    """A table of six frames of three patients; one small rectangle is labelled as large."""
    folder = tmp_path / "data"
    folder.mkdir()
    rows = ["file,patient,plane,official_split"]
    for number in range(6):
        Image.fromarray(frame(LARGE if number % 2 else SMALL, level=190 + number)).save(folder / f"{number}.png")
        label = "Large" if number % 2 or number == 4 else "Small"
        rows.append(f"{number}.png,{number // 2},{label},{'test' if number > 1 else 'train'}")
    (folder / "labels.csv").write_text("\n".join(rows) + "\n", encoding="utf-8")
    return folder


@pytest.fixture
def model(tmp_path: Path) -> Path:
    return save_blobs(tmp_path / "blobs.safetensors")


def rows_of(out: Path) -> list[dict[str, str]]:
    with (out / "frames.csv").open(newline="", encoding="utf-8") as file:
        return list(csv.DictReader(file))


def test_a_table_is_scored_and_reported(
    data: Path, model: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out = tmp_path / "out"

    assert run("evaluate-planes", data, "--model", model, "--out", out, "--device", "cpu") == 0

    assert sorted(path.name for path in out.iterdir()) == [
        "confusion.png", "evaluation.json", "frames.csv", "report.html",
    ]  # fmt: skip
    printed = capsys.readouterr().out
    assert "accuracy 0.833" in printed
    assert "note: No frame shows Background" in printed
    assert [row["right"] for row in rows_of(out)] == ["1", "1", "1", "1", "0", "1"]


def test_parts_of_a_data_set_are_scored(data: Path, model: Path, tmp_path: Path) -> None:
    command = ("evaluate-planes", data, "--model", model, "--device", "cpu")
    assert run(*command, "--out", tmp_path / "a", "--official", "train") == 0
    assert [row["frame"] for row in rows_of(tmp_path / "a")] == ["0.png", "1.png"]

    splits = {"seed": 0, "folds": [{"training": ["0", "1"], "validation": ["2"]}]}
    (tmp_path / "splits.json").write_text(json.dumps(splits), encoding="utf-8")
    assert run(*command, "--out", tmp_path / "b", "--split", tmp_path / "splits.json") == 0
    assert [row["patient"] for row in rows_of(tmp_path / "b")] == ["2", "2"]

    assert run(*command, "--out", tmp_path / "c", "--leave-out", "Large") == 0
    assert [row["frame"] for row in rows_of(tmp_path / "c")] == ["0.png", "2.png"]


def test_labels_of_other_names_and_classes_that_count_as_one(
    data: Path, model: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    table = data / "labels.csv"
    table.write_text(table.read_text(encoding="utf-8").replace("Large", "Liver"), encoding="utf-8")
    command = ("evaluate-planes", data, "--model", model, "--device", "cpu")
    assert run(*command, "--out", tmp_path / "a") == 1
    assert "the labels Liver belong to no class of the model (Small, Large, Background)" in capsys.readouterr().err

    assert run(*command, "--out", tmp_path / "b", "--label", "Liver=Large") == 0
    assert "accuracy 0.833" in capsys.readouterr().out
    assert run(*command, "--out", tmp_path / "c", "--label", "Liver=Blob", "--merge", "Blob=Small+Large") == 0
    assert "accuracy 1.000" in capsys.readouterr().out


def test_a_configuration_names_the_frames_and_what_is_right_for_them(data: Path, model: Path, tmp_path: Path) -> None:
    table = data / "labels.csv"
    table.write_text(table.read_text(encoding="utf-8").replace("Large", "Liver"), encoding="utf-8")
    (tmp_path / "run.yaml").write_text(
        "task: planes\noutput: out\ntraining:\n  - {csv: data/labels.csv, official: train}\n"
        "validation:\n  - {csv: data/labels.csv, official: test}\n"
        "classes:\n  - {name: Small}\n  - {name: Large, labels: [Liver]}\n  - {name: Background, background: true}\n",
        encoding="utf-8",
    )

    command = ("evaluate-planes", tmp_path / "run.yaml", "--model", model, "--device", "cpu")

    assert run(*command, "--out", tmp_path / "result") == 0
    assert [row["frame"] for row in rows_of(tmp_path / "result")] == ["2.png", "3.png", "4.png", "5.png"]


def test_a_configuration_s_patients_are_the_same_whatever_frames_are_left_out(
    data: Path, model: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    source = "{csv: data/labels.csv, split: {share: 0.4, seed: 0}}"
    (tmp_path / "run.yaml").write_text(
        f"task: planes\noutput: out\ntraining: [{source}]\nvalidation: [{source}]\n"
        "classes:\n  - {name: Small}\n  - {name: Large}\n  - {name: Background, background: true}\n",
        encoding="utf-8",
    )
    command = ("evaluate-planes", tmp_path / "run.yaml", "--model", model, "--device", "cpu")

    found = {}
    for plane in ("nothing", "Small", "Large"):
        assert run(*command, "--out", tmp_path / plane, "--leave-out", plane) == 0
        found[plane] = {row["patient"] for row in rows_of(tmp_path / plane)}

    assert found["Small"] <= found["nothing"] and found["Large"] <= found["nothing"]
    assert run(*command, "--out", tmp_path / "split", "--split", tmp_path / "splits.json") == 1
    assert "says itself what --split says" in capsys.readouterr().err


def test_results_are_not_replaced_unless_told_to(
    data: Path, model: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    command = ("evaluate-planes", data, "--model", model, "--device", "cpu", "--out", tmp_path / "out")
    assert run(*command) == 0
    assert run(*command) == 1
    assert "an evaluation is already there" in capsys.readouterr().err
    assert run(*command, "--overwrite") == 0


def test_frames_that_cannot_be_read_are_told_and_exit_1(
    data: Path, model: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (data / "3.png").write_bytes(b"nothing")

    assert run("evaluate-planes", data, "--model", model, "--out", tmp_path / "out", "--device", "cpu") == 1

    captured = capsys.readouterr()
    assert captured.err.startswith(f"error: {data / '3.png'}: cannot be read")
    assert len(rows_of(tmp_path / "out")) == 5


@pytest.mark.parametrize("text", ["Liver", "=Large", "Liver=", "Liver=a++b"])
def test_equations_that_cannot_be_understood_are_wrong_usage(data: Path, tmp_path: Path, text: str) -> None:
    with pytest.raises(SystemExit) as stop:
        run("evaluate-planes", data, "--out", tmp_path / "out", "--label", text)
    assert stop.value.code == 2


def test_check_counts_frames_and_says_what_is_wrong(data: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert run("check", data) == 0
    printed = capsys.readouterr().out
    assert "6 frames of 3 patients" in printed and "Large: 4" in printed and "no problem found" in printed

    (data / "0.png").write_bytes(b"nothing")
    (data / "1.png").unlink()
    assert run("check", data) == 1
    errors = capsys.readouterr().err
    assert "0.png: cannot be read" in errors and "line 3: 1.png is not in" in errors


def test_check_compares_a_split_with_the_frames(data: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    splits = {"seed": 0, "folds": [{"training": ["0", "1"], "validation": ["1", "9"]}]}
    (tmp_path / "splits.json").write_text(json.dumps(splits), encoding="utf-8")

    assert run("check", data, "--split", tmp_path / "splits.json") == 1

    errors = capsys.readouterr().err
    assert "fold 0 names patient '9', who is not in" in errors
    assert "fold 0 has patient '1' in training and in validation" in errors


def test_check_reads_a_configuration_of_planes(data: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "run.yaml").write_text(
        "task: planes\noutput: out\ntraining:\n  - {csv: data/labels.csv}\n"
        "validation:\n  - {csv: data/labels.csv, official: test}\n"
        "classes:\n  - {name: Small}\n  - {name: Background, background: true, labels: [Other]}\n",
        encoding="utf-8",
    )

    assert run("check", tmp_path / "run.yaml") == 1

    errors = capsys.readouterr().err
    assert "label 'Large' of 4 frames belongs to no class" in errors
    assert "Class 'Background' has no frame to train on" in errors
    assert "patient '1' is in the training part (2.png) and in the validation part (2.png)" in errors


def test_split_lists_patients(data: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert run("split", data, "--folds", 3) == 0
    assert "fold 2: 2 patients training, 1 patients validation" in capsys.readouterr().out
    folds = json.loads((data / "splits.json").read_text(encoding="utf-8"))["folds"]
    assert sorted(fold["validation"][0] for fold in folds) == ["0", "1", "2"]

    assert run("split", data, "--share", 0.3, "--overwrite") == 0
    assert run("split", data, "--validation", 2, "--overwrite") == 1
    assert "name their part with --share" in capsys.readouterr().err
