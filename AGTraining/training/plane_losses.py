"""Losses of planes: cross-entropy, also of labels that stand for several classes, and a teacher's soft labels."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor, nn
from torch.nn import functional as F


class PlaneLoss(nn.Module):
    """Cross-entropy with the labels, and the distance to a teacher's probabilities (Hinton et al. 2015).

    A frame with a label and a teacher has w·T²·KL(q ‖ p) + (1 − w)·CE, one with a label alone CE, and one without a
    label T²·KL(q ‖ p); p and q are the network's and the teacher's probabilities at temperature T. The cross-entropy of
    a label that stands for several classes is −log of the sum of their probabilities.

    table: (labels, classes) bool, the classes that each label stands for. smoothing: share ε of the target that all
    classes have alike: (1 − ε)·CE − ε·mean(log p).
    """

    table: Tensor

    def __init__(self, table: Tensor, smoothing: float = 0.0, weight: float = 0.5, temperature: float = 1.0) -> None:
        super().__init__()
        self.register_buffer("table", table)
        self.smoothing = smoothing
        self.weight = weight
        self.temperature = temperature

    def forward(self, logits: Tensor, target: Tensor, teacher: Tensor | None = None) -> Tensor:
        """logits: (N, C); target: (N,) labels, below 0 for none; teacher: (N, C) probabilities at temperature T.

        Returns the mean over the batch. Frames with neither label nor teacher count as 0.
        """
        logits = logits.float()
        known = (target >= 0).float()
        loss = self._cross_entropy(logits, target) * known
        if teacher is not None:
            soft = F.kl_div(F.log_softmax(logits / self.temperature, dim=1), teacher.float(), reduction="none").sum(1)
            share = 1.0 + (self.weight - 1.0) * known
            loss = (1.0 - share) * loss + share * self.temperature**2 * soft
        return loss.mean()

    def _cross_entropy(self, logits: Tensor, target: Tensor) -> Tensor:
        """(N,); of frames without a label, something finite."""
        log_p = F.log_softmax(logits, dim=1)
        allowed = self.table[target.clamp_min(0)]
        loss = -torch.logsumexp(log_p.masked_fill(~allowed, float("-inf")), dim=1)
        return (1.0 - self.smoothing) * loss - self.smoothing * log_p.mean(dim=1) if self.smoothing else loss


def label_table(classes: int, groups: Sequence[Sequence[int]]) -> Tensor:
    """(labels, classes) bool: each class stands for itself; behind them the groups, each for several."""
    table = torch.eye(classes, dtype=torch.bool)
    rows = torch.zeros(len(groups), classes, dtype=torch.bool)
    for row, members in zip(rows, groups, strict=True):
        row[list(members)] = True
    return torch.cat((table, rows))
