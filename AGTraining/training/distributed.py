"""Training by several processes: who this one is, and what they do together.

`torchrun` starts the processes and says through environment variables who each one is. Sample n depends on the seed and
n alone; the processes of a step share its samples out, so that W processes with batch B train on what one process with
batch W·B would have trained on. They hold the same weights at any time, so that the main one's checkpoint is that of
all, and a run whose processes were started anew (`torchrun --max-restarts`) goes on from it.

Batch norm sees each process's own batch, and its running statistics are the means over all processes; only with
`synchronised_batch_norm` does it see what one process with batch W·B would have seen.
"""

from __future__ import annotations

import inspect
import os
import time
import warnings
from collections.abc import Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager, nullcontext
from datetime import timedelta
from typing import Any, TypeVar
from uuid import uuid4

import torch
import torch.distributed as dist
from torch import nn
from torch.distributed.rendezvous import rendezvous
from torch.nn.parallel import DistributedDataParallel

from AGTraining.errors import ConfigurationError, DeviceError
from AGTraining.training.batch_norm import SynchronisedBatchNorm, synchronise_batch_norm

T = TypeVar("T")

TORCHRUN = ("RANK", "WORLD_SIZE", "LOCAL_RANK", "MASTER_ADDR", "MASTER_PORT")
# How long processes wait while the main one prepares the data, or another validates larger scans.
PATIENCE = timedelta(days=7)

# Messages between the processes; gradients have their own group, whose timeout finds GPUs that hang.
_messages: dist.ProcessGroup | None = None
_main_is_first = False


def rank() -> int:
    """The number of this process, from 0 up."""
    return int(os.environ["RANK"]) if _launched() else 0


def world_size() -> int:
    """How many processes train together."""
    return int(os.environ["WORLD_SIZE"]) if _launched() else 1


def is_main() -> bool:
    """Whether this process writes files, logs and progress for all."""
    return rank() == 0


def _launched() -> bool:
    return all(name in os.environ for name in TORCHRUN)


@contextmanager
def session(device: str) -> Iterator[str]:
    """Joins the processes that `torchrun` started, if it did; gives this process's device for the asked one.

    NCCL carries the gradients between CUDA GPUs, gloo between CPUs. Raises DeviceError.
    """
    if world_size() == 1:
        yield device
        return
    global _messages
    own = own_device(device)
    on_gpu = own.startswith("cuda")
    if on_gpu:
        torch.cuda.set_device(own)
    store = _meet(next(rendezvous("env://"))[0])
    backend = "nccl" if on_gpu and dist.is_nccl_available() else "gloo"
    dist.init_process_group(backend, store=store, rank=rank(), world_size=world_size())
    _messages = dist.new_group(backend="gloo", timeout=PATIENCE)
    # After an error there is no farewell: it would wait for processes that are no more. torchrun ends the others.
    yield own
    dist.barrier(_messages)
    _messages = None
    dist.destroy_process_group()


def _meet(store: dist.Store) -> dist.Store:
    """The part of the store that only this start of the processes uses.

    torchrun keeps one store through all restarts (since PyTorch 2.5), and with it the addresses of processes that were
    killed; who is faster than the others would wait for those forever. How often torchrun has restarted is not known
    alike on all machines. So the main process answers each greeting with a new name, until all have taken it.
    """
    if not is_main():
        greeting = uuid4().hex
        store.set(f"AGTraining/greeting/{rank()}", greeting)
        name = store.get(f"AGTraining/answer/{greeting}").decode()
        store.set(f"AGTraining/{name}/{rank()}", "here")
        return dist.PrefixStore(name, store)
    name, missing, answered = uuid4().hex, set(range(1, world_size())), set()
    while missing:
        for number in list(missing):
            if store.check([f"AGTraining/{name}/{number}"]):
                missing.remove(number)
            elif store.check([f"AGTraining/greeting/{number}"]):
                greeting = store.get(f"AGTraining/greeting/{number}").decode()
                if greeting not in answered:
                    answered.add(greeting)
                    store.set(f"AGTraining/answer/{greeting}", name)
        time.sleep(0.02)
    return dist.PrefixStore(name, store)


def own_device(device: str) -> str:
    """The device of this process: each takes the GPU of its own number on its machine. Raises DeviceError."""
    if device == "auto":
        device = "cuda" if torch.cuda.is_available() else "cpu"
    if device == "cpu":
        return device
    if device != "cuda":
        raise DeviceError(
            f"Device '{device}' is for one process, and there are {world_size()}; choose 'auto', 'cpu' or 'cuda'."
        )
    number, count = int(os.environ["LOCAL_RANK"]), torch.cuda.device_count() if torch.cuda.is_available() else 0
    if number >= count:
        raise DeviceError(
            f"Process {number + 1} of this machine has no GPU: PyTorch sees {count}; start torchrun with "
            f"--nproc-per-node {count or 1}."
        )
    return f"cuda:{number}"


@contextmanager
def main_first() -> Iterator[None]:
    """The main process runs the body alone, then the others do (and find what it has made).

    When it fails in the main process, the others raise ConfigurationError. Within the body it has no effect.
    """
    global _main_is_first
    if world_size() == 1 or _main_is_first:
        yield
        return
    _main_is_first = True
    try:
        if is_main():
            made = [False]
            try:
                yield
                made = [True]
            finally:
                dist.broadcast_object_list(made, 0, group=_messages)
        else:
            made = [False]
            dist.broadcast_object_list(made, 0, group=_messages)
            if not made[0]:
                raise ConfigurationError(f"Process {rank()} ends because process 0 failed; see its message.")
            yield
    finally:
        _main_is_first = False


def require_same(place: tuple[int, ...], folder: object) -> None:
    """Raises ConfigurationError where the processes stand at different places of a run."""
    if world_size() == 1:
        return
    places: list[Any] = [None] * world_size()
    dist.all_gather_object(places, place, group=_messages)
    other = next((number for number, found in enumerate(places) if found != places[0]), None)
    if other is not None:
        raise ConfigurationError(
            f"{folder}: process {other} finds another checkpoint there than process 0; put the run's folder on a disk "
            "that all machines share."
        )


def synchronised(network: nn.Module, batch_norm: bool, device: torch.device) -> nn.Module:
    """The network with batch norm over all processes' batches, where that is wanted; before its optimizer is made."""
    return synchronise_batch_norm(network, device) if batch_norm and world_size() > 1 else network


def wrap(network: nn.Module, device: torch.device) -> nn.Module:
    """What the training step calls: the network itself, or one whose gradients are the means over all processes."""
    if world_size() == 1:
        return network
    # Running statistics are shared after each step, not before it: what is kept then is the same in all processes.
    # PyTorch 2.13 has given the option another name.
    names = inspect.signature(DistributedDataParallel).parameters
    options: dict[str, Any] = {
        "forward_sync_buffers" if "forward_sync_buffers" in names else "broadcast_buffers": False,
        "device_ids": [device.index] if device.type == "cuda" else None,
    }
    # True of 1×1×1 kernels with channels last, whose strides have no meaning.
    warnings.filterwarnings("ignore", message="Grad strides do not match bucket view strides")
    return DistributedDataParallel(network, gradient_as_bucket_view=True, **options)


def without_sync(model: nn.Module) -> AbstractContextManager[None]:
    """For all batches of a step but its last: their gradients need not travel yet."""
    return model.no_sync() if isinstance(model, DistributedDataParallel) else nullcontext()


@torch.no_grad()
def share_statistics(network: nn.Module) -> None:
    """Running means and variances of batch norm become their means over all processes; in one message."""
    if world_size() == 1:
        return
    shared = [
        buffer
        for module in network.modules()
        if isinstance(module, nn.modules.batchnorm._BatchNorm)
        and not isinstance(module, nn.SyncBatchNorm | SynchronisedBatchNorm)
        for buffer in module.buffers(recurse=False)
        if buffer.is_floating_point()
    ]
    if not shared:
        return
    together = torch.cat([buffer.flatten() for buffer in shared])
    dist.all_reduce(together)
    together /= world_size()
    for buffer, values in zip(shared, together.split([buffer.numel() for buffer in shared]), strict=True):
        buffer.copy_(values.view_as(buffer))


def sample_numbers(first: int, stop: int, batch_size: int) -> Sequence[int]:
    """What this process takes of samples first…stop: of each world_size·batch_size, its own batch_size."""
    if world_size() == 1:
        return range(first, stop)
    start = first + rank() * batch_size
    return [
        n
        for batch in range(start, stop, world_size() * batch_size)
        for n in range(batch, min(batch + batch_size, stop))
    ]


def mean(value: float) -> float:
    """The mean over all processes."""
    if world_size() == 1:
        return value
    total = torch.tensor(value, dtype=torch.float64)
    dist.all_reduce(total, group=_messages)
    return float(total) / world_size()


def merged(results: dict[int, T]) -> dict[int, T]:
    """The results of all processes by number, in order; each process has some of them."""
    if world_size() > 1:
        parts: list[Any] = [None] * world_size()
        dist.all_gather_object(parts, results, group=_messages)
        results = {number: result for part in parts for number, result in part.items()}
    return dict(sorted(results.items()))
