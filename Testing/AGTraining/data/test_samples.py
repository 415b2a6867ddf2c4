from __future__ import annotations

import dataclasses
import shutil
from pathlib import Path

import numpy as np
import torch
from torch.utils.data import DataLoader

from AGTraining.data.dataset import Case, DatasetDescription
from AGTraining.data.fingerprint import content_hash
from AGTraining.data.prepare import PreparedCase, prepare_case
from AGTraining.data.samples import TrainingSamples
from AGTraining.imaging.files import write_volume
from AGTraining.imaging.intensity import IntensityRule
from AGTraining.imaging.volume import Volume
from AGTraining.training.config import ClassSettings, TrainingConfig

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
