from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from AGTraining.data.dataset import read_dataset, read_description
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
        (DOCUMENT | {"labels": {"background": 0, "pancreas": "one"}}, "not a dataset.json .*'one'"),
        (DOCUMENT | {"regions": {"both": 1}}, "not a dataset.json"),
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


def test_all_problems_are_kept_beside_the_sound_cases(folder: Path) -> None:
    (folder / "labels/b.nii.gz").unlink()
    entries = [*DOCUMENT["training"], {"image": "images/a.nii.gz"}]
    path = write(folder, DOCUMENT | {"training": entries})
    dataset, problems = read_description(path)
    assert [case.name for case in dataset.cases] == ["images_a"]
    assert [text.split(": ", 1)[1] for text in problems] == [
        f"training case 2: {folder / 'labels/b.nii.gz'} does not exist.",
        "training case 3 needs 'image' and 'label'.",
    ]
    with pytest.raises(ConfigurationError, match=r"does not exist\. \(and 1 more; the verb check lists all\)"):
        read_dataset(path)


def test_names_and_patients_may_be_given(folder: Path) -> None:
    first, second = DOCUMENT["training"]
    write(folder, DOCUMENT | {"training": [first | {"name": "one", "patient": "p"}, second | {"patient": "p"}]})
    assert [(case.name, case.patient) for case in read_dataset(folder).cases] == [("one", "p"), ("images_b", "p")]
    write(folder, DOCUMENT)
    assert [case.patient for case in read_dataset(folder).cases] == ["images_a", "images_b"]


def test_two_cases_of_one_name_are_refused(folder: Path) -> None:
    path = write(folder, DOCUMENT | {"training": [entry | {"name": "same"} for entry in DOCUMENT["training"]]})
    with pytest.raises(ConfigurationError, match=r"training case 2 has the name of case 1 \('same'\)"):
        read_dataset(path)


def test_regions_name_several_values(folder: Path) -> None:
    write(folder, DOCUMENT | {"regions": {"both": [1, 2], "pancreas": [1, 3]}})
    dataset = read_dataset(folder)
    assert dataset.values(["both"]) == [1, 2]
    assert dataset.values(["pancreas"]) == [1, 3]
    assert dataset.known_values == {0, 1, 2, 3}


@pytest.mark.parametrize(
    ("labels", "names", "values", "complete"),
    [
        (["kidney_right", "kidney_left"], ["kidney"], [1, 2], True),
        (["kidney"], ["kidney_right", "kidney_left"], [1], True),
        (["kidney"], ["kidney_right"], [], False),
        (["kidney_right"], ["kidney"], [], False),
        (["kidney_right"], ["kidney_right", "kidney_left"], [1], False),
        (["lung_right", "lung_left", "spleen"], ["lung", "spleen"], [1, 2, 3], True),
    ],
)
def test_paired_organ_is_found_by_either_way_of_naming_it(
    folder: Path, labels: list[str], names: list[str], values: list[int], complete: bool
) -> None:
    first = DOCUMENT["training"][0]
    names_by_value = {"0": "background", **{str(n): name for n, name in enumerate(labels, 1)}}
    write(folder, DOCUMENT | {"labels": names_by_value, "training": [first]})
    dataset = read_dataset(folder)
    assert (dataset.values(names), dataset.knows_all(names)) == (values, complete)


def test_description_of_nnunet_is_read_with_its_folders(tmp_path: Path) -> None:
    for name in ("imagesTr/case_1_0000", "imagesTr/case_2_0000", "labelsTr/case_1", "labelsTr/case_2", "labelsTr/._x"):
        path = tmp_path / f"{name}.nii.gz"
        path.parent.mkdir(exist_ok=True)
        path.touch()
    labels = {"background": 0, "kidney": [1, 2], "tumor": 2}
    write(tmp_path, {"channel_names": {"0": "CT"}, "labels": labels, "numTraining": 2, "file_ending": ".nii.gz"})
    dataset = read_dataset(tmp_path)
    assert [case.name for case in dataset.cases] == ["case_1", "case_2"]
    assert dataset.cases[0].image == tmp_path / "imagesTr/case_1_0000.nii.gz"
    assert (dataset.values(["kidney"]), dataset.values(["tumor"])) == ([1, 2], [2])


def test_missing_description_is_refused_with_its_name(tmp_path: Path) -> None:
    for place in (tmp_path, tmp_path / "dataset.json"):
        with pytest.raises(ConfigurationError, match=r"dataset\.json: cannot be read \(No such file"):
            read_dataset(place)
