"""Training samples of frames: drawn at random but reproducibly, so often as each class should be seen."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch
from torch import Tensor
from torch.utils.data import Dataset

from AGTraining.data.planes.augment import PlaneAugmentation, normalised
from AGTraining.data.planes.labelled import LabelledFrame, LabelMap, NamedPlane
from AGTraining.data.planes.settings import PlaneAugmentationSettings, SamplingSettings
from AGTraining.errors import ConfigurationError
from AGTraining.imaging.frame_rule import FrameRule

# The class number of a frame without a class.
UNLABELLED = -1
PlaneSample = tuple[Tensor, Tensor, Tensor]
# Streams of random numbers beside those of `augment`.
DRAWING, MIXING = 0, 3


class PlaneSamples(Dataset[PlaneSample]):
    """An endless, reproducible list of frames: sample n depends on the seed and n alone.

    Item n: the frame with its margin (1, rows, columns) uint8, its class (int64; `UNLABELLED` for a frame without one),
    and n. `finish` turns a batch into the network's inputs, on the device where it lies.

    frames and stored: as `store_frames` has them. Frames whose label no class names count as unlabelled.
    strong: the augmentation of unlabelled frames (default: that of all), with which they may also be mixed.
    """

    def __init__(
        self,
        frames: Sequence[LabelledFrame],
        stored: np.ndarray,
        classes: Sequence[NamedPlane],
        rule: FrameRule,
        sampling: SamplingSettings,
        augmentation: PlaneAugmentationSettings,
        seed: int = 0,
        strong: PlaneAugmentationSettings | None = None,
    ) -> None:
        self._stored = stored
        self._rule = rule
        self._seed = seed
        self.targets = class_numbers(frames, classes)
        self._mixing = strong or augmentation
        self._augmentation = PlaneAugmentation(augmentation, rule.size, seed, strong)
        weights = np.array([frame.weight for frame in frames], dtype=np.float64)
        # Groups of frames with their shares of the draws: the classes, then those without one.
        shares = drawing_shares(self.targets, [item.background for item in classes], sampling)
        self._groups = [np.flatnonzero(self.targets == number) for number in (*range(len(classes)), UNLABELLED)]
        self._within = [np.cumsum(weights[group]) for group in self._groups]
        self._shares = np.cumsum(shares)

    @property
    def sample_bytes(self) -> int:
        """The size of one item."""
        return int(np.prod(self._stored.shape[1:])) + 16

    def __getitem__(self, index: int) -> PlaneSample:
        random = np.random.default_rng((self._seed, index, DRAWING))
        frame = self._draw(random)
        image = self._stored[frame]
        target = int(self.targets[frame])
        if target == UNLABELLED:
            image = self._mixed(image, np.random.default_rng((self._seed, index, MIXING)))
        return torch.from_numpy(np.array(image))[None], torch.tensor(target), torch.tensor(index)

    def pictures(self, images: Tensor, targets: Tensor, numbers: Tensor) -> Tensor:
        """A batch of items augmented, before normalisation: (N, 1, rows, columns) float32 from 0 to 1.

        What a teacher with a frame rule of its own starts from.
        """
        return self._augmentation(images, numbers, targets == UNLABELLED)

    def finish(self, images: Tensor, targets: Tensor, numbers: Tensor) -> Tensor:
        """A batch of items as the network's inputs (N, 1, rows, columns) float32, on the device where it lies."""
        return normalised(self.pictures(images, targets, numbers), self._rule.scale)

    def _draw(self, random: np.random.Generator) -> int:
        group, within = random.random(2)
        number = int(np.searchsorted(self._shares, group * self._shares[-1], side="right"))
        number = min(number, len(self._groups) - 1)
        place = int(np.searchsorted(self._within[number], within * self._within[number][-1], side="right"))
        return int(self._groups[number][min(place, len(self._groups[number]) - 1)])

    def _mixed(self, image: np.ndarray, random: np.random.Generator) -> np.ndarray:
        """The frame, or it with another unlabelled one: blended (mixup), or with a rectangle of it (CutMix).

        A teacher says what the mixture is; no label needs to be mixed.
        """
        how, share = random.random(2)
        others = self._groups[-1]
        other = self._stored[others[random.integers(len(others))]]
        if random.random() < 0.5:
            other = other[:, ::-1]
        if how < self._mixing.mixup:
            weight = 0.2 + 0.6 * share
            return np.rint(weight * image.astype(np.float32) + (1 - weight) * other).astype(np.uint8)
        if how < self._mixing.mixup + self._mixing.cutmix:
            size = np.array(image.shape)
            part = np.maximum(1, (size * np.sqrt(0.15 + 0.45 * share)).astype(int))
            top, left = random.integers(size - part + 1)
            mixed = np.array(image)
            mixed[top : top + part[0], left : left + part[1]] = other[top : top + part[0], left : left + part[1]]
            return mixed
        return image


def class_numbers(frames: Sequence[LabelledFrame], classes: Sequence[NamedPlane]) -> np.ndarray:
    """The class of each frame (N,) int64; `UNLABELLED` for those without a label that a class names."""
    classes_of = LabelMap(classes)
    numbers = [classes_of.number(frame.label) for frame in frames]
    return np.array([UNLABELLED if number is None else number for number in numbers], dtype=np.int64)


def drawing_shares(targets: np.ndarray, background: Sequence[bool], sampling: SamplingSettings) -> np.ndarray:
    """The share of the draws of each class, then of unlabelled frames: (classes + 1,), sum 1.

    A class without frames gets nothing; what it would have had goes to the others. Raises ConfigurationError where
    there is nothing to draw.
    """
    counts = np.array([np.count_nonzero(targets == number) for number in range(len(background))], dtype=np.float64)
    back = np.array(background, dtype=bool)
    if sampling.background_share is None:
        back = np.zeros(len(counts), dtype=bool)
    wanted = np.where(counts > 0, np.maximum(counts, 1) ** (1 - sampling.balance), 0.0)
    shares = np.zeros(len(counts) + 1)
    for group, share in ((back, sampling.background_share or 0.0), (~back, 1 - (sampling.background_share or 0.0))):
        if wanted[group].sum() > 0:
            shares[:-1][group] = share * wanted[group] / wanted[group].sum()
    labelled = shares.sum()
    unlabelled = sampling.unlabelled_share if (targets == UNLABELLED).any() else 0.0
    if not labelled and (targets == UNLABELLED).any():
        unlabelled = 1.0
    if labelled:
        shares *= (1 - unlabelled) / labelled
    shares[-1] = unlabelled
    if not shares.sum():
        raise ConfigurationError("There is no frame to draw: none has a label of one of the classes.")
    return shares
