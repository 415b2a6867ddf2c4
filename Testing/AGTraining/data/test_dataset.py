from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from AGTraining.data.dataset import read_dataset
from AGTraining.errors import ConfigurationError

DOCUMENT: dict[str, Any] = {
    "name": "abdomen",
    "licence": "CC BY 4.0",
    "labels": {"0": "background", "1": "pancreas", "2": "spleen"},
    "training": [
        {"image": "images/a.nii.gz", "label": "labels/a.nii.gz"},
        {"image": "images/b.nii.gz", "label": "labels/b.nii.gz", "incomplete": ["pancreas"]},
    ],
}


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    for name in ("images/a", "images/b", "labels/a", "labels/b"):
        path = tmp_path / f"{name}.nii.gz"
        path.parent.mkdir(exist_ok=True)
        path.touch()
    return tmp_path


def write(folder: Path, document: Any) -> Path:
    path = folder / "dataset.json"
    path.write_text(document if isinstance(document, str) else json.dumps(document), encoding="utf-8")
    return path


@pytest.mark.parametrize("by_folder", [True, False])
def test_cases_start_at_the_files_folder(folder: Path, by_folder: bool) -> None:
    path = write(folder, DOCUMENT)
    dataset = read_dataset(folder if by_folder else path)
    assert (dataset.name, dataset.licence, dataset.path) == ("abdomen", "CC BY 4.0", path)
    assert [case.image for case in dataset.cases] == [folder / "images/a.nii.gz", folder / "images/b.nii.gz"]
    assert [case.label for case in dataset.cases] == [folder / "labels/a.nii.gz", folder / "labels/b.nii.gz"]
    assert [case.name for case in dataset.cases] == ["images_a", "images_b"]


def test_incomplete_labels_are_kept_by_case(folder: Path) -> None:
    write(folder, DOCUMENT)
    assert [set(case.incomplete) for case in read_dataset(folder).cases] == [set(), {"pancreas"}]


def test_label_values_by_name_leave_out_what_is_not_known(folder: Path) -> None:
    write(folder, DOCUMENT)
    assert read_dataset(folder).values(["spleen", "liver", "pancreas"]) == [2, 1]


def entry(**changes: Any) -> dict[str, Any]:
    return DOCUMENT | {"training": [DOCUMENT["training"][0] | changes]}


@pytest.mark.parametrize(
    ("document", "message"),
    [
        ("{", "not a dataset.json of the Decathlon's form"),
        ("[]", "not a dataset.json of the Decathlon's form"),
        ({"name": "x"}, "not a dataset.json .*KeyError: 'labels'"),
        (DOCUMENT | {"labels": ["background", "pancreas"]}, "not a dataset.json"),
        (DOCUMENT | {"labels": {"background": 0, "pancreas": 1}}, "not a dataset.json .*'background'"),
        (DOCUMENT | {"labels": {"0": "background", "1": "kidney", "2": "kidney"}}, "two of its labels have the same"),
        (DOCUMENT | {"training": "images"}, "not a dataset.json"),
        (DOCUMENT | {"training": ["a.nii.gz"]}, "not a dataset.json"),
        (DOCUMENT | {"training": []}, "has no training cases"),
        (DOCUMENT | {"training": [{"image": "images/a.nii.gz"}]}, "training case 1 needs 'image' and 'label'"),
        (entry(image="images/c.nii.gz"), r"training case 1: .*images/c\.nii\.gz does not exist"),
        (entry(label="labels/c.nii.gz"), r"training case 1: .*labels/c\.nii\.gz does not exist"),
        (entry(image=7), "training case 1: .*7 does not exist"),
        (entry(incomplete=["liver"]), "training case 1: unknown label 'liver'"),
        (entry(incomplete="pancreas"), "training case 1: 'incomplete' must be a list of label names"),
        (entry(incomplete=None), "training case 1: 'incomplete' must be a list of label names"),
    ],
)
def test_bad_description_is_refused_with_file_and_reason(folder: Path, document: Any, message: str) -> None:
    path = write(folder, document)
    with pytest.raises(ConfigurationError, match=message) as caught:
        read_dataset(path)
    assert str(caught.value).startswith(str(path))


def test_missing_description_is_refused_with_its_name(tmp_path: Path) -> None:
    for place in (tmp_path, tmp_path / "dataset.json"):
        with pytest.raises(ConfigurationError, match=r"dataset\.json: cannot be read \(No such file"):
            read_dataset(place)
