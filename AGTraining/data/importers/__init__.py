"""Importers of public data sets, a file each.

Each takes the folder of a data set as it was downloaded and writes a `dataset.json` that points to it. Images are never
copied; label maps are written anew only where the data set's own cannot be used as they are.
"""

from __future__ import annotations

from collections.abc import Callable
from importlib import import_module
from pathlib import Path
from typing import NamedTuple, cast

from AGTraining.data.importers.common import ImportOptions, ImportReport

Importer = Callable[[Path, Path, ImportOptions], ImportReport]


class Kind(NamedTuple):
    """A file of this folder, its importer, and what that reads."""

    module: str
    function: str
    text: str


# By their names on the command line.
KINDS = {
    "pancreas-ct": Kind("pancreas_ct", "import_pancreas_ct", "TCIA Pancreas-CT (CT-82), series and label maps"),
    "decathlon": Kind("decathlon", "import_decathlon", "a CT task of the Medical Segmentation Decathlon"),
    "btcv": Kind("btcv", "import_btcv", "BTCV / Synapse, abdomen"),
    "amos22": Kind("amos22", "import_amos22", "AMOS 2022, its CTs"),
    "kits": Kind("kits", "import_kits", "KiTS19, KiTS21 or KiTS23"),
    "totalsegmentator": Kind("totalsegmentator", "import_totalsegmentator", "TotalSegmentator's data set"),
    "folders": Kind("image_folders", "import_image_folders", "plain folders of images and label maps"),
    "case-folders": Kind("case_folders", "import_manifest", "a folder a case beside a manifest.json"),
}


def importer(kind: str) -> Importer:
    """The importer of one of the KINDS; its file is read only now."""
    chosen = KINDS[kind]
    return cast(Importer, getattr(import_module(f"{__name__}.{chosen.module}"), chosen.function))
