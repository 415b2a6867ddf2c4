"""The JSON document of a batch: what `segment --json` and `planes --json` print."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Protocol

from AGTraining import __version__
from AGTraining.errors import code, sentence


class Report(Protocol):
    """What became of one scan or clip."""

    @property
    def error(self) -> str | None:
        """A sentence, None on success."""

    def as_json(self) -> dict[str, Any]:
        """The report as JSON has it."""


def run_document(
    items: str,
    reports: Sequence[Report],
    model: tuple[str, Path] | None = None,
    interrupted: bool = False,
    error: Exception | None = None,
) -> str:
    """The document. items: the key that the reports stand under; model: its name and path.

    `error` and `code` are set when the run ended before its first item.
    """
    document = {
        "version": __version__,
        "model": None if model is None else {"name": model[0], "path": str(model[1])},
        items: [report.as_json() for report in reports],
        "failed": sum(report.error is not None for report in reports),
        "interrupted": interrupted,
        "error": None if error is None else sentence(error),
        "code": None if error is None else code(error),
    }
    return json.dumps(document, indent=2, allow_nan=False)
