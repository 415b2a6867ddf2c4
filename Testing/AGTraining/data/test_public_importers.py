"""Importers on miniatures of the folders that the data sets have when they are downloaded."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from AGTraining.data.check import check_dataset
from AGTraining.data.dataset import read_dataset
from AGTraining.data.importers import KINDS, importer
from AGTraining.data.importers.common import ImportOptions, ImportReport, organ_name
from AGTraining.data.sources import read_source
from AGTraining.data.splits import read_splits
from AGTraining.errors import ConfigurationError
from AGTraining.imaging.files import read_volume, write_volume
from AGTraining.imaging.volume import Volume
from AGTraining.training.config import SourceSettings
from Testing.AGTraining.data.small import LABELS, MATRIX, blocks, hounsfield


def put(path: Path, array: np.ndarray, matrix: np.ndarray = MATRIX) -> None:
    write_volume(Volume(np.ascontiguousarray(array), matrix), path)


def put_case(image: Path, label: Path | None, seed: int = 0, values: dict[int, int] | None = None) -> None:
    """A scan and its label map. values: what a block's number becomes."""
    labels = blocks(seed)
    put(image, hounsfield(labels, seed))
    if label is not None:
        put(label, np.array([0, *((values or {}).get(n, n) for n in (1, 2, 3, 4))], dtype=np.uint8)[labels])


def run(kind: str, folder: Path, output: Path, *labels: str, workers: int = 1) -> ImportReport:
    report = importer(kind)(folder, output, ImportOptions(labels, workers))
    assert check_dataset(report.dataset).problems == []
    assert not list(output.rglob("*ct.nii.gz")), "images are never copied"
    return report


def voxels(dataset_path: Path, case: int, *names: str) -> np.ndarray:
    """Where the named labels are in a case."""
    dataset = read_dataset(dataset_path)
    return np.isin(read_volume(dataset.cases[case].label).array, dataset.values(names))


def case_names(dataset: Path) -> list[str]:
    return [case.name for case in read_dataset(dataset).cases]


def decathlon(root: Path, task: str, labels: dict[str, str], **changes: Any) -> Path:
    folder = root / task
    entries = []
    for seed, number in enumerate((290, 21)):
        name = f"pancreas_{number:03d}.nii.gz"
        put_case(folder / "imagesTr" / name, folder / "labelsTr" / name, seed, {3: 0, 4: 0})
        entries.append({"image": f"./imagesTr/{name}", "label": f"./labelsTr/{name}"})
    (folder / "imagesTr" / "._pancreas_290.nii.gz").write_bytes(b"macOS")
    document = {
        "name": task.split("_")[1], "description": "…", "reference": "Memorial Sloan Kettering Cancer Center",
        "licence": "CC-BY-SA 4.0", "relase": "1.0 04/05/2018", "tensorImageSize": "3D", "modality": {"0": "CT"},
        "labels": labels, "numTraining": 2, "numTest": 1, "training": entries,
        "test": ["./imagesTs/pancreas_044.nii.gz"], **changes,
    }  # fmt: skip
    (folder / "dataset.json").write_text(json.dumps(document), encoding="utf-8")
    return folder


def test_decathlon_is_read_as_it_is(tmp_path: Path) -> None:
    folder = decathlon(tmp_path, "Task07_Pancreas", {"0": "background", "1": "pancreas", "2": "cancer"})
    dataset = read_dataset(folder)
    assert (dataset.name, dataset.licence) == ("Pancreas", "CC-BY-SA 4.0")
    assert dataset.labels == {"background": 0, "pancreas": 1, "cancer": 2}
    assert dataset.cases[0].image == folder / "imagesTr/pancreas_290.nii.gz"
    assert check_dataset(folder).problems == []


def test_decathlon_pancreas_has_its_tumor_in_it(tmp_path: Path) -> None:
    folder = decathlon(tmp_path, "Task07_Pancreas", {"0": "background", "1": "pancreas", "2": "cancer"})
    report = run("decathlon", tmp_path, tmp_path / "out")
    assert (report.cases, case_names(report.dataset)) == (2, ["pancreas_021", "pancreas_290"])
    source = read_volume(folder / "labelsTr/pancreas_290.nii.gz").array
    np.testing.assert_array_equal(voxels(report.dataset, 1, "pancreas"), source > 0)
    np.testing.assert_array_equal(voxels(report.dataset, 1, "pancreas_tumor"), source == 2)
    assert report.notes == ("'pancreas' stands for 'pancreas_tissue' and 'pancreas_tumor' together.",)


def test_decathlon_spleen(tmp_path: Path) -> None:
    folder = decathlon(tmp_path, "Task09_Spleen", {"0": "background", "1": "spleen", "2": "Portal Vein"})
    report = run("decathlon", folder, tmp_path / "out")
    assert read_dataset(report.dataset).labels == {"background": 0, "spleen": 1, "portal_vein": 2}


def test_decathlon_with_a_missing_file_goes_on_without_that_case(tmp_path: Path) -> None:
    folder = decathlon(tmp_path, "Task09_Spleen", {"0": "background", "1": "spleen", "2": "liver"})
    (folder / "labelsTr/pancreas_290.nii.gz").unlink()
    report = run("decathlon", folder, tmp_path / "out")
    assert case_names(report.dataset) == ["pancreas_021"]
    assert "labelsTr/pancreas_290.nii.gz does not exist" in report.problems[0]


def test_btcv(tmp_path: Path) -> None:
    root = tmp_path / "Abdomen" / "RawData"
    values = {1: 11, 2: 1, 3: 2, 4: 3}
    for seed, number in enumerate(("0001", "0040")):
        put_case(root / f"Training/img/img{number}.nii.gz", root / f"Training/label/label{number}.nii.gz", seed, values)
    put_case(root / "Testing/img/img0061.nii.gz", None)
    report = run("btcv", tmp_path / "Abdomen", tmp_path / "out")
    assert case_names(report.dataset) == ["btcv_0001", "btcv_0040"]
    for name, value in LABELS.items():
        np.testing.assert_array_equal(voxels(report.dataset, 1, name), blocks(1) == value)


def test_btcv_names_files_without_a_partner(tmp_path: Path) -> None:
    for number in ("0001", "0002"):
        put_case(tmp_path / f"img/img{number}.nii.gz", tmp_path / f"label/label{number}.nii.gz")
    (tmp_path / "label/label0002.nii.gz").unlink()
    report = importer("btcv")(tmp_path, tmp_path / "out", ImportOptions())
    assert report.cases == 1
    assert report.problems == (
        f"{tmp_path}/label/label0002.nii.gz: is missing, so that case 'btcv_0002' was left out.",
    )


def test_amos22_takes_the_cts_and_the_official_split(tmp_path: Path) -> None:
    root = tmp_path / "amos22"
    values = {1: 10, 2: 1, 3: 2, 4: 3}
    for seed, (part, number) in enumerate((("Tr", "0001"), ("Tr", "0507"), ("Va", "0008"), ("Va", "0599"))):
        name = f"amos_{number}.nii.gz"
        put_case(root / f"images{part}" / name, root / f"labels{part}" / name, seed, values)
    put_case(root / "imagesTs/amos_0002.nii.gz", None)
    (root / "dataset.json").write_text(json.dumps({"labels": {"0": "background", "8": "arota", "9": "postcava"}}))
    report = run("amos22", tmp_path, tmp_path / "out")
    assert case_names(report.dataset) == ["amos_0001", "amos_0008"]
    assert report.notes == ("2 MR scans were left out.",)
    assert report.splits is not None
    (fold,) = read_splits(report.splits).folds
    assert (fold.training, fold.validation) == (("amos_0001",), ("amos_0008",))
    source = SourceSettings(dataset=report.dataset, split=report.splits, part="validation")
    assert [case.name for case in read_source(source).cases] == ["amos_0008"]
    for name, value in LABELS.items():
        np.testing.assert_array_equal(voxels(report.dataset, 0, name), blocks(0) == value)


def test_kits_takes_kidneys_with_what_is_in_them(tmp_path: Path) -> None:
    root = tmp_path / "kits23" / "dataset"
    values = {1: 3, 2: 2, 3: 1, 4: 1}
    for seed, number in enumerate(("00000", "00001")):
        case = root / f"case_{number}"
        put_case(case / "imaging.nii.gz", case / "segmentation.nii.gz", seed, values)
        (case / "instances").mkdir()
    put_case(root / "case_00400" / "imaging.nii.gz", None)
    (root / "kits23.json").write_text("[]")
    report = run("kits", tmp_path / "kits23", tmp_path / "out")
    assert case_names(report.dataset) == ["case_00000", "case_00001"]
    np.testing.assert_array_equal(voxels(report.dataset, 0, "kidney"), blocks() > 0)
    np.testing.assert_array_equal(voxels(report.dataset, 0, "kidney_right", "kidney_left"), blocks() > 0)
    np.testing.assert_array_equal(voxels(report.dataset, 0, "kidney_tumor"), blocks() == 2)
    assert any("1 cases have no segmentation" in note for note in report.notes)


def test_kits_says_where_images_come_from(tmp_path: Path) -> None:
    for number in ("00000", "00001"):
        case = tmp_path / "data" / f"case_{number}"
        put_case(case / "imaging.nii.gz", case / "aggregated_MAJ_seg.nii.gz", 0, {4: 1})
    (tmp_path / "data/case_00001/imaging.nii.gz").unlink()
    report = run("kits", tmp_path, tmp_path / "out")
    assert case_names(report.dataset) == ["case_00000"]
    assert "case_00001/imaging.nii.gz: is missing; the images are not in KiTS's repository" in report.problems[0]


@pytest.fixture
def totalsegmentator(tmp_path: Path) -> Path:
    root = tmp_path / "Totalsegmentator_dataset_v201"
    rows = ["image_id;age;gender;institute;study_type;split"]
    for seed, (name, part) in enumerate((("s0000", "train"), ("s0001", "val"), ("s0002", "test"))):
        labels = blocks(seed)
        put(root / name / "ct.nii.gz", hounsfield(labels, seed))
        for organ, value in LABELS.items():
            if value:
                put(root / name / "segmentations" / f"{organ}.nii.gz", (labels == value).astype(np.uint8))
        put(root / name / "segmentations/rib_left_1.nii.gz", np.zeros_like(labels))
        rows.append(f"{name};54;m;A;ct abdomen;{part}")
    (root / "s0001/segmentations/spleen.nii.gz").unlink()
    (root / "meta.csv").write_text("\n".join(rows) + "\n", encoding="utf-8")
    return root


def test_totalsegmentator_masks_become_one_label_map(totalsegmentator: Path, tmp_path: Path) -> None:
    report = run("totalsegmentator", totalsegmentator, tmp_path / "out", workers=2)
    assert case_names(report.dataset) == ["s0000", "s0001"]
    for name, value in LABELS.items():
        np.testing.assert_array_equal(voxels(report.dataset, 0, name), blocks(0) == value)
    assert read_dataset(report.dataset).cases[0].image.resolve() == totalsegmentator / "s0000/ct.nii.gz"
    assert case_names(tmp_path / "out/test.json") == ["s0002"]
    assert report.splits is not None
    (fold,) = read_splits(report.splits).folds
    assert (fold.training, fold.validation) == (("s0000",), ("s0001",))


def test_totalsegmentator_organ_without_a_mask_is_not_labelled(totalsegmentator: Path, tmp_path: Path) -> None:
    report = run("totalsegmentator", totalsegmentator, tmp_path / "out", "pancreas", "spleen")
    dataset = read_dataset(report.dataset)
    assert dataset.labels == {"background": 0, "pancreas": 1, "spleen": 2}
    assert [set(case.incomplete) for case in dataset.cases] == [set(), {"spleen"}]


def test_totalsegmentator_mask_on_another_grid_is_named(totalsegmentator: Path, tmp_path: Path) -> None:
    path = totalsegmentator / "s0000/segmentations/pancreas.nii.gz"
    put(path, read_volume(path).array[:, :, 1:])
    report = run("totalsegmentator", totalsegmentator, tmp_path / "out")
    assert case_names(report.dataset) == ["s0001"]
    assert report.problems[0].startswith(f"{path}: does not lie on the grid")


def test_totalsegmentator_organ_that_no_case_has_is_refused(totalsegmentator: Path, tmp_path: Path) -> None:
    with pytest.raises(ConfigurationError, match="no case has a mask .*pancrea.nii.gz"):
        importer("totalsegmentator")(totalsegmentator, tmp_path / "out", ImportOptions(("pancrea",)))


def test_authors_layout_with_its_parts(tmp_path: Path) -> None:
    root = tmp_path / "tcia_dataset"
    for seed, (part, number) in enumerate((("train", 1), ("train", 3), ("validation", 2))):
        name = f"image{number:04d}.nii.gz"
        put_case(root / part / "image" / name, root / part / "label" / name, seed, {1: 2, 2: 0, 3: 0, 4: 0})
    report = run("folders", root, tmp_path / "out", "pancreas=2")
    assert case_names(report.dataset) == ["train_image0001", "train_image0003", "validation_image0002"]
    assert read_dataset(report.dataset).labels == {"background": 0, "pancreas": 2}
    assert report.splits is not None
    (fold,) = read_splits(report.splits).folds
    assert (fold.training, fold.validation) == (("train_image0001", "train_image0003"), ("validation_image0002",))


@pytest.mark.parametrize(
    ("images", "labels", "names"),
    [
        ("images/a.nii.gz images/b.nrrd", "labels/a.nii.gz labels/b.nii.gz", ["a", "b"]),
        ("img/img01.nii.gz img/img02.nii.gz", "masks/seg_01.nii.gz masks/seg_02.nii.gz", ["img01", "img02"]),
        ("imagesTr/x_0000.nii.gz imagesTr/y_0000.nii.gz", "labelsTr/x.nii.gz labelsTr/y.nii.gz", ["x_0000", "y_0000"]),
    ],
)
def test_plain_folders_are_paired_by_name_or_number(tmp_path: Path, images: str, labels: str, names: list[str]) -> None:
    root = tmp_path / "data"
    for seed, (image, label) in enumerate(zip(images.split(), labels.split(), strict=True)):
        put_case(root / image, root / label, seed)
    report = run("folders", root, tmp_path / "out")
    assert case_names(report.dataset) == names
    np.testing.assert_array_equal(voxels(report.dataset, 1, "label_2"), blocks(1) == 2)
    assert "name them with --labels" in report.notes[0]


def test_plain_files_without_a_partner_are_named(tmp_path: Path) -> None:
    for name in ("a", "b"):
        put_case(tmp_path / f"image/{name}.nii.gz", tmp_path / f"label/{name}.nii.gz")
    (tmp_path / "label/b.nii.gz").rename(tmp_path / "label/c.nii.gz")
    report = run("folders", tmp_path, tmp_path / "out", *(f"{name}={value}" for name, value in LABELS.items() if value))
    assert report.cases == 1
    assert report.problems == (
        f"{tmp_path}/image/b.nii.gz: has no label map.",
        f"{tmp_path}/label/c.nii.gz: has no image.",
    )


def test_label_that_is_not_named_with_its_value_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ConfigurationError, match="'pancreas': labels are named as in pancreas=2"):
        importer("folders")(tmp_path, tmp_path / "out", ImportOptions(("pancreas",)))


@pytest.mark.parametrize("kind", KINDS)
def test_folder_of_something_else_is_refused_with_its_name(tmp_path: Path, kind: str) -> None:
    (tmp_path / "letters").mkdir()
    with pytest.raises(ConfigurationError, match="letters"):
        importer(kind)(tmp_path / "letters", tmp_path / "out", ImportOptions())
    assert not (tmp_path / "out" / "dataset.json").exists()


@pytest.mark.parametrize(
    ("text", "name"),
    [
        ("Right Kidney", "kidney_right"), ("gall bladder", "gallbladder"), ("arota", "aorta"),
        ("postcava", "inferior_vena_cava"), ("prostate/uterus", "prostate_or_uterus"), ("spleen", "spleen"),
    ],
)  # fmt: skip
def test_organs_have_one_name_in_all_data_sets(text: str, name: str) -> None:
    assert organ_name(text) == name
