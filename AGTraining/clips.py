"""Clips in, result folders out: what `python -m AGTraining planes` does with each of its inputs."""

from __future__ import annotations

import csv
import json
import re
import time
from collections import Counter
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from AGTraining.batch import Case, name_cases
from AGTraining.errors import InputError
from AGTraining.imaging.frames import FrameSequence, find_clips, open_frames
from AGTraining.inference.case_folder import ResultNames, case_folder, require_apart, require_free, require_writable
from AGTraining.inference.plane_result import ClipFrame, ClipResult
from AGTraining.inference.planes import PlaneDetector, analyse_clip

# Of a plane's name in the name of a file.
LONGEST_NAME = 40
CLIP = ResultNames(
    "_planes.csv",
    re.compile(r"_planes\.(csv|png)|_summary\.json|_best_[\w-]+\.png|_attention\.npz"),
    f"_best_{'x' * LONGEST_NAME}.png",
)
# A plane that no frame shows with more than this is nothing to rely on.
LOW_CONFIDENCE = 0.5


@dataclass
class ClipReport:
    """What became of a clip. files: paths by kind; seconds: wall time by stage; error: a sentence, None on success.

    frames: how many of them each class was named for, in the order of the classes. best: the best frame of each plane.
    """

    clip: str
    input: str
    folder: Path
    files: dict[str, Path] = field(default_factory=dict)
    frames: dict[str, int] = field(default_factory=dict)
    background: str | None = None
    best: dict[str, ClipFrame] = field(default_factory=dict)
    is_complete: bool = False
    messages: tuple[str, ...] = ()
    device: str = ""
    seconds: dict[str, float] = field(default_factory=dict)
    error: str | None = None
    code: str | None = None

    @property
    def count(self) -> int:
        """Frames that were analyzed."""
        return sum(self.frames.values())

    def as_json(self) -> dict[str, Any]:
        """The report as plain values. Frames are counted from 1; boxes are x0, y0, x1, y1 in the frame's pixels."""
        return {
            "clip": self.clip,
            "input": self.input,
            "status": "ok" if self.error is None else "failed",
            "error": self.error,
            "code": self.code,
            "files": {kind: str(path) for kind, path in self.files.items()},
            "frames": self.count,
            "is_complete": self.is_complete,
            "frames_of_class": self.frames,
            "background": self.background,
            "best": [
                {
                    "plane": plane,
                    "frame": frame.index + 1,
                    "time_s": frame.seconds,
                    "confidence": round(frame.result.confidence, 4),
                    "low_confidence": frame.result.confidence < LOW_CONFIDENCE,
                    "box": None if frame.result.box is None else [round(edge, 1) for edge in frame.result.box.edges],
                }
                for plane, frame in self.best.items()
            ],
            "messages": list(self.messages),
            "device": self.device,
            "seconds": {stage: round(seconds, 3) for stage, seconds in self.seconds.items()},
        }


def clips_of(inputs: Iterable[str | Path]) -> tuple[list[Case], dict[str, InputError]]:
    """The clips that files and folders stand for, each with a name, and by input why one stands for none.

    Folders with results of an earlier run are no clips, although they hold pictures.
    """
    paths: list[str | Path] = []
    failures: dict[str, InputError] = {}
    for given in inputs:
        try:
            found = find_clips([given])
            clips = [path for path in found if not (path / f"{path.name}{CLIP.table}").is_file()]
            if not clips:
                raise InputError(f"{given}: it holds results of an earlier run, but no clips; name the clips.")
            paths += clips
        except InputError as error:
            failures[str(given)] = error
    return name_cases(paths), failures


def analyse_case(
    case: Case,
    detector: PlaneDetector,
    out: Path,
    overwrite: bool = False,
    write_attention: bool = False,
    progress: Callable[[float, str], None] = lambda fraction, stage: None,
) -> ClipReport:
    """Analyzes one clip and writes its results into `out/<case>`: all of its files, or none when it fails.

    detector: with the option `attention`. Raises InputError, DeviceError or Cancelled.
    """
    require_apart([case.path], out, [case.name])
    require_free(out / case.name, overwrite, CLIP)
    require_writable(out, case.name, CLIP)
    with open_frames(case.path) as sequence:
        result = analyse_clip(sequence, detector, progress)
        progress(1.0, "Writing the results")
        start = time.perf_counter()
        with case_folder(out, case.name, overwrite, CLIP) as folder:
            files = {"table": folder / f"{case.name}{CLIP.table}", "plot": folder / f"{case.name}_planes.png"}
            write_table(result, files["table"])
            _write_plot(result, files["plot"])
            messages = [*result.messages]
            files |= _write_best(result, sequence, detector, folder, case.name, write_attention, messages)
            files["summary"] = folder / f"{case.name}_summary.json"
            counts = Counter(frame.result.plane for frame in result.frames)
            report = ClipReport(
                case.name,
                str(case.path),
                out / case.name,
                {kind: out / case.name / path.name for kind, path in files.items()},
                {name: counts[name] for name in result.classes if name in counts},
                result.background,
                result.best_frames(),
                result.is_complete,
                tuple(messages),
                result.device,
                {**result.seconds, "Writing the results": time.perf_counter() - start},
            )
            model = {"name": detector.info.name, "path": str(detector.path), "classes": list(result.classes)}
            document = {"model": model, **report.as_json()}
            files["summary"].write_text(json.dumps(document, indent=1, allow_nan=False), encoding="utf-8")
    return report


def write_table(result: ClipResult, path: Path) -> None:
    """Writes a row for each frame: its number from 1 on, time in seconds, plane, confidence, box in pixels of the frame
    (empty where there is none), and the probability of each class.
    """
    with open(path, "w", newline="", encoding="utf-8") as file:
        writer = csv.writer(file)
        writer.writerow(
            [
                "frame",
                "time_s",
                "plane",
                "confidence",
                "x0",
                "y0",
                "x1",
                "y1",
                *(f"p({name})" for name in result.classes),
            ]
        )
        for frame in result.frames:
            box = frame.result.box
            writer.writerow(
                [
                    frame.index + 1,
                    "" if frame.seconds is None else f"{frame.seconds:.4f}",
                    frame.result.plane,
                    f"{frame.result.confidence:.4f}",
                    *([""] * 4 if box is None else [f"{edge:.1f}" for edge in box.edges]),
                    *(f"{value:.4f}" for value in frame.result.probabilities),
                ]
            )


def file_names(planes: Iterable[str]) -> dict[str, str]:
    """A name for files for each plane: letters, digits and dashes, no two alike."""
    names: dict[str, str] = {}
    for plane in planes:
        name = unique = re.sub(r"[\W_]+", "-", plane.lower()).strip("-")[: LONGEST_NAME - 4] or "plane"
        number = 1
        while unique in names.values():
            number += 1
            unique = f"{name}-{number}"
        names[plane] = unique
    return names


def _write_plot(result: ClipResult, path: Path) -> None:
    # Here, so that nothing else needs matplotlib.
    from AGTraining.evaluation.clip_pictures import draw_confidence

    draw_confidence(result).savefig(path, dpi=110, format="png")


def _write_best(
    result: ClipResult,
    sequence: FrameSequence,
    detector: PlaneDetector,
    folder: Path,
    case: str,
    write_attention: bool,
    messages: list[str],
) -> dict[str, Path]:
    """The pictures of the best frames, which are read again, and their attention maps where wanted; paths by kind."""
    from AGTraining.evaluation.clip_pictures import draw_best_frame
    from AGTraining.evaluation.preview import BACKGROUND

    files: dict[str, Path] = {}
    maps: dict[str, np.ndarray] = {}
    best = result.best_frames()
    names = file_names(best)
    # In the order of the file: going back in a compressed one means reading it from the start.
    for plane, frame in sorted(best.items(), key=lambda item: item[1].index):
        try:
            image = sequence.read(frame.index).image
        except InputError as error:
            messages.append(f"{error} There is no picture of the best frame of {plane}.")
            continue
        attention: Mapping[str, np.ndarray] = detector.detect(image).attention or {}
        path = folder / f"{case}_best_{names[plane]}.png"
        figure = draw_best_frame(image, frame, attention, result.spacing_mm)
        figure.savefig(path, dpi=100, facecolor=BACKGROUND, format="png")
        files[f"best.{plane}"] = path
        maps |= {f"{names[plane]}.{name}": values for name, values in attention.items()}
    if best and not detector.has_attention:
        messages.append("The model has no attention: there are no boxes and no overlays.")
    if write_attention and maps:
        files["attention"] = folder / f"{case}_attention.npz"
        np.savez_compressed(files["attention"], **maps)  # type: ignore[arg-type]
    return files
