from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from AGTraining.data import sources as sources_module
from AGTraining.data.sources import phantom_dataset, read_source, with_phantoms
from AGTraining.errors import ConfigurationError
from AGTraining.imaging.files import read_volume
from AGTraining.training.config import PhantomSettings, SourceSettings, TrainingConfig

COARSE = PhantomSettings(first=7, count=2, spacing_mm=12)


@pytest.fixture
def dataset(tmp_path: Path) -> Path:
    """A dataset.json of three cases whose files are empty."""
    names = ["a", "b", "c"]
    for name in names:
        for kind in ("ct", "labels"):
            (tmp_path / f"{name}_{kind}.nii.gz").touch()
    cases = [{"image": f"{name}_ct.nii.gz", "label": f"{name}_labels.nii.gz"} for name in names]
    document = {"labels": {"0": "background", "1": "spleen"}, "training": cases}
    (tmp_path / "dataset.json").write_text(json.dumps(document), encoding="utf-8")
    return tmp_path / "dataset.json"


def write_split(dataset: Path, folds: list[dict[str, list[str]]]) -> Path:
    path = dataset.parent / "splits.json"
    path.write_text(json.dumps({"seed": 1, "folds": folds}), encoding="utf-8")
    return path


def names(dataset: Path) -> list[str]:
    return [case.name for case in read_source(SourceSettings(dataset=dataset)).cases]


def test_phantoms_are_made_once(tmp_path: Path) -> None:
    path = phantom_dataset(COARSE, tmp_path)
    assert path == tmp_path / "7-8-12mm" / "dataset.json"
    made = read_source(SourceSettings(dataset=path))
    assert [case.image.name for case in made.cases] == ["phantom7_ct.nii.gz", "phantom8_ct.nii.gz"]
    assert read_volume(made.cases[0].image).spacing == pytest.approx((12, 12, 12))
    before = made.cases[0].image.stat().st_mtime_ns
    assert phantom_dataset(COARSE, tmp_path) == path
    assert made.cases[0].image.stat().st_mtime_ns == before


def test_interrupted_making_leaves_nothing_that_looks_whole(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    make = sources_module.make_phantom_dataset

    def interrupted(folder: Path, *arguments: Any) -> Path:
        make(folder, *arguments)
        raise KeyboardInterrupt

    monkeypatch.setattr(sources_module, "make_phantom_dataset", interrupted)
    with pytest.raises(KeyboardInterrupt):
        phantom_dataset(COARSE, tmp_path)
    assert list(tmp_path.iterdir()) == []


def test_configuration_with_phantoms_gets_their_data_sets(tmp_path: Path, dataset: Path) -> None:
    organ = {"name": "spleen", "type_code": "1", "type_meaning": "Spleen", "color": [1, 2, 3], "labels": ["spleen"]}
    config = TrainingConfig.model_validate(
        {
            "output": tmp_path / "run",
            "training": [{"phantoms": COARSE.model_dump(), "weight": 3}, {"dataset": dataset}],
            "classes": [organ],
        }
    )
    made = with_phantoms(config, tmp_path / "phantoms")
    assert made.training[0].dataset == tmp_path / "phantoms/7-8-12mm/dataset.json"
    assert (made.training[0].phantoms, made.training[0].weight) == (None, 3)
    assert made.training[1] == config.training[1]
    # What is written into the run's folder still says what was asked for.
    assert config.training[0].phantoms == COARSE


def test_part_of_a_fold_is_taken_from_a_split(dataset: Path) -> None:
    a, b, c = names(dataset)
    split = write_split(dataset, [{"training": [c, a], "validation": [b]}, {"training": [b], "validation": [a, c]}])
    for fold, part, expected in ((0, "training", [c, a]), (0, "validation", [b]), (1, "validation", [a, c])):
        source = SourceSettings.model_validate({"dataset": dataset, "split": split, "fold": fold, "part": part})
        assert [case.name for case in read_source(source).cases] == expected


@pytest.mark.parametrize(
    ("folds", "message"),
    [
        ([], r"splits\.json: has 0 folds, counted from 0; there is no fold 0"),
        ([{"validation": ["x"]}], r"splits\.json: not a split \(KeyError: 'training'\)"),
        (
            [{"training": ["nobody"], "validation": []}],
            r"splits\.json: fold 0 names 'nobody', which is no case of .*dataset",
        ),
        ([{"training": [], "validation": []}], r"splits\.json: fold 0 has no case in this part"),
    ],
)
def test_split_that_does_not_fit_is_refused(dataset: Path, folds: list[Any], message: str) -> None:
    source = SourceSettings(dataset=dataset, split=write_split(dataset, folds), part="training")
    with pytest.raises(ConfigurationError, match=message):
        read_source(source)


def test_missing_split_is_named(dataset: Path) -> None:
    source = SourceSettings(dataset=dataset, split=dataset.with_name("none.json"), part="training")
    with pytest.raises(ConfigurationError, match=r"none\.json: cannot be read \(No such file"):
        read_source(source)
