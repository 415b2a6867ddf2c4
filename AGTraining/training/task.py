"""What the trainer asks of a task: a kind of problem with its network, samples, loss and validation."""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol, cast

import torch
from torch import Tensor, nn
from torch.utils.data import Dataset

from AGTraining.bundle import ModelInfo
from AGTraining.training.config import TrainingConfig
from AGTraining.training.optimisation import Precision
from AGTraining.training.run_config import RunConfig

if TYPE_CHECKING:
    from AGTraining.training.planes_config import PlanesConfig


class Samples(Protocol):
    """A data set whose item n depends on the seed and n alone."""

    @property
    def sample_bytes(self) -> int:
        """The size of one item."""


@dataclass(frozen=True)
class Validation:
    """How well a network does on the validation data.

    scores: by class, the more the better; their mean tells which checkpoint is the best.
    details: what else the history keeps of it, as JSON can say it.
    """

    scores: dict[str, float]
    details: dict[str, Any] = field(default_factory=dict)


class Task(Protocol):
    """One kind of problem. The trainer knows nothing of images, organs or planes; it calls these, in this order."""

    measure: str
    """What the scores are: "DSC", "F1"."""
    memory_format: torch.memory_format
    """The one with channels last."""

    def build_network(self) -> nn.Module:
        """The network with its first weights, on the CPU. Raises ConfigurationError."""

    def precision(self, network: nn.Module) -> Precision:
        """The number types of its training steps. Raises ConfigurationError."""

    def check(self) -> dict[str, str]:
        """What must not change when the run is resumed, by name. Raises ConfigurationError for data that do not do."""

    def contents(self) -> dict[str, Any]:
        """What is in the files that a run depends on, by what they are for; phantoms are made. Raises as `check`."""

    def prepare(self) -> None:
        """Makes the samples ready, as long as that may take; the main process first, the others find what it made."""

    @property
    def samples(self) -> Dataset[Any]:
        """The training samples; also a `Samples`."""

    @property
    def validated(self) -> bool:
        """Whether there is anything to validate on."""

    def begin_epoch(self, network: nn.Module, epoch: int) -> Collection[nn.Parameter]:
        """Puts the network into training mode, `epoch` epochs being done; returns what keeps its value in this one."""

    def loss(self, model: nn.Module, batch: Any, precision: Precision) -> Tensor:
        """The loss of a batch as the loader gives it; brings it to the device first."""

    def validate(self, network: nn.Module) -> Validation:
        """The network's scores on the validation data."""

    def picture(self, network: nn.Module, epoch: int, folder: Path) -> None:
        """Keeps in the run's folder what the report is to show of this epoch."""

    def describe(self, epochs: int, validation: Validation) -> ModelInfo:
        """The description of the trained model."""


def make_task(config: RunConfig, device: torch.device) -> Task:
    """The configuration's task."""
    if isinstance(config, TrainingConfig):
        from AGTraining.training.segmentation import SegmentationTask

        return SegmentationTask(config, device)
    from AGTraining.training.planes import PlanesTask

    return PlanesTask(cast("PlanesConfig", config), device)
