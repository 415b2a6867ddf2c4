"""Batches for the training loop, from where the run stands to its end."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from typing import Any, cast

import torch
from torch.utils.data import DataLoader, Dataset

from AGTraining.training import distributed
from AGTraining.training.run_config import RunConfig
from AGTraining.training.task import Samples

MIB = 1024**2
MOST_BATCHES_AHEAD = 8


def batches(samples: Dataset[Any], config: RunConfig, first_step: int, device: torch.device) -> Iterator[Any]:
    """The batches that this process takes in all optimizer steps from `first_step` on.

    Step s takes the samples from s·n on, n being those of one step in all processes: a resumed run goes on with those
    that an undisturbed one would have taken.
    """
    a_step = config.gradient_averaging * config.batch_size * distributed.world_size()
    steps = config.epochs * config.steps_per_epoch
    workers: dict[str, Any] = {}
    if config.workers:
        ahead = config.loader_memory_mib * MIB // (cast(Samples, samples).sample_bytes * config.batch_size)
        workers = {
            "prefetch_factor": max(1, min(MOST_BATCHES_AHEAD, ahead // config.workers)),
            # Forked workers share the cases' memory; elsewhere than on Linux forking is not safe or not there.
            "multiprocessing_context": "fork" if sys.platform == "linux" else None,
        }
    return iter(
        DataLoader(
            samples,
            batch_size=config.batch_size,
            sampler=distributed.sample_numbers(first_step * a_step, steps * a_step, config.batch_size),
            num_workers=config.workers,
            pin_memory=device.type == "cuda",
            **workers,
        )
    )
