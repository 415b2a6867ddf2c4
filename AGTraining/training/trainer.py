"""The training loop."""

from __future__ import annotations

import json
import logging
import math
import time
from collections.abc import Collection, Iterator
from contextlib import nullcontext
from pathlib import Path
from typing import Any, cast

import numpy as np
import torch
import yaml
from torch import nn

from AGTraining.errors import ConfigurationError
from AGTraining.evaluation.results import write_text
from AGTraining.inference.device import choose_device
from AGTraining.training import distributed
from AGTraining.training.attention_history import remove_snapshots
from AGTraining.training.checkpoint import read_checkpoint, remove_leftovers, write_checkpoint
from AGTraining.training.loading import batches
from AGTraining.training.optimisation import average_of, build_optimizer, learning_rate, repeatable
from AGTraining.training.report import REPORT, write_report
from AGTraining.training.run_config import RunConfig
from AGTraining.training.run_log import RunLog, remove_board
from AGTraining.training.task import make_task

logger = logging.getLogger(__name__)

LAST, BEST, HISTORY = "last.pt", "best.pt", "history.json"
REPORT_SECONDS = 60.0


class Trainer:
    """One run: a task, its network and optimizer, and where the run stands.

    The run folder holds `config.yaml` (with every default), `last.pt`, `best.pt`, `history.json`, slices for the
    report, and TensorBoard files. A run whose folder has a `last.pt` goes on from there, also in the middle of
    an epoch; on the CPU with the same result, bit for bit, as a run that was never interrupted, because sample n and
    the schedule depend only on the seed and on n. (On a GPU not all algorithms repeat their last digits.) Without a
    `last.pt` the others of these files are an earlier run's, and are removed.
    """

    def __init__(self, config: RunConfig, device: str = "auto") -> None:
        self.config = config
        self.device = choose_device(device)
        self.task = make_task(config, self.device)
        torch.manual_seed(config.seed)
        network = distributed.synchronised(self.task.build_network(), config.synchronised_batch_norm, self.device)
        memory = self.task.memory_format if config.channels_last else torch.contiguous_format
        self.network: nn.Module = network.to(self.device, memory_format=memory)  # type: ignore[call-overload]
        self.optimizer = build_optimizer(config, self.network)
        self.precision = self.task.precision(self.network)
        self.average = average_of(self.network, config.ema)
        self.epoch = 0  # epochs that are done
        self.step = 0  # optimizer steps of the next epoch that are done
        self.losses: list[float] = []  # of these steps
        self.best = -1.0
        self.history: list[dict[str, Any]] = []
        self._fixed: dict[str, str] = {}
        self._resting: Collection[nn.Parameter] = ()  # that this epoch leaves as they are
        self._saved = self._reported = time.monotonic()

    @property
    def folder(self) -> Path:
        """Where the run is kept."""
        return self.config.output

    @property
    def trained(self) -> nn.Module:
        """The network that is validated and kept: with averaged weights, where they are asked for."""
        return self.network if self.average is None else self.average.module

    def run(self) -> Path:
        """Trains to the end and returns the path of the best checkpoint (the last one without validation)."""
        config = self.config
        self._fixed = self.task.check()
        self.folder.mkdir(parents=True, exist_ok=True)
        self._resume()
        distributed.require_same((self.epoch, self.step), self.folder)
        if distributed.is_main() and self._has_work:
            # Else a run that is ended early would seem to have made it.
            bundle_path(config).unlink(missing_ok=True)
        self._write("config.yaml", yaml.safe_dump(config.model_dump(mode="json"), sort_keys=False, allow_unicode=True))
        self.task.prepare()
        self._parallel = distributed.wrap(self.network, self.device)
        self._model = cast(nn.Module, torch.compile(self._parallel)) if config.compile else self._parallel
        first_step = self.epoch * config.steps_per_epoch + self.step
        loader = batches(self.task.samples, config, first_step, self.device)
        with repeatable(config.deterministic), self._log() as log:
            while self._has_work:
                self._train_epoch(loader, log)
                self._finish_epoch(log)
        # A best.pt without a validation in this run was left by another.
        return self.folder / (BEST if self.best >= 0 and (self.folder / BEST).exists() else LAST)

    @property
    def _has_work(self) -> bool:
        """Whether there are epochs left, and training has not stalled."""
        return self.epoch < self.config.epochs and not has_stalled(self.history, self.config.early_stop)

    def _log(self) -> RunLog:
        return RunLog(self.folder, self.config, self.epoch, self.step, self.task.measure)

    def _train_epoch(self, loader: Iterator[Any], log: RunLog) -> None:
        self._resting = self.task.begin_epoch(self.network, self.epoch)
        while self.step < self.config.steps_per_epoch:
            loss = self._train_step(loader)
            self.losses.append(loss)
            self.step += 1
            log.step(self.epoch + 1, loss)
            if self.step == self.config.steps_per_epoch or self._checkpoint_is_due():
                if not all(bool(torch.isfinite(p).all()) for p in self.network.parameters()):
                    raise self._diverged("weights are")
                if self.step < self.config.steps_per_epoch:
                    self._save(LAST)

    def _train_step(self, loader: Iterator[Any]) -> float:
        """One optimizer step on the mean gradient of `gradient_averaging` batches; returns their mean loss."""
        config = self.config
        for group in self.optimizer.param_groups:
            group["lr"] = learning_rate(config, self.epoch * config.steps_per_epoch + self.step)
        self.optimizer.zero_grad(set_to_none=True)
        total = torch.zeros((), device=self.device)
        for number in range(config.gradient_averaging):
            last = number == config.gradient_averaging - 1
            with nullcontext() if last else distributed.without_sync(self._parallel):
                loss = self.task.loss(self._model, next(loader), self.precision) / config.gradient_averaging
                self.precision.backward(loss)
            total += loss.detach()
        mean = distributed.mean(float(total))
        if not math.isfinite(mean):
            raise self._diverged("loss is")
        for parameter in self._resting:
            parameter.grad = None
        self.precision.step(self.optimizer)
        distributed.share_statistics(self.network)
        if self.average is not None:
            self.average.update_parameters(self.network)
        return mean

    def _finish_epoch(self, log: RunLog) -> None:
        config = self.config
        record: dict[str, Any] = {
            "epoch": self.epoch + 1,
            "loss": float(np.mean(self.losses)),
            "learning_rate": float(self.optimizer.param_groups[0]["lr"]),
        }
        self.epoch, self.step, self.losses = self.epoch + 1, 0, []
        last = self.epoch == config.epochs
        improved = False
        if self.task.validated and (last or self.epoch % config.validate_every == 0):
            found = self.task.validate(self.trained)
            record |= {"scores": found.scores} | ({"details": found.details} if found.details else {})
            score = mean_score(record)
            improved, self.best = score > self.best, max(score, self.best)
        self.history.append(record)
        last = last or has_stalled(self.history, config.early_stop)
        log.epoch(record)
        logger.info("%s", json.dumps(record))
        if distributed.is_main() and (last or self.epoch in config.report.attention_epochs):
            self.task.picture(self.trained, self.epoch, self.folder)
        # The best first: a run that is killed between the two repeats the epoch, and with it the best.
        if improved:
            self._save(BEST)
        self._save(LAST)
        self._write(HISTORY, json.dumps(self.history, indent=1))
        if distributed.is_main() and time.monotonic() - self._reported > REPORT_SECONDS:
            write_report(self.folder, config, self.history)
            self._reported = time.monotonic()

    def _diverged(self, what: str) -> ConfigurationError:
        return ConfigurationError(
            f"{self.config.name}: the {what} not finite in epoch {self.epoch + 1}; lower learning_rate or turn "
            "mixed_precision off, and train anew into another output folder."
        )

    def _checkpoint_is_due(self) -> bool:
        steps, minutes = self.config.checkpoint_steps, self.config.checkpoint_minutes
        waited = time.monotonic() - self._saved
        return bool((steps and self.step % steps == 0) or (minutes and waited >= 60.0 * minutes))

    def _save(self, name: str) -> None:
        """Writes a checkpoint of where the run stands."""
        self._saved = time.monotonic()
        if distributed.is_main():
            write_checkpoint(self.folder / name, self._state())

    def _state(self) -> dict[str, Any]:
        return {
            "fixed": self._fixed,
            "processes": distributed.world_size(),
            "epoch": self.epoch,
            "step": self.step,
            "losses": self.losses,
            "best": self.best,
            "history": self.history,
            "network": self.network.state_dict(),
            "optimizer": self.optimizer.state_dict(),
            "precision": self.precision.state_dict(),
            "average": None if self.average is None else self.average.state_dict(),
        }

    def _resume(self) -> None:
        path = self.folder / LAST
        if distributed.is_main():
            remove_leftovers(self.folder)
        if not path.exists():
            if distributed.is_main():
                self._start_anew()
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
            self.precision.load_state_dict(state["precision"])
            if self.average is not None:
                self.average.load_state_dict(state["average"])
        except (RuntimeError, ValueError, KeyError) as error:
            raise ConfigurationError(
                f"{path}: its weights do not fit the network of this version; choose a new output folder."
            ) from error
        for name in ("epoch", "step", "losses", "best", "history"):
            setattr(self, name, state[name])
        logger.info("Resumed %s after epoch %d and %d steps.", path, self.epoch, self.step)
        before, now = state.get("processes", 1), distributed.world_size()
        if before != now and distributed.is_main():
            logger.warning(
                "%s: %d processes took part, now %d do; the samples of a step change with them.", path, before, now
            )

    def _start_anew(self) -> None:
        """Removes what an earlier run, whose last.pt was deleted, has left: the report would show it as this one's."""
        for name in (BEST, HISTORY, REPORT):
            (self.folder / name).unlink(missing_ok=True)
        remove_snapshots(self.folder)
        remove_board(self.folder)

    def _write(self, name: str, text: str) -> None:
        """A text file of the run, whole at any time."""
        if distributed.is_main():
            write_text(text, self.folder / name)


def bundle_path(config: RunConfig) -> Path:
    """Where a run leaves its model."""
    return config.output / f"{config.name}.safetensors"


def mean_score(record: dict[str, Any]) -> float:
    """The mean over a validation's classes; 0 where there was none to score."""
    return float(np.mean(list(record["scores"].values()))) if record["scores"] else 0.0


def has_stalled(history: list[dict[str, Any]], patience: int) -> bool:
    """Whether the last `patience` validations were no better than the best before them; never with a patience of 0."""
    scores = [mean_score(record) for record in history if "scores" in record]
    return bool(patience and scores) and len(scores) - 1 - int(np.argmax(scores)) >= patience
