"""What a plane network's teacher sees, place by place, as a hint (Romero et al. 2015, "FitNets").

A frame's probabilities are a dozen numbers; the teacher's features are hundreds at each of hundreds of places, which is
what makes few frames go far. A Sononet's class scores are linear in the mean over space of its adaptation layer's
features. The student learns these features as the first channels of its last block: a linear classifier on that
block's mean can then give the teacher's scores.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from AGTraining.errors import ConfigurationError
from AGTraining.networks.sononet import PlaneNetwork, Sononet


class FeatureHint:
    """Compares the student's last block with the features of the teacher's adaptation layer.

    Raises ConfigurationError for a teacher that has none (an AG-Sononet), or more of them than the student has channels.
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
        self.channels = teacher.channels[-1] // 2
        if self.channels > student.channels[-1]:
            raise ConfigurationError(
                f"teacher.hint: the teacher has {self.channels} features, but the network's last block only "
                f"{student.channels[-1]} channels; raise network.arguments.features, or leave the hint out."
            )
        self._student, self._teacher = student.blocks[-1], relu
        self._seen: dict[str, Tensor] = {}

    @contextmanager
    def listening(self) -> Iterator[None]:
        """While both networks compute the same frames."""

        def keeper(name: str) -> Callable[[nn.Module, object, Tensor], None]:
            def keep(module: nn.Module, inputs: object, output: Tensor) -> None:
                self._seen[name] = output

            return keep

        handles = [
            self._student.register_forward_hook(keeper("student")),
            self._teacher.register_forward_hook(keeper("teacher")),
        ]
        try:
            yield
        finally:
            for handle in handles:
                handle.remove()

    def loss(self) -> Tensor:
        """Mean squared difference of what was just seen, relative to the mean square of the teacher's features.

        The teacher's grid is brought to the student's: both span the same part of the frame.
        """
        student = self._seen.pop("student").float()[:, : self.channels]
        teacher = self._seen.pop("teacher").detach().float()
        if teacher.shape[2:] != student.shape[2:]:
            teacher = F.interpolate(teacher, size=student.shape[2:], mode="bilinear", align_corners=False)
        return F.mse_loss(student, teacher) / teacher.square().mean().clamp_min(torch.finfo(torch.float32).tiny)
