"""What a run shows while it goes on: TensorBoard and a progress bar."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from torch.utils.tensorboard import SummaryWriter
from tqdm import tqdm

from AGTraining.training import distributed
from AGTraining.training.run_config import RunConfig

BOARD = "tensorboard"


def remove_board(run: Path) -> None:
    """Removes the TensorBoard files of a run."""
    for path in (run / BOARD).glob("events.out.tfevents.*"):
        path.unlink(missing_ok=True)


class RunLog:
    """TensorBoard files in the run's folder and a bar on the terminal; nothing in processes but the main one.

    measure: what the scores of a validation are.
    """

    def __init__(self, folder: Path, config: RunConfig, epoch: int, step: int, measure: str) -> None:
        self._measure = measure
        self._board = None
        if distributed.is_main():
            # What a killed run has written of epochs that are repeated is hidden.
            self._board = SummaryWriter(str(folder / BOARD), purge_step=epoch + 1)
        self._bar: tqdm[Any] = tqdm(
            total=config.epochs * config.steps_per_epoch,
            initial=epoch * config.steps_per_epoch + step,
            unit="step",
            disable=None if distributed.is_main() else True,
        )

    def __enter__(self) -> RunLog:
        return self

    def __exit__(self, *_: object) -> None:
        self._bar.close()
        if self._board is not None:
            self._board.close()

    def step(self, epoch: int, loss: float) -> None:
        """One optimizer step is done."""
        self._bar.update()
        self._bar.set_postfix(epoch=epoch, loss=f"{loss:.3f}", refresh=False)

    def epoch(self, record: dict[str, Any]) -> None:
        """An epoch is done: its record in the history."""
        if self._board is None:
            return
        scalars = {"loss": record["loss"], "learning_rate": record["learning_rate"]}
        scalars |= {f"{self._measure}/{name}": value for name, value in record.get("scores", {}).items()}
        for name, value in scalars.items():
            self._board.add_scalar(name, value, record["epoch"])
