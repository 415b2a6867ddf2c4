from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest
import torch
from monai.losses import DiceLoss
from torch import Tensor
from torch.nn import functional as F

from AGTraining.training.losses import SMOOTH, SegmentationLoss, deep_supervision_loss

SHAPE = (6, 5, 4)
CLASSES = 4


def random_logits(cases: int = 2, seed: int = 0, scale: float = 2.0) -> Tensor:
    generator = torch.Generator().manual_seed(seed)
    return scale * torch.randn(cases, CLASSES, *SHAPE, generator=generator)


def random_target(cases: int = 2, seed: int = 1, classes: int = CLASSES) -> Tensor:
    generator = torch.Generator().manual_seed(seed)
    return torch.randint(0, classes, (cases, *SHAPE), generator=generator, dtype=torch.uint8)


def certain(target: Tensor, height: float = 1e4) -> Tensor:
    """Logits of a network that is sure of `target`."""
    return height * F.one_hot(target.long(), CLASSES).movedim(-1, 1).float()


def labelled(*missing: int, cases: int = 2) -> Tensor:
    """All classes are labelled but `missing` in the first case."""
    result = torch.ones(cases, CLASSES, dtype=torch.bool)
    result[0, list(missing)] = False
    return result


def reference(logits: Tensor, target: Tensor, known: Tensor, cross_entropy: float) -> float:
    """The loss in float64, by loops over cases, classes and voxels."""
    z = logits.double().numpy()
    total = 0.0
    for n in range(z.shape[0]):
        p = np.exp(z[n] - z[n].max(axis=0))
        p /= p.sum(axis=0)
        truth = target[n].numpy()
        unknown = [c for c in range(1, CLASSES) if not known[n, c]]
        groups = [[0, *unknown]] + [[c] for c in range(1, CLASSES) if c not in unknown]
        dice = 0.0
        for group in groups:
            intersection = predicted = true = 0.0
            for voxel in np.ndindex(truth.shape):
                p_group = sum(p[(c, *voxel)] for c in group)
                g_group = float(truth[voxel] in group)
                intersection += p_group * g_group
                predicted += p_group
                true += g_group
            dice += 1 - (2 * intersection + SMOOTH) / (predicted + true + SMOOTH)
        entropy = 0.0
        for voxel in np.ndindex(truth.shape):
            c = truth[voxel]
            entropy -= np.log(sum(p[(m, *voxel)] for m in groups[0]) if c == 0 else p[(c, *voxel)])
        total += dice / len(groups) + cross_entropy * entropy / truth.size
    return total / z.shape[0]


@pytest.mark.parametrize("cross_entropy", [0.0, 0.5])
@pytest.mark.parametrize("present", [1, 2, 3, CLASSES])
def test_perfect_prediction_scores_exactly_zero_also_where_classes_are_absent(
    present: int, cross_entropy: float
) -> None:
    target = random_target(classes=present)
    assert SegmentationLoss(cross_entropy)(certain(target), target).item() == 0.0


@pytest.mark.parametrize("cross_entropy", [0.0, 0.5])
def test_perfect_prediction_of_a_volume_that_is_one_organ_scores_exactly_zero(cross_entropy: float) -> None:
    target = torch.full((1, *SHAPE), 2, dtype=torch.uint8)
    assert SegmentationLoss(cross_entropy)(certain(target), target).item() == 0.0


@pytest.mark.parametrize("cross_entropy", [0.0, 0.5])
def test_perfect_prediction_of_a_partially_labelled_case_scores_exactly_zero(cross_entropy: float) -> None:
    target = random_target(classes=3)
    # What the labels cannot know: a part of the background is the unlabelled class.
    prediction = target.clone()
    prediction[0, :2][target[0, :2] == 0] = 3
    assert (prediction != target).any()
    assert SegmentationLoss(cross_entropy)(certain(prediction), target, labelled(3)).item() == 0.0


def test_one_wrong_voxel_costs_something() -> None:
    target = random_target()
    prediction = target.clone()
    prediction[0, 0, 0, 0] = (prediction[0, 0, 0, 0] + 1) % CLASSES
    assert SegmentationLoss()(certain(prediction), target).item() > 1e-3


@pytest.mark.parametrize("missing", [(), (2,), (1, 3), (1, 2, 3)])
@pytest.mark.parametrize("cross_entropy", [0.0, 0.7])
def test_loss_is_that_of_a_loop_in_float64(missing: tuple[int, ...], cross_entropy: float) -> None:
    logits, target, known = random_logits(), random_target(), labelled(*missing)
    loss = SegmentationLoss(cross_entropy)(logits, target, known).item()
    assert loss == pytest.approx(reference(logits, target, known, cross_entropy), rel=1e-5)


def test_fully_labelled_loss_is_monais_with_the_same_smoothing() -> None:
    logits, target = random_logits(), random_target()
    monai = DiceLoss(softmax=True, to_onehot_y=True, smooth_nr=SMOOTH, smooth_dr=SMOOTH)
    assert SegmentationLoss()(logits, target).item() == pytest.approx(monai(logits, target[:, None]).item(), rel=1e-5)


def test_cross_entropy_of_a_fully_labelled_case_is_pytorchs() -> None:
    logits, target = random_logits(), random_target()
    added = SegmentationLoss(1.0)(logits, target) - SegmentationLoss(0.0)(logits, target)
    assert added.item() == pytest.approx(F.cross_entropy(logits, target.long()).item(), rel=1e-4)


@pytest.mark.parametrize("cross_entropy", [0.0, 0.7])
def test_background_and_unlabelled_class_are_the_same_where_the_label_says_background(cross_entropy: float) -> None:
    logits, target, known = random_logits(), random_target(), labelled(2)
    where = target[0] == 0
    logits[0, 0][where] += 2
    swapped = logits.clone()
    swapped[0, 0][where], swapped[0, 2][where] = logits[0, 2][where], logits[0, 0][where]
    loss = SegmentationLoss(cross_entropy)
    assert loss(swapped, target, known).item() == pytest.approx(loss(logits, target, known).item(), rel=1e-6)
    # The other case is completely labelled: there the same swap matters.
    assert abs(loss(swapped, target).item() - loss(logits, target).item()) > 1e-3


def test_dice_pulls_no_probability_between_background_and_an_unlabelled_class() -> None:
    logits, target = random_logits().requires_grad_(), random_target()
    SegmentationLoss()(logits, target, labelled(2)).backward()
    p = torch.softmax(logits.detach(), dim=1)
    # d loss / d p of both classes is the same exactly when their logits' gradients, divided by p, are.
    per_probability = (logits.grad / p)[0]
    torch.testing.assert_close(per_probability[0], per_probability[2], rtol=1e-3, atol=1e-6)
    in_complete_case = (logits.grad / p)[1]
    assert (in_complete_case[0] - in_complete_case[2]).abs().max() > 1e-3


@pytest.mark.parametrize("cross_entropy", [0.0, 0.7])
def test_labelled_organs_of_a_partially_labelled_case_are_trained(cross_entropy: float) -> None:
    logits, target = random_logits().requires_grad_(), random_target()
    SegmentationLoss(cross_entropy)(logits, target, labelled(2)).backward()
    organ = target[0] == 1
    assert (logits.grad[0, 1][organ] < 0).all()
    assert (logits.grad[0, 1][target[0] == 0] > 0).all()


def test_labelled_voxels_of_an_incomplete_class_pull_through_cross_entropy_alone() -> None:
    target = random_target()
    gradients = []
    for cross_entropy in (0.0, 1.0):
        logits = random_logits().requires_grad_()
        SegmentationLoss(cross_entropy)(logits, target, labelled(2)).backward()
        # Towards class 2 and away from the background, beyond what is common to both.
        p = torch.softmax(logits.detach(), dim=1)
        gradients.append((logits.grad / p)[0, 2] - (logits.grad / p)[0, 0])
    positives = target[0] == 2
    assert gradients[0][positives].abs().max() < 1e-3
    assert (gradients[1][positives] < -1e-3).all()


@pytest.mark.parametrize("missing", [(), (2,), (1, 2, 3)])
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16, torch.float16])
@pytest.mark.parametrize(
    "make",
    [
        lambda: certain(random_target(), 1e4),
        lambda: -certain(random_target(), 1e4),
        lambda: certain((random_target() + 1) % CLASSES, 6e4),
        lambda: torch.zeros(2, CLASSES, *SHAPE),
    ],
    ids=["right", "inverted", "wrong", "undecided"],
)
def test_gradients_are_finite_for_extreme_logits(
    make: Callable[[], Tensor], dtype: torch.dtype, missing: tuple[int, ...]
) -> None:
    logits = make().to(dtype).requires_grad_()
    loss = SegmentationLoss(0.7)(logits, random_target(), labelled(*missing))
    loss.backward()
    assert torch.isfinite(loss)
    assert torch.isfinite(logits.grad).all()


def test_half_precision_logits_are_scored_in_full_precision() -> None:
    logits, target = random_logits().bfloat16(), random_target()
    loss = SegmentationLoss(0.7)(logits, target)
    assert loss.dtype == torch.float32
    assert loss.item() == SegmentationLoss(0.7)(logits.float(), target).item()


def test_target_of_another_size_is_refused_with_both_shapes() -> None:
    with pytest.raises(ValueError, match=r"target of shape \(2, 6, 5, 3\) does not fit logits \(2, 4, 6, 5, 4\)"):
        SegmentationLoss()(random_logits(), random_target()[..., :3])


def test_deep_supervision_is_the_mean_over_the_levels() -> None:
    levels, target, known = [random_logits(seed=s) for s in (3, 4, 5)], random_target(), labelled(1)
    loss = SegmentationLoss(0.3)
    expected = np.mean([loss(level, target, known).item() for level in levels])
    assert deep_supervision_loss(loss, levels, target, known).item() == pytest.approx(expected, rel=1e-6)
