"""`evaluate` and `compare` on the command line: files in, reports out, exit codes."""

from __future__ import annotations

import csv
import json
from pathlib import Path

import pytest

from AGTraining import bundle
from AGTraining.cli import main
from Testing.AGTraining.evaluation.study import make_study, shifted_map, write_map
from Testing.AGTraining.inference.synthetic import threshold_bundle


@pytest.fixture
def data(tmp_path: Path) -> Path:
    """A data set of ten cases, and predictions of two methods in `first` and `second`."""
    names = "abcdefghij"
    path = make_study(tmp_path / "data", names)
    for number, name in enumerate(names):
        write_map(shifted_map(number % 2), tmp_path / f"first/{name}.nii.gz")
        write_map(shifted_map(1 + number % 3), tmp_path / f"second/{name}.nii.gz")
    return path


def run(*arguments: object) -> int:
    return main([str(argument) for argument in arguments])


def test_two_methods_are_evaluated_and_compared(data: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    for name in ("first", "second"):
        out = tmp_path / f"results/{name}"
        assert run("evaluate", data.parent, "--predictions", tmp_path / name, "--out", out, "--worst", 0) == 0
        assert sorted(path.name for path in out.iterdir()) == ["evaluation.json", "report.html", "scores.csv"]
    printed = capsys.readouterr().out
    # Half of the cases are moved by one of six columns.
    assert "0.917 ± 0.088" in printed
    out = tmp_path / "comparison"
    options = ("--metrics", "dsc", "hd95_mm", "--names", "ours", "theirs")
    assert run("compare", tmp_path / "results/first", tmp_path / "results/second", "--out", out, *options) == 0
    assert sorted(path.name for path in out.iterdir()) == ["comparison.csv", "comparison.html", "comparison.json"]
    with (out / "comparison.csv").open(newline="", encoding="utf-8") as file:
        rows = {(row["organ"], row["metric"]): row for row in csv.DictReader(file)}
    assert len(rows) == 6
    assert rows["left kidney", "dsc"]["better"] == "ours"
    assert float(rows["left kidney", "dsc"]["t_holm"]) < 0.05
    assert "first: ours" in capsys.readouterr().out


def test_case_that_fails_is_told_and_exits_1(data: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "first/c.nii.gz").unlink()
    out = tmp_path / "out"
    assert run("evaluate", data, "--predictions", tmp_path / "first", "--out", out, "--worst", 0) == 1
    captured = capsys.readouterr()
    assert captured.err.startswith("error: imagesTr_c: has no prediction in")
    assert "note: 1 of 10 cases have no scores" in captured.out
    assert [failure["case"] for failure in json.loads((out / "evaluation.json").read_text())["failures"]] == [
        "imagesTr_c"
    ]


def test_results_are_not_replaced_unless_told_to(
    data: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    command = ("evaluate", data, "--predictions", tmp_path / "first", "--out", tmp_path / "out", "--worst", 0)
    assert run(*command) == 0
    assert run(*command) == 1
    assert "an evaluation is already there" in capsys.readouterr().err
    assert run(*command, "--overwrite", "--tolerance", 3.5) == 0
    assert json.loads((tmp_path / "out/evaluation.json").read_text())["tolerance_mm"] == 3.5


def test_one_part_of_a_split_and_chosen_organs(data: Path, tmp_path: Path) -> None:
    folds = [{"training": ["imagesTr_a"], "validation": ["imagesTr_b", "imagesTr_d"]}]
    (tmp_path / "splits.json").write_text(json.dumps({"seed": 0, "folds": folds}))
    out = tmp_path / "out"
    options = ("--split", tmp_path / "splits.json", "--organ", "kidney=kidney_right+kidney_left", "--worst", 0)
    assert run("evaluate", data, "--predictions", tmp_path / "first", "--out", out, *options) == 0
    rows = json.loads((out / "evaluation.json").read_text())["scores"]
    assert [(row["case"], row["organ"]) for row in rows] == [("imagesTr_b", "kidney"), ("imagesTr_d", "kidney")]


def test_model_is_run_and_its_segmentations_are_kept(tmp_path: Path) -> None:
    data = make_study(tmp_path / "data", ("a",))
    model = threshold_bundle()
    bundle.save(tmp_path / "model.safetensors", model.network, model.info)
    out = tmp_path / "out"
    assert run("evaluate", data, "--model", tmp_path / "model.safetensors", "--out", out, "--device", "cpu") == 0
    assert sorted(path.name for path in out.iterdir()) == [
        "evaluation.json", "predictions", "report.html", "scores.csv",
    ]  # fmt: skip
    again = tmp_path / "again"
    assert run("evaluate", data, "--predictions", out / "predictions", "--out", again, "--worst", 0) == 0
    assert (again / "scores.csv").read_text() == (out / "scores.csv").read_text()


@pytest.mark.parametrize("text", ["", "=spleen", "kidney=", "kidney=a++b"])
def test_organ_that_cannot_be_understood_is_wrong_usage(data: Path, tmp_path: Path, text: str) -> None:
    with pytest.raises(SystemExit) as stop:
        run("evaluate", data, "--out", tmp_path / "out", "--organ", text)
    assert stop.value.code == 2


def test_compare_refuses_what_is_no_evaluation(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert run("compare", tmp_path, tmp_path, "--out", tmp_path / "out") == 1
    assert "name a folder that 'evaluate' has written" in capsys.readouterr().err
    assert not (tmp_path / "out").exists()
