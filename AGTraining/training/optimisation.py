"""How weights change: optimizer, learning rate, number types, and the average of the weights."""

from __future__ import annotations

import math
import os
from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager
from typing import Any

import torch
from torch import Tensor, nn
from torch.optim.swa_utils import AveragedModel, get_ema_multi_avg_fn

from AGTraining.errors import ConfigurationError
from AGTraining.inference.device import has_native_bfloat16
from AGTraining.training.run_config import RunConfig


def build_optimizer(config: RunConfig, network: nn.Module) -> torch.optim.Optimizer:
    """Adam (Oktay et al. 2018, section 3) or SGD with momentum; its learning rate is set before each step.

    Parameters that need no gradient are none of its.
    """
    parameters = [parameter for parameter in network.parameters() if parameter.requires_grad]
    if config.optimizer == "adam":
        return torch.optim.Adam(parameters, lr=config.learning_rate, weight_decay=config.weight_decay)
    return torch.optim.SGD(
        parameters,
        lr=config.learning_rate,
        momentum=config.momentum,
        weight_decay=config.weight_decay,
        nesterov=config.nesterov and config.momentum > 0,
    )


def learning_rate(config: RunConfig, step: int) -> float:
    """Learning rate at an optimizer step.

    Linear warm-up over steps, or a rate of its own in the first epochs; then constant, half a cosine down to 1 % of the
    start, or × decay_factor every decay_epochs, counted from the first epoch of all.
    """
    epoch = step // config.steps_per_epoch
    if epoch < config.warmup_epochs and config.warmup_learning_rate is not None:
        return config.warmup_learning_rate
    rate = config.learning_rate * min(1.0, (step + 1) / (config.warmup_steps + 1))
    if config.schedule == "cosine":
        progress = step / max(1, config.epochs * config.steps_per_epoch)
        rate *= 0.01 + 0.99 * (1 + math.cos(math.pi * progress)) / 2
    elif config.schedule == "step" and config.decay_epochs is not None:
        rate *= config.decay_factor ** (epoch // config.decay_epochs)
    return rate


class Precision:
    """The number types of a training step, and the scale of fp16's gradients.

    choice: `auto` is bf16 where the device computes with it in hardware, fp16 on older GPUs, and off elsewhere.
    thinnest: fewest slices along K that any level of the network sees; None where that is not known.

    With exactly two slices, PyTorch's (oneDNN's) 3×3×3 convolutions in bf16 on a CPU give wrong weight gradients, seen
    in 2.13: `auto` is then off there. Raises ConfigurationError when bf16 itself was asked for.
    """

    def __init__(self, choice: str, device: torch.device, thinnest: int | None = None) -> None:
        self._device = device
        wrong = device.type == "cpu" and thinnest is not None and thinnest <= 2
        if choice == "bf16" and wrong:
            raise ConfigurationError(
                "mixed_precision: bf16 gives wrong gradients on a CPU with a crop of so few slices; take twice as many "
                "slices along K, or 'off'."
            )
        if choice == "auto":
            bfloat16 = has_native_bfloat16(device) and not wrong
            choice = "bf16" if bfloat16 else "fp16" if device.type == "cuda" else "off"
        self.dtype = {"off": None, "bf16": torch.bfloat16, "fp16": torch.float16}[choice]
        self._scaler = torch.amp.GradScaler(device.type, enabled=self.dtype == torch.float16)

    def autocast(self) -> AbstractContextManager[Any]:
        """For the network's forward pass; losses are computed in float32 outside of it."""
        return torch.autocast(self._device.type, self.dtype or torch.bfloat16, enabled=self.dtype is not None)

    def backward(self, loss: Tensor) -> None:
        """Adds the loss's gradients, scaled where fp16 needs it."""
        self._scaler.scale(loss).backward()

    def step(self, optimizer: torch.optim.Optimizer) -> None:
        """One step of the optimizer; with fp16 it is left out, and the scale lowered, when gradients overflowed."""
        self._scaler.step(optimizer)
        self._scaler.update()

    def state_dict(self) -> dict[str, Any]:
        """What a resumed run needs."""
        state: dict[str, Any] = self._scaler.state_dict()
        return state

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """The state of the run that is resumed."""
        if state and self._scaler.is_enabled():
            self._scaler.load_state_dict(state)


def average_of(network: nn.Module, decay: float) -> AveragedModel | None:
    """The exponential moving average of the weights and batch norm statistics; None when decay is 0."""
    if decay == 0:
        return None
    return AveragedModel(network, multi_avg_fn=get_ema_multi_avg_fn(decay), use_buffers=True)


@contextmanager
def repeatable(wanted: bool) -> Iterator[None]:
    """Only algorithms that give the same result each time, as far as the device has them; PyTorch warns of the others.

    On the CPU all algorithms of these networks are repeatable anyway, bit for bit. On a GPU some have no repeatable
    form, so that runs there differ in the last digits.
    """
    before = torch.are_deterministic_algorithms_enabled(), torch.is_deterministic_algorithms_warn_only_enabled()
    benchmark = torch.backends.cudnn.benchmark
    if wanted:
        os.environ.setdefault("CUBLAS_WORKSPACE_CONFIG", ":4096:8")
        torch.use_deterministic_algorithms(True, warn_only=True)
    # Crops are all of one size, so it pays to try which algorithm is the fastest.
    torch.backends.cudnn.benchmark = not wanted
    try:
        yield
    finally:
        torch.use_deterministic_algorithms(before[0], warn_only=before[1])
        torch.backends.cudnn.benchmark = benchmark
