"""How long a click takes besides the computing: `python benchmarks/worker.py [--cores 2] [--rounds 5] [--json FILE]`.

Each round makes two clicks on the sample phantom as the Segment button makes them, without Qt: the first starts the
worker process ("cold"), the second finds it ready. One table, measured in one run: medians of the rounds, part by part.
What a computation in the same process would need as well (resampling, network, measuring) is no overhead; the table
shows the sum both ways. Goals stand beside the figures; nothing here is asserted.
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import sys
import time
from dataclasses import replace
from pathlib import Path
from typing import Any

REPOSITORY = Path(__file__).resolve().parent.parent
sys.path[:0] = [str(REPOSITORY), str(REPOSITORY / "AttentionSegmentation")]

# Parts of a click, each with the mark that ends it; the worker's stages begin when it names them.
PARTS = {
    "scan checked and written for the worker": "submitted",
    "worker process starts": "ready",
    "PyTorch is imported": "Loading the model",
    "model is loaded": "Resampling",
    "scan resampled to the model's grid": "Segmenting",
    "network": "Restoring",
    "labels at the scan's resolution, organs measured": "Handing over",
    "result written and read": "result",
    "nodes added to the scene": "done",
}
COMPUTING = ("scan resampled to the model's grid", "network", "labels at the scan's resolution, organs measured")
CLICKS = {"cold click": 8.0, "second click": 1.0}
"""Goals for the overhead in seconds."""


class Marks:
    """When what happened first, in seconds since this object was made."""

    def __init__(self) -> None:
        self.begin = time.perf_counter()
        self.seconds: dict[str, float] = {}

    def set(self, name: str) -> None:
        """Now, unless it has happened before."""
        self.seconds.setdefault(name, time.perf_counter() - self.begin)

    def stage(self, _fraction: float, stage: str) -> None:
        """A report of progress."""
        for mark in PARTS.values():
            if stage.startswith(mark):
                self.set(mark)

    def line(self, text: str) -> None:
        """A line of the client's log."""
        if "is ready" in text:
            self.set("ready")

    def parts(self) -> dict[str, float]:
        """Seconds of each part; 0 for one that did not happen."""
        last, durations = 0.0, {}
        for part, mark in PARTS.items():
            now = max(last, self.seconds.get(mark, last))
            durations[part] = now - last
            last = now
        return durations


class TimedEngine:
    """The worker's engine, with marks where it takes a scan and gives a result."""

    def __init__(self, engine: Any) -> None:
        self.engine = engine
        self.marks = Marks()

    def __getattr__(self, name: str) -> Any:
        return getattr(self.engine, name)

    def start(self, volume: Any, options: Any, callbacks: Any) -> None:
        """As the engine's."""

        def onResult(result: Any) -> None:
            self.marks.set("result")
            callbacks.onResult(result)

        self.engine.start(volume, options, replace(callbacks, onResult=onResult))
        self.marks.set("submitted")


def click(logic: Any, engine: TimedEngine, volume_node: Any) -> dict[str, float]:
    """Seconds of the parts of one click."""
    engine.marks = Marks()
    logic.process(volume_node, progress=engine.marks.stage)
    engine.marks.set("done")
    return engine.marks.parts()


def measure(rounds: int) -> tuple[dict[str, list[dict[str, float]]], str]:
    """The parts of both clicks for each round, and in words what was segmented."""
    import slicer
    from AttentionSegmentationLib.Segmentation.SampleScan import samplePhantom
    from AttentionSegmentationLib.Segmentation.SegmentationEngine import WorkerEngine
    from AttentionSegmentationLib.Segmentation.SegmentationLogic import SegmentationLogic
    from AttentionSegmentationLib.SlicerHost import startSlicerHost
    from AttentionSegmentationLib.VolumeConversion import addVolumeNode

    startSlicerHost()
    volume_node = addVolumeNode(slicer.mrmlScene, samplePhantom().ct, "phantom")
    clicks: dict[str, list[dict[str, float]]] = {name: [] for name in CLICKS}
    for number in range(1, rounds + 1):
        print(f"round {number} of {rounds}", file=sys.stderr)
        engine = TimedEngine(WorkerEngine())
        engine.client.logListeners.append(lambda line, engine=engine: engine.marks.line(line))
        logic = SegmentationLogic(engine=engine)
        try:
            for times in clicks.values():
                times.append(click(logic, engine, volume_node))
        finally:
            logic.shutdown()
    size = " × ".join(str(count) for count in volume_node.GetImageData().GetDimensions())
    return clicks, f"{size} voxels"


def medians(rounds: list[dict[str, float]]) -> dict[str, float]:
    """Of each part and of the sums; sums are of one round each, so they need not be the sum of the medians."""
    sums = {
        "in all": lambda parts: sum(parts.values()),
        "without the network": lambda parts: sum(parts.values()) - parts["network"],
        "overhead": lambda parts: sum(parts.values()) - sum(parts[name] for name in COMPUTING),
    }
    figures = {part: statistics.median(parts[part] for parts in rounds) for part in PARTS}
    return figures | {name: statistics.median(map(total, rounds)) for name, total in sums.items()}


def report(figures: dict[str, dict[str, float]], title: str) -> str:
    """The table."""
    names = list(next(iter(figures.values())))
    width = max(map(len, names)) + 4
    lines = [title, "", f"{'seconds':{width}}" + "".join(f"{click:>14}" for click in figures)]
    for name in names:
        if name == "in all":
            lines.append("")
        mark = "" if name in COMPUTING or name not in PARTS else " *"
        lines.append(f"{name + mark:{width}}" + "".join(f"{column[name]:14.2f}" for column in figures.values()))
    lines.append(
        f"{'goal for the overhead':{width}}" + "".join(f"{'≤ ' + format(s, 'g'):>14}" for s in CLICKS.values())
    )
    lines.append("\n* overhead: would not be there if the scan were segmented in the same process a second time")
    return "\n".join(lines)


def main() -> None:
    """Measures and prints."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--cores", type=int, default=2, help="processor cores to use (default: 2)")
    parser.add_argument("--rounds", type=int, default=5, help="cold starts (default: 5)")
    parser.add_argument("--json", type=Path, help="also write all figures there")
    arguments = parser.parse_args()
    if arguments.cores < 1 or arguments.rounds < 1:
        parser.error("--cores and --rounds must be at least 1.")
    cores = arguments.cores
    if hasattr(os, "sched_setaffinity"):
        chosen = sorted(os.sched_getaffinity(0))[:cores]
        os.sched_setaffinity(0, chosen)
        cores = len(chosen)
    # The worker takes it over, also where a process cannot be held to some cores.
    os.environ["OMP_NUM_THREADS"] = str(cores)

    clicks, what = measure(arguments.rounds)
    figures = {name: medians(rounds) for name, rounds in clicks.items()}
    cores_text = "1 core" if cores == 1 else f"{cores} cores"
    print(report(figures, f"A click on the sample phantom ({what}), {cores_text}, median of {arguments.rounds} rounds"))
    if arguments.json:
        document = {"cores": cores, "rounds": clicks, "medians": figures, "goals": CLICKS}
        arguments.json.write_text(json.dumps(document, indent=2), encoding="utf-8")


if __name__ == "__main__":
    main()
