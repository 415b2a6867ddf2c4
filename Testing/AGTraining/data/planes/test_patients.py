"""Splits by patient."""

from __future__ import annotations

from pathlib import Path

import pytest

from AGTraining.data.planes.labelled import LabelledFrame, PlaneDataset
from AGTraining.data.planes.patients import check_plane_splits, chosen_patients, make_plane_folds, make_plane_split
from AGTraining.data.planes.settings import PatientSplitSettings
from AGTraining.data.splits import Fold, Splits, write_splits
from AGTraining.errors import ConfigurationError


def dataset(patients: int = 20) -> PlaneDataset:
    """Two frames of each of two planes of each patient, and of every fifth patient a rare plane."""
    frames = [
        LabelledFrame(Path(f"{patient}_{plane}_{n}.png"), plane, str(patient))
        for patient in range(patients)
        for plane in ("heart", "femur", *(["lips"] if patient % 5 == 0 else []))
        for n in range(2)
    ]
    return PlaneDataset(Path("labels.csv"), "toy", tuple(frames))


def test_each_patient_is_validated_on_once_and_folds_have_all_planes() -> None:
    data = dataset()
    splits = make_plane_folds(data, 4, seed=3)

    everyone = {str(n) for n in range(20)}
    assert sorted(name for fold in splits.folds for name in fold.validation) == sorted(everyone)
    for fold in splits.folds:
        assert set(fold.training) == everyone - set(fold.validation)
        assert len(fold.validation) == 5
        # Four patients have the rare plane: one in each fold.
        assert sum(int(name) % 5 == 0 for name in fold.validation) == 1


def test_a_split_depends_on_the_seed_and_not_on_the_order_of_the_files() -> None:
    data = dataset()
    turned = PlaneDataset(data.path, data.name, data.frames[::-1])

    assert make_plane_folds(data, 4, seed=3) == make_plane_folds(turned, 4, seed=3)
    assert make_plane_folds(data, 4, seed=3) != make_plane_folds(data, 4, seed=4)


def test_a_share_of_the_frames_is_validated_on() -> None:
    (fold,) = make_plane_split(dataset(), 0.25).folds

    assert len(fold.validation) == 5 and len(fold.training) == 15
    assert sum(int(name) % 5 == 0 for name in fold.validation) == 1


@pytest.mark.parametrize("part", ["training", "validation"])
def test_a_split_file_names_the_patients(tmp_path: Path, part: str) -> None:
    splits = make_plane_folds(dataset(), 4)
    write_splits(splits, tmp_path / "splits.json")

    chosen = chosen_patients(dataset(), PatientSplitSettings(file=tmp_path / "splits.json", fold=2), part)

    assert chosen == set(getattr(splits.folds[2], part))


def test_a_split_that_does_not_fit_is_said() -> None:
    splits = Splits((Fold(("0", "1"), ("1", "nobody")),), 0)

    assert check_plane_splits(splits, dataset(), Path("s.json")) == [
        "s.json: fold 0 names patient 'nobody', who is not in labels.csv; make the split from this data set.",
        "s.json: fold 0 has patient '1' in training and in validation.",
    ]


def test_too_few_patients_are_said() -> None:
    with pytest.raises(ConfigurationError, match="has 2 patients, from whom 3 folds cannot be made"):
        make_plane_folds(dataset(2), 3)
    with pytest.raises(ConfigurationError, match="has one patient only"):
        make_plane_split(dataset(1), 0.5)


def test_two_patients_are_parted_whatever_the_share() -> None:
    (fold,) = make_plane_split(dataset(2), 0.01).folds

    assert len(fold.validation) == len(fold.training) == 1
