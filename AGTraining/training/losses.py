"""Dice loss over all classes, with classes that a case has no labels for left out."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor, nn
from torch.nn import functional as F

SMOOTH = 1.0


class SegmentationLoss(nn.Module):
    """Soft Dice loss (Oktay et al. 2018, section 3), optionally with cross-entropy added.

    Dice is 1 − (2·Σp·g + 1) / (Σp + Σg + 1) for each case and class, averaged over the classes that the case has
    complete labels for, background included. A perfect prediction scores exactly 0, absent classes too.

    Partial labels: where class c of a case is not (completely) labelled, its unlabelled voxels may be c or background.
    Then c gets no Dice term of its own and is merged into the background: predicted c counts as background, labelled
    or not. Cross-entropy does the same, but keeps voxels that are labelled c, which are evidence.

    cross_entropy: weight of the cross-entropy term; 0 is the paper's loss.
    """

    def __init__(self, cross_entropy: float = 0.0) -> None:
        super().__init__()
        self.cross_entropy = cross_entropy

    def forward(self, logits: Tensor, target: Tensor, labelled: Tensor | None = None) -> Tensor:
        """logits: (N, C, D, H, W); target: (N, D, H, W) class indices; labelled: (N, C) bool, None: all classes.

        Class 0 is the background and is always labelled. Returns the mean loss over the batch.
        """
        if target.shape != (logits.shape[0], *logits.shape[2:]):
            raise ValueError(f"target of shape {tuple(target.shape)} does not fit logits {tuple(logits.shape)}")
        logits = logits.float()
        classes = logits.shape[1]
        log_p = F.log_softmax(logits, dim=1)
        p = log_p.exp()
        g = F.one_hot(target.long(), classes).movedim(-1, 1).to(p.dtype)
        if labelled is None:
            labelled = torch.ones(logits.shape[0], classes, dtype=torch.bool, device=logits.device)
        keep = labelled.to(p.dtype).clone()
        keep[:, 0] = 1.0

        spatial = tuple(range(2, logits.dim()))
        intersection, predicted, true = (t.sum(spatial) for t in (p * g, p, g))
        # Background and unlabelled classes as one: Σ over voxels of (p_bg + Σ p_c)·(g_bg + Σ g_c).
        merged = 1.0 - keep
        merged[:, 0] = 1.0
        if bool((merged[:, 1:] > 0).any()):
            weight = merged.view(*merged.shape, *([1] * len(spatial)))
            p_background, g_background = (p * weight).sum(1), (g * weight).sum(1)
            intersection = _replace_first(intersection, (p_background * g_background).flatten(1).sum(1))
            predicted = _replace_first(predicted, p_background.flatten(1).sum(1))
            true = _replace_first(true, g_background.flatten(1).sum(1))
        dice = 1.0 - (2.0 * intersection + SMOOTH) / (predicted + true + SMOOTH)
        loss = ((dice * keep).sum(1) / keep.sum(1)).mean()
        if self.cross_entropy > 0:
            loss = loss + self.cross_entropy * _partial_cross_entropy(log_p, target, merged)
        return loss


def deep_supervision_loss(
    loss: SegmentationLoss, outputs: Sequence[Tensor], target: Tensor, labelled: Tensor | None
) -> Tensor:
    """Mean of the loss over the logits of each decoder level (deep supervision `separate`)."""
    return torch.stack([loss(logits, target, labelled) for logits in outputs]).mean()


def _replace_first(values: Tensor, first: Tensor) -> Tensor:
    return torch.cat((first[:, None], values[:, 1:]), dim=1)


def _partial_cross_entropy(log_p: Tensor, target: Tensor, merged: Tensor) -> Tensor:
    """Mean −log p of the target; for background voxels p is that of background or any unlabelled class."""
    penalty = torch.where(merged > 0, 0.0, float("-inf")).to(log_p.dtype)
    background = torch.logsumexp(log_p + penalty.view(*penalty.shape, *([1] * (log_p.dim() - 2))), dim=1)
    of_target = log_p.gather(1, target.long()[:, None])[:, 0]
    return -torch.where(target == 0, background, of_target).mean()
