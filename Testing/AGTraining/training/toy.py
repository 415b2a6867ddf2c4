"""Small runs on small scans, shared by the tests of training."""

from __future__ import annotations

import json
import random
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from AGTraining.imaging.files import write_volume
from AGTraining.imaging.volume import Volume
from AGTraining.training.config import TrainingConfig
from AGTraining.training.trainer import Trainer

SIZE = 40
CLASSES = [
    {"name": "ball", "type_code": "1", "type_meaning": "Ball", "color": [200, 0, 0], "labels": ["ball"]},
    {"name": "cube", "type_code": "2", "type_meaning": "Cube", "color": [0, 200, 0], "labels": ["cube"]},
]


def make_dataset(folder: Path, cases: int, first_seed: int) -> Path:
    """Scans with a bright ball and a dark cube in gray noise, as files; returns the dataset.json."""
    entries = []
    for seed in range(first_seed, first_seed + cases):
        draw = np.random.default_rng(seed)
        position = np.indices((SIZE, SIZE, SIZE))
        ball, cube = draw.uniform(12, 16, 3), draw.uniform(26, 30, 3)
        labels = np.zeros((SIZE, SIZE, SIZE), dtype=np.uint8)
        labels[sum((x - c) ** 2 for x, c in zip(position, ball, strict=True)) < 8**2] = 1
        labels[np.max([abs(x - c) for x, c in zip(position, cube, strict=True)], axis=0) < 6] = 2
        hu = draw.normal(0, 15, labels.shape) + np.array([0, 150, -120])[labels]
        matrix = np.diag([-2.0, -2.0, 2.0, 1.0])
        write_volume(Volume(hu.astype(np.int16), matrix), folder / f"{seed}_ct.nii.gz")
        write_volume(Volume(labels, matrix), folder / f"{seed}_labels.nii.gz")
        entries.append({"image": f"{seed}_ct.nii.gz", "label": f"{seed}_labels.nii.gz"})
    document = {
        "name": "toy",
        "licence": "CC0",
        "labels": {"0": "background", "1": "ball", "2": "cube"},
        "training": entries,
    }
    path = folder / "dataset.json"
    path.write_text(json.dumps(document), encoding="utf-8")
    return path


def settings(data: tuple[Path, Path], output: Path, **changes: Any) -> dict[str, Any]:
    return {
        "name": "toy",
        "output": str(output),
        "prepared": str(data[0].parent.parent / "prepared"),
        "training": [{"dataset": str(data[0])}],
        "validation": [{"dataset": str(data[1])}],
        "classes": CLASSES,
        "network": {"name": "AttentionUNet", "arguments": {"features": [2, 3, 4], "sub_gates": 1}},
        "intensity": {"mean": 0, "sd": 60},
        "crop": [32, 32, 32],
        "learning_rate": 0.003,
        "schedule": "cosine",
        "warmup_steps": 2,
        "batch_size": 1,
        "epochs": 4,
        "steps_per_epoch": 3,
        "validate_every": 2,
        "workers": 0,
        **changes,
    }


def make_config(data: tuple[Path, Path], output: Path, **changes: Any) -> TrainingConfig:
    return TrainingConfig.model_validate(settings(data, output, **changes))


def assert_same(a: Any, b: Any, place: str = "state") -> None:
    """Equal to the last bit, through lists and dictionaries."""
    assert type(a) is type(b), place
    if isinstance(a, dict):
        assert a.keys() == b.keys(), place
        for key in a:
            assert_same(a[key], b[key], f"{place}.{key}")
    elif isinstance(a, list | tuple):
        assert len(a) == len(b), place
        for number, (x, y) in enumerate(zip(a, b, strict=True)):
            assert_same(x, y, f"{place}[{number}]")
    elif isinstance(a, Tensor):
        assert a.dtype == b.dtype and torch.equal(a, b), place
    else:
        assert a == b, place


class Interrupt(nn.Module):
    """The loss of a trainer, until someone presses Ctrl+C at some call."""

    def __init__(self, loss: nn.Module, call: int) -> None:
        super().__init__()
        self.loss, self.remaining = loss, call

    def forward(self, *arguments: Any) -> Tensor:
        self.remaining -= 1
        if self.remaining < 0:
            raise KeyboardInterrupt
        return self.loss(*arguments)


def run_interrupted(config: TrainingConfig, call: int) -> None:
    """Trains until the loss is asked for the `call`-th time, and leaves other random numbers behind."""
    trainer = Trainer(config, "cpu")
    trainer.task.criterion = Interrupt(trainer.task.criterion, call)
    with pytest.raises(KeyboardInterrupt):
        trainer.run()
    torch.manual_seed(12345)
    np.random.seed(12345)
    random.seed(12345)
