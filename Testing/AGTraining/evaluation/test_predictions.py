"""Finding the prediction of a case, and what its values mean."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest

from AGTraining.data.dataset import DatasetDescription, read_dataset
from AGTraining.errors import InputError
from AGTraining.evaluation.predictions import FolderPredictions, ModelPredictions
from AGTraining.imaging.volume import Volume
from AGTraining.inference.outputs import write_segmentation
from AGTraining.inference.result import SegmentOptions
from AGTraining.labels import output_labels
from Testing.AGTraining.evaluation.study import MATRIX, make_study, reference_map, write_map
from Testing.AGTraining.inference.synthetic import threshold_bundle

CLASSES = [
    {
        "name": name, "paired": name == "kidney", "color": (1, 2, 3), "usual_ml": None, "category_code": "1",
        "category_meaning": "x", "type_code": "1", "type_meaning": "x",
    }
    for name in ("kidney", "spleen")
]  # fmt: skip


@pytest.fixture
def dataset(tmp_path: Path) -> DatasetDescription:
    return read_dataset(make_study(tmp_path / "data"))


@pytest.mark.parametrize(
    "name",
    ["imagesTr_a.nii.gz", "a.nii.gz", "a.nrrd", "a_labels.mha", "a_seg.nii.gz", "a/a_labels.nii.gz"],
)
def test_prediction_is_found_by_the_name_of_its_case(dataset: DatasetDescription, tmp_path: Path, name: str) -> None:
    path = write_map(reference_map(), tmp_path / "out" / name)
    predicted = FolderPredictions(tmp_path / "out", dataset).predict(dataset.cases[0])
    assert predicted.path == path
    assert predicted.values == {name: (value,) for name, value in dataset.labels.items()}


def test_image_and_label_map_may_have_endings_that_predictions_have_not(tmp_path: Path) -> None:
    path = make_study(tmp_path / "data", ("a_0000", "b_0000"))
    dataset = read_dataset(path)
    write_map(reference_map(), tmp_path / "out/b.nii.gz")
    predicted = FolderPredictions(tmp_path / "out", dataset).predict(dataset.cases[1])
    assert predicted.path == tmp_path / "out/b.nii.gz"


def test_a_name_that_several_cases_have_tells_none(tmp_path: Path) -> None:
    write_map(np.zeros((2, 2, 2), np.uint8), tmp_path / "one/ct.nii.gz")
    for case in ("one", "two"):
        for name in ("ct", "labels"):
            write_map(reference_map(), tmp_path / f"data/{case}/{name}.nii.gz")
    (tmp_path / "data/dataset.json").write_text(
        json.dumps({
            "labels": {"0": "background", "1": "spleen", "2": "r", "3": "l"},
            "training": [{"image": f"{c}/ct.nii.gz", "label": f"{c}/labels.nii.gz"} for c in ("one", "two")],
        })
    )  # fmt: skip
    dataset = read_dataset(tmp_path / "data")
    write_map(reference_map(), tmp_path / "out/ct.nii.gz")
    with pytest.raises(InputError, match="has no prediction for any case"):
        FolderPredictions(tmp_path / "out", dataset)
    write_map(reference_map(), tmp_path / "out/two.nii.gz")
    assert FolderPredictions(tmp_path / "out", dataset).predict(dataset.cases[1]).path == tmp_path / "out/two.nii.gz"


def test_segmentation_names_its_own_values_and_is_preferred(dataset: DatasetDescription, tmp_path: Path) -> None:
    write_map(reference_map(), tmp_path / "out/a_labels.nii.gz")
    labels = list(output_labels(CLASSES))
    write_segmentation(Volume(reference_map(), MATRIX), labels, tmp_path / "out/a.seg.nrrd")
    predictions = FolderPredictions(tmp_path / "out", dataset)
    predicted = predictions.predict(dataset.cases[0])
    assert predictions.organs == ("right kidney", "left kidney", "spleen")
    assert predicted.values == {"right kidney": (1,), "left kidney": (2,), "spleen": (3,)}


def test_organ_that_segment_has_looked_for_in_vain_is_known(dataset: DatasetDescription, tmp_path: Path) -> None:
    write_segmentation(Volume(reference_map(), MATRIX), list(output_labels(CLASSES))[:1], tmp_path / "out/a.seg.nrrd")
    (tmp_path / "out/a_volumes.csv").write_text("organ,volume_ml\nright kidney,10\nspleen,0\n")
    assert FolderPredictions(tmp_path / "out", dataset).organs == ("right kidney", "spleen")


def test_missing_prediction_is_an_error_of_its_case(dataset: DatasetDescription, tmp_path: Path) -> None:
    write_map(reference_map(), tmp_path / "out/a.nii.gz")
    predictions = FolderPredictions(tmp_path / "out", dataset)
    with pytest.raises(InputError, match=r"imagesTr_b: has no prediction in .*out; make it, or leave the case out."):
        predictions.predict(dataset.cases[1])


def test_two_predictions_of_a_case_are_refused(dataset: DatasetDescription, tmp_path: Path) -> None:
    for folder in ("x", "y"):
        write_map(reference_map(), tmp_path / f"out/{folder}/a.nii.gz")
    with pytest.raises(InputError, match="may both be its prediction"):
        FolderPredictions(tmp_path / "out", dataset).predict(dataset.cases[0])


def test_references_are_not_taken_for_predictions(dataset: DatasetDescription, tmp_path: Path) -> None:
    with pytest.raises(InputError, match="is the reference of imagesTr_a itself"):
        FolderPredictions(tmp_path / "data/labelsTr", dataset).predict(dataset.cases[0])


def test_missing_folder_is_named(dataset: DatasetDescription, tmp_path: Path) -> None:
    with pytest.raises(InputError, match="nowhere: no such folder"):
        FolderPredictions(tmp_path / "nowhere", dataset)


def test_model_is_run_once_and_what_it_found_is_kept(dataset: DatasetDescription, tmp_path: Path) -> None:
    model = threshold_bundle(spacing=4.0)
    predictions = ModelPredictions(model, SegmentOptions(device="cpu"), tmp_path / "kept")
    case = dataset.cases[0]
    first = predictions.predict(case)
    case.image.unlink()
    second = predictions.predict(case)
    assert predictions.organs == tuple(label.name for label in model.info.output_labels)
    assert second.path == tmp_path / "kept/imagesTr_a.seg.nrrd"
    assert np.array_equal(first.labels.array, second.labels.array)
    assert FolderPredictions(tmp_path / "kept", dataset).organs == predictions.organs


def test_model_says_which_cases_it_was_trained_on(dataset: DatasetDescription) -> None:
    model = threshold_bundle(spacing=4.0)
    model.info.provenance["data"] = [{"name": "study", "cases": ["imagesTr_b"]}]
    predictions = ModelPredictions(model)
    assert [predictions.trained_on(case) for case in dataset.cases] == [False, True, False]
