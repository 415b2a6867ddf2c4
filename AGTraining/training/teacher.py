"""A trained model whose probabilities another one learns from."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from AGTraining import bundle
from AGTraining.bundle import PlaneClass
from AGTraining.data.planes.augment import normalised
from AGTraining.errors import ConfigurationError
from AGTraining.imaging.frame_rule import MULTIPLE, FrameRule
from AGTraining.inference.device import has_native_bfloat16
from AGTraining.inference.optimise_planes import prepare_for_frames
from AGTraining.training.planes_config import TeacherSettings


class Teacher:
    """Gives its probabilities for the same augmented views that the student sees, in the student's classes.

    The teacher's own crop does not apply to a view that is cut and augmented already: the whole view is resampled to
    `view_size`, and scaled by the teacher's rule.
    """

    def __init__(
        self, settings: TeacherSettings, classes: Sequence[PlaneClass], rule: FrameRule, device: torch.device
    ) -> None:
        """Raises BundleError where there is no such model, ConfigurationError where its classes are others."""
        model = bundle.load_planes(settings.bundle, device)
        self.temperature = settings.temperature
        self.hint = settings.hint
        self.size = view_size(rule, model.info.frame)
        self._scale = model.info.frame.scale
        self._classes = class_matrix(str(settings.bundle), model.info.classes, classes, settings.classes).to(device)
        dtype = torch.bfloat16 if has_native_bfloat16(device) else torch.float32
        self._network = prepare_for_frames(model.network, device, dtype)

    @property
    def network(self) -> nn.Module:
        """Its network, with batch norm folded."""
        return self._network.network

    @torch.no_grad()
    def __call__(self, pictures: Tensor) -> Tensor:
        """(N, 1, rows, columns) gray values from 0 to 1 → (N, classes) probabilities at the temperature, float32."""
        if pictures.shape[-2:] != self.size:
            pictures = F.interpolate(pictures, self.size, mode="bilinear", antialias=True)
        logits: Tensor = self._network(normalised(pictures, self._scale))
        return torch.softmax(logits.float() / self.temperature, dim=1) @ self._classes


def view_size(student: FrameRule, teacher: FrameRule) -> tuple[int, int]:
    """Rows and columns at which the teacher sees the student's view: those at which its own pixels are as large.

    Where both rules crop the centre, a student that sees a larger share of the frame needs more of the teacher's pixels
    for it. Other crops are taken to show the same: the whole sector.
    """
    shares = [rule.share if rule.crop == "centre" else 1.0 for rule in (student, teacher)]
    rows = teacher.size[0] * shares[0] / shares[1]
    columns = rows * student.size[1] / student.size[0]
    return _multiple(rows), _multiple(columns)


def _multiple(length: float) -> int:
    return max(1, round(length / MULTIPLE)) * MULTIPLE


def class_matrix(
    place: str, theirs: Sequence[PlaneClass], ours: Sequence[PlaneClass], named: Mapping[str, str]
) -> Tensor:
    """(teacher's classes, student's classes): 1 where a class of the one is that of the other.

    Classes are the same where `named` says so, both are background, or their names are equal but for capital letters.
    Several of the teacher's may be one of the student's. Raises ConfigurationError for a class, on either side, that
    has no counterpart.
    """
    number = {item.name: n for n, item in enumerate(ours)}
    by_name = {item.name.casefold(): n for n, item in enumerate(ours)}
    background = next((n for n, item in enumerate(ours) if item.background), None)
    unknown = [name for name in named if name not in {item.name for item in theirs}]
    unknown += [name for name in named.values() if name not in number]
    if unknown:
        raise ConfigurationError(
            f"teacher.classes: '{unknown[0]}' is no class of the teacher {place}, or none of this model; "
            "write {theirs: ours}."
        )
    matrix = torch.zeros(len(theirs), len(ours))
    for row, item in zip(matrix, theirs, strict=True):
        if item.name in named:
            found: int | None = number[named[item.name]]
        else:
            found = background if item.background else by_name.get(item.name.casefold())
        if found is None:
            raise ConfigurationError(
                f"{place}: the teacher's class '{item.name}' is none of this model's; name the one that it is in "
                "teacher.classes, such as the background."
            )
        row[found] = 1.0
    for item, column in zip(ours, matrix.T, strict=True):
        if not column.any():
            raise ConfigurationError(
                f"{place}: the teacher knows nothing of the class '{item.name}' and would call it another one; leave "
                "the class out, train without the teacher, or name what it is there in teacher.classes."
            )
    return matrix
