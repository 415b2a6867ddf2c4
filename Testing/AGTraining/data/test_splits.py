from __future__ import annotations

import json
from collections import Counter
from pathlib import Path

import pytest

from AGTraining.data.dataset import Case, DatasetDescription
from AGTraining.data.sources import read_source
from AGTraining.data.splits import (
    Fold,
    Splits,
    check_splits,
    make_folds,
    make_split,
    read_splits,
    write_splits,
)
from AGTraining.errors import ConfigurationError
from AGTraining.training.config import SourceSettings
from Testing.AGTraining.data.small import write_description


def dataset(count: int, patients: dict[int, str] | None = None) -> DatasetDescription:
    cases = [
        Case(
            Path(f"{n}.nii.gz"), Path(f"l{n}.nii.gz"), given_name=f"c{n:03}", given_patient=(patients or {}).get(n, "")
        )
        for n in range(count)
    ]
    return DatasetDescription(Path("dataset.json"), "small", "", {"spleen": 1}, tuple(cases))


CT82 = dataset(82, {1: "two", 24: "two", 69: "two"})


def test_ct82_is_split_into_61_and_21() -> None:
    (fold,) = make_split(CT82, 21, 61, seed=3).folds
    assert (len(fold.training), len(fold.validation)) == (61, 21)
    assert sorted(fold.training + fold.validation) == [case.name for case in CT82.cases]


@pytest.mark.parametrize(("training", "validation"), [(120, 30), (30, 120)])
def test_ct150_is_split_both_ways(training: int, validation: int) -> None:
    (fold,) = make_split(dataset(150), validation, seed=1).folds
    assert (len(fold.training), len(fold.validation)) == (training, validation)


def test_five_folds_validate_each_case_once_and_part_no_patient() -> None:
    splits = make_folds(CT82, 5, seed=0)
    assert len(splits.folds) == 5
    counted = Counter(name for fold in splits.folds for name in fold.validation)
    assert counted == {case.name: 1 for case in CT82.cases}
    assert all(16 <= len(fold.validation) <= 17 for fold in splits.folds)
    for fold in splits.folds:
        assert sorted(fold.training + fold.validation) == [case.name for case in CT82.cases]
    assert check_splits(splits, CT82, Path("splits.json")) == []


def test_cases_of_a_patient_stay_together_whatever_the_seed() -> None:
    for seed in range(30):
        (fold,) = make_split(CT82, 21, seed=seed).folds
        together = {"c001", "c024", "c069"}
        assert together <= set(fold.training) or together <= set(fold.validation)


def test_split_depends_on_seed_and_names_alone() -> None:
    backwards = DatasetDescription(CT82.path, "", "", {}, tuple(reversed(CT82.cases)))
    first = make_split(CT82, 21, seed=5)
    assert make_split(backwards, 21, seed=5) == first
    assert make_split(CT82, 21, seed=6) != first


def test_fewer_training_cases_leave_the_rest_out() -> None:
    (fold,) = make_split(CT82, 21, 10).folds
    assert (len(fold.training), len(fold.validation)) == (10, 21)
    assert not set(fold.training) & set(fold.validation)


def test_too_few_cases_are_refused_with_their_number() -> None:
    with pytest.raises(ConfigurationError, match="has 80 cases, which is too few for 61 in training and 21 in valid"):
        make_split(dataset(80), 21, 61)
    with pytest.raises(ConfigurationError, match="has 2 patients, from whom 5 folds cannot be made"):
        make_folds(dataset(2), 5)


def test_count_that_would_part_a_patient_is_refused() -> None:
    pairs = dataset(6, {n: f"p{n // 2}" for n in range(6)})
    with pytest.raises(ConfigurationError, match="3 cases for validation cannot be had without parting a patient's"):
        make_split(pairs, 3)


def test_written_splits_are_read_back_and_understood_by_the_training(tmp_path: Path) -> None:
    for name in ("a", "b", "c"):
        (tmp_path / f"{name}.nii.gz").touch()
    entries = [{"name": name, "image": f"{name}.nii.gz", "label": f"{name}.nii.gz"} for name in ("a", "b", "c")]
    description = write_description(tmp_path, entries)
    splits = Splits((Fold(("a", "c"), ("b",)),), 4)
    write_splits(splits, tmp_path / "splits.json")
    assert read_splits(tmp_path / "splits.json") == splits
    source = SourceSettings(dataset=description, split=tmp_path / "splits.json", part="training")
    assert [case.name for case in read_source(source).cases] == ["a", "c"]


@pytest.mark.parametrize("text", ["{", "[]", '{"folds": [{"training": []}]}', '{"seed": 1}'])
def test_file_that_is_no_split_is_refused_with_its_name(tmp_path: Path, text: str) -> None:
    (tmp_path / "splits.json").write_text(text)
    with pytest.raises(ConfigurationError, match=r"splits\.json: not a split"):
        read_splits(tmp_path / "splits.json")


def test_patient_in_both_parts_and_unknown_case_are_found() -> None:
    splits = Splits((Fold(("c001", "c002"), ("c024", "elsewhere")),))
    problems = check_splits(splits, CT82, Path("s.json"))
    assert problems == [
        "s.json: fold 0 names 'elsewhere', which is no case of dataset.json; make the split from this data set.",
        "s.json: fold 0 has patient 'two' in training and in validation; make the split by patient.",
    ]


def test_seeds_are_written_as_json(tmp_path: Path) -> None:
    write_splits(make_folds(CT82, 5, seed=7), tmp_path / "new" / "splits.json")
    document = json.loads((tmp_path / "new" / "splits.json").read_text())
    assert document["seed"] == 7 and [set(fold) for fold in document["folds"]] == [{"training", "validation"}] * 5
