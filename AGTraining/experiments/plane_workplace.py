"""Where the rows of the tables of planes are run: data, folders, seeds, and how well the runs do on frames unseen."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from AGTraining import bundle
from AGTraining.data.fingerprint import KnownHashes, content_hash
from AGTraining.data.planes.check import read_plane_sources
from AGTraining.data.planes.labelled import LabelledFrame
from AGTraining.data.planes.settings import PlaneSourceSettings
from AGTraining.data.planes.sources import with_plane_phantoms
from AGTraining.errors import ConfigurationError, InputError
from AGTraining.evaluation.plane_results import PlaneEvaluation, read_plane_evaluation, write_plane_evaluation
from AGTraining.evaluation.planes import Answers, evaluate_planes
from AGTraining.evaluation.results import JSON_FILE, write_json
from AGTraining.experiments.plane_tables import PlaneRow
from AGTraining.experiments.runs import EVALUATION, EXPERIMENTS, TESTED, Say, read_tested, trained_model
from AGTraining.inference.plane_result import PlaneOptions
from AGTraining.inference.planes import PlaneDetector
from AGTraining.training.config import read_config
from AGTraining.training.planes_config import PlaneClassSettings, PlanesConfig

# Of the folder of data: the authors' file, or the public data set's table.
AUTHORS_FILE = "planes.hdf5"
PUBLIC_TABLE = "FETAL_PLANES_DB_data.csv"
PUBLIC_CLASSES = (
    PlaneClassSettings(name="Other", background=True),
    PlaneClassSettings(name="Fetal abdomen"),
    PlaneClassSettings(name="Fetal brain"),
    PlaneClassSettings(name="Fetal femur"),
    PlaneClassSettings(name="Fetal thorax"),
    PlaneClassSettings(name="Maternal cervix"),
)
PlaneChange = Callable[[PlanesConfig], PlanesConfig]


@dataclass(frozen=True)
class PlaneRowResult:
    """What a row's runs gave. evaluation: their test frames taken together, None where no run is done."""

    row: PlaneRow
    evaluation: PlaneEvaluation | None
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
class PlaneWorkplace:
    """data: folder of the data; runs: of the runs; seeds: how often each run is repeated; collect: train nothing.

    change: of each configuration, to make it small.
    """

    data: Path
    runs: Path
    device: str
    seeds: int
    collect: bool
    say: Say
    change: PlaneChange | None = None

    def config(self, row: PlaneRow, seed: int = 0) -> PlanesConfig:
        """The configuration of one of the row's runs, with every path as it is here.

        Raises ConfigurationError where neither the authors' file nor FETAL_PLANES_DB is in the folder of data.
        """
        config = read_config(EXPERIMENTS / f"{row.name}.yaml", self.data, any_task=True)
        assert isinstance(config, PlanesConfig)
        config.seed = seed
        config.output = (self.runs / f"{row.name}-seed{seed}").resolve()
        config.prepared = (self.runs / "prepared").resolve()
        if self.change is not None:
            return self.change(config)
        if (self.data / AUTHORS_FILE).is_file():
            return config
        return on_public_data(config, self.data)

    def result(self, row: PlaneRow) -> PlaneRowResult:
        """Runs what is not done of a row (unless `collect`), and takes the frames of all its runs together."""
        evaluations = []
        for seed in range(self.seeds):
            config = self.config(row, seed)
            model = trained_model(config, self.device, self.collect, self.say)
            if model is not None:
                evaluations.append(scored_planes(config, model, self.device, self.say))
        pooled = None
        if evaluations:
            rows = tuple(item for evaluation in evaluations for item in evaluation.rows)
            pooled = replace(evaluations[0], rows=rows, localised=any(item.localised for item in evaluations))
        return PlaneRowResult(row, pooled, len(evaluations), self.seeds)


def on_public_data(config: PlanesConfig, data: Path) -> PlanesConfig:
    """The same run on FETAL_PLANES_DB: its classes, its official training and test part.

    Its frames are of many sizes and machines: they are cropped to the scan sector.
    """
    table = data.resolve() / PUBLIC_TABLE
    if not table.is_file():
        raise ConfigurationError(
            f"{data}: holds neither {AUTHORS_FILE} (the authors' layout) nor {PUBLIC_TABLE} with its folder Images; "
            "put one of them there."
        )
    return config.model_copy(
        update={
            "training": [PlaneSourceSettings(csv=table, official=["train"])],
            "validation": [PlaneSourceSettings(csv=table, official=["test"])],
            "classes": list(PUBLIC_CLASSES),
            "frame": config.frame.model_copy(update={"crop": "sector", "share": 1.0}),
        }
    )


def scored_planes(config: PlanesConfig, model: Path, device: str, say: Say) -> PlaneEvaluation:
    """How well a model does on the configuration's validation frames; kept in `evaluation` in the run's folder.

    What is kept counts for the same model and, where the data are at hand, the same frames. Raises InputError when a
    frame cannot be scored: the mean of the others would be another table's.
    """
    folder = config.output / EVALUATION
    kept = read_tested(folder / TESTED)
    of = {"model": content_hash(model), "data": kept.get("data", "")}
    try:
        frames = _test_frames(config)
        of["data"] = _contents(frames, config)
    except (ConfigurationError, OSError):
        if not kept:
            raise
    if (folder / JSON_FILE).is_file() and kept == of:
        return read_plane_evaluation(folder / JSON_FILE)
    say(f"{config.output.name}: is tested")
    (folder / TESTED).unlink(missing_ok=True)
    labels = {label: [item.name] for item in config.classes for label in item.labels}
    detector = PlaneDetector(bundle.load_planes(model), PlaneOptions(device=device))
    answers = Answers(detector.classes, labels)
    result = evaluate_planes(_test_frames(config), detector, config.name, answers)
    if result.failures:
        first = result.failures[0]
        raise InputError(
            f"{config.output.name}: {len(result.failures)} test frames have no scores; the first: {first.error}"
        )
    folder.mkdir(parents=True, exist_ok=True)
    write_plane_evaluation(result, folder)
    write_json(of, folder / TESTED)
    return result


def _test_frames(config: PlanesConfig) -> list[LabelledFrame]:
    sources: Sequence[PlaneSourceSettings] = with_plane_phantoms(config.validation, config.output.parent / "phantoms")
    datasets, findings = read_plane_sources(sources, "validation")
    findings.require_none()
    return [frame for dataset in datasets for frame in dataset.frames]


def _contents(frames: Sequence[LabelledFrame], config: PlanesConfig) -> str:
    """A short text for the frames' files and labels."""
    folder = config.prepared or config.output.parent
    folder.mkdir(parents=True, exist_ok=True)
    known = KnownHashes(folder)
    parts = [[known.get(frame.source), frame.index, frame.part, frame.label] for frame in frames]
    known.save()
    return hashlib.sha256(json.dumps(parts).encode()).hexdigest()
