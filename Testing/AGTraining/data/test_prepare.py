from __future__ import annotations

import json
import os
import pickle
import shutil
import signal
import socket
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from AGTraining.data import prepare as module
from AGTraining.data.dataset import Case, DatasetDescription, read_dataset
from AGTraining.data.prepare import (
    PreparedCase,
    load_prepared,
    prepare_case,
    prepare_sources,
    prepared_folder,
    require_apart,
    require_labels,
)
from AGTraining.errors import ConfigurationError
from AGTraining.imaging.files import read_volume, write_volume
from AGTraining.imaging.intensity import IntensityRule
from AGTraining.imaging.volume import Volume
from AGTraining.training.config import ClassSettings, SourceSettings, TrainingConfig
from Testing.AGTraining.data.small import (
    CLASSES,
    LABELS,
    MATRIX,
    blocks,
    configuration,
    hounsfield,
    organ,
    write_case,
    write_dataset,
    write_description,
)

RULE = IntensityRule(low=-200, high=300, mean=0, sd=100)
SETTINGS = [ClassSettings.model_validate(item) for item in CLASSES]
TARGETS = np.array([0, 1, 2, 3, 3])


@pytest.fixture
def data(tmp_path: Path) -> Path:
    """A data set of three cases."""
    return write_dataset(tmp_path / "data", "a", "b", "c")


def config(tmp_path: Path, **changes: Any) -> TrainingConfig:
    return TrainingConfig.model_validate(configuration(tmp_path / "run", **changes))


def prepare(data: Path, tmp_path: Path, workers: int = 1, **changes: Any) -> list[PreparedCase]:
    return prepare_sources([SourceSettings(dataset=data)], config(tmp_path, **changes), tmp_path / "prepared", workers)


def folders(tmp_path: Path) -> list[str]:
    return sorted(path.name for path in (tmp_path / "prepared").iterdir() if path.is_dir())


def one(
    folder: Path,
    *incomplete: str,
    matrix: np.ndarray = MATRIX,
    turn: tuple[slice, ...] = (),
    known: dict[str, int] | None = None,
    regions: dict[str, tuple[int, ...]] | None = None,
    classes: list[ClassSettings] = SETTINGS,
    spacing: float = 2.0,
) -> PreparedCase:
    """A single case, prepared in memory."""
    labels = blocks()
    case = Case(folder / "ct.nii.gz", folder / "labels.nii.gz", frozenset(incomplete))
    for array, path in ((hounsfield(labels), case.image), (labels, case.label)):
        write_volume(Volume(np.ascontiguousarray(array[turn] if turn else array), matrix), path)
    dataset = DatasetDescription(folder / "dataset.json", "small", "", known or LABELS, (case,), regions or {})
    return prepare_case(case, dataset, classes, (spacing,) * 3, RULE)


def test_case_is_z_scores_and_classes_on_the_models_grid(tmp_path: Path) -> None:
    prepared = one(tmp_path)
    assert (prepared.image.dtype, prepared.target.dtype) == (np.float16, np.uint8)
    np.testing.assert_array_equal(prepared.target, TARGETS[blocks()])
    expected = hounsfield(blocks()).clip(-200, 300) / 100
    np.testing.assert_allclose(prepared.image, expected, atol=2e-3)
    assert prepared.labelled.tolist() == [True] * 4


@pytest.mark.parametrize("flip", [(-1, -1, 1), (-1, 1, -1), (1, -1, -1)])
def test_all_storage_orders_give_the_patients_axes(tmp_path: Path, flip: tuple[int, int, int]) -> None:
    size = np.array(blocks().shape[::-1])
    matrix = MATRIX @ np.diag([*flip, 1.0])
    matrix[:3, 3] = MATRIX[:3, :3] @ np.where(np.array(flip) < 0, size - 1, 0)
    prepared = one(tmp_path, matrix=matrix, turn=tuple(slice(None, None, f) for f in reversed(flip)))
    np.testing.assert_array_equal(prepared.target, TARGETS[blocks()])


def test_coarser_model_grid_keeps_the_organs_volume(tmp_path: Path) -> None:
    prepared = one(tmp_path, spacing=4.0)
    assert prepared.image.shape == tuple(n // 2 for n in blocks().shape)
    assert (prepared.target == 3).sum() * 8 == (blocks() >= 3).sum()


def test_voxels_of_an_incomplete_label_are_kept_as_evidence(tmp_path: Path) -> None:
    prepared = one(tmp_path, "pancreas")
    np.testing.assert_array_equal(prepared.target == 1, blocks() == 1)


@pytest.mark.parametrize("other", [np.diag([1, 1, 1.05, 1]), np.diag([-1.0, 1, 1, 1])])
def test_label_map_of_another_grid_is_refused_with_its_name(data: Path, tmp_path: Path, other: np.ndarray) -> None:
    path = read_dataset(data).cases[1].label
    labels = read_volume(path)
    write_volume(Volume(labels.array, labels.ijk_to_world @ other), path)
    with pytest.raises(ConfigurationError, match=rf"{path.name}: its grid .* is not that of"):
        prepare(data, tmp_path)


@pytest.mark.parametrize(
    ("incomplete", "known", "expected"),
    [
        (["pancreas"], LABELS, [True, False, True, True]),
        (["kidney_left"], LABELS, [True, True, True, False]),
        ([], {"background": 0, "spleen": 2}, [True, False, True, False]),
        ([], {"background": 0, "kidney_right": 3}, [True, False, False, False]),
    ],
)
def test_class_counts_as_labelled_when_all_its_labels_are_complete(
    tmp_path: Path, incomplete: list[str], known: dict[str, int], expected: list[bool]
) -> None:
    assert one(tmp_path, *incomplete, known=known).labelled.tolist() == expected


def test_part_of_an_incomplete_region_makes_it_incomplete(tmp_path: Path) -> None:
    classes = [ClassSettings.model_validate(organ("kidney"))]
    assert one(tmp_path, classes=classes).labelled.tolist() == [True, True]
    assert one(tmp_path, "kidney_left", classes=classes).labelled.tolist() == [True, False]


def test_part_of_an_organ_with_a_class_of_its_own_is_not_the_organs(tmp_path: Path) -> None:
    known = {"background": 0, "pancreas_tissue": 1, "pancreas_tumor": 2}
    classes = [ClassSettings.model_validate(organ(name)) for name in ("pancreas", "pancreas_tumor")]
    prepared = one(tmp_path, known=known, regions={"pancreas": (1, 2)}, classes=classes)
    np.testing.assert_array_equal(prepared.target, np.array([0, 1, 2, 0, 0])[blocks()])
    whole = one(tmp_path, known=known, regions={"pancreas": (1, 2)}, classes=classes[:1])
    np.testing.assert_array_equal(whole.target, np.array([0, 1, 1, 0, 0])[blocks()])


def test_cases_are_kept_and_mapped_from_disk(data: Path, tmp_path: Path) -> None:
    prepared = prepare(data, tmp_path)
    assert [case.name for case in prepared] == ["a", "b", "c"]
    dataset = read_dataset(data)
    for case, source in zip(prepared, dataset.cases, strict=True):
        assert isinstance(case.image, np.memmap) and isinstance(case.target, np.memmap)
        expected = prepare_case(source, dataset, SETTINGS, (2.0, 2.0, 2.0), RULE)
        np.testing.assert_array_equal(case.image, expected.image)
        np.testing.assert_array_equal(case.target, expected.target)
        assert case.labelled.tolist() == expected.labelled.tolist()
        assert case.weight == pytest.approx(1 / 3)
    description = json.loads((prepared[0].folder / "case.json").read_text())
    assert (description["name"], description["spacing_mm"]) == ("a", [2, 2, 2])
    assert description["image"].endswith("images/a.nii.gz")


def count_prepared(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """The names of the cases that are prepared from now on."""
    names: list[str] = []
    original = module._prepare

    def counted(task: Any) -> list[str]:
        names.append(task.case.name)
        return original(task)

    monkeypatch.setattr(module, "_prepare", counted)
    return names


def test_what_is_prepared_is_not_prepared_again(data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    names = count_prepared(monkeypatch)
    first = prepare(data, tmp_path)
    again = prepare(data, tmp_path)
    assert names == ["a", "b", "c"]
    np.testing.assert_array_equal(first[1].image, again[1].image)


def test_copied_and_touched_files_count_as_the_same(
    data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    prepare(data, tmp_path)
    names = count_prepared(monkeypatch)
    shutil.copytree(data.parent, tmp_path / "copy")
    os.utime(tmp_path / "copy/images/a.nii.gz")
    prepare(tmp_path / "copy/dataset.json", tmp_path)
    assert names == []


@pytest.mark.parametrize("kind", ["images", "labels"])
def test_changed_file_is_prepared_anew(data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, kind: str) -> None:
    before = prepare(data, tmp_path)[1]
    path = data.parent / kind / "b.nii.gz"
    array = read_volume(path).array.copy()
    array[5, 11, 20] = 2
    write_volume(Volume(array, MATRIX), path)
    names = count_prepared(monkeypatch)
    after = prepare(data, tmp_path)[1]
    assert names == ["b"]
    changed = after.image if kind == "images" else after.target
    assert changed[5, 11, 20] != (before.image if kind == "images" else before.target)[5, 11, 20]


@pytest.mark.parametrize(
    "changes",
    [{"spacing_mm": [4, 4, 4]}, {"intensity": {"mean": 1, "sd": 100}}, {"classes": CLASSES[:2]}],
    ids=["spacing", "intensity", "classes"],
)
def test_other_settings_are_prepared_apart(data: Path, tmp_path: Path, changes: dict[str, Any]) -> None:
    prepare(data, tmp_path)
    before = folders(tmp_path)
    prepare(data, tmp_path, **changes)
    assert len(folders(tmp_path)) == 2 * len(before)


def test_settings_that_do_not_matter_are_not_in_the_hash(data: Path, tmp_path: Path) -> None:
    prepare(data, tmp_path)
    before = folders(tmp_path)
    prepare(data, tmp_path, crop=[64, 64, 64], seed=9, learning_rate=0.5)
    assert folders(tmp_path) == before


def test_several_processes_make_what_one_makes(data: Path, tmp_path: Path) -> None:
    several = prepare(data, tmp_path / "several", workers=2)
    single = prepare(data, tmp_path / "single")
    for a, b in zip(several, single, strict=True):
        np.testing.assert_array_equal(a.image, b.image)
        np.testing.assert_array_equal(a.target, b.target)
    assert folders(tmp_path / "several") == folders(tmp_path / "single")


def test_all_problems_are_named_and_sound_cases_are_kept(data: Path, tmp_path: Path) -> None:
    folder = data.parent
    write_volume(Volume(blocks()[:-1].copy(), MATRIX), folder / "labels/a.nii.gz")
    write_volume(Volume(np.where(blocks() > 0, 77, 0).astype(np.uint8), MATRIX), folder / "labels/c.nii.gz")
    with pytest.raises(
        ConfigurationError, match=r"2 problems:\n.*labels/a\.nii\.gz[^\n]+\n.*labels/c\.nii\.gz: label 77"
    ):
        prepare(data, tmp_path)
    assert [name.split("-")[0] for name in folders(tmp_path)] == ["b"]


def test_weight_of_a_source_is_shared_by_its_cases(data: Path, tmp_path: Path) -> None:
    other = write_dataset(tmp_path / "other", "x")
    sources = [SourceSettings(dataset=data, weight=3), SourceSettings(dataset=other, weight=2)]
    prepared = prepare_sources(sources, config(tmp_path), tmp_path / "prepared", 1)
    assert [case.weight for case in prepared] == [1, 1, 1, 2]


def test_equal_scans_in_two_sources_are_two_cases(data: Path, tmp_path: Path) -> None:
    sources = [SourceSettings(dataset=data), SourceSettings(dataset=data)]
    assert len(prepare_sources(sources, config(tmp_path), tmp_path / "prepared", 1)) == 6
    assert len(folders(tmp_path)) == 3


def test_mapped_case_travels_to_other_processes_as_its_folder(data: Path, tmp_path: Path) -> None:
    case = prepare(data, tmp_path)[2]
    pickled = pickle.dumps(case)
    assert len(pickled) < 1000 < case.image.nbytes
    copy = pickle.loads(pickled)
    assert isinstance(copy.image, np.memmap)
    np.testing.assert_array_equal(copy.image, case.image)
    assert (copy.name, copy.weight, copy.labelled.tolist()) == (case.name, case.weight, case.labelled.tolist())
    held = one(tmp_path / "held")
    np.testing.assert_array_equal(pickle.loads(pickle.dumps(held)).image, held.image)


def test_part_of_a_split_is_prepared(data: Path, tmp_path: Path) -> None:
    split = tmp_path / "splits.json"
    split.write_text(json.dumps({"seed": 0, "folds": [{"training": ["c", "a"], "validation": ["b"]}]}))
    source = SourceSettings(dataset=data, split=split, part="validation")
    prepared = prepare_sources([source], config(tmp_path), tmp_path / "prepared", 1)
    assert [case.name for case in prepared] == ["b"]


def test_killed_preparation_leaves_whole_cases_and_goes_on(data: Path, tmp_path: Path) -> None:
    # The second case is written while the process is killed: half of it lies under a temporary name.
    program = f"""
import os, signal
from pathlib import Path
import numpy as np
from AGTraining.data import prepare
from AGTraining.training.config import SourceSettings, TrainingConfig
from Testing.AGTraining.data.small import configuration
save, calls = np.save, []
def dying(path, array):
    calls.append(path)
    if len(calls) == 4:
        os.kill(os.getpid(), signal.SIGKILL)
    save(path, array)
np.save = dying
folder = Path({str(tmp_path)!r})
config = TrainingConfig.model_validate(configuration(folder / "run"))
prepare.prepare_sources([SourceSettings(dataset=Path({str(data)!r}))], config, folder / "prepared", 1)
"""
    root = Path(__file__).resolve().parents[3]
    result = subprocess.run([sys.executable, "-c", program], cwd=root, capture_output=True, text=True, check=False)
    assert result.returncode == -signal.SIGKILL, result.stderr
    left = folders(tmp_path)
    assert [name.split("-")[0] for name in left] == [".b", "a"] and left[0].endswith(".part")
    prepared = prepare(data, tmp_path)
    dataset = read_dataset(data)
    expected = prepare_case(dataset.cases[1], dataset, SETTINGS, (2.0, 2.0, 2.0), RULE)
    np.testing.assert_array_equal(prepared[1].target, expected.target)


def test_what_a_killed_run_left_is_removed_after_a_day(data: Path, tmp_path: Path) -> None:
    for name, age in ((".x.part", 2 * 86400), (".y.part", 60)):
        (tmp_path / "prepared" / name).mkdir(parents=True)
        (tmp_path / "prepared" / name / "image.npy").touch()
        os.utime(tmp_path / "prepared" / name, (time.time() - age,) * 2)
    prepare(data, tmp_path)
    assert [name for name in folders(tmp_path) if name.startswith(".")] == [".y.part"]


def test_prepared_case_that_is_not_whole_is_named(data: Path, tmp_path: Path) -> None:
    folder = prepare(data, tmp_path)[0].folder
    assert folder is not None
    (folder / "image.npy").write_bytes(b"")
    with pytest.raises(ConfigurationError, match="a-[0-9a-f]{16}: a prepared case that is not whole"):
        load_prepared(folder, "a")


def test_prepared_cases_lie_beside_the_run_or_where_it_says(tmp_path: Path) -> None:
    assert prepared_folder(config(tmp_path)) == tmp_path / "prepared"
    assert prepared_folder(config(tmp_path, prepared=tmp_path / "x")) == tmp_path / "x"


def test_class_that_nothing_can_teach_is_refused(tmp_path: Path) -> None:
    labels = {"0": "background", "1": "pancreas", "3": "kidney_right"}
    source = SourceSettings(dataset=write_description(tmp_path, [write_case(tmp_path, "a")], labels=labels))
    require_labels([source], SETTINGS[:1])
    with pytest.raises(ConfigurationError, match="label 'spleen' of class 'spleen' .* they have background, kidney_r"):
        require_labels([source], SETTINGS[:2])
    halves = [
        SourceSettings(
            dataset=write_description(
                tmp_path / side, [write_case(tmp_path / side, "a")], labels={"1": f"kidney_{side}"}
            )
        )
        for side in ("right", "left")
    ]
    with pytest.raises(ConfigurationError, match="no training data set has all labels of class 'kidney'"):
        require_labels(halves, SETTINGS[2:])


def test_paired_organ_is_taught_by_a_data_set_that_names_it_as_a_whole(tmp_path: Path) -> None:
    labels = {"0": "background", "1": "pancreas", "2": "spleen", "3": "kidney"}
    source = SourceSettings(dataset=write_description(tmp_path, [write_case(tmp_path, "a")], labels=labels))
    require_labels([source], SETTINGS)


def test_patient_in_both_parts_is_refused(data: Path) -> None:
    folder = data.parent / "validation"
    other = SourceSettings(dataset=write_description(folder, [write_case(folder, "a", seed=7)]))
    require_apart([SourceSettings(dataset=data)], [other])
    with pytest.raises(ConfigurationError, match="3 problems"):
        require_apart([SourceSettings(dataset=data)], [SourceSettings(dataset=data), other])


def test_case_is_prepared_where_a_killed_process_left_its_parts(data: Path, tmp_path: Path) -> None:
    folder = prepare(data, tmp_path)[0].folder
    assert folder is not None
    (folder / "case.json").unlink()
    # In a container the next run has the host's and the process's name of the one that was killed.
    (folder.parent / f".{folder.name}.{socket.gethostname()}.{os.getpid()}.part").mkdir()
    assert prepare(data, tmp_path)[0].folder == folder
    assert (folder / "case.json").is_file()


@pytest.mark.parametrize("file", ["image.npy", "target.npy"])
def test_prepared_array_of_another_size_is_named(data: Path, tmp_path: Path, file: str) -> None:
    folder = prepare(data, tmp_path)[0].folder
    assert folder is not None
    np.save(folder / file, np.load(folder / file)[:-1])
    with pytest.raises(ConfigurationError, match="a prepared case that is not whole"):
        load_prepared(folder, "a")


def test_label_that_the_data_set_no_longer_names_is_found_again(data: Path, tmp_path: Path) -> None:
    classes = [item for item in CLASSES if item["name"] == "pancreas"]
    prepare(data, tmp_path, classes=classes)
    document = json.loads(data.read_text(encoding="utf-8"))
    document["labels"] = {value: name for value, name in document["labels"].items() if name != "spleen"}
    data.write_text(json.dumps(document), encoding="utf-8")
    with pytest.raises(ConfigurationError, match="label 2 is not in dataset.json"):
        prepare(data, tmp_path, classes=classes)


def test_copied_scan_in_both_parts_is_refused(data: Path, tmp_path: Path) -> None:
    copy = write_description(tmp_path / "copy", [write_case(tmp_path / "copy", "new", 0)], name="copy")
    with pytest.raises(ConfigurationError, match=r"new\.nii\.gz: is in the validation part and"):
        require_apart([SourceSettings(dataset=data)], [SourceSettings(dataset=copy)], tmp_path / "prepared")


@pytest.mark.parametrize("labels", [["pancreas"], ["pancreas", "spleen"]])
def test_classes_that_share_labels_are_refused(data: Path, labels: list[str]) -> None:
    wide = [
        SETTINGS[0].model_copy(update={"name": name, "labels": own})
        for name, own in (("one", labels), ("two", ["pancreas", *(["kidney_right"] if len(labels) > 1 else [])]))
    ]
    with pytest.raises(ConfigurationError, match=r"'one' and 'two' share labels of .*dataset\.json"):
        require_labels([SourceSettings(dataset=data)], wide)
