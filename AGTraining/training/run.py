"""A whole run: from a configuration to a model and a report."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

from AGTraining import bundle
from AGTraining.training import distributed
from AGTraining.training.checkpoint import read_checkpoint
from AGTraining.training.config import read_config
from AGTraining.training.report import REPORT, write_report
from AGTraining.training.run_config import RunConfig
from AGTraining.training.task import Validation, make_task
from AGTraining.training.trainer import Trainer, bundle_path


@dataclass(frozen=True)
class RunResult:
    """Where the model and the report of a run lie, and its best validation.

    scores: by class, of the measure ("DSC", "F1"); empty without a validation.
    """

    bundle: Path
    report: Path
    measure: str
    scores: dict[str, float]


def train(config: RunConfig, device: str = "auto") -> RunResult:
    """Runs (or goes on with) a training, and makes the bundle and the report in its folder.

    Under `torchrun` each process calls this; the main one writes. Raises ConfigurationError, DeviceError, InputError.
    """
    result = bundle_path(config)
    with distributed.session(device) as own_device:
        trainer = Trainer(config, own_device)
        checkpoint = trainer.run()
        with distributed.main_first():
            if distributed.is_main():
                export_bundle(config, checkpoint, result)
                write_report(config.output, config, trainer.history)
    scores = best_validation(read_checkpoint(checkpoint)["history"]).scores
    return RunResult(result, config.output / REPORT, trainer.task.measure, scores)


def train_from_config(
    path: str | Path,
    device: str = "auto",
    out: str | Path | None = None,
    data: str | Path | None = None,
    seed: int | None = None,
) -> RunResult:
    """`train` with a configuration file. out, seed: in place of the configuration's; data: where data sets lie.

    A seed that is named here also asks for deterministic algorithms.
    """
    config = read_config(path, data, any_task=True)
    if out is not None:
        config.output = Path(out).resolve()
    if seed is not None:
        config.seed, config.deterministic = seed, True
    return train(config, device)


def export_bundle(config: RunConfig, checkpoint: Path, path: Path) -> None:
    """Writes a checkpoint's network (its averaged weights, where there are some) as a bundle with the provenance."""
    state = read_checkpoint(checkpoint)
    info = make_task(config, torch.device("cpu")).describe(state["epoch"], best_validation(state["history"]))
    network = bundle.NETWORKS[info.network](**info.arguments)
    network.load_state_dict(trained_weights(state))
    # The variances behind the published SonoNet weights, whose input is 255 times as large, are beyond fp16.
    numbers = [value for value in network.state_dict().values() if value.is_floating_point()]
    half = all(bool(torch.isfinite(value.half()).all()) for value in numbers)
    bundle.save(path, network, info, half=half)


def trained_weights(state: dict[str, Any]) -> dict[str, Any]:
    """The weights of a checkpoint that count: the averaged ones, where there are some."""
    if state["average"] is None:
        weights: dict[str, Any] = state["network"]
        return weights
    prefix = "module."
    return {name.removeprefix(prefix): value for name, value in state["average"].items() if name.startswith(prefix)}


def best_validation(history: list[dict[str, Any]]) -> Validation:
    """The last validation of a history: of a best.pt that is the best one. Empty without one."""
    record: dict[str, Any] = next((record for record in reversed(history) if "scores" in record), {})
    return Validation(record.get("scores", {}), record.get("details", {}))
