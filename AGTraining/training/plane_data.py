"""The frames of a run of planes: read and checked, told apart by content, and described."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from AGTraining.data.fingerprint import KnownHashes, content_hash
from AGTraining.data.planes.check import check_planes
from AGTraining.data.planes.labelled import LabelledFrame, LabelMap, PlaneDataset
from AGTraining.data.planes.sources import with_plane_phantoms
from AGTraining.errors import ConfigurationError
from AGTraining.training.planes_config import PlanesConfig

logger = logging.getLogger(__name__)


def prepared_frames(config: PlanesConfig) -> Path:
    """The folder of frames that are cut and resized."""
    return config.prepared or config.output.parent / "prepared"


def with_plane_phantoms_of(config: PlanesConfig) -> PlanesConfig:
    """The configuration with tables in place of phantoms, which are made beside the run's folder."""
    folder = config.output.parent / "phantoms"
    return config.model_copy(
        update={
            "training": with_plane_phantoms(config.training, folder),
            "validation": with_plane_phantoms(config.validation, folder),
        }
    )


def read_parts(config: PlanesConfig, warn: bool = False) -> tuple[list[PlaneDataset], list[PlaneDataset]]:
    """The data sets that are trained and validated on. Raises ConfigurationError with all that is wrong with them.

    warn: log what may be wrong.
    """
    training, validation, findings = check_planes(
        config.training, config.validation, config.targets, config.need_frames
    )
    if findings.problems:
        more = "".join(f"\n  {problem}" for problem in findings.problems)
        count = len(findings.problems)
        raise ConfigurationError(findings.problems[0] if count == 1 else f"{count} problems with the frames:{more}")
    idle = sum(frame.label is None for frame in all_frames(training))
    if idle and not config.sampling.unlabelled_share:
        findings.warnings.append(
            f"{idle} training frames without a label are not drawn: sampling.unlabelled_share is 0."
        )
    for warning in findings.warnings if warn else ():
        logger.warning("%s", warning)
    return training, validation


def all_frames(datasets: Sequence[PlaneDataset]) -> list[LabelledFrame]:
    """The frames of all data sets, in their order."""
    return [frame for dataset in datasets for frame in dataset.frames]


def frame_contents(
    config: PlanesConfig, training: Sequence[PlaneDataset], validation: Sequence[PlaneDataset]
) -> dict[str, Any]:
    """What is in the files of the frames, their labels and how often they are drawn, and in the teacher's file;
    wherever these lie.
    """
    folder = prepared_frames(config)
    folder.mkdir(parents=True, exist_ok=True)
    known, labels = KnownHashes(folder), LabelMap(config.targets)
    contents: dict[str, Any] = {
        name: [
            [known.get(frame.source), frame.index, frame.part, labels.number(frame.label), frame.weight]
            for frame in all_frames(datasets)
        ]
        for name, datasets in (("training data", training), ("validation data", validation))
    }
    known.save()
    teacher = config.teacher
    # Also where there is none: a run cannot go on with one, or without the one that it had.
    contents["settings of teacher"] = teacher and teacher.model_dump(mode="json", exclude={"bundle"})
    contents["content of teacher"] = teacher and content_hash(teacher.bundle)
    return contents


def describe_frames(dataset: PlaneDataset) -> dict[str, Any]:
    """A data set as a bundle's provenance names it."""
    return {
        "name": dataset.name,
        "licence": dataset.licence,
        "frames": len(dataset.frames),
        "labelled": sum(frame.label is not None for frame in dataset.frames),
        "patients": dataset.patients,
        "labels": dataset.labels,
    }
