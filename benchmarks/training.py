"""How fast and how lean a training step is: `python benchmarks/training.py [--crop D H W] [--batch N] [--json FILE]`.

A table for the CPU always, and one for the GPU when there is one: our AttentionUNet as the trainer runs it by default
(channels-last, half precision where the device computes with it, Dice loss, Adam) against MONAI's AttentionUnet of the
same channels with MONAI's Dice loss and PyTorch's Adam: as MONAI's tutorials show it (float32), and with the two
switches that a user can add (autocast, channels-last). A step is all that happens once a batch is there: forward pass,
loss, backward pass, update of the weights.

Each measurement is a process of its own: one step warms up, one is timed. Peak memory is what a process needed for
network, optimizer and steps: on the CPU its growth since libraries and batch were there, on a GPU what PyTorch had
allocated. The variants take turns, and a ratio is the median of the rounds' ratios, so that a slow minute of the
machine slows both sides. CPU seconds count all threads and hardly change when other programs compete for the cores.
Goals stand beside the figures; nothing here is asserted.
"""

from __future__ import annotations

import argparse
import itertools
import json
import statistics
import subprocess
import sys
import time
from collections import defaultdict
from collections.abc import Callable, Sequence
from functools import partial
from importlib import import_module
from pathlib import Path
from types import SimpleNamespace

REPOSITORY = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(REPOSITORY))

import torch  # noqa: E402
from inference import MIB, monai_network, peak_bytes, use_all_cores  # noqa: E402
from torch import Tensor  # noqa: E402

CROP, BATCH = (160, 160, 96), 2
ORGANS = ("pancreas", "spleen", "kidney")
LEARNING_RATE = 1e-4

OURS, OURS_FP32 = "AttentionUNet, as trained", "AttentionUNet, as trained but float32"
MONAI, MONAI_LEAN = "MONAI AttentionUnet", "MONAI AttentionUnet, autocast, channels-last"

Step = Callable[[], object]


def noise(crop: Sequence[int], batch: int) -> tuple[Tensor, Tensor]:
    """Images (N, 1, D, H, W) float32 and labels (N, D, H, W) uint8: the work does not depend on what is in them."""
    torch.manual_seed(0)
    return torch.randn(batch, 1, *crop), torch.randint(0, len(ORGANS) + 1, (batch, *crop), dtype=torch.uint8)


def our_step(device: torch.device, images: Tensor, labels: Tensor, **settings: object) -> Step:
    """The trainer's own step, with its defaults for three organs."""
    from AGTraining.training.config import TrainingConfig
    from AGTraining.training.trainer import Trainer

    classes = [{"name": n, "labels": [n], "type_code": "0", "type_meaning": n, "color": (0, 0, 0)} for n in ORGANS]
    config = TrainingConfig.model_validate(
        {
            "output": "unused",
            "training": [{"phantoms": {"count": 1}}],
            "classes": classes,
            "crop": tuple(labels.shape[1:]),
            "batch_size": len(labels),
            "learning_rate": LEARNING_RATE,
            "augmentation": {"on_gpu": False},
            **settings,
        }
    )
    trainer = Trainer(config, str(device))
    # What `run` makes ready when there are data.
    trainer.task.samples = SimpleNamespace(finish=lambda images, labels, numbers: (images, labels))
    trainer._parallel = trainer._model = trainer.network
    labelled = torch.ones(len(labels), len(ORGANS) + 1, dtype=torch.bool)
    batch = [images, labels, labelled, torch.arange(len(labels))]
    return lambda: trainer._train_step(itertools.repeat(batch))


def monai_step(device: torch.device, images: Tensor, labels: Tensor, lean: bool = False) -> Step:
    """The loop body of MONAI's tutorials (`spleen_segmentation_3d`): zero_grad, forward, loss, backward, step."""
    from monai.losses import DiceLoss

    from AGTraining.training.optimisation import Precision

    network = monai_network().to(device)
    layout = torch.channels_last_3d if lean else torch.contiguous_format
    network = network.to(memory_format=layout)  # type: ignore[call-overload]
    loss_function = DiceLoss(to_onehot_y=True, softmax=True)
    optimizer = torch.optim.Adam(network.parameters(), LEARNING_RATE)
    precision = Precision("auto" if lean else "off", device)

    def step() -> float:
        inputs = images.to(device).contiguous(memory_format=layout)
        targets = labels[:, None].to(device)
        optimizer.zero_grad()
        with precision.autocast():
            outputs = network(inputs)
            loss = loss_function(outputs, targets)
        precision.backward(loss)
        precision.step(optimizer)
        return float(loss.item())

    return step


VARIANTS: dict[str, Callable[..., Step]] = {
    OURS: our_step,
    OURS_FP32: partial(our_step, mixed_precision="off"),
    MONAI: monai_step,
    MONAI_LEAN: partial(monai_step, lean=True),
}


def measure_here(name: str, device: torch.device, crop: Sequence[int], batch: int) -> dict[str, float]:
    """Seconds, CPU seconds and peak bytes of a variant's second step, in this process."""
    for library in ("AGTraining.training.trainer", "monai.losses", "monai.networks.nets"):
        import_module(library)  # so that they count for nobody
    torch.backends.cudnn.benchmark = True  # as the trainer has it
    images, labels = noise(crop, batch)
    before = start_of_peak(device)
    step = VARIANTS[name](device, images, labels)
    step()
    begin, begin_busy = time.perf_counter(), time.process_time()
    step()
    if device.type == "cuda":
        torch.cuda.synchronize(device)
    seconds, busy = time.perf_counter() - begin, time.process_time() - begin_busy
    return {"seconds": seconds, "cpu_seconds": busy, "peak_mib": (peak_bytes(device) - before) / MIB}


def start_of_peak(device: torch.device) -> int:
    """Bytes in use now, above which `peak_bytes` rises; what was used before is forgotten where the system can."""
    if device.type == "cuda":
        torch.cuda.reset_peak_memory_stats(device)
        return int(torch.cuda.memory_allocated(device))
    reset = Path("/proc/self/clear_refs")
    if reset.exists():
        reset.write_text("5", encoding="ascii")
    return peak_bytes(device)


def measure(arguments: argparse.Namespace, device: str) -> dict[str, dict[str, list[float]]]:
    """The figures of each round by variant, each from a process of its own."""
    rows: dict[str, dict[str, list[float]]] = {name: defaultdict(list) for name in VARIANTS}
    for round_number in range(1, arguments.repeats + 1):
        for name, row in rows.items():
            print(f"{device}, round {round_number} of {arguments.repeats}: {name}", file=sys.stderr)
            command = [sys.executable, str(Path(__file__).resolve()), "--measure", name, "--device", device]
            command += ["--crop", *map(str, arguments.crop), "--batch", str(arguments.batch)]
            done = subprocess.run(command, check=True, stdout=subprocess.PIPE, text=True)
            for figure, value in json.loads(done.stdout.splitlines()[-1]).items():
                row[figure].append(value)
    return rows


def compared(rows: dict[str, dict[str, list[float]]]) -> list[tuple[str, float, float | None]]:
    """What is compared: words, ratio, goal (at most; None: no goal)."""

    def ratio(figure: str, a: str, b: str) -> float:
        return statistics.median(x / y for x, y in zip(rows[a][figure], rows[b][figure], strict=True))

    return [
        ("Step time, ours / MONAI's", ratio("seconds", OURS, MONAI), 0.8),
        ("CPU seconds, ours / MONAI's", ratio("cpu_seconds", OURS, MONAI), None),
        ("Peak memory, ours / MONAI's", ratio("peak_mib", OURS, MONAI), 0.9),
        ("Step time, ours / MONAI's with both switches", ratio("seconds", OURS, MONAI_LEAN), None),
        ("Peak memory, ours / MONAI's with both switches", ratio("peak_mib", OURS, MONAI_LEAN), None),
        ("Step time, both in float32, ours / MONAI's", ratio("seconds", OURS_FP32, MONAI), None),
        ("Peak memory, both in float32, ours / MONAI's", ratio("peak_mib", OURS_FP32, MONAI), None),
    ]


def report(rows: dict[str, dict[str, list[float]]], device: str, arguments: argparse.Namespace) -> str:
    """The table as text."""
    from AGTraining.inference.device import describe

    line = "-" * 100
    size = "×".join(map(str, (1, *arguments.crop)))
    title = f"Training step on {size}, batch {arguments.batch}, {describe(torch.device(device))}"
    text = [
        line,
        f"{title}, PyTorch {torch.__version__}",
        line,
        f"{'':<56}{'median s':>12}{'CPU s':>12}{'peak MiB':>12}",
    ]
    for name, row in rows.items():
        seconds, busy, peak = (statistics.median(row[figure]) for figure in ("seconds", "cpu_seconds", "peak_mib"))
        text.append(f"{name:<56}{seconds:>12.3f}{busy:>12.3f}{peak:>12.0f}")
    text += [line, f"{'Compared':<56}{'ratio':>12}{'goal':>12}", line]
    for words, ratio, goal in compared(rows):
        verdict = "" if goal is None else f"{f'≤ {goal:g}':>12}  {'met' if ratio <= goal else 'NOT MET'}"
        text.append(f"{words:<56}{ratio:>12.3f}{verdict}")
    return "\n".join([*text, line])


def main() -> int:
    """Runs the benchmark; the hidden option is what its own child processes get."""
    from AGTraining.arguments import positive_voxels
    from AGTraining.errors import AGTrainingError
    from AGTraining.inference.device import choose_device

    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--device", help="cpu, cuda or cuda:N (default: the CPU, and the GPU when there is one)")
    parser.add_argument(
        "--crop", nargs=3, type=positive_voxels, default=CROP, metavar=("D", "H", "W"),
        help=f"voxels, multiples of 16 (default: {' '.join(map(str, CROP))})",
    )  # fmt: skip
    parser.add_argument("--batch", type=positive_voxels, default=BATCH, metavar="N", help=f"default: {BATCH}")
    parser.add_argument("--repeats", type=positive_voxels, default=3, metavar="N", help="rounds (default: 3)")
    parser.add_argument("--json", type=Path, help="also write all figures there")
    parser.add_argument("--measure", choices=VARIANTS, help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if any(n % 16 or n < 32 for n in arguments.crop):
        parser.error("--crop: each size must be a multiple of 16 and at least 32")
    use_all_cores()
    try:
        named = choose_device(arguments.device) if arguments.device else None
    except AGTrainingError as error:
        parser.error(str(error))
    if arguments.measure:
        assert named is not None
        print(json.dumps(measure_here(arguments.measure, named, arguments.crop, arguments.batch)))
        return 0
    devices = [str(named)] if named else ["cpu", *(["cuda:0"] if torch.cuda.is_available() else [])]
    document = {}
    for device in devices:
        rows = measure(arguments, device)
        print(report(rows, device, arguments), flush=True)
        ratios = {words: {"ratio": ratio, "goal": goal} for words, ratio, goal in compared(rows)}
        document[device] = {"crop": arguments.crop, "batch": arguments.batch, "rows": rows, "compared": ratios}
    if arguments.json:
        arguments.json.write_text(json.dumps(document, indent=2), encoding="utf-8")
    return 0


if __name__ == "__main__":
    sys.exit(main())
