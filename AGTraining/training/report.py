"""`report.html` of a run: curves, scores by class, and what the network saw; one file that needs no other."""

from __future__ import annotations

import html
from pathlib import Path
from typing import TYPE_CHECKING, Any, cast

import yaml

from AGTraining.evaluation import page
from AGTraining.evaluation.results import write_text
from AGTraining.training.config import TrainingConfig
from AGTraining.training.planes_report import plane_sections
from AGTraining.training.run_config import RunConfig
from AGTraining.training.segmentation_report import segmentation_sections

if TYPE_CHECKING:
    from AGTraining.training.planes_config import PlanesConfig

REPORT = "report.html"


def write_report(folder: Path, config: RunConfig, history: list[dict[str, Any]]) -> Path:
    """Writes the report of a run, as far as it is, into the run's folder; returns its path."""
    if isinstance(config, TrainingConfig):
        parts = segmentation_sections(folder, config, history)
    else:
        parts = plane_sections(folder, cast("PlanesConfig", config), history)
    settings = yaml.safe_dump(config.model_dump(mode="json"), sort_keys=False, allow_unicode=True)
    parts += [page.heading("Configuration"), f"<pre>{html.escape(settings)}</pre>"]
    return write_text(page.document(config.name, parts), folder / REPORT)
