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

    cross_entropy: weight of the cross-entropy term; 0 is the paper's loss. dice: whether there is a Dice term.
    """

    def __init__(self, cross_entropy: float = 0.0, dice: bool = True) -> None:
        super().__init__()
        self.cross_entropy = cross_entropy
        self.dice = dice

    def forward(self, logits: Tensor, target: Tensor, labelled: Tensor | None = None) -> Tensor:
        """logits: (N, C, D, H, W); target: (N, D, H, W) class indices; labelled: (N, C) bool, None: all classes.

        Class 0 is the background and is always labelled. Returns the mean loss over the batch.
        """
        if target.shape != (logits.shape[0], *logits.shape[2:]):
            raise ValueError(f"target of shape {tuple(target.shape)} does not fit logits {tuple(logits.shape)}")
        logits = logits.float()
        if labelled is None:
            labelled = torch.ones(logits.shape[:2], dtype=torch.bool, device=logits.device)
        keep = labelled.to(logits.dtype).clone()
        keep[:, 0] = 1.0
        # Background and unlabelled classes as one.
        merged = 1.0 - keep
        merged[:, 0] = 1.0
        if self.cross_entropy == 0:
            return _dice_loss(torch.softmax(logits, dim=1), target, keep, merged)
        log_p = F.log_softmax(logits, dim=1)
        loss = self.cross_entropy * _partial_cross_entropy(log_p, target, merged)
        return loss + _dice_loss(log_p.exp(), target, keep, merged) if self.dice else loss


def deep_supervision_loss(
    loss: SegmentationLoss, outputs: Sequence[Tensor], target: Tensor, labelled: Tensor | None
) -> Tensor:
    """Mean of the loss over the logits of each decoder level (deep supervision `separate`)."""
    return torch.stack([loss(logits, target, labelled) for logits in outputs]).mean()


def _dice_loss(p: Tensor, target: Tensor, keep: Tensor, merged: Tensor) -> Tensor:
    """p: probabilities; keep: 1 for classes with a term of their own; merged: 1 for those that are background.

    Class by class with masks: voxels in one-hot coding would take four times the memory of the probabilities.
    """
    masks = [target == c for c in range(p.shape[1])]
    intersection = torch.stack([_sum(p[:, c] * mask) for c, mask in enumerate(masks)], dim=1)
    predicted = _sum(p, 2)
    true = torch.stack([_sum(mask) for mask in masks], dim=1).to(p.dtype)
    if bool((merged[:, 1:] > 0).any()):
        # Σ over voxels of (p_bg + Σ p_c)·(g_bg + Σ g_c).
        weight = merged.view(*merged.shape, *([1] * (p.dim() - 2)))
        p_background = (p * weight).sum(1)
        g_background = merged.gather(1, target.flatten(1).long()).view_as(target)
        intersection = _replace_first(intersection, _sum(p_background * g_background))
        predicted = _replace_first(predicted, _sum(p_background))
        true = _replace_first(true, _sum(g_background))
    dice = 1.0 - (2.0 * intersection + SMOOTH) / (predicted + true + SMOOTH)
    return ((dice * keep).sum(1) / keep.sum(1)).mean()


def _sum(values: Tensor, first: int = 1) -> Tensor:
    return values.sum(tuple(range(first, values.dim())))


def _replace_first(values: Tensor, first: Tensor) -> Tensor:
    return torch.cat((first[:, None], values[:, 1:]), dim=1)


def _partial_cross_entropy(log_p: Tensor, target: Tensor, merged: Tensor) -> Tensor:
    """Mean −log p of the target; for background voxels p is that of background or any unlabelled class."""
    penalty = torch.where(merged > 0, 0.0, float("-inf")).to(log_p.dtype)
    background = torch.logsumexp(log_p + penalty.view(*penalty.shape, *([1] * (log_p.dim() - 2))), dim=1)
    of_target = log_p.gather(1, target.long()[:, None])[:, 0]
    return -torch.where(target == 0, background, of_target).mean()
