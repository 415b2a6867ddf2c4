"""Frames as training sees them: decoded, cut by the frame rule and resized once, kept as 8-bit gray with a margin."""

from __future__ import annotations

import hashlib
import json
import math
import os
from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np

from AGTraining.data.parallel import in_processes
from AGTraining.data.planes.decode import read_frame
from AGTraining.data.planes.labelled import LabelledFrame
from AGTraining.errors import AGTrainingError, ConfigurationError
from AGTraining.imaging.box import Box
from AGTraining.imaging.frame_rule import FrameRule, resample

MIB = 1024**2
# Rotation, shift and a smaller scale show what lies around the input; more of it would be mostly black.
MARGIN = 0.15
MEMORY_MIB = 2048
# Frames of one piece of work for a process.
CHUNK = 64
# Changes when frames are kept in another way.
FORM = 1
Progress = Callable[[float, str], None]


def margins(size: tuple[int, int], share: float = MARGIN) -> tuple[int, int]:
    """Rows and columns on each side of the input that are kept for augmentation."""
    return math.ceil(size[0] * share), math.ceil(size[1] * share)


def stored_size(rule: FrameRule, share: float = MARGIN) -> tuple[int, int]:
    """(rows, columns) of a frame in the store."""
    rows, columns = margins(rule.size, share)
    return rule.size[0] + 2 * rows, rule.size[1] + 2 * columns


def with_margin(image: np.ndarray, rule: FrameRule, share: float = MARGIN) -> tuple[np.ndarray, Box]:
    """A frame (rows, columns) → what the rule shows of it with a margin, uint8, and the rule's box in the frame.

    Its middle is what `FrameRule.apply` gives before it is normalised. Black lies outside of the frame.
    """
    crop = rule.crop_of(image)
    rows, columns = margins(rule.size, share)
    x, y = crop.width / rule.size[1] * columns, crop.height / rule.size[0] * rows
    grown = Box(crop.x0 - x, crop.y0 - y, crop.x1 + x, crop.y1 + y)
    return np.clip(np.rint(resample(image, grown, stored_size(rule, share))), 0, 255).astype(np.uint8), crop


def store_frames(
    frames: Sequence[LabelledFrame],
    rule: FrameRule,
    folder: Path | None = None,
    memory_mib: int = MEMORY_MIB,
    workers: int = 1,
    margin: float = MARGIN,
    progress: Progress | None = None,
) -> np.ndarray:
    """All frames, (N, rows, columns) uint8 with margins, in their order.

    folder: where they are kept and found again; above `memory_mib` they stay there and are mapped into memory, which
    needs a folder. Raises ConfigurationError with all frames that cannot be read.
    """
    shape = (len(frames), *stored_size(rule, margin))
    if not frames:
        return np.empty(shape, dtype=np.uint8)
    large = math.prod(shape) > memory_mib * MIB
    path = None if folder is None else folder / f"frames-{_key(frames, rule, margin)}.npy"
    if path is not None and path.is_file():
        return np.load(path, mmap_mode="r" if large else None)
    if path is None:
        if large:
            raise ConfigurationError(
                f"{len(frames)} frames need {math.prod(shape) // MIB} MiB, which is more than {memory_mib}; name a "
                "folder for them, or allow more memory."
            )
        stored = np.empty(shape, dtype=np.uint8)
        _fill(stored, frames, rule, margin, workers, progress)
        return stored
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.with_name(f".{path.name}.{os.getpid()}.part")
    try:
        mapped = np.lib.format.open_memmap(temporary, mode="w+", dtype=np.uint8, shape=shape)
        _fill(mapped, frames, rule, margin, workers, progress)
        mapped.flush()
        del mapped
        os.replace(temporary, path)
    finally:
        temporary.unlink(missing_ok=True)
    return np.load(path, mmap_mode="r" if large else None)


def _fill(
    stored: np.ndarray,
    frames: Sequence[LabelledFrame],
    rule: FrameRule,
    margin: float,
    workers: int,
    progress: Progress | None,
) -> None:
    tasks = [(tuple(frames[start : start + CHUNK]), rule, margin) for start in range(0, len(frames), CHUNK)]
    problems: list[str] = []
    for number, (pictures, found) in enumerate(in_processes(_read, tasks, workers)):
        problems += found
        stored[number * CHUNK : number * CHUNK + len(pictures)] = pictures
        if progress is not None:
            progress((number + 1) / len(tasks), frames[number * CHUNK].name)
    if problems:
        more = "".join(f"\n  {problem}" for problem in problems)
        raise ConfigurationError(problems[0] if len(problems) == 1 else f"{len(problems)} frames cannot be used:{more}")


def _read(task: tuple[tuple[LabelledFrame, ...], FrameRule, float]) -> tuple[np.ndarray, list[str]]:
    """The pictures of some frames, and a sentence for each that cannot be read; in a process of its own."""
    frames, rule, margin = task
    pictures = np.zeros((len(frames), *stored_size(rule, margin)), dtype=np.uint8)
    problems = []
    for number, frame in enumerate(frames):
        try:
            pictures[number], _ = with_margin(read_frame(frame), rule, margin)
        except AGTrainingError as error:
            problems.append(str(error))
    return pictures, problems


def _key(frames: Sequence[LabelledFrame], rule: FrameRule, margin: float) -> str:
    """Changes with the frames, their files' sizes and times of change, and how they are cut."""
    stats = {}
    for source in {frame.source for frame in frames}:
        try:
            stat = source.stat()
        except OSError as error:
            raise ConfigurationError(f"{source}: cannot be read ({error.strerror}).") from error
        stats[source] = (stat.st_size, stat.st_mtime_ns)
    parts = [(str(frame.source.resolve()), frame.part, frame.index, *stats[frame.source]) for frame in frames]
    document = json.dumps([FORM, rule.model_dump(mode="json"), margin, parts])
    return hashlib.sha256(document.encode()).hexdigest()[:20]
