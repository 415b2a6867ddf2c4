"""The papers' tables: a configuration for each row, and figures that agree with what is known otherwise."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from AGTraining.errors import ConfigurationError
from AGTraining.evaluation.scores import METRIC
from AGTraining.experiments.comparison import row_cost
from AGTraining.experiments.plane_tables import PLANE_ROWS
from AGTraining.experiments.runs import EXPERIMENTS
from AGTraining.experiments.tables import ROWS, SPLITS, TABLES, Row
from AGTraining.experiments.workplace import Workplace
from AGTraining.training.config import read_config


def place(folder: Path, collect: bool = True) -> Workplace:
    return Workplace(folder / "data", folder / "runs", "cpu", 1, collect, lambda line: None)


def write_dataset(folder: Path, cases: int) -> None:
    folder.mkdir(parents=True)
    entries = [{"image": f"images/{n}.nii.gz", "label": f"labels/{n}.nii.gz", "name": f"{n:03d}"} for n in range(cases)]
    for entry in entries:
        for key in ("image", "label"):
            path = folder / entry[key]
            path.parent.mkdir(exist_ok=True)
            path.touch()
    labels = {"0": "background", "1": "pancreas", "2": "spleen", "3": "kidney"}
    document = {"name": folder.name, "licence": "none", "labels": labels, "training": entries}
    (folder / "dataset.json").write_text(json.dumps(document), encoding="utf-8")


def test_each_table_has_its_rows_and_each_row_a_configuration() -> None:
    assert {table.name: len(table.rows) for table in TABLES} == {"table1": 4, "table2": 3, "table3": 6, "table4": 1}
    assert {path.stem for path in EXPERIMENTS.glob("table*.yaml")} == {*ROWS, *PLANE_ROWS}


@pytest.mark.parametrize("row", ROWS.values(), ids=lambda row: row.name)
def test_a_configuration_is_what_its_name_says(row: Row) -> None:
    config = read_config(EXPERIMENTS / f"{row.name}.yaml", "/data")

    assert config.name == row.name.replace("_", "-")
    assert config.output.name == row.name
    assert config.network.name == ("AttentionUNet" if "attention" in row.name else "UNet3D")
    assert (config.spacing_mm, config.crop, config.optimizer, config.loss) == (
        (2, 2, 2),
        (96, 160, 160),
        "adam",
        "dice",
    )
    # Nothing is selected by a look at the test scans.
    assert config.validate_every == config.epochs and config.early_stop == 0
    (training,), (test,) = config.training, config.validation
    assert (training.part, test.part) == ("training", "validation")
    for source in (training, test):
        assert source.split is not None and source.dataset is not None
        assert source.split.name in SPLITS and source.split.parent == source.dataset.parent
    if "_bft" not in row.name:
        assert (training.dataset, training.split) == (test.dataset, test.split)


@pytest.mark.parametrize("row", [row for row in ROWS.values() if row.parameters_m], ids=lambda row: row.name)
def test_networks_have_the_papers_parameters(row: Row) -> None:
    assert row.parameters_m is not None
    # The paper cuts its two decimals off rather than rounding them: 5,888,004 is 5.88 M there.
    assert 0 <= row_cost(row).parameters / 1e6 - row.parameters_m < 0.01


def test_fine_tuning_starts_from_the_model_of_table_1_and_leaves_other_organs_out(tmp_path: Path) -> None:
    for name, cases in (("ct150", 150), ("ct82", 82)):
        write_dataset(tmp_path / "data" / name, cases)

    config = place(tmp_path).config(ROWS["table3_attention_unet_aft"], seed=2)

    first = place(tmp_path).config(ROWS["table1_attention_unet_120_30"], seed=2)
    assert config.initial_weights == first.output / "table1-attention-unet-120-30.safetensors"
    assert config.left_out == ["spleen", "kidney"]
    assert config.network == first.network


def test_splits_that_the_data_lack_are_made_beside_the_runs_by_the_papers_numbers(tmp_path: Path) -> None:
    write_dataset(tmp_path / "data" / "ct150", 150)
    write_dataset(tmp_path / "data" / "ct82", 82)
    sizes = {}
    for row in ROWS.values():
        for source in place(tmp_path).config(row).validation:
            assert source.split is not None
            folds = json.loads(source.split.read_text(encoding="utf-8"))["folds"]
            sizes[source.split.name] = [(len(fold["training"]), len(fold["validation"])) for fold in folds]

    assert sizes["splits_120_30.json"] == [(120, 30)]
    assert sizes["splits_30_120.json"] == [(30, 120)]
    assert sizes["splits_61_21.json"] == [(61, 21)]
    assert sorted(sizes["splits_5_fold.json"]) == [(65, 17), (65, 17), (66, 16), (66, 16), (66, 16)]
    assert not list((tmp_path / "data").rglob("splits*"))


def test_ct_82_is_parted_as_it_is_today_and_that_is_said(tmp_path: Path) -> None:
    write_dataset(tmp_path / "data" / "ct82", 80)
    said: list[str] = []
    today = Workplace(tmp_path / "data", tmp_path / "runs", "cpu", 1, True, said.append)

    split = today.config(ROWS["table3_unet_scr"]).validation[0].split

    assert split is not None
    (fold,) = json.loads(split.read_text(encoding="utf-8"))["folds"]
    assert (len(fold["training"]), len(fold["validation"])) == (59, 21)
    assert len(said) == 1 and "has 80 scans today" in said[0] and "59 for training and 21 for testing" in said[0]


def test_a_split_of_the_data_set_is_used(tmp_path: Path) -> None:
    write_dataset(tmp_path / "data" / "ct150", 3)
    own = tmp_path / "data" / "ct150" / "splits_120_30.json"
    own.write_text(
        json.dumps({"seed": None, "folds": [{"training": ["000"], "validation": ["001"]}]}), encoding="utf-8"
    )

    config = place(tmp_path).config(ROWS["table1_unet_120_30"])

    assert config.training[0].split == own


def test_too_few_scans_are_said(tmp_path: Path) -> None:
    write_dataset(tmp_path / "data" / "ct150", 10)

    with pytest.raises(ConfigurationError, match="has 10 cases, which is too few for 120 in training and 30"):
        place(tmp_path).config(ROWS["table1_unet_120_30"])


def test_figures_name_measures_that_exist_and_are_plausible() -> None:
    for table in TABLES:
        for row in table.rows:
            assert set(row.figures) <= set(table.measures)
            for measure, figure in row.figures.items():
                organ, key = measure.split()
                assert organ in ("pancreas", "spleen", "kidney") and key in METRIC
                assert figure.mean is not None and figure.notes >= 1
                assert 0 < figure.mean < (10 if key == "s2s_mm" else 1)
