"""How fast and how lean inference is: `python benchmarks/inference.py [--device cuda] [--json FILE]`.

One table, measured in one run: forward passes of our networks as inference runs them ("prepared"), of the same ones as
they are ("naive": float32, contiguous, batch norm apart), and of MONAI's AttentionUnet; then the whole path from a CT
file to its segmentation, stage by stage. The variants take turns, and a ratio is the median of the rounds' ratios, so
that a slow minute of the machine slows both sides; each peak of memory is that of a process of its own. CPU seconds
count all threads and hardly change when other programs compete for the cores. Goals stand beside the figures; nothing
here is asserted.
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

START = time.perf_counter()
REPOSITORY = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(REPOSITORY))

import torch  # noqa: E402
from torch import Tensor, nn  # noqa: E402

from AGTraining.networks import AttentionUNet, UNet3D  # noqa: E402

SHAPE = (1, 1, 160, 160, 96)
CT = REPOSITORY.parent / "shared/data/ct/chaos_eval/ct.nii.gz"
NETWORK_STAGE = "Segmenting"
MIB = 1024**2

OURS, OURS_FP32, NAIVE = "AttentionUNet, prepared", "AttentionUNet, prepared, float32", "AttentionUNet, naive"
UNET, UNET_NAIVE = "UNet3D, prepared", "UNet3D, naive"
MONAI, MONAI_LEAN = "MONAI AttentionUnet, naive", "MONAI AttentionUnet, channels-last, mixed precision"


def monai_network() -> nn.Module:
    """MONAI's network of the same name with our channels."""
    from monai.networks.nets import AttentionUnet

    return AttentionUnet(
        spatial_dims=3, in_channels=1, out_channels=4, channels=(16, 32, 64, 128, 256), strides=(2, 2, 2, 2)
    )


def _prepared(network: Callable[[], UNet3D], mixed: bool | None) -> Callable[[torch.device], nn.Module]:
    from AGTraining.inference.optimise import prepare_for_inference

    return lambda device: prepare_for_inference(network(), device, mixed)


def _lean_monai(device: torch.device) -> nn.Module:
    """What two lines of code give without touching the network: the same number type and memory format as ours."""
    from AGTraining.inference.optimise import inference_dtype

    network = monai_network().eval().to(device, inference_dtype(device))
    return network.to(memory_format=torch.channels_last_3d)  # type: ignore[call-overload]


VARIANTS: dict[str, Callable[[torch.device], nn.Module]] = {
    OURS: _prepared(AttentionUNet, None),
    OURS_FP32: _prepared(AttentionUNet, False),
    NAIVE: lambda device: AttentionUNet().eval().to(device),
    UNET: _prepared(UNet3D, None),
    UNET_NAIVE: lambda device: UNet3D().eval().to(device),
    MONAI: lambda device: monai_network().eval().to(device),
    MONAI_LEAN: _lean_monai,
}


def forward(name: str, device: torch.device) -> Callable[[], Tensor]:
    """A function that runs a variant once, from the float32 image to finished logits."""
    torch.manual_seed(0)
    network = VARIANTS[name](device)
    image = torch.randn(SHAPE, device=device)
    convert: dict[str, Any] = {}
    if name == MONAI_LEAN:
        convert = {"dtype": next(network.parameters()).dtype, "memory_format": torch.channels_last_3d}

    @torch.inference_mode()
    def run() -> Tensor:
        logits: Tensor = network(image.to(**convert) if convert else image)
        if device.type == "cuda":
            torch.cuda.synchronize(device)
        return logits

    return run


def gigaflops(name: str) -> float:
    """Of one forward pass (a multiplication and an addition are two), counted without computing anything."""
    from torch.utils.flop_counter import FlopCounterMode

    meta = torch.device("meta")
    with meta, FlopCounterMode(display=False) as counter, torch.no_grad():
        network = VARIANTS[name](meta)
        parameter = next(network.parameters())
        network(torch.empty(SHAPE, dtype=parameter.dtype if name == MONAI_LEAN else None))
    return counter.get_total_flops() / 1e9


def peak_bytes(device: torch.device) -> int:
    """The most memory that this process has used: resident on the CPU, allocated on a GPU."""
    if device.type == "cuda":
        return int(torch.cuda.max_memory_allocated(device))
    status = Path("/proc/self/status")
    if status.exists():
        # Not ru_maxrss: on Linux a process inherits that figure from the one that started it.
        line = next(line for line in status.read_text(encoding="ascii").splitlines() if line.startswith("VmHWM"))
        return int(line.split()[1]) * 1024
    return _peak_without_proc()


def _peak_without_proc() -> int:
    """On macOS and Windows."""
    import psutil

    information = psutil.Process().memory_info()
    if hasattr(information, "peak_wset"):
        return int(information.peak_wset)
    import resource

    return int(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss)


def use_all_cores() -> None:
    """As many threads as there are cores for this process."""
    torch.set_num_threads(len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1)


def child(*arguments: str) -> dict[str, Any]:
    """Runs this file in a process of its own and returns the JSON document that it prints last."""
    command = [sys.executable, str(Path(__file__).resolve()), *arguments]
    done = subprocess.run(command, check=True, stdout=subprocess.PIPE, text=True)
    document: dict[str, Any] = json.loads(done.stdout.splitlines()[-1])
    return document


def measure_forward(device: torch.device, repeats: int) -> dict[str, dict[str, Any]]:
    """Seconds of each round, their median, CPU seconds, peak memory and FLOPs by variant."""
    runs = {name: forward(name, device) for name in VARIANTS}
    seconds: dict[str, list[float]] = {name: [] for name in VARIANTS}
    busy: dict[str, list[float]] = {name: [] for name in VARIANTS}
    for round_number in range(repeats + 1):
        print(f"forward passes, round {round_number} of {repeats}", file=sys.stderr)
        for name, run in runs.items():
            begin, begin_busy = time.perf_counter(), time.process_time()
            run()
            if round_number > 0:  # the first one warms up
                seconds[name].append(time.perf_counter() - begin)
                busy[name].append(time.process_time() - begin_busy)
    rows = {}
    for name in VARIANTS:
        print(f"peak memory of {name}", file=sys.stderr)
        rows[name] = {
            "rounds": seconds[name],
            "seconds": statistics.median(seconds[name]),
            "cpu_seconds": statistics.median(busy[name]),
            "peak_mib": child("--peak-of", name, "--device", str(device))["peak"] / MIB,
            "gflop": gigaflops(name),
        }
    return rows


def run_whole_path(ct: Path, model: Path, device: str) -> dict[str, Any]:
    """The path from a CT file to its segmentation in this process: seconds by stage, and the peak of memory."""
    from AGTraining import bundle
    from AGTraining.imaging.files import read_volume
    from AGTraining.inference.segment import SegmentOptions, segment

    marks = [time.perf_counter()]
    loaded = bundle.load(model)
    marks.append(time.perf_counter())
    volume = read_volume(ct)
    marks.append(time.perf_counter())
    result = segment(volume, loaded, SegmentOptions(device=device))
    stages = {"Loading the model": marks[1] - marks[0], "Reading the CT": marks[2] - marks[1], **result.seconds}
    return {
        "start": marks[0] - START,
        "stages": stages,
        # Host memory, also where a GPU computes.
        "peak": peak_bytes(torch.device("cpu")),
        "size": " × ".join(map(str, volume.size)),
        "found": [organ.label.name for organ in result.organs if organ.found],
    }


def measure_path(ct: Path, model: Path, device: str, repeats: int) -> dict[str, Any]:
    """Medians over fresh processes."""
    runs = []
    for number in range(repeats):
        print(f"whole path, run {number + 1} of {repeats}", file=sys.stderr)
        runs.append(child("--path-of", str(ct), "--model", str(model), "--device", device))
    stages = {name: statistics.median(run["stages"][name] for run in runs) for name in runs[0]["stages"]}
    total = sum(stages.values())
    return {
        **runs[0],
        "start": statistics.median(run["start"] for run in runs),
        "stages": stages,
        "total": total,
        "rest_share": 1.0 - stages[NETWORK_STAGE] / total,
        "peak_mib": max(run["peak"] for run in runs) / MIB,
    }


def goals(rows: dict[str, dict[str, Any]], path: dict[str, Any] | None) -> list[tuple[str, float, float | None, str]]:
    """What is compared: words, figure, goal (at most; None: no goal), unit."""

    def ratio(a: str, b: str) -> float:
        pairs = zip(rows[a]["rounds"], rows[b]["rounds"], strict=True)
        return statistics.median(x / y for x, y in pairs)

    table: list[tuple[str, float, float | None, str]] = [
        ("AttentionUNet, prepared / naive", ratio(OURS, NAIVE), 0.5, ""),
        ("AttentionUNet, prepared in float32 / naive", ratio(OURS_FP32, NAIVE), None, ""),
        ("AttentionUNet / UNet3D, both prepared", ratio(OURS, UNET), 1.08, ""),
        ("AttentionUNet / UNet3D, both naive", ratio(NAIVE, UNET_NAIVE), None, ""),
        ("AttentionUNet / UNet3D, FLOPs", rows[NAIVE]["gflop"] / rows[UNET_NAIVE]["gflop"], None, ""),
        ("AttentionUNet prepared / MONAI naive", ratio(OURS, MONAI), None, ""),
        ("AttentionUNet prepared / MONAI channels-last", ratio(OURS, MONAI_LEAN), None, ""),
        ("AttentionUNet naive / MONAI naive", ratio(NAIVE, MONAI), None, ""),
    ]
    if path is not None:
        table.append(("All but the network, share of the whole path", 100 * path["rest_share"], 20.0, " %"))
        table.append(("Peak memory of the whole path", path["peak_mib"] / 1024, 2.5, " GiB"))
    return table


def report(rows: dict[str, dict[str, Any]], path: dict[str, Any] | None, device: torch.device, why_not: str) -> str:
    """The table as text."""
    from AGTraining.inference.device import describe

    line = "-" * 100
    title = f"Forward on {'×'.join(map(str, SHAPE))}, {describe(device)}, PyTorch {torch.__version__}"
    text = [line, f"{title:<56}{'median s':>10}{'CPU s':>11}{'peak MiB':>11}{'GFLOP':>10}", line]
    for name, row in rows.items():
        figures = f"{row['seconds']:>10.3f}{row['cpu_seconds']:>11.3f}{row['peak_mib']:>11.0f}{row['gflop']:>10.1f}"
        text.append(f"{name:<56}{figures}")
    text.append(line)
    if path is None:
        text.append(f"Whole path: left out, {why_not}")
    else:
        text.append(f"{'Whole path, ' + path['size'] + ' voxels':<56}{'median s':>10}{'share':>11}")
        text.append(line)
        for name, seconds in path["stages"].items():
            text.append(f"{name:<56}{seconds:>10.3f}{100 * seconds / path['total']:>9.1f} %")
        text.append(f"{'Sum':<56}{path['total']:>10.3f}{100.0:>9.1f} %{path['peak_mib']:>11.0f} MiB peak")
        text.append(f"{'Start of Python and its libraries (not in the sum)':<56}{path['start']:>10.3f}")
        text.append(f"Found: {', '.join(path['found']) or 'nothing'}")
    text += [line, f"{'Compared':<56}{'figure':>10}{'goal':>14}", line]
    for words, figure, goal, unit in goals(rows, path):
        verdict = (
            "" if goal is None else f"{'≤ ' + format(goal, 'g') + unit:>14}  {'met' if figure <= goal else 'NOT MET'}"
        )
        text.append(f"{words:<56}{format(figure, '.3f' if not unit else '.2f') + unit:>10}{verdict}")
    return "\n".join([*text, line])


def main() -> int:
    """Runs the benchmark; the hidden options are what its own child processes get."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--device", default="cpu", help="cpu, cuda or cuda:N (default: cpu)")
    parser.add_argument(
        "--repeats",
        type=int,
        default=5,
        choices=range(1, 1001),
        metavar="N",
        help="timed rounds of forward passes (default: 5)",
    )
    parser.add_argument(
        "--path-repeats",
        type=int,
        default=3,
        choices=range(1, 1001),
        metavar="N",
        help="runs of the whole path (default: 3)",
    )
    parser.add_argument("--ct", type=Path, default=CT, help=f"CT file (default: {CT})")
    parser.add_argument("--model", type=Path, help="bundle (default: the one that comes with the package)")
    parser.add_argument("--json", type=Path, help="also write all figures there")
    parser.add_argument("--peak-of", help=argparse.SUPPRESS)
    parser.add_argument("--path-of", type=Path, help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    use_all_cores()

    if arguments.path_of:
        print(json.dumps(run_whole_path(arguments.path_of, arguments.model, arguments.device)))
        return 0
    from AGTraining import bundle
    from AGTraining.errors import AGTrainingError
    from AGTraining.inference.device import choose_device

    try:
        device = choose_device(arguments.device)
    except AGTrainingError as error:
        parser.error(str(error))
    if arguments.peak_of:
        forward(arguments.peak_of, device)()
        print(json.dumps({"peak": peak_bytes(device)}))
        return 0

    path, why_not = None, ""
    try:
        model = arguments.model or bundle.default_path()
        bundle.read_info(model)
        if not arguments.ct.exists():
            why_not = f"there is no {arguments.ct}; name a CT with --ct FILE."
    except AGTrainingError as error:
        why_not = str(error)
    rows = measure_forward(device, arguments.repeats)
    if not why_not:
        path = measure_path(arguments.ct, model, str(device), arguments.path_repeats)
    print(report(rows, path, device, why_not))
    if arguments.json:
        figures = {words: {"figure": figure, "goal": goal} for words, figure, goal, _ in goals(rows, path)}
        document = {"device": str(device), "forward": rows, "path": path, "compared": figures}
        arguments.json.write_text(json.dumps(document, indent=2), encoding="utf-8")
    return 0


if __name__ == "__main__":
    sys.exit(main())
