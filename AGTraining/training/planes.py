"""Standard planes in frames of ultrasound as a task for the trainer."""

from __future__ import annotations

from collections.abc import Collection, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from AGTraining import bundle
from AGTraining.data.planes.augment import normalised, unchanged
from AGTraining.data.planes.samples import UNLABELLED, PlaneSample, PlaneSamples, class_numbers
from AGTraining.data.planes.store import store_frames
from AGTraining.errors import ConfigurationError
from AGTraining.evaluation.plane_scores import PlaneScores
from AGTraining.networks.sononet import AGSononet, PlaneNetwork, PlaneOutput
from AGTraining.training import distributed
from AGTraining.training.hints import FeatureHint
from AGTraining.training.initialise import require_in_initial_weights, take_initial_weights
from AGTraining.training.optimisation import Precision
from AGTraining.training.plane_data import (
    all_frames,
    describe_frames,
    frame_contents,
    prepared_frames,
    read_parts,
    with_plane_phantoms_of,
)
from AGTraining.training.plane_history import PlaneSnapshot, write_plane_snapshots
from AGTraining.training.plane_losses import PlaneLoss, label_table
from AGTraining.training.planes_config import PlanesConfig
from AGTraining.training.provenance import describe_model, describe_run, fixed_settings
from AGTraining.training.task import Validation
from AGTraining.training.teacher import Teacher

# Frames of one forward pass of a validation: of one size on all machines, so that all compute the same.
VALIDATION_BATCH = 32


class PlanesTask:
    """Augmented frames, cross-entropy with labels and a teacher, F1 of the validation frames.

    The scores are the F1 of the classes (the background too) that have validation frames, so that the best checkpoint
    is that of the best macro F1: accuracy would be that of the commonest class. The fused logits are what is scored, in
    all epochs: until they are trained, they are the mean of the scales'. The details have accuracy, loss and the
    confusion matrix.
    """

    measure = "F1"
    memory_format = torch.channels_last

    def __init__(self, config: PlanesConfig, device: torch.device) -> None:
        self.config = config
        self.device = device
        number = {item.name: n for n, item in enumerate(config.classes)}
        table = label_table(len(config.classes), [[number[name] for name in group.of] for group in config.groups])
        weights = (1.0, 1.0) if config.teacher is None else (config.teacher.weight, config.teacher.temperature)
        self.criterion: nn.Module = PlaneLoss(table, config.label_smoothing, *weights).to(device)
        self._table = table
        self._teacher: Teacher | None = None
        self._fused = True
        self._hint: FeatureHint | None = None

    def build_network(self) -> nn.Module:
        """See `Task`."""
        config = self.config
        try:
            network = bundle.NETWORKS[config.network.name](**self._arguments())
        except (TypeError, ValueError, ArithmeticError, RuntimeError) as error:
            raise ConfigurationError(f"network: {' '.join(str(error).split())}.") from error
        assert isinstance(network, PlaneNetwork)
        if network.in_channels != 1 or network.num_classes != len(config.classes):
            raise ConfigurationError(
                f"network: takes {network.in_channels} channels and gives {network.num_classes} classes, but frames "
                f"have 1 channel and there are {len(config.classes)} classes; remove in_channels and num_classes from "
                "its arguments."
            )
        if config.gate_warmup_epochs and not network.attention_parameters():
            raise ConfigurationError(f"gate_warmup_epochs: {config.network.name} has no gates to warm up; remove it.")
        take_initial_weights(network, config)
        if config.frozen == "blocks":
            require_in_initial_weights(network, "blocks.", config)
            network.blocks.requires_grad_(False)
        return network

    def _arguments(self) -> dict[str, Any]:
        return {"num_classes": len(self.config.classes), **self.config.network.arguments}

    def precision(self, network: nn.Module) -> Precision:
        """Of all sizes: with 2-D convolutions, bf16 gives right gradients (see `Precision` on those in 3-D)."""
        return Precision(self.config.mixed_precision, self.device)

    def check(self) -> dict[str, str]:
        """Makes phantoms that the configuration asks for; no patient may be in both parts, every class must have frames
        or a teacher, and the teacher must know the classes.
        """
        self._make_phantoms()
        config = self.config
        with distributed.main_first():
            self._training, self._validation = read_parts(config, warn=distributed.is_main())
        if config.teacher is not None:
            self._teacher = Teacher(config.teacher, config.classes, config.frame, self.device)
        with distributed.main_first():
            return fixed_settings(config, frame_contents(config, self._training, self._validation))

    def contents(self) -> dict[str, Any]:
        """See `Task`."""
        self._make_phantoms()
        return frame_contents(self.config, *read_parts(self.config))

    def _make_phantoms(self) -> None:
        with distributed.main_first():
            self.config = with_plane_phantoms_of(self.config)

    def prepare(self) -> None:
        """Cuts and resizes all frames once; what was prepared before is found again."""
        config, folder = self.config, prepared_frames(self.config)
        training, self._validated = all_frames(self._training), all_frames(self._validation)
        with distributed.main_first():
            stored, self._stored = (
                store_frames(frames, config.frame, folder, workers=max(1, config.workers))
                for frames in (training, self._validated)
            )
        self._targets = class_numbers(self._validated, config.targets)
        self.samples = PlaneSamples(
            training,
            stored,
            config.targets,
            config.frame,
            config.sampling,
            config.augmentation,
            config.seed,
            config.strong_augmentation,
        )

    @property
    def validated(self) -> bool:
        """Whether there are validation frames."""
        return bool(self.config.validation)

    def begin_epoch(self, network: nn.Module, epoch: int) -> Collection[nn.Parameter]:
        """Gates rest in the epochs of their warm-up, the fusing layer while each scale has a loss of its own."""
        network.train()
        assert isinstance(network, PlaneNetwork)
        if self.config.frozen == "blocks":
            # Their batch norm too: the statistics belong to the weights.
            network.blocks.eval()
        self._fused = epoch >= self.config.fused_from_epoch
        if self._teacher is not None and self._teacher.hint:
            self._hint = FeatureHint(network, self._teacher.network)
        resting = list(network.attention_parameters()) if epoch < self.config.gate_warmup_epochs else []
        if not self._fused and isinstance(network, AGSononet) and network.classifier is not None:
            resting += network.classifier.parameters()
        return resting

    def loss(self, model: nn.Module, batch: PlaneSample, precision: Precision) -> Tensor:
        """What the logits are worth, and how near the features come to the teacher's where they are to."""
        if self._teacher is None or self._hint is None:
            return self._loss(model, batch, precision)
        with self._hint.listening():
            loss = self._loss(model, batch, precision)
        return loss + self._teacher.hint * self._hint.loss()

    def _loss(self, model: nn.Module, batch: PlaneSample, precision: Precision) -> Tensor:
        """The criterion of the logits, of those of each scale, or its mean over both, as the aggregation wants it."""
        images, targets, numbers = batch
        images, targets = (tensor.to(self.device, non_blocking=True) for tensor in (images, targets))
        pictures = self.samples.pictures(images, targets, numbers)
        soft = None if self._teacher is None else self._teacher(pictures)
        inputs = normalised(pictures, self.config.frame.scale)
        if self.config.channels_last:
            inputs = inputs.contiguous(memory_format=self.memory_format)
        aggregation = self._aggregation
        if aggregation in (None, "concat") or (aggregation == "ft" and self._fused):
            with precision.autocast():
                logits = model(inputs)
            loss: Tensor = self.criterion(logits, targets, soft)
            return loss
        with precision.autocast():
            output: PlaneOutput = model(inputs, levels=True)
        scored = (output.logits, *output.levels) if aggregation == "deep_sup" else output.levels
        # Without gradients for the fused logits DistributedDataParallel would wait for them.
        return torch.stack([self.criterion(part, targets, soft) for part in scored]).mean() + 0.0 * output.logits.sum()

    @property
    def _aggregation(self) -> str | None:
        if self.config.network.name != "AGSononet":
            return None
        return str(self.config.network.arguments.get("aggregation", "ft"))

    def validate(self, network: nn.Module) -> Validation:
        """F1 of each class over the validation frames with a label.

        Where a label stands for several classes, the most probable of them counts as the right one.
        """
        labelled = np.flatnonzero(self._targets != UNLABELLED)
        mine = labelled[distributed.rank() :: distributed.world_size()]
        found = distributed.merged(dict(zip(mine.tolist(), self._log_probabilities(network, mine), strict=True)))
        if not found:
            return Validation({})
        log_p = np.stack(list(found.values()))
        allowed = self._table.numpy()[self._targets[list(found)]]
        true, predicted = np.where(allowed, log_p, -np.inf).argmax(1), log_p.argmax(1)
        names = [item.name for item in self.config.classes]
        scores = PlaneScores(true, predicted, np.exp(log_p.max(1)), names)
        right = (np.exp(log_p) * allowed).sum(1)
        return Validation(
            {item.name: item.f1 for item in scores.classes if item.cases},
            {
                "accuracy": scores.accuracy,
                "loss": float(-np.log(np.maximum(right, np.finfo(np.float64).tiny)).mean()),
                "confusion": scores.confusion.tolist(),
            },
        )

    @torch.no_grad()
    def _log_probabilities(self, network: nn.Module, numbers: np.ndarray) -> Iterator[np.ndarray]:
        """Of each of these validation frames, (classes,) float64."""
        network.eval()
        for start in range(0, len(numbers), VALIDATION_BATCH):
            logits = network(self._inputs(numbers[start : start + VALIDATION_BATCH]))
            yield from torch.log_softmax(logits.double(), dim=1).cpu().numpy()

    def _inputs(self, numbers: np.ndarray) -> Tensor:
        """Validation frames as the network sees them in use, (N, 1, rows, columns)."""
        images = torch.from_numpy(self._stored[numbers])[:, None].to(self.device)
        inputs = normalised(unchanged(images, self.config.frame.size), self.config.frame.scale)
        return inputs.contiguous(memory_format=self.memory_format) if self.config.channels_last else inputs

    @torch.no_grad()
    def picture(self, network: nn.Module, epoch: int, folder: Path) -> None:
        """Keeps validation frames of different classes with what the network said and attended to."""
        numbers = different_classes(self._targets, self.config.report.cases)
        if not len(numbers):
            return
        network.eval()
        output = network(self._inputs(numbers), attention=True)
        p = torch.softmax(output.logits.float(), dim=1).cpu()
        pictures = unchanged(torch.from_numpy(self._stored[numbers]), self.config.frame.size).numpy()
        snapshots = [
            PlaneSnapshot(
                self._validated[number].name,
                self.config.targets[self._targets[number]].name,
                self.config.classes[int(p[row].argmax())].name,
                float(p[row].max()),
                pictures[row],
                {name: alpha[row, 0].float().cpu().numpy() for name, alpha in output.attention.items()},
            )
            for row, number in enumerate(numbers.tolist())
        ]
        write_plane_snapshots(folder, epoch, snapshots)

    def describe(self, epochs: int, validation: Validation) -> bundle.PlanesInfo:
        """The bundle's description with the run's provenance and the validation's scores."""
        self._make_phantoms()
        config = self.config
        training, validated = read_parts(config)
        provenance = describe_run(config, epochs, [describe_frames(dataset) for dataset in training])
        provenance["validation_data"] = [describe_frames(dataset) for dataset in validated]
        provenance["teacher"] = None if config.teacher is None else describe_model(config.teacher.bundle)
        metrics: dict[str, Any] = {}
        if validation.scores:
            metrics = {
                "validation_accuracy": validation.details["accuracy"],
                "validation_macro_f1": float(np.mean(list(validation.scores.values()))),
                "validation_f1": validation.scores,
            }
        return bundle.PlanesInfo(
            name=config.name,
            network=config.network.name,
            arguments=self._arguments(),
            frame=config.frame,
            classes=[bundle.PlaneClass(**item.model_dump(exclude={"labels"})) for item in config.classes],
            provenance=provenance,
            metrics=metrics,
            licence=config.licence,
        )


def different_classes(targets: np.ndarray, count: int) -> np.ndarray:
    """Up to `count` labelled frames: the first of each class, then the second of each, …"""
    turn = np.zeros(len(targets), dtype=np.int64)
    for value in np.unique(targets):
        turn[targets == value] = np.arange(np.count_nonzero(targets == value))
    labelled = np.flatnonzero(targets != UNLABELLED)
    order = np.lexsort((targets[labelled], turn[labelled]))
    chosen: np.ndarray = labelled[order][:count]
    return chosen
