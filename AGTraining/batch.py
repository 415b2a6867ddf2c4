"""Files in, result folders out: what `python -m AGTraining segment` does with each of its inputs."""

from __future__ import annotations

import json
import time
from collections import Counter
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from AGTraining.bundle import Bundle
from AGTraining.imaging.files import image_suffix, read_volume_with_messages, write_volume
from AGTraining.imaging.upright import is_sheared, upright
from AGTraining.imaging.volume import Volume
from AGTraining.inference.case_folder import case_folder, require_apart, require_free, require_writable
from AGTraining.inference.outputs import finite_or_none, write_case
from AGTraining.inference.result import OrganStatistics, SegmentOptions
from AGTraining.inference.segment import segment


@dataclass(frozen=True)
class Case:
    """An input and the name of its results, which no other input of the run has."""

    name: str
    path: Path


@dataclass
class CaseReport:
    """What became of a case. files: paths by kind; seconds: wall time by stage; error: a sentence, None on success."""

    case: str
    input: str
    folder: Path
    files: dict[str, Path] = field(default_factory=dict)
    organs: tuple[OrganStatistics, ...] = ()
    messages: tuple[str, ...] = ()
    device: str = ""
    seconds: dict[str, float] = field(default_factory=dict)
    error: str | None = None
    code: str | None = None

    def as_json(self) -> dict[str, Any]:
        """The report as plain values; an organ that was not found has null for its mean and SD."""
        organs = [
            {
                "organ": organ.label.name,
                "label": organ.label.value,
                "found": organ.found,
                "volume_ml": finite_or_none(organ.volume_ml),
                "mean_hu": finite_or_none(organ.mean_hu),
                "sd_hu": finite_or_none(organ.sd_hu),
                "voxels": organ.voxels,
                "confidence": finite_or_none(organ.confidence),
            }
            for organ in self.organs
        ]
        return {
            "case": self.case,
            "input": self.input,
            "status": "ok" if self.error is None else "failed",
            "error": self.error,
            "code": self.code,
            "files": {kind: str(path) for kind, path in self.files.items()},
            "organs": organs,
            "messages": list(self.messages),
            "device": self.device,
            "seconds": {stage: round(seconds, 3) for stage, seconds in self.seconds.items()},
        }


def name_cases(inputs: Iterable[str | Path]) -> list[Case]:
    """A name for each input: its file or folder name, with as many parent folders before it as tell all apart.

    The same file named twice is one case.
    """
    paths: dict[Path, Path] = {}
    for given in inputs:
        path = Path(given).expanduser()
        paths.setdefault(path.resolve(), path)
    parts = {resolved: _name_parts(resolved) for resolved in paths}
    # Case-insensitive: on Windows and macOS CT and ct are one folder. Files that differ in their suffix alone share a
    # key, because no parent folder tells them apart; they are numbered.
    keys = {resolved: tuple(part.lower() for part in parts[resolved]) for resolved in paths}
    depth = dict.fromkeys(keys.values(), 1)
    while True:
        count = Counter(key[-depth[key] :] for key in depth)
        longer = [key for key in depth if count[key[-depth[key] :]] > 1 and depth[key] < len(key)]
        if not longer:
            break
        for key in longer:
            depth[key] += 1
    taken: set[str] = set()
    cases = []
    for resolved, path in paths.items():
        name = unique = "_".join(parts[resolved][-depth[keys[resolved]] :])
        number = 1
        while unique.lower() in taken:
            number += 1
            unique = f"{name}_{number}"
        taken.add(unique.lower())
        cases.append(Case(unique, path))
    return cases


def _name_parts(path: Path) -> list[str]:
    """Folder names and the file's name without its image suffix."""
    name = path.name if path.is_dir() else path.name[: len(path.name) - len(image_suffix(path))] or path.name
    folders = [part for part in path.parent.parts if part != path.anchor]
    return [*folders, name or "image"]


def require_place(case: Case, out: Path, overwrite: bool) -> None:
    """Raises InputError, before any work, when the results of the case cannot or must not go into `out/<case>`."""
    require_apart([case.path], out, [case.name])
    require_free(out / case.name, overwrite)
    require_writable(out, case.name)


def read_case(case: Case) -> tuple[Volume, tuple[str, ...], bool]:
    """The scan, messages on it, and whether it was sheared: it was then resampled upright, and is a result itself.

    Raises InputError.
    """
    volume, messages = read_volume_with_messages(case.path)
    if not is_sheared(volume):
        return volume, messages, False
    message = (
        f"{case.path}: its slices are sheared, which image files cannot hold; it was resampled upright, and the "
        f"results lie on {case.name}_ct.nii.gz."
    )
    return upright(volume), (*messages, message), True


def segment_case(
    case: Case,
    bundle: Bundle,
    options: SegmentOptions,
    out: Path,
    overwrite: bool = False,
    progress: Callable[[float, str], None] | None = None,
    origin: dict[str, Any] | None = None,
) -> CaseReport:
    """Reads, segments and writes one case into `out/<case>`: all of its files, or none when it fails.

    A sheared scan is resampled upright first, and the resampled scan is written beside its results.
    origin: what the results are made from; where it is given, a file among them tells it, with the report as JSON.
    Raises InputError, DeviceError or Cancelled.
    """
    # Here, so that Slicer's batch script can use this file without matplotlib.
    from AGTraining.evaluation.preview import write_preview

    report = CaseReport(case.name, str(case.path), out / case.name)
    require_place(case, out, overwrite)
    start = time.perf_counter()
    volume, messages, sheared = read_case(case)
    seconds = {"read": time.perf_counter() - start}
    result = segment(volume, bundle, options, progress=progress)
    seconds |= result.seconds
    start = time.perf_counter()
    with case_folder(out, case.name, overwrite) as folder:
        files = write_case(result, folder, case.name)
        if sheared:
            files["ct"] = folder / f"{case.name}_ct.nii.gz"
            write_volume(volume, files["ct"])
        seconds["write"] = time.perf_counter() - start
        start = time.perf_counter()
        files["preview"] = folder / f"{case.name}_preview.png"
        write_preview(files["preview"], volume, result.labels, result.organs, result.attention)
        seconds["preview"] = time.perf_counter() - start
        if origin is not None:
            files["report"] = folder / f"{case.name}_report.json"
        report.files = {kind: report.folder / path.name for kind, path in files.items()}
        report.organs, report.device, report.seconds = result.organs, result.device, seconds
        report.messages = tuple(dict.fromkeys((*messages, *result.messages)))
        if origin is not None:
            document = {"origin": origin, **report.as_json()}
            files["report"].write_text(json.dumps(document, indent=1, allow_nan=False), encoding="utf-8")
    return report
