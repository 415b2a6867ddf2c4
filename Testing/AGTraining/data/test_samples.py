from __future__ import annotations

import dataclasses
import json
import shutil
from pathlib import Path

import numpy as np
import pytest
import torch
from torch.utils.data import DataLoader

from AGTraining.data.dataset import Case, DatasetDescription
from AGTraining.data.fingerprint import content_hash
from AGTraining.data.prepare import PreparedCase, prepare_case, prepare_sources, require_labels
from AGTraining.data.samples import TrainingSamples
from AGTraining.errors import ConfigurationError
from AGTraining.imaging.files import write_volume
from AGTraining.imaging.intensity import IntensityRule
from AGTraining.imaging.volume import Volume
from AGTraining.training.config import ClassSettings, SourceSettings, TrainingConfig

RULE = IntensityRule(low=-200, high=300, mean=0, sd=100)
LABELS = {"background": 0, "pancreas": 1, "spleen": 2, "kidney_right": 3, "kidney_left": 4}


def organ(name: str, *labels: str) -> ClassSettings:
    return ClassSettings(name=name, type_code="1", type_meaning=name, color=(1, 2, 3), labels=list(labels or (name,)))


CLASSES = [organ("pancreas"), organ("spleen"), organ("kidney", "kidney_right", "kidney_left")]


def scan(matrix: np.ndarray | None = None) -> tuple[Volume, Volume]:
    """HU that rise to the patient's left, 2 mm; a block of each label, the kidneys on their sides (LPS grid)."""
    matrix = np.diag([2.0, 2.0, 2.0, 1.0]) if matrix is None else matrix
    labels = np.zeros((20, 24, 40), dtype=np.uint8)
    labels[4:8, 10:14, 18:24] = 1
    labels[10:16, 4:10, 30:36] = 2
    labels[4:10, 16:22, 4:10] = 3
    labels[4:10, 16:22, 30:36] = 4
    hu = np.broadcast_to(np.arange(40) * 5 - 100, labels.shape).astype(np.int16)
    return Volume(hu.copy(), matrix), Volume(labels, matrix)


def save(folder: Path, image: Volume, labels: Volume, *incomplete: str) -> Case:
    case = Case(folder / "ct.nii.gz", folder / "labels.nii.gz", frozenset(incomplete))
    write_volume(image, case.image)
    write_volume(labels, case.label)
    return case


def description(case: Case, labels: dict[str, int] | None = None) -> DatasetDescription:
    return DatasetDescription(Path("dataset.json"), "test", "CC0", labels or LABELS, (case,))


def prepare(case: Case, labels: dict[str, int] | None = None, spacing: float = 2.0) -> PreparedCase:
    return prepare_case(case, description(case, labels), CLASSES, (spacing,) * 3, RULE)


def make_config(tmp_path: Path, **changes: object) -> TrainingConfig:
    return TrainingConfig.model_validate(
        {
            "output": tmp_path,
            "training": [{"dataset": "x"}],
            "classes": [item.model_dump() for item in CLASSES],
            "intensity": RULE.model_dump(),
            "crop": (32, 32, 32),
            **changes,
        }
    )


def some_cases(count: int = 3, weights: tuple[float, ...] = (1.0, 1.0, 1.0)) -> list[PreparedCase]:
    """Cases whose labels tell them apart: case n has class n+1 alone."""
    cases = []
    for n in range(count):
        image = np.random.default_rng(n).normal(size=(36, 40, 44)).astype(np.float16)
        target = np.full(image.shape, n + 1, dtype=np.uint8)
        labelled = np.array([True, n != 0, True, True])
        cases.append(PreparedCase(f"case{n}", image, target, labelled, weights[n]))
    return cases


def test_classes_are_made_of_the_label_names(tmp_path: Path) -> None:
    image, labels = scan()
    prepared = prepare(save(tmp_path, image, labels))
    np.testing.assert_array_equal(prepared.target, np.array([0, 1, 2, 3, 3])[labels.array])
    assert prepared.labelled.tolist() == [True, True, True, True]
    assert prepared.target.dtype == np.uint8 and prepared.image.dtype == np.float16


def test_values_are_the_z_scores_of_the_rule(tmp_path: Path) -> None:
    image, labels = scan()
    prepared = prepare(save(tmp_path, image, labels))
    np.testing.assert_allclose(prepared.image[3, 4], (np.arange(40) * 5 - 100) / 100, atol=2e-3)


@pytest.mark.parametrize("flip", [(1, 1, 1), (-1, -1, 1), (-1, 1, -1), (1, -1, -1)])
def test_all_storage_orders_give_the_patients_axes(tmp_path: Path, flip: tuple[int, int, int]) -> None:
    image, labels = scan()
    # The same patient, stored the other way round along some axes.
    size = np.array(image.size)
    matrix = image.ijk_to_world @ np.diag([*flip, 1.0])
    matrix[:3, 3] = image.ijk_to_world[:3, :3] @ np.where(np.array(flip) < 0, size - 1, 0)
    turn = tuple(slice(None, None, f) for f in reversed(flip))
    stored = [Volume(np.ascontiguousarray(v.array[turn]), matrix) for v in (image, labels)]
    prepared = prepare(save(tmp_path, stored[0], stored[1]))
    np.testing.assert_array_equal(prepared.target, np.array([0, 1, 2, 3, 3])[labels.array])
    # I runs to the patient's left: HU rise along it.
    assert (np.diff(prepared.image[3, 4].astype(float)) > 0).all()


def test_coarser_model_grid_keeps_the_organs_volume(tmp_path: Path) -> None:
    image, labels = scan()
    prepared = prepare(save(tmp_path, image, labels), spacing=4.0)
    assert prepared.image.shape == (10, 12, 20)
    assert (prepared.target == 3).sum() * 8 == (labels.array >= 3).sum()


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
    image, labels = scan()
    prepared = prepare(save(tmp_path, image, labels, *incomplete), known)
    assert prepared.labelled.tolist() == expected


def test_voxels_of_an_incomplete_label_are_kept_as_evidence(tmp_path: Path) -> None:
    image, labels = scan()
    prepared = prepare(save(tmp_path, image, labels, "pancreas"))
    assert ((prepared.target == 1) == (labels.array == 1)).all()


def test_label_map_of_another_grid_is_refused_with_its_name(tmp_path: Path) -> None:
    image, labels = scan()
    for other in (
        Volume(labels.array[:, :, :-1].copy(), labels.ijk_to_world),
        Volume(labels.array, np.diag([2.0, 2.0, 2.1, 1.0])),
        Volume(labels.array, np.diag([-2.0, 2.0, 2.0, 1.0])),
    ):
        case = save(tmp_path, image, other)
        with pytest.raises(ConfigurationError, match=r"labels\.nii\.gz: its grid .* is not that of ct\.nii\.gz"):
            prepare(case)


def test_unreadable_image_is_refused_with_its_name(tmp_path: Path) -> None:
    image, labels = scan()
    case = save(tmp_path, image, labels)
    case.image.write_bytes(case.image.read_bytes()[:200])
    with pytest.raises(ConfigurationError, match=r"ct\.nii\.gz"):
        prepare(case)


def test_weight_of_a_source_is_shared_by_its_cases(tmp_path: Path) -> None:
    image, labels = scan()
    for name, count in (("one", 1), ("two", 2)):
        entries = []
        for n in range(count):
            save(tmp_path / name / str(n), image, labels)
            entries.append({"image": f"{n}/ct.nii.gz", "label": f"{n}/labels.nii.gz"})
        document = {"labels": {str(value): name for name, value in LABELS.items()}, "training": entries}
        (tmp_path / name / "dataset.json").write_text(json.dumps(document))
    sources = [SourceSettings(dataset=tmp_path / "one", weight=3), SourceSettings(dataset=tmp_path / "two", weight=1)]
    prepared = prepare_sources(sources, make_config(tmp_path), tmp_path / "prepared", workers=1)
    assert [case.weight for case in prepared] == [3, 0.5, 0.5]


def test_label_that_no_data_set_has_is_refused(tmp_path: Path) -> None:
    save(tmp_path, *scan())
    document = {
        "labels": {"0": "background", "1": "pancreas"},
        "training": [{"image": "ct.nii.gz", "label": "labels.nii.gz"}],
    }
    (tmp_path / "dataset.json").write_text(json.dumps(document))
    sources = [SourceSettings(dataset=tmp_path)]
    require_labels(sources, CLASSES[:1])
    with pytest.raises(ConfigurationError, match="label 'spleen' of class 'spleen' .* they have background, pancreas"):
        require_labels(sources, CLASSES[:2])


def test_sample_depends_on_seed_and_number_alone(tmp_path: Path) -> None:
    samples, again = (TrainingSamples(some_cases(), make_config(tmp_path, seed=5)) for _ in range(2))
    other_seed = TrainingSamples(some_cases(), make_config(tmp_path, seed=6))
    for n in (7, 0, 3):
        for a, b in zip(samples[n], again[n], strict=True):
            assert torch.equal(a, b)
        assert not torch.equal(samples[n][0], other_seed[n][0])
    assert not torch.equal(samples[0][0], samples[1][0])


def test_workers_give_the_samples_that_one_process_gives(tmp_path: Path) -> None:
    samples = TrainingSamples(some_cases(), make_config(tmp_path))
    context = "fork" if "fork" in torch.multiprocessing.get_all_start_methods() else None
    loaded = list(
        DataLoader(samples, batch_size=2, sampler=range(4, 10), num_workers=1, multiprocessing_context=context)
    )
    for number, batch in enumerate(loaded):
        for column, values in enumerate(batch):
            expected = torch.stack([samples[4 + 2 * number + row][column] for row in range(2)])
            assert torch.equal(values, expected)


def test_sample_comes_with_what_its_case_has_labels_for(tmp_path: Path) -> None:
    samples = TrainingSamples(some_cases(), make_config(tmp_path))
    seen = set()
    for n in range(12):
        image, target, labelled, number = samples[n]
        assert number == n
        assert (image.shape, target.shape, labelled.shape) == ((1, 32, 32, 32), (32, 32, 32), (4,))
        case = int(target.max()) - 1
        seen.add(case)
        assert labelled.tolist() == [True, case != 0, True, True]
    assert seen == {0, 1, 2}


def test_cases_are_drawn_by_their_weights(tmp_path: Path) -> None:
    samples = TrainingSamples(some_cases(weights=(8.0, 1.0, 1.0)), make_config(tmp_path))
    drawn = [int(samples[n][1].max()) - 1 for n in range(60)]
    # 48 expected; a binomial of 60 leaves 38…57 once in a thousand.
    assert 38 <= drawn.count(0) <= 57


def test_fingerprint_is_of_the_content_not_of_the_place(tmp_path: Path) -> None:
    case = save(tmp_path / "a", *scan())
    (tmp_path / "b").mkdir()
    moved = Path(shutil.copy(case.image, tmp_path / "b"))
    assert content_hash(moved) == content_hash(case.image)
    before = content_hash(tmp_path / "a")
    content = bytearray(case.label.read_bytes())
    content[-1] ^= 1
    case.label.write_bytes(content)
    assert content_hash(tmp_path / "a") != before


def test_blocks_are_finished_into_the_crops_that_the_loader_makes(tmp_path: Path) -> None:
    config = make_config(tmp_path, augmentation={"noise": 1.0, "axial_flip": 0.5, "low_resolution": 0.5})
    crops, blocks = (TrainingSamples(some_cases(), config, blocks=blocks) for blocks in (False, True))
    images, targets, labelled, numbers = next(iter(DataLoader(blocks, batch_size=3, sampler=range(5, 8))))
    assert images.dtype == torch.float16 and images[0].nbytes + targets[0].nbytes == blocks.sample_bytes
    finished = blocks.finish(images, targets, numbers)
    for row, number in enumerate(range(5, 8)):
        expected = crops[number]
        assert torch.equal(finished[0][row], expected[0]) and torch.equal(finished[1][row], expected[1])
        assert torch.equal(labelled[row], expected[2])
    assert crops[5][0].nbytes + crops[5][1].nbytes == crops.sample_bytes


def test_memory_mapped_cases_give_the_samples_of_those_in_memory(tmp_path: Path) -> None:
    cases = some_cases()
    mapped = []
    for case in cases:
        arrays = []
        for name in ("image", "target"):
            np.save(tmp_path / f"{case.name}_{name}.npy", getattr(case, name))
            arrays.append(np.load(tmp_path / f"{case.name}_{name}.npy", mmap_mode="r"))
        mapped.append(dataclasses.replace(case, image=arrays[0], target=arrays[1]))
    config = make_config(tmp_path)
    in_memory, from_disk = TrainingSamples(cases, config), TrainingSamples(mapped, config)
    for n in range(4):
        assert all(torch.equal(a, b) for a, b in zip(in_memory[n], from_disk[n], strict=True))
