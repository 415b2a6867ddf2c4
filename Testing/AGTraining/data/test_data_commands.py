"""The verbs import, check, split and prepare, as they are called from the command line."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import yaml

from AGTraining.cli import main
from AGTraining.data.dataset import read_dataset
from AGTraining.data.planes import store
from AGTraining.data.planes.phantom import make_phantom_frames
from AGTraining.imaging.files import write_volume
from AGTraining.imaging.volume import Volume
from AGTraining.training.trainer import Trainer
from Testing.AGTraining.data.small import MATRIX, blocks, configuration, write_case, write_dataset, write_description
from Testing.AGTraining.training.toy_planes import make_plane_config, plane_settings


@pytest.fixture
def data(tmp_path: Path) -> Path:
    return write_dataset(tmp_path / "data", *(f"c{n}" for n in range(5)))


def write_config(path: Path, **changes: Any) -> Path:
    path.write_text(yaml.safe_dump(configuration(path.parent / "runs/first", **changes)), encoding="utf-8")
    return path


def test_import_writes_a_data_set_and_says_so(data: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    names = [f"{name}={value}" for name, value in (("pancreas", 1), ("spleen", 2), ("a", 3), ("b", 4))]
    code = main(["import", "folders", str(data.parent), "--out", str(tmp_path / "out"), "--labels", *names])
    assert code == 0
    assert capsys.readouterr().out == f"{tmp_path}/out/dataset.json: 5 cases\n"
    assert len(read_dataset(tmp_path / "out").cases) == 5


def test_import_that_leaves_cases_out_says_which_and_fails(
    data: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (data.parent / "labels/c3.nii.gz").unlink()
    code = main(["import", "folders", str(data.parent), "--out", str(tmp_path / "out"), "--labels", "x=1"])
    printed = capsys.readouterr()
    assert code == 1
    assert "4 cases" in printed.out
    assert printed.err == f"error: {data.parent}/images/c3.nii.gz: has no label map.\n"


def test_check_of_a_sound_data_set_succeeds(data: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["check", str(data)]) == 0
    assert capsys.readouterr().out.endswith("no problem found\n")


def test_check_prints_every_problem_and_fails(data: Path, capsys: pytest.CaptureFixture[str]) -> None:
    write_volume(Volume(blocks()[:-1].copy(), MATRIX), data.parent / "labels/c1.nii.gz")
    write_volume(Volume(np.full_like(blocks(), 9), MATRIX), data.parent / "labels/c2.nii.gz")
    (data.parent / "images/c4.nii.gz").unlink()
    assert main(["check", str(data.parent)]) == 1
    printed = capsys.readouterr()
    errors = printed.err.splitlines()
    assert [name for name in ("c4", "c1", "c2") for line in errors if f"{name}.nii.gz" in line] == ["c4", "c1", "c2"]
    assert len(errors) == 3 and printed.out.endswith("3 problems\n")


def test_check_finds_a_patient_in_both_parts_of_a_split(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    entries = [write_case(tmp_path, "a", 0, patient="p"), write_case(tmp_path, "b", 1, patient="p")]
    path = write_description(tmp_path, entries)
    split = tmp_path / "splits.json"
    split.write_text(json.dumps({"seed": 0, "folds": [{"training": ["a"], "validation": ["b"]}]}))
    assert main(["check", str(path), "--split", str(split)]) == 1
    assert "fold 0 has patient 'p' in training and in validation" in capsys.readouterr().err


def test_check_of_a_configuration_covers_its_data_sets_and_its_choice(
    data: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    source = {"dataset": str(data)}
    config = write_config(tmp_path / "a.yaml", training=[source], validation=[source])
    assert main(["check", str(config)]) == 1
    errors = capsys.readouterr().err.splitlines()
    assert len(errors) == 5 and all("is in the validation and in the training part" in line for line in errors)
    assert main(["split", str(data), "--validation", "2"]) == 0
    part = {"dataset": "data/dataset.json", "split": "data/splits.json"}
    config = write_config(tmp_path / "b.yaml", training=[part], validation=[part])
    assert main(["check", str(config)]) == 0


def test_split_writes_beside_the_data_set_and_never_over_another(
    data: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["split", str(data), "--folds", "5", "--seed", "3"]) == 0
    assert capsys.readouterr().out.splitlines()[:2] == [
        str(data.parent / "splits.json"),
        "  fold 0: 4 training, 1 validation",
    ]
    before = (data.parent / "splits.json").read_bytes()
    assert main(["split", str(data), "--validation", "1"]) == 1
    assert "splits.json: is there already" in capsys.readouterr().err
    assert (data.parent / "splits.json").read_bytes() == before
    assert main(["split", str(data), "--validation", "1", "--training", "2", "--overwrite"]) == 0
    assert "fold 0: 2 training, 1 validation" in capsys.readouterr().out


def test_prepare_keeps_cases_where_the_training_looks_for_them(
    data: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    config = write_config(tmp_path / "a.yaml", training=[{"dataset": str(data)}])
    assert main(["prepare", str(config), "--workers", "1"]) == 0
    assert capsys.readouterr().out.startswith(f"{tmp_path}/runs/prepared: 5 cases, ")
    assert len(list((tmp_path / "runs/prepared").glob("c?-*/image.npy"))) == 5


def test_prepare_makes_phantoms_that_are_asked_for(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    config = write_config(tmp_path / "a.yaml", training=[{"phantoms": {"first": 3, "count": 2, "spacing_mm": 12}}])
    assert main(["prepare", str(config), "--out", str(tmp_path / "kept"), "--workers", "1"]) == 0
    assert "2 cases" in capsys.readouterr().out
    assert len(list((tmp_path / "kept").glob("*/target.npy"))) == 2


def test_prepare_refuses_a_patient_in_both_parts(
    data: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    sources = [{"dataset": str(data)}]
    config = write_config(tmp_path / "a.yaml", training=sources, validation=sources)
    assert main(["prepare", str(config)]) == 1
    assert "5 problems" in capsys.readouterr().err
    assert not (tmp_path / "runs/prepared").exists()


def test_description_moves_with_its_data(data: Path, tmp_path: Path) -> None:
    main(["import", "folders", str(data.parent), "--out", str(data.parent / "described"), "--labels", "x=1"])
    shutil.move(data.parent, tmp_path / "elsewhere")
    assert len(read_dataset(tmp_path / "elsewhere/described").cases) == 5


def test_check_of_phantoms_names_the_configuration(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    config = write_config(tmp_path / "a.yaml", training=[{"phantoms": {"first": 0, "count": 1, "spacing_mm": 12}}])
    assert main(["check", str(config)]) == 0
    assert capsys.readouterr().out.splitlines()[-1] == f"{config}: no problem found"


def test_prepare_keeps_frames_where_the_training_looks_for_them(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    table = make_phantom_frames(tmp_path / "frames", range(4), 1)
    settings = plane_settings(table, tmp_path / "runs" / "first")
    del settings["prepared"]
    (tmp_path / "planes.yaml").write_text(yaml.safe_dump(settings), encoding="utf-8")
    assert main(["prepare", str(tmp_path / "planes.yaml")]) == 0
    assert capsys.readouterr().out == f"{tmp_path}/runs/prepared: 16 frames\n"
    # Nothing is decoded a second time.
    monkeypatch.setattr(store, "read_frame", None)
    config = make_plane_config(table, tmp_path / "runs" / "first", prepared=None, epochs=1, steps_per_epoch=1)
    Trainer(config, "cpu").run()
