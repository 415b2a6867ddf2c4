"""Fixtures of the tests of training."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
import torch

from AGTraining.data.planes.phantom import make_phantom_frames
from Testing.AGTraining.training.toy import make_dataset


@pytest.fixture(scope="package", autouse=True)
def one_thread() -> Iterator[None]:
    """Networks this small gain nothing from more, and lose much where other processes run."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)


@pytest.fixture(scope="session")
def data(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    """dataset.json for training (two cases) and for validation (one case)."""
    folder = tmp_path_factory.mktemp("data")
    return make_dataset(folder / "training", 2, 0), make_dataset(folder / "validation", 1, 9)


@pytest.fixture(scope="session")
def frames(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A table of synthetic frames: four planes of six patients to train on and of two to validate on."""
    return make_phantom_frames(tmp_path_factory.mktemp("frames") / "phantoms", range(8), 1)
