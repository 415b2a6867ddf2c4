"""What a plane network's teacher sees, place by place, as hints (Romero et al. 2015, "FitNets").

A frame's probabilities are a dozen numbers; the teacher's features are hundreds at each of thousands of places, which
is what makes few frames go far. A Sononet's class scores are linear in the mean over space of its adaptation layer's
features. The student learns these features as the first channels of its last block: a linear classifier on that
block's mean can then give the teacher's scores. Blocks 2, 3 and 4 learn those of the teacher's, as many channels as
both have, so that all depths learn from the start.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from AGTraining.errors import ConfigurationError
from AGTraining.networks.sononet import PlaneNetwork, Sononet

# Blocks, from 0, that learn from the teacher's of the same depth. The first one's maps are the largest, and what it
# should see follows from the second.
ALIKE = (1, 2, 3)


class FeatureHint:
    """Compares the student's blocks with the teacher's, and its last block with the teacher's adaptation layer.

    Raises ConfigurationError for a teacher that has none (an AG-Sononet), or more features there than the student has
    channels.
    """

    def __init__(self, student: PlaneNetwork, teacher: nn.Module) -> None:
        relu = None
        if isinstance(teacher, Sononet):
            relu = next((layer for layer in teacher.adaptation if isinstance(layer, nn.ReLU)), None)
        if not isinstance(teacher, Sononet) or relu is None:
            raise ConfigurationError(
                f"teacher.hint: a {type(teacher).__name__} has no adaptation layer to learn from; take a Sononet as "
                "the teacher, or leave the hint out."
            )
        features = teacher.channels[-1] // 2
        if features > student.channels[-1]:
            raise ConfigurationError(
                f"teacher.hint: the teacher has {features} features, but the network's last block only "
                f"{student.channels[-1]} channels; raise network.arguments.features, or leave the hint out."
            )
        self._pairs = [(student.blocks[-1], relu), *((student.blocks[n], teacher.blocks[n]) for n in ALIKE)]
        self._seen: dict[nn.Module, Tensor] = {}

    @contextmanager
    def listening(self) -> Iterator[None]:
        """While both networks compute the same frames."""

        def keep(module: nn.Module, inputs: object, output: Tensor) -> None:
            self._seen[module] = output

        handles = [module.register_forward_hook(keep) for pair in self._pairs for module in pair]
        try:
            yield
        finally:
            for handle in handles:
                handle.remove()

    def loss(self) -> Tensor:
        """Mean over the pairs of what was just seen of their `distance`."""
        distances = [distance(self._seen[student], self._seen[teacher]) for student, teacher in self._pairs]
        self._seen.clear()
        return torch.stack(distances).mean()


def distance(student: Tensor, teacher: Tensor) -> Tensor:
    """Mean squared difference of the channels that both have, relative to the mean square of the teacher's.

    Both (N, channels, h, w); the teacher's grid is brought to the student's: both span the same part of the frame.
    """
    channels = min(student.shape[1], teacher.shape[1])
    student, teacher = student[:, :channels].float(), teacher[:, :channels].detach().float()
    if teacher.shape[2:] != student.shape[2:]:
        teacher = F.interpolate(teacher, size=student.shape[2:], mode="bilinear", align_corners=False)
    return F.mse_loss(student, teacher) / teacher.square().mean().clamp_min(torch.finfo(torch.float32).tiny)
