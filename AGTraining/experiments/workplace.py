"""Where the rows of the papers' tables are run: data, folders, seeds, splits."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path

from AGTraining.data.dataset import read_dataset
from AGTraining.data.splits import make_folds, make_split, write_splits
from AGTraining.evaluation.results import Evaluation
from AGTraining.experiments.runs import EXPERIMENTS, Say, model_path, pooled, scored, trained_model
from AGTraining.experiments.tables import ROWS, SPLITS, SPLITS_TODAY, Row, SplitSize
from AGTraining.training.config import SourceSettings, TrainingConfig, read_config

Change = Callable[[TrainingConfig], TrainingConfig]


@dataclass(frozen=True)
class RowResult:
    """What a row's runs gave. evaluation: their test scans taken together, None where no run is done.

    done, wanted: runs (one for each seed and fold).
    """

    row: Row
    evaluation: Evaluation | None
    done: int
    wanted: int

    @property
    def name(self) -> str:
        """Of the row's configuration."""
        return self.row.name

    @property
    def title(self) -> str:
        """Of the row, as printed."""
        return self.row.title


@dataclass(frozen=True)
class Workplace:
    """data: folder of the data sets; runs: of the runs, with `prepared` and `splits` beside them.

    seeds: how often each run is repeated. collect: train nothing. change: of each configuration, to make it small.
    splits: sizes of the splits that are made where the data have none.
    """

    data: Path
    runs: Path
    device: str
    seeds: int
    collect: bool
    say: Say
    change: Change | None = None
    splits: Mapping[str, SplitSize] | None = None

    def config(self, row: Row, seed: int = 0, fold: int = 0) -> TrainingConfig:
        """The configuration of one of the row's runs, with every path as it is here; a split that is missing is made.

        Raises ConfigurationError where the data set is missing, or too small for the split.
        """
        config = read_config(EXPERIMENTS / f"{row.name}.yaml", self.data)
        for source in (*config.training, *config.validation):
            source.fold = fold
            self._require_split(source)
        config.seed = seed
        config.output = self._folder(row, seed, fold)
        config.prepared = (self.runs / "prepared").resolve()
        if row.starts_from is not None:
            config.initial_weights = model_path(self.config(ROWS[row.starts_from], seed))
        return config if self.change is None else self.change(config)

    def result(self, row: Row) -> RowResult:
        """Runs what is not done of a row (unless `collect`), and takes the scores of all its runs together."""
        evaluations = []
        for seed in range(self.seeds):
            for fold in range(row.folds):
                model = self._model(row, seed, fold)
                if model is not None:
                    evaluations.append(scored(self.config(row, seed, fold), model, self.device, self.say))
        wanted = self.seeds * row.folds
        return RowResult(row, pooled(evaluations) if evaluations else None, len(evaluations), wanted)

    def _model(self, row: Row, seed: int, fold: int) -> Path | None:
        if row.model_of is not None:
            return self._model(ROWS[row.model_of], seed, fold)
        if row.starts_from is not None and self._model(ROWS[row.starts_from], seed, fold) is None:
            return None
        return trained_model(self.config(row, seed, fold), self.device, self.collect, self.say)

    def _folder(self, row: Row, seed: int, fold: int) -> Path:
        ending = f"-fold{fold}" if row.folds > 1 else ""
        return (self.runs / f"{row.name}-seed{seed}{ending}").resolve()

    def _require_split(self, source: SourceSettings) -> None:
        """Where the data have no split of this name, one is made beside the runs: data may be read-only."""
        if source.split is None or source.dataset is None or source.split.exists():
            return
        size = (self.splits or SPLITS)[source.split.name]
        source.split = self.runs.resolve() / "splits" / source.dataset.parent.name / source.split.name
        if source.split.exists():
            return
        dataset = read_dataset(source.dataset)
        today = SPLITS_TODAY.get(source.split.name, {}).get(len(dataset.cases))
        if today is not None and self.splits is None:
            self.say(
                f"{dataset.path}: has {len(dataset.cases)} scans today, fewer than in the paper; {today.training} for "
                f"training and {today.validation} for testing are taken, not {size.training} and {size.validation}."
            )
            size = today
        made = (
            make_folds(dataset, size.folds) if size.folds > 1 else make_split(dataset, size.validation, size.training)
        )
        write_splits(made, source.split)
