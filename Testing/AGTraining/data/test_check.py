from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from AGTraining.data.check import Findings, check_apart, check_dataset
from AGTraining.data.dataset import read_dataset
from AGTraining.errors import ConfigurationError
from AGTraining.imaging.files import read_volume, write_volume
from AGTraining.imaging.volume import Volume
from Testing.AGTraining.data.small import MATRIX, write_case, write_dataset, write_description

Change = Callable[[np.ndarray], np.ndarray]


@pytest.fixture
def data(tmp_path: Path) -> Path:
    """A sound data set of two cases."""
    write_dataset(tmp_path, "first", "second")
    return tmp_path


def change_voxels(path: Path, change: Change, matrix: np.ndarray = MATRIX) -> None:
    write_volume(Volume(change(read_volume(path).array), matrix), path)


def only_problem(folder: Path) -> str:
    (problem,) = check_dataset(folder).problems
    return problem


def test_sound_data_set_has_no_problem(data: Path) -> None:
    findings = check_dataset(data)
    assert findings.problems == []
    # 40 mm high phantoms are short scans, which is for the user to know, not a reason to stop.
    assert [text for text in findings.warnings if "from head to feet" not in text] == []


def test_missing_label_map_is_found(data: Path) -> None:
    (data / "labels/second.nii.gz").unlink()
    assert only_problem(data).endswith("labels/second.nii.gz does not exist.")


def test_missing_image_is_found(data: Path) -> None:
    (data / "images/first.nii.gz").unlink()
    assert only_problem(data).endswith("images/first.nii.gz does not exist.")


def test_damaged_image_is_found(data: Path) -> None:
    path = data / "images/first.nii.gz"
    path.write_bytes(path.read_bytes()[:-200])
    assert "images/first.nii.gz: the file is cut off" in only_problem(data)


def test_label_map_of_another_size_is_found(data: Path) -> None:
    change_voxels(data / "labels/first.nii.gz", lambda array: array[:, :, :-1].copy())
    assert "labels/first.nii.gz: its grid (size 39×24×20) is not that of first.nii.gz (size 40×24×20)" in only_problem(
        data
    )


@pytest.mark.parametrize(
    ("matrix", "distance"),
    [(np.diag([2.0, 2.0, 2.1, 1.0]), "2.0"), (np.diag([-2.0, 2.0, 2.0, 1.0]), "160.0")],
    ids=["spacing", "mirrored"],
)
def test_label_map_in_another_place_is_found(data: Path, matrix: np.ndarray, distance: str) -> None:
    change_voxels(data / "labels/first.nii.gz", lambda array: array, matrix)
    assert f"labels/first.nii.gz: its grid (up to {distance} mm beside it or turned)" in only_problem(data)


def test_rounded_header_is_no_problem(data: Path) -> None:
    change_voxels(data / "labels/first.nii.gz", lambda array: array, MATRIX + np.eye(4) * [1e-4, 1e-4, 1e-4, 0])
    assert check_dataset(data).problems == []


def test_unknown_label_is_found_with_those_that_are_known(data: Path) -> None:
    def add(array: np.ndarray) -> np.ndarray:
        array[0, 0, :2] = (9, 200)
        return array

    change_voxels(data / "labels/second.nii.gz", add)
    problem = only_problem(data)
    assert "labels/second.nii.gz: label 9, 200 is not in dataset.json" in problem
    assert "1 pancreas, 2 spleen" in problem


def test_interpolated_label_map_is_found(data: Path) -> None:
    change_voxels(data / "labels/second.nii.gz", lambda array: array.astype(np.float32) * 0.5)
    assert "labels/second.nii.gz: holds values between whole numbers (0.5)" in only_problem(data)


def test_whole_numbers_in_a_label_map_of_floats_are_fine(data: Path) -> None:
    change_voxels(data / "labels/second.nii.gz", lambda array: array.astype(np.float32))
    assert check_dataset(data).problems == []


def spoil(array: np.ndarray) -> np.ndarray:
    result = array.astype(np.float32)
    result[3, 3, :3] = (np.nan, np.inf, np.nan)
    return result


@pytest.mark.parametrize("kind", ["images", "labels"])
def test_voxels_that_are_not_finite_are_found_and_counted(data: Path, kind: str) -> None:
    # ITK reads them as 0 from NIfTI, where they look like water.
    change_voxels(data / kind / "first.nii.gz", spoil)
    assert f"{kind}/first.nii.gz: 3 of its voxels are no finite numbers" in only_problem(data)


@pytest.mark.parametrize("suffix", [".nii", ".nrrd", ".mha"])
def test_voxels_that_are_not_finite_are_found_in_every_format(data: Path, suffix: str) -> None:
    path = data / f"images/first{suffix}"
    write_volume(Volume(spoil(read_volume(data / "images/first.nii.gz").array), MATRIX), path)
    write_description(data, [{"image": f"images/first{suffix}", "label": "labels/first.nii.gz"}])
    assert f"images/first{suffix}: 3 of its voxels are no finite numbers" in only_problem(data)


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        (lambda a: np.clip((a + 160) / 400 * 255, 0, 255).astype(np.uint8), "windowed for display"),
        (lambda a: ((a + 1000) / 1200).clip(0, 1).astype(np.float32), "like a label map"),
        (lambda a: (a / 300).astype(np.float32), "not in the range of Hounsfield units|hold no air"),
        (lambda a: (a + 2100).astype(np.int16), "hold no air"),
        (lambda a: np.full_like(a, 7), "all its voxels have the value 7"),
    ],
    ids=["windowed", "0 to 1", "z-scores", "MR", "constant"],
)
def test_intensities_that_are_no_hounsfield_units_are_found(data: Path, change: Change, reason: str) -> None:
    change_voxels(data / "images/first.nii.gz", change)
    problem = only_problem(data)
    assert problem.startswith(str(data / "images/first.nii.gz"))
    assert any(part in problem for part in reason.split("|"))


def test_missing_offset_of_hounsfield_units_is_found(data: Path) -> None:
    change_voxels(data / "images/first.nii.gz", lambda a: np.where(a < -500, 0, np.maximum(a, -50) + 1024))
    assert "without their offset of -1024" in only_problem(data)


def test_crop_without_air_is_worth_a_look_but_no_problem(data: Path) -> None:
    change_voxels(data / "images/first.nii.gz", lambda array: np.maximum(array, -110))
    findings = check_dataset(data)
    assert findings.problems == []
    assert any("hold no air" in text for text in findings.warnings)


def test_same_scan_under_two_patients_is_found(data: Path) -> None:
    entries = json.loads((data / "dataset.json").read_text())["training"]
    write_description(data, [*entries, write_case(data, "again", seed=0)])
    assert "first, again have the same image but count as different patients" in only_problem(data)
    entries[0]["patient"] = "one"
    write_description(data, [*entries, write_case(data, "again", seed=0, patient="one")])
    assert check_dataset(data).problems == []


def test_two_cases_of_one_name_are_found(data: Path) -> None:
    write_description(data, [write_case(data, "first"), write_case(data, "second", 1) | {"name": "first"}])
    assert "training case 2 has the name of case 1 ('first')" in only_problem(data)


def test_all_problems_are_named_at_once(data: Path) -> None:
    change_voxels(data / "labels/first.nii.gz", lambda array: array[:-1].copy())
    change_voxels(data / "images/first.nii.gz", lambda array: np.where(array > 0, np.nan, array).astype(np.float32))
    (data / "labels/second.nii.gz").unlink()
    problems = check_dataset(data, workers=2).problems
    assert len(problems) == 3
    for name, problem in zip(("labels/second", "images/first", "labels/first"), problems, strict=True):
        assert f"{name}.nii.gz" in problem
    with pytest.raises(ConfigurationError, match=r"The data have 3 problems:\n.*labels/second[^\n]+\n.*images/first"):
        Findings(problems).require_none()


def test_description_that_cannot_be_read_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ConfigurationError, match=r"dataset\.json: cannot be read"):
        check_dataset(tmp_path)


def test_patient_in_training_and_validation_is_found(tmp_path: Path) -> None:
    for part, name in (("training", "a"), ("validation", "b")):
        write_description(tmp_path / part, [write_case(tmp_path / part, name, patient="p7")])
    training, validation = (read_dataset(tmp_path / part) for part in ("training", "validation"))
    (problem,) = check_apart([training], [validation]).problems
    assert "patient 'p7' is in the validation and in the training part (there as 'a')" in problem
    assert str(tmp_path / "validation/images/b.nii.gz") in problem


def test_image_in_training_and_validation_is_found(data: Path, tmp_path: Path) -> None:
    dataset = read_dataset(data)
    problems = check_apart([dataset], [dataset]).problems
    assert len(problems) == 2 and "the image of 'first'" in problems[0]


def test_equal_names_in_two_data_sets_are_no_problem(tmp_path: Path) -> None:
    training, validation = (read_dataset(write_dataset(tmp_path / part, "001")) for part in ("a", "b"))
    change_voxels(tmp_path / "b/images/001.nii.gz", lambda array: array[::-1].copy())
    assert check_apart([training], [validation]).problems == []


def test_same_scan_under_another_name_and_data_set_is_found(tmp_path: Path) -> None:
    write_description(tmp_path / "a", [write_case(tmp_path / "a", "first", patient="p1")])
    write_description(tmp_path / "b", [write_case(tmp_path / "b", "other", patient="p2")], name="another")
    training, validation = (read_dataset(tmp_path / part) for part in ("a", "b"))
    (problem,) = check_apart([training], [validation]).problems
    assert "b/images/other.nii.gz: is in the validation part and, with the same content, in the training" in problem
    assert "there as 'first'" in problem


def test_empty_label_map_is_worth_a_look(data: Path) -> None:
    change_voxels(data / "labels/first.nii.gz", np.zeros_like)
    findings = check_dataset(data)
    assert findings.problems == []
    assert any("labels/first.nii.gz: is empty" in warning for warning in findings.warnings)
