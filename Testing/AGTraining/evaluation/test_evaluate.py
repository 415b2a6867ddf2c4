"""From a data set and predictions to scores, on files."""

from __future__ import annotations

import json
import math
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from AGTraining.data.dataset import DatasetDescription, read_dataset
from AGTraining.errors import ConfigurationError, InputError
from AGTraining.evaluation.evaluate import evaluate
from AGTraining.evaluation.predictions import FolderPredictions, ModelPredictions
from AGTraining.evaluation.results import Evaluation
from AGTraining.evaluation.scores import State
from AGTraining.imaging.files import write_volume
from AGTraining.imaging.volume import Volume
from AGTraining.inference.result import SegmentOptions
from Testing.AGTraining.evaluation.study import (
    BOXES,
    MATRIX,
    VOXEL_ML,
    make_study,
    reference_map,
    shifted_map,
    write_map,
)
from Testing.AGTraining.inference.synthetic import threshold_bundle


@pytest.fixture
def dataset(tmp_path: Path) -> DatasetDescription:
    return read_dataset(make_study(tmp_path / "data"))


def evaluate_maps(dataset: DatasetDescription, folder: Path, *maps: np.ndarray, **options: object) -> Evaluation:
    """Scores label maps of cases a, b, …"""
    for name, array in zip("abc", maps, strict=False):
        write_map(array, folder / f"{name}.nii.gz")
    return evaluate(dataset, FolderPredictions(folder, dataset), **options)  # type: ignore[arg-type]


def test_scores_of_moved_organs_are_those_reckoned_by_hand(dataset: DatasetDescription, tmp_path: Path) -> None:
    result = evaluate_maps(dataset, tmp_path / "out", *map(shifted_map, (0, 1, 2)))
    assert [organ.name for organ in result.organs] == ["spleen", "right kidney", "left kidney"]
    rows = result.rows("right kidney")
    # 6 columns wide, moved by 0, 1 and 2.
    assert [row.dsc for row in rows] == pytest.approx([1, 5 / 6, 4 / 6])
    assert [row.precision for row in rows] == pytest.approx([1, 5 / 6, 4 / 6])
    # The farthest voxels are those of the moved faces: 1 and 2 columns of 2 mm.
    assert [row.hd95_mm for row in rows] == pytest.approx([0, 2, 4])
    assert [row.surface_dice for row in rows][:2] == [1, 1]
    assert [row.volume_error_ml for row in rows] == [0, 0, 0]
    assert rows[0].reference_ml == pytest.approx(8 * 6 * 6 * VOXEL_ML)


def test_distances_are_measured_along_the_right_axes(dataset: DatasetDescription, tmp_path: Path) -> None:
    # Slices are 3 mm apart, rows and columns 2 mm.
    maps = [np.roll(reference_map(), 1, axis) for axis in (0, 1, 2)]
    result = evaluate_maps(dataset, tmp_path / "out", *maps)
    assert [row.hd95_mm for row in result.rows("left kidney")] == pytest.approx([3, 2, 2])


def test_summary_is_mean_and_sample_sd(dataset: DatasetDescription, tmp_path: Path) -> None:
    summary = evaluate_maps(dataset, tmp_path / "out", *map(shifted_map, (0, 1, 2))).summary("spleen", "dsc")
    # The spleen is 8 columns wide.
    assert summary.mean == pytest.approx(7 / 8)
    assert summary.sd == pytest.approx(1 / 8)
    assert (summary.count, summary.undefined) == (3, 0)


def test_missed_and_invented_organs_are_counted(tmp_path: Path) -> None:
    data = make_study(tmp_path / "data")
    without = reference_map()
    without[without == 2] = 0
    write_map(without, tmp_path / "data/labelsTr/b.nii.gz")
    write_map(without, tmp_path / "data/labelsTr/c.nii.gz")
    result = evaluate_maps(read_dataset(data), tmp_path / "out", without, reference_map(), without)
    missed, invented, empty = result.rows("right kidney")
    assert [row.state for row in (missed, invented, empty)] == [State.MISSED, State.INVENTED, State.EMPTY]
    assert (missed.dsc, missed.recall, missed.volume_error_percent) == (0, 0, -100)
    assert (invented.dsc, invented.precision) == (0, 0)
    assert math.isnan(empty.dsc)
    assert all(math.isnan(row.s2s_mm) for row in (missed, invented, empty))
    summary = result.summary("right kidney", "dsc")
    assert (summary.mean, summary.count, summary.undefined) == (0, 2, 1)
    assert result.counts("right kidney") == {State.MISSED: 1, State.INVENTED: 1, State.EMPTY: 1}


def test_incomplete_labels_are_left_out_and_counted(tmp_path: Path) -> None:
    dataset = read_dataset(make_study(tmp_path / "data", incomplete=["spleen"]))
    result = evaluate_maps(dataset, tmp_path / "out", *map(shifted_map, (4, 1, 1)))
    assert result.counts("spleen") == {State.INCOMPLETE: 1, State.SCORED: 2}
    assert result.summary("spleen", "dsc").mean == pytest.approx(7 / 8)
    assert result.summary("right kidney", "dsc").count == 3


def test_union_of_sides_is_incomplete_when_one_side_is(tmp_path: Path) -> None:
    dataset = read_dataset(make_study(tmp_path / "data", incomplete=["kidney_left"]))
    result = evaluate_maps(
        dataset, tmp_path / "out", *map(shifted_map, (0, 0, 0)), chosen={"kidney": ("kidney_right", "kidney_left")}
    )
    assert result.counts("kidney") == {State.INCOMPLETE: 1, State.SCORED: 2}
    assert result.rows("kidney")[0].reference_ml == pytest.approx(2 * 8 * 6 * 6 * VOXEL_ML)


def regions_study(folder: Path, **entry: object) -> DatasetDescription:
    """The spleen has a label, the kidneys are a region of two values without names of their own."""
    path = make_study(folder, labels={"background": 0, "spleen": 1}, **entry)
    document = json.loads(path.read_text(encoding="utf-8"))
    path.write_text(json.dumps({**document, "regions": {"kidney": [2, 3]}}), encoding="utf-8")
    return read_dataset(path)


def test_region_of_several_values_is_scored_as_one_organ(tmp_path: Path) -> None:
    result = evaluate_maps(regions_study(tmp_path / "data"), tmp_path / "out", *map(shifted_map, (0, 1, 0)))
    assert [organ.name for organ in result.organs] == ["spleen", "kidney"]
    assert not result.failures
    assert result.rows("kidney")[0].reference_ml == pytest.approx(2 * 8 * 6 * 6 * VOXEL_ML)
    assert result.rows("kidney")[1].dsc == pytest.approx(5 / 6)


def test_region_can_be_chosen_by_name(tmp_path: Path) -> None:
    maps = map(shifted_map, (0, 0, 0))
    result = evaluate_maps(regions_study(tmp_path / "data"), tmp_path / "out", *maps, chosen={"kidney": ()})
    assert result.summary("kidney", "dsc").mean == 1


def test_label_is_incomplete_when_a_region_with_its_value_is(tmp_path: Path) -> None:
    path = make_study(tmp_path / "data")
    document = json.loads(path.read_text(encoding="utf-8"))
    document["training"][0]["incomplete"] = ["kidney"]
    path.write_text(json.dumps({**document, "regions": {"kidney": [2, 3]}}), encoding="utf-8")
    result = evaluate_maps(read_dataset(path), tmp_path / "out", *map(shifted_map, (0, 0, 0)))
    assert result.counts("right kidney") == result.counts("kidney") == {State.INCOMPLETE: 1, State.SCORED: 2}
    assert result.counts("spleen") == {State.SCORED: 3}


def test_prediction_on_another_grid_is_refused_with_both_grids(dataset: DatasetDescription, tmp_path: Path) -> None:
    moved = MATRIX.copy()
    moved[2, 3] += 1.5
    write_map(reference_map(), tmp_path / "out/a.nii.gz", moved)
    write_map(reference_map()[:-1], tmp_path / "out/b.nii.gz")
    write_map(reference_map(), tmp_path / "out/c.nii.gz")
    told = []
    result = evaluate_maps(
        dataset, tmp_path / "out", on_failure=lambda case, error: told.append((case.name, type(error)))
    )
    first, second = result.failures
    assert "a.nii.gz: its grid (size 28 × 24 × 16, spacing 2 × 2 × 3 mm) is not that of the reference" in first.error
    assert "size 28 × 24 × 15" in second.error and second.error.endswith("resample it to the reference.")
    assert told == [("imagesTr_a", InputError), ("imagesTr_b", InputError)]
    assert result.cases == ["imagesTr_c"]
    assert "2 of 3 cases have no scores" in result.messages[0]


def test_nothing_is_evaluated_when_every_case_fails(dataset: DatasetDescription, tmp_path: Path) -> None:
    with pytest.raises(InputError, match="none of its 3 cases could be scored; the first: .*its grid"):
        evaluate_maps(dataset, tmp_path / "out", reference_map()[:-1])


@pytest.mark.parametrize(
    ("array", "message"),
    [
        (reference_map().astype(np.float32) / 2, "is no label map .values from 0 to 1.5."),
        (reference_map().astype(np.int16) * 100 - 50, "is no label map .values from -50 to 250."),
        (reference_map() * 3, "holds the value 6, which has no name"),
    ],
    ids=["fractions", "a scan", "other values"],
)
def test_what_is_no_label_map_of_the_data_set_is_refused(
    dataset: DatasetDescription, tmp_path: Path, array: np.ndarray, message: str
) -> None:
    with pytest.raises(InputError, match=message):
        evaluate_maps(dataset, tmp_path / "out", array)


def test_labels_as_floating_point_numbers_are_read(dataset: DatasetDescription, tmp_path: Path) -> None:
    result = evaluate_maps(dataset, tmp_path / "out", reference_map().astype(np.float32))
    assert result.summary("spleen", "dsc").mean == 1


def test_cases_of_one_name_are_refused(dataset: DatasetDescription, tmp_path: Path) -> None:
    write_map(reference_map(), tmp_path / "out/a.nii.gz")
    predictions = FolderPredictions(tmp_path / "out", dataset)
    with pytest.raises(ConfigurationError, match="2 cases are called 'imagesTr_a'"):
        evaluate(replace(dataset, cases=(dataset.cases[0], *dataset.cases)), predictions)


def test_tolerance_below_the_voxels_size_is_said(dataset: DatasetDescription, tmp_path: Path) -> None:
    maps = [reference_map()] * 3
    assert not evaluate_maps(dataset, tmp_path / "out", *maps).messages
    (message,) = evaluate_maps(dataset, tmp_path / "out", *maps, tolerance_mm=1.9).messages
    assert message.startswith("In 3 of 3 cases voxels are larger than the tolerance of the surface Dice")


def test_what_only_one_knows_is_said(dataset: DatasetDescription, tmp_path: Path) -> None:
    model = ModelPredictions(threshold_bundle(), SegmentOptions(device="cpu"))
    result = evaluate(replace(dataset, cases=dataset.cases[:1]), model)
    assert result.messages == ("Not compared, because only predicted: pancreas.",)


def test_model_is_run_and_its_sides_are_scored_side_by_side(tmp_path: Path) -> None:
    data = make_study(tmp_path / "data", ("a",))
    image = np.zeros(reference_map().shape, dtype=np.int16)
    for value, place in BOXES.items():
        image[place] = 150 if value == 1 else 250
    write_volume(Volume(image, MATRIX), tmp_path / "data/imagesTr/a.nii.gz")
    model = threshold_bundle()
    model = replace(model, info=model.info.model_copy(update={"spacing_mm": (2.0, 2.0, 3.0)}))
    fractions: list[float] = []
    result = evaluate(
        read_dataset(data),
        ModelPredictions(model, SegmentOptions(device="cpu")),
        progress=lambda fraction, stage: fractions.append(fraction),
    )
    # The model's grid is the image's, and the network has a threshold a voxel.
    assert {row.organ: row.dsc for row in result.scores} == {"spleen": 1, "right kidney": 1, "left kidney": 1}
    assert fractions == sorted(fractions)
    assert result.predictor == "thresholds"
