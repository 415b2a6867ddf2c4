"""What two processes do together; run by torchrun, each writes what came out as `<rank>.json` into the given folder."""

from __future__ import annotations

import json
import sys
import time
from pathlib import Path
from typing import Any

import torch
import torch.distributed as dist
from torch import Tensor, nn

from AGTraining.errors import ConfigurationError
from AGTraining.networks import AttentionUNet
from AGTraining.training import distributed

CPU = torch.device("cpu")


def network() -> AttentionUNet:
    torch.manual_seed(0)
    return AttentionUNet(num_classes=3, features=(2, 3, 4), sub_gates=1)


def images(count: int) -> Tensor:
    return torch.randn(count, 1, 16, 16, 16, generator=torch.Generator().manual_seed(1))


def loss(model: nn.Module, batch: Tensor) -> Tensor:
    logits: Tensor = model(batch)
    return logits.square().mean() + logits[:, 1].abs().mean()


def difference(a: nn.Module, b: nn.Module) -> dict[str, float]:
    """The largest differences of gradients and of batch norm's running statistics."""
    gradients = [(p.grad, q.grad) for p, q in zip(a.parameters(), b.parameters(), strict=True)]
    buffers = list(zip(a.buffers(), b.buffers(), strict=True))
    return {
        "gradients": max(float((p - q).abs().max()) for p, q in gradients if p is not None and q is not None),
        "buffers": max(float((p.double() - q.double()).abs().max()) for p, q in buffers),
        "compared": sum(p is not None and q is not None for p, q in gradients) / len(gradients),
    }


def synchronised_batch_norm() -> dict[str, float]:
    """Two processes with one image each against one process with both."""
    alone = network()
    loss(alone, images(2)).backward()
    together = distributed.synchronised(network(), True, CPU)
    mine = images(2)[distributed.rank() :][:1]
    model = distributed.wrap(together, CPU)
    loss(model, mine).backward()
    distributed.share_statistics(together)
    return difference(alone, together)


def gradient_averaging() -> dict[str, Any]:
    """Two batches a step, of which the first one's gradients do not travel; batch norm as in use: images apart.

    first, last: a gradient after each batch; what has travelled is the same in both processes.
    """
    network_alone = network().eval()
    (0.5 * loss(network_alone, images(4)[:2]) + 0.5 * loss(network_alone, images(4)[2:])).backward()
    together = network().eval()
    model = distributed.wrap(together, CPU)
    rank = distributed.rank()
    with distributed.without_sync(model):
        (0.5 * loss(model, images(4)[rank : rank + 1])).backward()
    first = float(next(together.parameters()).grad.sum())  # type: ignore[union-attr]
    (0.5 * loss(model, images(4)[2 + rank : 3 + rank])).backward()
    last = float(next(together.parameters()).grad.sum())  # type: ignore[union-attr]
    return difference(network_alone, together) | {"first": first, "last": last}


def running_statistics() -> dict[str, Any]:
    """After a step with a batch norm for each process."""
    together = network()
    loss(distributed.wrap(together, CPU), images(2)[distributed.rank() :][:1]).backward()
    distributed.share_statistics(together)
    expected = []
    for image in images(2).split(1):
        alone = network()
        loss(alone, image)
        expected.append(torch.cat([b.flatten().double() for b in alone.buffers()]))
    found = torch.cat([b.flatten().double() for b in together.buffers()])
    return {"difference": float((found - (expected[0] + expected[1]) / 2).abs().max())}


def main_first() -> dict[str, Any]:
    """What each process sees of a file that the main one makes, within a second body too."""
    made = Path(sys.argv[1]) / "made"
    seen = []
    with distributed.main_first():
        seen.append(made.exists())
        if distributed.is_main():
            time.sleep(0.5)
            made.touch()
        with distributed.main_first():
            seen.append(made.exists())
    try:
        with distributed.main_first():
            if distributed.is_main():
                raise ValueError("no data")
            seen.append("not reached")
        error = ""
    except (ValueError, ConfigurationError) as found:
        error = f"{type(found).__name__}: {found}"
    return {"seen": seen, "error": error}


def require_same() -> str:
    distributed.require_same((3, 4), "runs/a")
    try:
        distributed.require_same((3, 4 * distributed.rank()), "runs/a")
    except ConfigurationError as error:
        return str(error)
    return ""


def main() -> None:
    torch.set_default_dtype(torch.float64)
    with distributed.session("auto") as device:
        rank = distributed.rank()
        results = {
            "who": [rank, distributed.world_size(), distributed.is_main(), device],
            "samples": list(distributed.sample_numbers(4, 16, 3)),
            "mean": distributed.mean(float(rank)),
            "merged": list(distributed.merged({1 - rank: f"from {rank}"}).items()),
            "main_first": main_first(),
            "require_same": require_same(),
            "synchronised_batch_norm": synchronised_batch_norm(),
            "gradient_averaging": gradient_averaging(),
            "running_statistics": running_statistics(),
        }
    results["afterwards"] = [dist.is_initialized(), distributed.is_main()]
    (Path(sys.argv[1]) / f"{rank}.json").write_text(json.dumps(results), encoding="utf-8")


if __name__ == "__main__":
    main()
