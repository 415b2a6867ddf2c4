from __future__ import annotations

from pathlib import Path

import pytest
import torch
from torch import Tensor
from torch.utils.data import Dataset

from AGTraining.training.loading import MIB, batches
from Testing.AGTraining.training.toy import make_config

CPU = torch.device("cpu")


class Numbers(Dataset[Tensor]):
    """Sample n is n; each claims to take so much memory."""

    def __init__(self, mib: int = 1) -> None:
        self.sample_bytes = mib * MIB

    def __getitem__(self, index: int) -> Tensor:
        return torch.tensor(index)


@pytest.mark.parametrize("step", [0, 2, 5])
def test_step_takes_its_own_samples_wherever_the_run_begins(data: tuple[Path, Path], tmp_path: Path, step: int) -> None:
    config = make_config(data, tmp_path, epochs=3, steps_per_epoch=2, batch_size=2, gradient_averaging=3)
    loaded = [batch.tolist() for batch in batches(Numbers(), config, step, CPU)]
    whole = [[n, n + 1] for n in range(0, 3 * 2 * 3 * 2, 2)]
    assert loaded == whole[3 * step :]


@pytest.mark.parametrize(("limit", "ahead"), [(1, 1), (64, 4), (100_000, 8)])
def test_batches_that_wait_stay_within_the_memory_limit(
    data: tuple[Path, Path], tmp_path: Path, limit: int, ahead: int
) -> None:
    config = make_config(data, tmp_path, workers=2, batch_size=2, loader_memory_mib=limit, steps_per_epoch=40)
    loader = batches(Numbers(mib=4), config, 0, CPU)
    assert loader._prefetch_factor == ahead  # type: ignore[attr-defined]
    assert next(loader).tolist() == [0, 1]
    assert ahead == 1 or ahead * 2 * 2 * 4 <= limit
