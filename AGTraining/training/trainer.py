"""The training loop."""

from __future__ import annotations

import json
import logging
import math
import os
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import torch
import yaml
from torch import Tensor, nn
from torch.utils.data import DataLoader
from torch.utils.tensorboard import SummaryWriter
from tqdm import tqdm

from AGTraining import bundle
from AGTraining.data.samples import PreparedCase, TrainingSamples, prepare_sources, require_labels
from AGTraining.errors import ConfigurationError
from AGTraining.evaluation.metrics import dice
from AGTraining.inference.device import choose_device, has_native_bfloat16
from AGTraining.inference.tiles import pad_to_multiple
from AGTraining.networks.unet import SegmentationOutput, UNet3D
from AGTraining.training.checkpoint import read_checkpoint, write_checkpoint
from AGTraining.training.config import TrainingConfig, read_config
from AGTraining.training.losses import SegmentationLoss, deep_supervision_loss
from AGTraining.training.provenance import describe_run, fixed_settings

logger = logging.getLogger(__name__)

LAST, BEST = "last.pt", "best.pt"


class Trainer:
    """One run: a network, its data, its optimizer and where it stands.

    The run folder holds `config.yaml` (with every default), `last.pt`, `best.pt`, `history.json` and TensorBoard files.
    A run whose folder has a `last.pt` goes on from there; on the CPU with the same result, bit for bit, as a run that
    was never interrupted, because sample n and the schedule depend only on the seed and on n.
    """

    def __init__(self, config: TrainingConfig, device: str = "auto") -> None:
        self.config = config
        self.device = choose_device(device)
        torch.manual_seed(config.seed)
        network = build_network(config)
        self.network = network.to(self.device, memory_format=torch.channels_last_3d)  # type: ignore[call-overload]
        self.loss = SegmentationLoss(config.cross_entropy)
        self.optimizer = torch.optim.Adam(self.network.parameters(), lr=config.learning_rate)
        self.epoch = 0
        self.best = -1.0
        self.history: list[dict[str, Any]] = []
        self._fixed: dict[str, str] = {}
        self._amp = config.mixed_precision and has_native_bfloat16(self.device)

    @property
    def folder(self) -> Path:
        """Where the run is kept."""
        return self.config.output

    def run(self) -> Path:
        """Trains to the last epoch and returns the path of the best checkpoint (the last one without validation)."""
        config = self.config
        require_labels(config.training, config.classes)
        self._fixed = fixed_settings(config)
        self.folder.mkdir(parents=True, exist_ok=True)
        self._resume()
        _write_text(self.folder / "config.yaml", yaml.safe_dump(config.model_dump(mode="json"), sort_keys=False))
        training = prepare_sources(config.training, config)
        validation = prepare_sources(config.validation, config)
        samples = self._batches(TrainingSamples(training, config))
        total = config.epochs * config.steps_per_epoch
        with (
            SummaryWriter(str(self.folder / "tensorboard"), purge_step=self.epoch + 1) as board,
            tqdm(total=total, initial=self.epoch * config.steps_per_epoch, unit="step", disable=None) as bar,
        ):
            while self.epoch < config.epochs:
                loss = self._train_epoch(samples, bar)
                self.epoch += 1
                record: dict[str, Any] = {"epoch": self.epoch, "loss": loss, "learning_rate": self._learning_rate()}
                if validation and (self.epoch % config.validate_every == 0 or self.epoch == config.epochs):
                    record["dsc"] = self.validate(validation)
                self._finish_epoch(record, board)
        # A best.pt without a validation in this run was left by another.
        return self.folder / (BEST if self.best >= 0 and (self.folder / BEST).exists() else LAST)

    def _train_epoch(self, samples: Iterator[tuple[Tensor, Tensor, Tensor]], bar: tqdm[Any]) -> float:
        config = self.config
        self.network.train()
        losses = []
        for step in range(config.steps_per_epoch):
            for group in self.optimizer.param_groups:
                group["lr"] = learning_rate(config, self.epoch * config.steps_per_epoch + step)
            self.optimizer.zero_grad(set_to_none=True)
            mean = 0.0
            for _ in range(config.gradient_averaging):
                image, target, labelled = (t.to(self.device) for t in next(samples))
                loss = self._loss(image.to(memory_format=torch.channels_last_3d), target, labelled)
                (loss / config.gradient_averaging).backward()
                mean += float(loss.detach()) / config.gradient_averaging
            if not math.isfinite(mean):
                raise self._diverged("loss is")
            self.optimizer.step()
            losses.append(mean)
            bar.update()
            bar.set_postfix(epoch=self.epoch + 1, loss=f"{mean:.3f}", refresh=False)
        if not all(bool(torch.isfinite(p).all()) for p in self.network.parameters()):
            raise self._diverged("weights are")
        return float(np.mean(losses))

    def _diverged(self, what: str) -> ConfigurationError:
        return ConfigurationError(
            f"{self.config.name}: the {what} not finite in epoch {self.epoch + 1}; lower learning_rate or turn "
            "mixed_precision off, and train anew into another output folder."
        )

    def _loss(self, image: Tensor, target: Tensor, labelled: Tensor) -> Tensor:
        separate = self.config.network.arguments.get("deep_supervision") == "separate"
        with torch.autocast(self.device.type, torch.bfloat16, enabled=self._amp):
            output = self.network(image, levels=separate)
        if isinstance(output, SegmentationOutput):
            return deep_supervision_loss(self.loss, output.levels, target, labelled)
        return self.loss(output, target, labelled)

    @torch.inference_mode()
    def validate(self, cases: list[PreparedCase]) -> dict[str, float]:
        """DSC of each class on the model's grid, mean over the cases where it is completely labelled."""
        self.network.eval()
        scores: dict[str, list[float]] = {item.name: [] for item in self.config.classes}
        for case in cases:
            image = torch.from_numpy(case.image.astype(np.float32))[None, None].to(self.device)
            padded, crop = pad_to_multiple(image, self.network.divisor)
            with torch.autocast(self.device.type, torch.bfloat16, enabled=self._amp):
                logits = self.network(padded.contiguous(memory_format=torch.channels_last_3d))
            predicted = logits[(..., *crop)].argmax(1)[0].cpu().numpy()
            for index, name in enumerate(scores, 1):
                if case.labelled[index] and (case.target == index).any():
                    scores[name].append(dice(predicted == index, case.target == index))
        return {name: float(np.mean(values)) for name, values in scores.items() if values}

    def _batches(self, samples: TrainingSamples) -> Iterator[tuple[Tensor, Tensor, Tensor]]:
        """Batches from where the run stands to its end."""
        config = self.config
        per_epoch = config.steps_per_epoch * config.gradient_averaging * config.batch_size
        loader = DataLoader(
            samples,
            batch_size=config.batch_size,
            sampler=range(self.epoch * per_epoch, config.epochs * per_epoch),
            num_workers=config.workers,
            # Forked workers share the cases' memory; elsewhere than on Linux forking is not safe or not there.
            multiprocessing_context="fork" if config.workers and sys.platform == "linux" else None,
        )
        return iter(loader)

    def _learning_rate(self) -> float:
        return float(self.optimizer.param_groups[0]["lr"])

    def _finish_epoch(self, record: dict[str, Any], board: SummaryWriter) -> None:
        self.history.append(record)
        board.add_scalar("loss", record["loss"], self.epoch)
        board.add_scalar("learning_rate", record["learning_rate"], self.epoch)
        improved = False
        if "dsc" in record:
            for name, value in record["dsc"].items():
                board.add_scalar(f"DSC/{name}", value, self.epoch)
            mean = float(np.mean(list(record["dsc"].values()))) if record["dsc"] else 0.0
            improved, self.best = mean > self.best, max(mean, self.best)
        logger.info("%s", json.dumps(record))
        state = self._state()
        # The best first: a run that is killed between the two repeats the epoch, and with it the best.
        if improved:
            write_checkpoint(self.folder / BEST, state)
        write_checkpoint(self.folder / LAST, state)
        _write_text(self.folder / "history.json", json.dumps(self.history, indent=1))

    def _state(self) -> dict[str, Any]:
        return {
            "fixed": self._fixed,
            "epoch": self.epoch,
            "best": self.best,
            "history": self.history,
            "network": self.network.state_dict(),
            "optimizer": self.optimizer.state_dict(),
        }

    def _resume(self) -> None:
        path = self.folder / LAST
        if not path.exists():
            return
        state = read_checkpoint(path)
        changed = [key for key, value in self._fixed.items() if state["fixed"].get(key, value) != value]
        if changed:
            raise ConfigurationError(
                f"{path}: belongs to a run with another '{changed[0]}'; "
                "restore the setting or choose a new output folder."
            )
        try:
            self.network.load_state_dict(state["network"])
            self.optimizer.load_state_dict(state["optimizer"])
        except (RuntimeError, ValueError, KeyError) as error:
            raise ConfigurationError(
                f"{path}: its weights do not fit the network of this version; choose a new output folder."
            ) from error
        self.epoch, self.best, self.history = state["epoch"], state["best"], state["history"]
        logger.info("Resumed %s after epoch %d.", path, self.epoch)


def learning_rate(config: TrainingConfig, step: int) -> float:
    """Learning rate at an optimizer step: linear warm-up, then constant or half a cosine down to 1 % of the start."""
    rate = config.learning_rate * min(1.0, (step + 1) / (config.warmup_steps + 1))
    if config.schedule == "cosine":
        progress = step / max(1, config.epochs * config.steps_per_epoch)
        rate *= 0.01 + 0.99 * (1 + math.cos(math.pi * progress)) / 2
    return rate


def build_network(config: TrainingConfig) -> UNet3D:
    """The configuration's network, new or with the weights of `initial_weights`. Raises ConfigurationError."""
    arguments = _network_arguments(config)
    try:
        network = bundle.NETWORKS[config.network.name](**arguments)
    except (TypeError, ValueError, ArithmeticError, RuntimeError) as error:
        raise ConfigurationError(f"network: {' '.join(str(error).split())}.") from error
    assert isinstance(network, UNet3D)
    if network.in_channels != 1 or network.num_classes != len(config.classes) + 1:
        raise ConfigurationError(
            f"network: takes {network.in_channels} channels and gives {network.num_classes} classes, but the data have "
            f"1 channel and {len(config.classes) + 1} classes; remove in_channels and num_classes from its arguments."
        )
    if any(n % network.divisor for n in config.crop):
        raise ConfigurationError(f"crop: {config.crop} must be multiples of {network.divisor} for this network.")
    if config.initial_weights is not None:
        given = bundle.load(config.initial_weights).network.state_dict()
        try:
            network.load_state_dict(given)
        except RuntimeError as error:
            raise ConfigurationError(
                f"{config.initial_weights}: its weights do not fit {config.network.name} with {arguments}."
            ) from error
    return network


def _network_arguments(config: TrainingConfig) -> dict[str, Any]:
    """The configuration's network arguments with the number of classes (the background included)."""
    return {"num_classes": len(config.classes) + 1, **config.network.arguments}


def export_bundle(config: TrainingConfig, checkpoint: Path, path: Path, metrics: dict[str, Any] | None = None) -> None:
    """Writes a checkpoint's network as a bundle with the run's provenance."""
    state = read_checkpoint(checkpoint)
    arguments = _network_arguments(config)
    network: nn.Module = bundle.NETWORKS[config.network.name](**arguments)
    network.load_state_dict(state["network"])
    info = bundle.BundleInfo(
        name=config.name,
        network=config.network.name,
        arguments=arguments,
        spacing_mm=config.spacing_mm,
        intensity=config.intensity,
        classes=[bundle.OrganClass(**item.model_dump(exclude={"labels"})) for item in config.classes],
        mirror_axes=("x",) if config.augmentation.axial_flip > 0 else (),
        provenance=describe_run(config, state["epoch"]),
        metrics=metrics or {"validation_dsc": next((r["dsc"] for r in reversed(state["history"]) if "dsc" in r), {})},
        licence=config.licence,
    )
    bundle.save(path, network, info)


def train_from_config(path: str | Path, device: str = "auto", out: str | Path | None = None) -> Path:
    """Runs (or goes on with) the configuration's training; returns the bundle that it made in the run folder."""
    config = read_config(path)
    if out is not None:
        config.output = Path(out).resolve()
    checkpoint = Trainer(config, device).run()
    result = config.output / f"{config.name}.safetensors"
    export_bundle(config, checkpoint, result)
    return result


def _write_text(path: Path, text: str) -> None:
    temporary = path.with_name(f".{path.name}.part")
    temporary.write_text(text, encoding="utf-8")
    os.replace(temporary, path)
