"""How fast planes are found: `python benchmarks/planes.py [--cores 2] [--rounds 15] [--json FILE]`.

One table, measured in one run: AG-Sononet against Sononet of the same width (forward passes as inference runs them and
as the networks are, and forward with backward as in training), one frame and a batch at a time; then live frames of
640 × 480 from the client through the worker to the result, everything included; then how much more memory a clip of
1,000 frames needs than one of 100. The two networks of a pair take turns, and a ratio is the median of the rounds'
ratios, so that a slow minute of the machine slows both. Weights are random: they do not change the arithmetic. Goals
stand beside the figures; nothing here is asserted.
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

REPOSITORY = Path(__file__).resolve().parent.parent
sys.path[:0] = [str(REPOSITORY), str(REPOSITORY / "AttentionSegmentation")]

import numpy as np  # noqa: E402
import torch  # noqa: E402
from torch.nn import functional as F  # noqa: E402

from AGTraining.networks import AGSononet, Sononet  # noqa: E402

WIDTHS = (8, 16, 32)
SIZE = (208, 272)
BATCH = 8
# A pair of large networks is timed less often.
PAIR_SECONDS, LEAST_ROUNDS = 8.0, 5
FORWARD, NAIVE, TRAINING = "forward, prepared", "forward, naive", "forward and backward"
LIVE_WIDTH, LIVE_RATE = 16, 30
ROWS, COLUMNS = 480, 640
LONG, SHORT = 1000, 100
WARM_UP = 30
MIB = 1024**2


class Case(NamedTuple):
    """What is timed of a pair of networks."""

    kind: str
    width: int
    batch: int


class Goal(NamedTuple):
    """A figure and what it should be: at most the limit, or at least it. limit None: no goal."""

    words: str
    figure: float
    limit: float | None
    unit: str = ""
    at_least: bool = False

    @property
    def is_met(self) -> bool:
        """Whether the figure is on the right side."""
        return self.limit is None or (self.figure >= self.limit if self.at_least else self.figure <= self.limit)


def step(case: Case, kind: type[Sononet] | type[AGSononet]) -> Callable[[], None]:
    """A function that runs a network once, from the float32 frames to logits (and gradients)."""
    from AGTraining.inference.optimise_planes import prepare_for_frames

    torch.manual_seed(0)
    network: Any = kind(features=case.width)
    frames = torch.randn(case.batch, 1, *SIZE)
    if case.kind == TRAINING:
        labels = torch.arange(case.batch) % 14

        def train() -> None:
            network.zero_grad()
            F.cross_entropy(network(frames), labels).backward()

        return train
    network = network.eval()
    if case.kind == FORWARD:
        network = prepare_for_frames(network, "cpu")

    @torch.inference_mode()
    def run() -> None:
        # The maps too, of which the box is made.
        network(frames, attention=True)

    return run


def measure_pair(case: Case, rounds: int) -> dict[str, list[float]]:
    """Milliseconds of both networks, round by round; the one that begins changes from round to round."""
    runs = {"Sononet": step(case, Sononet), "AG-Sononet": step(case, AGSononet)}
    times: dict[str, list[float]] = {name: [] for name in runs}
    start = time.perf_counter()
    for number in range(-2, rounds):
        if number >= LEAST_ROUNDS and time.perf_counter() - start > PAIR_SECONDS:
            break
        for name in runs if number % 2 else reversed(runs):
            begin = time.perf_counter()
            runs[name]()
            if number >= 0:  # the first ones warm up
                times[name].append(1000 * (time.perf_counter() - begin))
    return times


def ratio(times: dict[str, list[float]]) -> float:
    """Of AG-Sononet to Sononet."""
    return statistics.median(a / b for a, b in zip(times["AG-Sononet"], times["Sononet"], strict=True))


def live_frames(count: int) -> list[np.ndarray]:
    """Different frames with a scan sector of speckle, as they come from a probe."""
    generator = np.random.default_rng(0)
    rows, columns = np.mgrid[:ROWS, :COLUMNS]
    radius, angle = np.hypot(rows + 60, columns - COLUMNS / 2), np.arctan2(columns - COLUMNS / 2, rows + 60)
    sector = (radius > 90) & (radius < 500) & (np.abs(angle) < 0.6)
    return [
        np.where(sector, generator.gamma(2.0, 30.0, (ROWS, COLUMNS)).clip(0, 255), 0).astype(np.uint8)
        for _ in range(count)
    ]


def save_model(path: Path) -> None:
    """A bundle of an AG-Sononet with random weights."""
    from AGTraining import bundle
    from AGTraining.imaging.frame_rule import FrameRule

    torch.manual_seed(0)
    classes = [bundle.PlaneClass(name=f"plane {number}", background=number == 0) for number in range(14)]
    info = bundle.PlanesInfo(
        name="random", network="AGSononet", arguments={"features": LIVE_WIDTH}, frame=FrameRule(), classes=classes,
        licence="CC0-1.0",
    )  # fmt: skip
    bundle.save(path, AGSononet(features=LIVE_WIDTH), info)


def measure_live(model: Path, frames: int) -> dict[str, Any]:
    """Live frames through the worker: how many a second at the most, and how late each result is at 30 a second.

    From the array at hand to the result read: the client's conversion, pipes, crop, network and box are included.
    """
    from AttentionSegmentationLib.WorkerClient import WorkerClient

    from AGTraining.exchange_planes import load_plane_result, save_frame

    pictures = live_frames(16)
    client, latencies, ends = WorkerClient(), list[float](), {"results": 0, "superseded": 0}

    def submit(number: int) -> None:
        begin = time.perf_counter()

        def on_result(document: dict[str, Any]) -> None:
            load_plane_result(document)
            latencies.append(1000 * (time.perf_counter() - begin))
            ends["results"] += 1

        def on_cancelled() -> None:
            ends["superseded"] += 1

        def on_error(error: Exception) -> None:
            raise error

        document = save_frame(pictures[number % len(pictures)])
        request = {"request": "frame", "frame": document, "model": str(model), "options": {"device": "cpu"}}
        client.submit(request, lambda *_: None, on_result, on_error, on_cancelled)

    try:
        for number in range(WARM_UP):
            submit(number)
            client.wait()
        # One is worked on while the next one is on its way: none is superseded.
        ends.update(results=0, superseded=0)
        begin, submitted = time.perf_counter(), 0
        while ends["results"] < frames:
            while submitted < frames and submitted - ends["results"] < 2:
                submit(submitted)
                submitted += 1
            client.wait(0.001)
        rate = frames / (time.perf_counter() - begin)
        latencies.clear()
        ends.update(results=0, superseded=0)
        begin = time.perf_counter()
        for number in range(frames):
            while (left := begin + number / LIVE_RATE - time.perf_counter()) > 0:
                if client.isBusy:
                    client.wait(left)
                else:
                    time.sleep(left)
            submit(number)
        client.wait()
        return {"rate": rate, "latencies": list(latencies), "superseded": ends["superseded"], "paced": frames}
    finally:
        client.shutdown()


def write_long_clip(path: Path, count: int) -> None:
    """An uncompressed MetaImage sequence."""
    pictures = live_frames(8)
    header = (
        f"ObjectType = Image\nNDims = 3\nDimSize = {COLUMNS} {ROWS} {count}\nElementType = MET_UCHAR\n"
        "ElementSpacing = 1 1 1\nUltrasoundImageOrientation = MF\nUltrasoundImageType = BRIGHTNESS\n"
        "Kinds = domain domain list\nElementDataFile = LOCAL\n"
    )
    with open(path, "wb") as file:
        file.write(header.encode("ascii"))
        for number in range(count):
            file.write(pictures[number % len(pictures)].tobytes())


def analyze_for_memory(clip: Path, model: Path) -> dict[str, float]:
    """Analyzes a clip in this process: the memory that it needed at the most beyond what it had before."""
    import pickle

    from inference import peak_bytes

    from AGTraining import bundle
    from AGTraining.imaging.frames import open_frames
    from AGTraining.inference.plane_result import PlaneOptions
    from AGTraining.inference.planes import PlaneDetector, analyse_clip

    detector = PlaneDetector(bundle.load_planes(model), PlaneOptions(device="cpu"))
    begin = time.perf_counter()
    with open_frames(clip) as sequence:
        result = analyse_clip(sequence, detector)
    seconds = time.perf_counter() - begin
    return {
        "peak_mib": peak_bytes(torch.device("cpu")) / MIB,
        "results_mib": len(pickle.dumps(result)) / MIB,
        "frames_per_second": len(result.frames) / seconds,
    }


def measure_memory(model: Path, folder: Path) -> dict[str, dict[str, float]]:
    """The figures of a short and a long clip, each of a process of its own."""
    figures = {}
    for name, count in (("short", SHORT), ("long", LONG)):
        clip = folder / f"{name}.mha"
        write_long_clip(clip, count)
        command = [sys.executable, __file__, "--memory-of", str(clip), "--model", str(model)]
        output = subprocess.run(command, check=True, stdout=subprocess.PIPE, text=True).stdout
        figures[name] = json.loads(output.splitlines()[-1])
        clip.unlink()
    return figures


def goals(
    pairs: dict[Case, dict[str, list[float]]], live: dict[str, Any] | None, memory: dict[str, dict[str, float]] | None
) -> list[Goal]:
    """What is compared with the goals."""
    table = [
        Goal(f"AG-Sononet-{c.width} / Sononet-{c.width}, {c.kind}, {c.batch}×{SIZE[0]}×{SIZE[1]}", ratio(times),
             1.10 if c.kind == FORWARD and c.batch == 1 else None)
        for c, times in pairs.items()
    ]  # fmt: skip
    if live is not None:
        table += [
            Goal(f"AG-Sononet-{LIVE_WIDTH} live through the worker", live["rate"], 30.0, " frames/s", at_least=True),
            Goal(f"Median latency at {LIVE_RATE} frames/s", statistics.median(live["latencies"]), 40.0, " ms"),
            Goal("95 % of the results come within", float(np.percentile(live["latencies"], 95)), None, " ms"),
            Goal("Frames that a newer one superseded", 100 * live["superseded"] / live["paced"], None, " %"),
        ]
    if memory is not None:
        grown = memory["long"]["peak_mib"] - memory["short"]["peak_mib"]
        results = memory["long"]["results_mib"]
        frames = (LONG - SHORT) * ROWS * COLUMNS / MIB
        table += [
            Goal(f"Memory of {LONG} frames beyond that of {SHORT} (results: {results:.1f} MiB)", grown, 10.0, " MiB"),
            Goal("The frames themselves would be", frames, None, " MiB"),
            Goal(f"Clip of {LONG} frames", memory["long"]["frames_per_second"], None, " frames/s"),
        ]
    return table


def report(pairs: dict[Case, dict[str, list[float]]], table: list[Goal], title: str) -> str:
    """The tables as text."""
    line = "-" * 104
    text = [line, f"{title:<64}{'Sononet ms':>14}{'AG-Sononet ms':>16}", line]
    for case, times in pairs.items():
        words = f"width {case.width}, {case.batch}×{SIZE[0]}×{SIZE[1]}, {case.kind}"
        text.append(
            f"{words:<64}{statistics.median(times['Sononet']):>14.2f}{statistics.median(times['AG-Sononet']):>16.2f}"
        )
    text += [line, f"{'Compared':<64}{'figure':>18}{'goal':>10}", line]
    for goal in table:
        figure = format(goal.figure, ".3f" if not goal.unit else ".1f") + goal.unit
        verdict = ""
        if goal.limit is not None:
            verdict = f"{('≥ ' if goal.at_least else '≤ ') + format(goal.limit, 'g'):>10}"
            verdict += "  met" if goal.is_met else "  NOT MET"
        text.append(f"{goal.words:<64}{figure:>18}{verdict}")
    return "\n".join([*text, line])


def main() -> int:
    """Measures and prints; the hidden option is what its own child processes get."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--cores", type=int, default=2, help="processor cores to use (default: 2)")
    parser.add_argument("--rounds", type=int, default=15, help="timed rounds of each pair (default: 15)")
    parser.add_argument("--frames", type=int, default=300, help="live frames of each measurement (default: 300)")
    parser.add_argument("--leave-out", nargs="*", choices=("networks", "live", "memory"), default=[], metavar="PART")
    parser.add_argument("--model", type=Path, help="bundle for live frames and memory (default: random weights)")
    parser.add_argument("--json", type=Path, help="also write all figures there")
    parser.add_argument("--memory-of", type=Path, help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if min(arguments.cores, arguments.rounds, arguments.frames) < 1:
        parser.error("--cores, --rounds and --frames must be at least 1.")
    cores = arguments.cores
    if hasattr(os, "sched_setaffinity"):
        chosen = sorted(os.sched_getaffinity(0))[:cores]
        os.sched_setaffinity(0, chosen)
        cores = len(chosen)
    # The worker and the processes of the clips take it over, also where a process cannot be held to some cores.
    os.environ["OMP_NUM_THREADS"] = str(cores)
    torch.set_num_threads(cores)
    if arguments.memory_of:
        print(json.dumps(analyze_for_memory(arguments.memory_of, arguments.model)))
        return 0

    pairs: dict[Case, dict[str, list[float]]] = {}
    if "networks" not in arguments.leave_out:
        for kind in (FORWARD, NAIVE, TRAINING):
            for width in WIDTHS:
                for batch in (1, BATCH):
                    print(f"{kind}, width {width}, batch {batch}", file=sys.stderr)
                    pairs[Case(kind, width, batch)] = measure_pair(Case(kind, width, batch), arguments.rounds)
    live, memory = None, None
    with tempfile.TemporaryDirectory() as folder:
        model = arguments.model or Path(folder, "random.safetensors")
        if arguments.model is None:
            save_model(model)
        if "live" not in arguments.leave_out:
            print("live frames through the worker", file=sys.stderr)
            live = measure_live(model, arguments.frames)
        if "memory" not in arguments.leave_out:
            print("memory of clips", file=sys.stderr)
            memory = measure_memory(model, Path(folder))
    table = goals(pairs, live, memory)
    cores_text = "1 core" if cores == 1 else f"{cores} cores"
    print(report(pairs, table, f"{cores_text}, PyTorch {torch.__version__}, median of up to {arguments.rounds} rounds"))
    if arguments.json:
        document = {
            "cores": cores,
            "pairs": [{**case._asdict(), "ms": times} for case, times in pairs.items()],
            "live": live,
            "memory": memory,
            "compared": [goal._asdict() for goal in table],
        }
        arguments.json.write_text(json.dumps(document, indent=2), encoding="utf-8")
    return 0


if __name__ == "__main__":
    sys.exit(main())
