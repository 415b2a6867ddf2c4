"""Training samples: cases on the model's grid, cut and augmented at random but reproducibly."""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np
import torch
from torch import Tensor
from torch.utils.data import Dataset

from AGTraining.data.augment import Augmentation
from AGTraining.data.prepare import PreparedCase
from AGTraining.imaging.intensity import AIR_HU
from AGTraining.training.config import TrainingConfig

Sample = tuple[Tensor, Tensor, Tensor, Tensor]


class TrainingSamples(Dataset[Sample]):
    """An endless, reproducible list of augmented crops: sample n depends on the seed and n alone.

    Item n: image (1, K, J, I) float32, target (K, J, I) uint8, labelled (classes,) bool, and n. A run that is resumed
    at sample n therefore sees what an undisturbed one would have seen, whatever the number of workers.

    blocks: items are what the crops are made of, (1, *block) float16 and (*block) uint8; `finish` makes the crops, on
    the GPU where the batch lies.
    """

    def __init__(self, cases: Sequence[PreparedCase], config: TrainingConfig, blocks: bool = False) -> None:
        self._cases = cases
        self._blocks = blocks
        weights = np.array([case.weight for case in cases], dtype=np.float64)
        self._probabilities = weights / weights.sum()
        self._seed = config.seed
        self._trained = np.array([True, *(item.name not in config.left_out for item in config.classes)])
        air = float(config.intensity.apply(np.full(1, AIR_HU, dtype=np.float32))[0]) if config.intensity.sd else None
        self._augmentation = Augmentation(config.augmentation, config.crop, air)

    @property
    def sample_bytes(self) -> int:
        """The size of one item."""
        size = self._augmentation.block if self._blocks else self._augmentation.crop
        return math.prod(size) * (2 + 1 if self._blocks else 4 + 1)

    def __getitem__(self, index: int) -> Sample:
        random = np.random.default_rng((self._seed, index))
        case = self._cases[random.choice(len(self._cases), p=self._probabilities)]
        image, target = self._augmentation.cut(case.image, case.target, random)
        if not self._blocks:
            image, target = self._change(image, target, index)
        target = self._without_left_out(target)
        return image, target, torch.from_numpy(case.labelled & self._trained), torch.tensor(index)

    def finish(self, images: Tensor, targets: Tensor, numbers: Tensor) -> tuple[Tensor, Tensor]:
        """A batch of crops out of a batch of blocks with these sample numbers, on the device where they lie."""
        if not self._blocks:
            return images, targets
        changed = [self._change(*item) for item in zip(images, targets, numbers.tolist(), strict=True)]
        return torch.stack([image for image, _ in changed]), torch.stack([target for _, target in changed])

    def _change(self, image: Tensor, target: Tensor, index: int) -> tuple[Tensor, Tensor]:
        # A stream of random numbers of its own, so that it may be drawn from in another process.
        return self._augmentation.change(image, target, np.random.default_rng((self._seed, index, 1)))

    def _without_left_out(self, target: Tensor) -> Tensor:
        """Voxels of classes that are left out count as background."""
        if self._trained.all():
            return target
        table = torch.from_numpy(np.where(self._trained, np.arange(len(self._trained)), 0).astype(np.uint8))
        return table[target.int()]
