"""Downloads that are no model files themselves, and what makes model files of them."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from AGTraining.bundle_file import read_document
from AGTraining.errors import BundleError
from AGTraining.sononet_file import import_sononet, source_sha256


@dataclass(frozen=True)
class ModelConversion:
    """What makes a model file of a download.

    suffix: of the download's name. convert: makes a model file (second argument) of a download (first). sourceOf: the
    SHA-256 of the download that a model file was made of, from its description.
    """

    suffix: str
    convert: Callable[[Path, Path], Any]
    sourceOf: Callable[[Mapping[str, Any]], str | None]

    def isMadeOf(self, path: Path, sha256: str) -> bool:
        """Whether the file is a complete model file that was made of that download."""
        try:
            return self.sourceOf(read_document(path)) == sha256
        except BundleError:
            return False


# By the value of the catalogue's field `convert`. They run in Slicer's own process: numpy is all that they need.
CONVERSIONS = {"sononet-npz": ModelConversion(".npz", import_sononet, source_sha256)}
