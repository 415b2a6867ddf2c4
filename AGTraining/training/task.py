"""What the trainer asks of a task: a kind of problem with its network, samples, loss and validation."""

from __future__ import annotations

from pathlib import Path
from typing import Any, Protocol

import torch
from torch import Tensor, nn
from torch.utils.data import Dataset

from AGTraining.bundle import BundleInfo
from AGTraining.training.config import TrainingConfig
from AGTraining.training.optimisation import Precision


class Samples(Protocol):
    """A data set whose item n depends on the seed and n alone."""

    @property
    def sample_bytes(self) -> int:
        """The size of one item."""


class Task(Protocol):
    """One kind of problem. The trainer knows nothing of images, organs or planes; it calls these, in this order."""

    def build_network(self) -> nn.Module:
        """The network with its first weights, on the CPU. Raises ConfigurationError."""

    def check(self) -> dict[str, str]:
        """What must not change when the run is resumed, by name. Raises ConfigurationError for data that do not do."""

    def prepare(self) -> None:
        """Makes the samples ready, as long as that may take; the main process first, the others find what it made."""

    @property
    def samples(self) -> Dataset[Any]:
        """The training samples; also a `Samples`."""

    @property
    def validated(self) -> bool:
        """Whether there is anything to validate on."""

    def loss(self, model: nn.Module, batch: Any, precision: Precision) -> Tensor:
        """The loss of a batch as the loader gives it; brings it to the device first."""

    def validate(self, network: nn.Module) -> dict[str, float]:
        """Scores by name, the more the better; their mean tells which checkpoint is the best."""

    def picture(self, network: nn.Module, epoch: int, folder: Path) -> None:
        """Keeps in the run's folder what the report is to show of this epoch."""

    def describe(self, epochs: int, scores: dict[str, float]) -> BundleInfo:
        """The description of the trained model."""


def make_task(config: TrainingConfig, device: torch.device) -> Task:
    """The configuration's task."""
    from AGTraining.training.segmentation import SegmentationTask

    return {"segmentation": SegmentationTask}[config.task](config, device)
