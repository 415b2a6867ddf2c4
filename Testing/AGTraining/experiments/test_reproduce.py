"""`python -m AGTraining reproduce`: from data to our figures beside the paper's."""

from __future__ import annotations

import csv
import json
from pathlib import Path

import pytest

from AGTraining.cli import main
from AGTraining.evaluation.results import read_evaluation
from AGTraining.experiments.tables import TABLES


@pytest.fixture(scope="module")
def runs(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """All tables of organs in small."""
    folder = tmp_path_factory.mktemp("papers")
    for table in TABLES:
        assert main(["reproduce", table.name, "--phantom", "--runs", str(folder), "--device", "cpu"]) == 0
    return folder


def read_csv(path: Path) -> list[dict[str, str]]:
    with path.open(newline="", encoding="utf-8") as file:
        return list(csv.DictReader(file))


@pytest.mark.slow
def test_every_row_has_our_figures_beside_the_papers(runs: Path) -> None:
    for table in TABLES:
        lines = read_csv(runs / f"{table.name}.csv")
        for row in table.rows:
            mine = {line["measure"]: line for line in lines if line["row"] == row.title}
            assert len(mine) == len(table.measures) + 3
            assert "not done" not in {line["ours"] for line in mine.values()}


@pytest.mark.slow
def test_figures_of_the_table_are_those_of_the_evaluation(runs: Path) -> None:
    mean = read_evaluation(runs / "table1_unet_120_30-seed0" / "evaluation").summary("pancreas", "recall")
    line = next(line for line in read_csv(runs / "table1.csv") if line["measure"] == "pancreas recall")

    assert line["ours"] == f"{mean.mean:.3f} ± {mean.sd:.3f}"
    assert line["paper"] == "0.806 ± 0.126"
    assert float(line["difference"]) == pytest.approx(mean.mean - 0.806, abs=0.0005)


@pytest.mark.slow
def test_costs_are_those_of_the_real_networks_also_in_small(runs: Path) -> None:
    lines = read_csv(runs / "table2.csv")
    measures = {(line["row"], line["measure"]): line for line in lines}

    assert measures["U-Net 10.40 M", "parameters (M)"]["ours"] == "10.40"
    assert measures["U-Net 10.40 M", "parameters (M)"]["difference"] == "+0.00"
    assert measures["Attention U-Net (120/30)", "GFLOP"]["ours"] == "346.6"
    assert measures["Attention U-Net (120/30)", "GFLOP"]["paper"] == "not reported"
    assert measures["U-Net 6.44 M", "pancreas precision"]["paper"] == "unknown"
    # 0.222 s / 0.167 s
    assert measures["U-Net 10.40 M", "inference time / U-Net"]["paper"] == "1.33"


@pytest.mark.slow
def test_before_fine_tuning_no_model_is_trained_and_cross_validation_tests_everyone_once(runs: Path) -> None:
    folders = {path.name for path in runs.iterdir() if (path / "last.pt").is_file()}
    assert not {name for name in folders if "_bft" in name}
    assert {f"table4_attention_unet_5_fold-seed0-fold{fold}" for fold in range(5)} < folders

    tested = [
        case
        for fold in range(5)
        for case in read_evaluation(runs / f"table4_attention_unet_5_fold-seed0-fold{fold}" / "evaluation").cases
    ]
    assert len(tested) == len(set(tested)) == 5


@pytest.mark.slow
def test_models_of_many_organs_are_tested_on_the_pancreas_where_that_alone_is_labelled(runs: Path) -> None:
    labels = json.loads((runs / "data" / "ct82" / "dataset.json").read_text(encoding="utf-8"))["labels"]
    assert labels == {"0": "background", "1": "pancreas"}

    for line in read_csv(runs / "table3.csv"):
        assert line["ours"] != "not done" or not line["measure"].startswith("pancreas")


@pytest.mark.slow
def test_what_is_done_is_collected_without_training(runs: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["reproduce", "table1", "--phantom", "--collect", "--runs", str(runs), "--device", "cpu"]) == 0

    printed = capsys.readouterr()
    assert "trains" not in printed.err and "tested" not in printed.err
    assert "Attention U-Net (30/120)" in printed.out
    assert json.loads((runs / "table1.json").read_text(encoding="utf-8"))["runs"]["table1_unet_30_120"]["done"] == 1


@pytest.mark.slow
def test_rows_that_are_not_done_are_said(runs: Path, capsys: pytest.CaptureFixture[str]) -> None:
    options = ["--phantom", "--collect", "--seeds", "2", "--runs", str(runs), "--device", "cpu"]

    assert main(["reproduce", "table4", *options]) == 1

    assert "Not all runs are done of: Attention U-Net." in capsys.readouterr().out


def test_data_or_phantoms_are_asked_for(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["reproduce", "table1"]) == 1
    assert "--data" in capsys.readouterr().err
    assert main(["reproduce", "--phantom", "--data", "somewhere"]) == 1
    assert "leave out --data" in capsys.readouterr().err


def test_data_set_that_is_not_there_is_named(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["reproduce", "table1", "--data", str(tmp_path), "--runs", str(tmp_path / "runs")]) == 1

    assert f"{tmp_path}/ct150/dataset.json: cannot be read" in capsys.readouterr().err
