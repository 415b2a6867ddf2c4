from __future__ import annotations

import pytest
import torch
from torch.nn import functional as F

from AGTraining.training.plane_losses import PlaneLoss, label_table

LOGITS = torch.tensor([[2.0, -1.0, 0.5], [0.0, 1.0, 3.0], [-2.0, 0.3, 0.1]])
TEACHER = torch.tensor([[0.7, 0.2, 0.1], [0.1, 0.1, 0.8], [0.3, 0.3, 0.4]])


def test_without_groups_it_is_cross_entropy() -> None:
    target = torch.tensor([0, 2, 1])
    loss = PlaneLoss(label_table(3, []))(LOGITS, target)
    torch.testing.assert_close(loss, F.cross_entropy(LOGITS, target))


def test_smoothing_is_pytorch_s() -> None:
    target = torch.tensor([0, 2, 1])
    loss = PlaneLoss(label_table(3, []), smoothing=0.2)(LOGITS, target)
    torch.testing.assert_close(loss, F.cross_entropy(LOGITS, target, label_smoothing=0.2))


def test_label_of_several_classes_costs_minus_log_of_their_sum() -> None:
    loss = PlaneLoss(label_table(3, [[0, 2]]))(LOGITS, torch.tensor([3, 3, 1]))
    p = torch.softmax(LOGITS, dim=1)
    expected = -(torch.log(p[0, 0] + p[0, 2]) + torch.log(p[1, 0] + p[1, 2]) + torch.log(p[2, 1])) / 3
    torch.testing.assert_close(loss, expected)


def test_teacher_is_weighted_with_labels_and_alone_without() -> None:
    weight, t = 0.3, 2.0
    loss = PlaneLoss(label_table(3, []), weight=weight, temperature=t)(LOGITS, torch.tensor([0, -1, -1]), TEACHER)
    log_p = torch.log_softmax(LOGITS / t, dim=1)
    kl = (TEACHER * (TEACHER.log() - log_p)).sum(1)
    hard = -torch.log_softmax(LOGITS, dim=1)[0, 0]
    torch.testing.assert_close(loss, ((1 - weight) * hard + weight * t**2 * kl[0] + t**2 * (kl[1] + kl[2])) / 3)


def test_student_that_says_what_the_teacher_says_has_no_gradient() -> None:
    logits = TEACHER.log().requires_grad_()
    PlaneLoss(label_table(3, []), weight=1.0)(logits, torch.tensor([0, 1, -1]), TEACHER).backward()
    assert logits.grad is not None and logits.grad.abs().max() < 1e-6


def test_frames_without_label_and_teacher_count_as_nothing() -> None:
    loss = PlaneLoss(label_table(3, []))(LOGITS, torch.tensor([0, -1, -1]))
    assert float(loss) == pytest.approx(float(F.cross_entropy(LOGITS[:1], torch.tensor([0]))) / 3)
