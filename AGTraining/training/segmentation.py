"""Segmentation of organs in CT as a task for the trainer."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Collection
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from AGTraining import bundle
from AGTraining.data.prepare import PreparedCase, prepare_sources, prepared_folder, require_apart, require_labels
from AGTraining.data.samples import Sample, TrainingSamples
from AGTraining.data.sources import read_source, with_phantoms
from AGTraining.evaluation.metrics import dice
from AGTraining.inference.predict import Prediction, predict
from AGTraining.networks.unet import SegmentationOutput
from AGTraining.training import distributed
from AGTraining.training.attention_history import Snapshot, most_telling_slice, write_snapshots
from AGTraining.training.config import TrainingConfig
from AGTraining.training.initialise import build_network, network_arguments
from AGTraining.training.losses import SegmentationLoss, deep_supervision_loss
from AGTraining.training.optimisation import Precision
from AGTraining.training.provenance import data_contents, describe_run, fixed_settings
from AGTraining.training.task import Validation

# Of one size on all machines: a tile that depends on the free memory would make a resumed run differ in its scores.
VALIDATION_TILE = (128, 192, 192)


class SegmentationTask:
    """Crops of CTs on the model's grid, Dice and cross-entropy, DSC of whole validation scans."""

    measure = "DSC"
    memory_format = torch.channels_last_3d

    def __init__(self, config: TrainingConfig, device: torch.device) -> None:
        self.config = config
        self.device = device
        self.criterion = SegmentationLoss(config.cross_entropy, dice=config.loss != "cross_entropy")
        self.validation: list[PreparedCase] = []
        self._format = self.memory_format if config.channels_last else torch.contiguous_format

    def build_network(self) -> nn.Module:
        """See `Task`."""
        return build_network(self.config)

    def precision(self, network: nn.Module) -> Precision:
        """See `Task`."""
        divisor = getattr(network, "divisor", None)
        thinnest = self.config.crop[0] // divisor if divisor else None
        return Precision(self.config.mixed_precision, self.device, thinnest)

    def check(self) -> dict[str, str]:
        """Makes phantoms that the configuration asks for; no patient may be in both parts, and every class must have
        labels somewhere.
        """
        self._make_phantoms()
        with distributed.main_first():
            require_apart(self.config.training, self.config.validation, prepared_folder(self.config))
        require_labels(self.config.training, self.config.trained_classes)
        with distributed.main_first():
            return fixed_settings(self.config, self.contents())

    def contents(self) -> dict[str, Any]:
        """See `Task`."""
        self._make_phantoms()
        return data_contents(self.config, prepared_folder(self.config))

    def _make_phantoms(self) -> None:
        with distributed.main_first():
            self.config = with_phantoms(self.config, self.config.output.parent / "phantoms")

    def prepare(self) -> None:
        """Checks all cases and brings them to the model's grid; what was prepared before is found again."""
        config, folder, workers = self.config, prepared_folder(self.config), max(1, self.config.workers)
        with distributed.main_first():
            training = prepare_sources(config.training, config, folder, workers)
            self.validation = prepare_sources(config.validation, config, folder, workers)
        self.samples = TrainingSamples(
            training, config, blocks=self.device.type == "cuda" and config.augmentation.on_gpu
        )

    @property
    def validated(self) -> bool:
        """Whether there are validation cases."""
        return bool(self.config.validation)

    def begin_epoch(self, network: nn.Module, epoch: int) -> Collection[nn.Parameter]:
        """Gates rest in the epochs of their warm-up."""
        network.train()
        gates: list[nn.Parameter] = network.attention_parameters()  # type: ignore[operator]
        return gates if epoch < self.config.gate_warmup_epochs else []

    def loss(self, model: nn.Module, batch: Sample, precision: Precision) -> Tensor:
        """The configuration's loss; with deep supervision `separate`, its mean over the decoder's levels."""
        images, targets, labelled, numbers = batch
        images, targets, labelled = (t.to(self.device, non_blocking=True) for t in (images, targets, labelled))
        images, targets = self.samples.finish(images, targets, numbers)
        images = images.contiguous(memory_format=self._format)
        if self.config.network.arguments.get("deep_supervision") != "separate":
            with precision.autocast():
                logits = model(images)
            return self.criterion(logits, targets, labelled)
        with precision.autocast():
            output: SegmentationOutput = model(images, levels=True)
        return deep_supervision_loss(self.criterion, output.levels, targets, labelled)

    def validate(self, network: nn.Module) -> Validation:
        """DSC of each class on the model's grid, mean over the cases where it is completely labelled."""
        mine = range(distributed.rank(), len(self.validation), distributed.world_size())
        results = distributed.merged({number: self._dice(network, self.validation[number]) for number in mine})
        scores: dict[str, list[float]] = defaultdict(list)
        for result in results.values():
            for name, value in result.items():
                scores[name].append(value)
        named = [item.name for item in self.config.classes if item.name in scores]
        return Validation({name: float(np.mean(scores[name])) for name in named})

    def _dice(self, network: nn.Module, case: PreparedCase) -> dict[str, float]:
        """DSC of a case's classes that are labelled and present."""
        labels = _labels(self._predict(network, case))
        return {
            item.name: dice(labels == index, case.target == index)
            for index, item in enumerate(self.config.classes, 1)
            if item.name not in self.config.left_out and case.labelled[index] and (case.target == index).any()
        }

    def _predict(self, network: nn.Module, case: PreparedCase, attention: bool = False) -> Prediction:
        """As in use: with the network rewritten for inference, and in tiles where the scan is large."""
        model = bundle.Bundle(self._info({}, {}), network, self.device, Path(self.config.name))
        image = case.image.astype(np.float32)
        maps = "gates" if attention else "none"
        return predict(image, model, device=str(self.device), attention=maps, tile_size=VALIDATION_TILE)  # type: ignore[arg-type]

    def picture(self, network: nn.Module, epoch: int, folder: Path) -> None:
        """Keeps a slice of the first validation cases with its labels, prediction and attention coefficients."""
        snapshots = []
        for case in self.validation[: self.config.report.cases]:
            k = most_telling_slice(case.target)
            prediction = self._predict(network, case, attention=True)
            attention = {name: alpha[k // factor] for name, (alpha, factor) in prediction.attention.items()}
            image = case.image[k].astype(np.float32)
            snapshots.append(Snapshot(case.name, k, image, case.target[k], _labels(prediction)[k], attention))
        write_snapshots(folder, epoch, snapshots)

    def describe(self, epochs: int, validation: Validation) -> bundle.BundleInfo:
        """The bundle's description with the run's provenance and the validation's DSC."""
        self._make_phantoms()
        return self._info(describe_run(self.config, epochs, self._data()), {"validation_dsc": validation.scores})

    def _data(self) -> list[dict[str, object]]:
        datasets = [read_source(source) for source in self.config.training]
        return [
            {"name": dataset.name, "licence": dataset.licence, "cases": [case.name for case in dataset.cases]}
            for dataset in datasets
        ]

    def _info(self, provenance: dict[str, object], metrics: dict[str, object]) -> bundle.BundleInfo:
        config = self.config
        return bundle.BundleInfo(
            name=config.name,
            network=config.network.name,
            arguments=network_arguments(config),
            spacing_mm=config.spacing_mm,
            intensity=config.intensity,
            classes=[bundle.OrganClass(**item.model_dump(exclude={"labels"})) for item in config.classes],
            mirror_axes=("x",) if config.augmentation.axial_flip > 0 else (),
            provenance=provenance,
            metrics=metrics,
            licence=config.licence,
        )


def _labels(prediction: Prediction) -> np.ndarray:
    """The most probable class of each voxel, (K, J, I) uint8; 0 is the background."""
    probabilities = prediction.probabilities
    labels = (probabilities.argmax(0) + 1).astype(np.uint8)
    labels[probabilities.max(0) <= 1.0 - probabilities.sum(0)] = 0
    return labels
