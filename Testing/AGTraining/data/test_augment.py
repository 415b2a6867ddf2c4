from __future__ import annotations

import random as python_random

import numpy as np
import pytest
import torch
from scipy import ndimage

from AGTraining.data.augment import Augmentation
from AGTraining.training.config import AugmentationSettings

AIR = -2.0
CROP = (32, 48, 64)
OFF = {"affine": 0.0, "axial_flip": 0.0, "noise": 0.0, "blur": 0.0, "contrast": 0.0, "low_resolution": 0.0}
INTENSITY = ["noise", "blur", "contrast", "low_resolution"]


def augmentation(crop: tuple[int, int, int] = CROP, **changes: float) -> Augmentation:
    return Augmentation(AugmentationSettings(**{**OFF, **changes}), crop, AIR)


def balls(shape: tuple[int, int, int] = (60, 90, 100), radius: float = 9) -> tuple[np.ndarray, np.ndarray]:
    """Two bright balls in soft tissue, of different values, and their classes."""
    position = np.indices(shape)
    target = np.zeros(shape, dtype=np.uint8)
    for value, share in ((1, (0.4, 0.4, 0.3)), (2, (0.6, 0.5, 0.7))):
        distance = sum((x - s * n) ** 2 for x, s, n in zip(position, share, shape, strict=True))
        target[distance < radius**2] = value
    return np.array([0.0, 3.0, 5.0])[target].astype(np.float16), target


def draw(n: int) -> np.random.Generator:
    return np.random.default_rng((7, n))


def test_result_is_plain_tensors_of_the_crops_size() -> None:
    image, target = balls()
    settings = {name: 1.0 for name in OFF}
    picture, classes = augmentation(**settings)(image, target, draw(0))
    # MONAI's MetaTensor would slow down every operation of the network.
    assert type(picture) is torch.Tensor and type(classes) is torch.Tensor
    assert (picture.shape, picture.dtype) == ((1, *CROP), torch.float32)
    assert (classes.shape, classes.dtype) == (CROP, torch.uint8)


def test_generator_alone_decides() -> None:
    image, target = balls()
    apply = Augmentation(AugmentationSettings(axial_flip=0.5), CROP, AIR)
    first = [apply(image, target, draw(n)) for n in range(6)]
    for seed in (torch.manual_seed, np.random.seed, python_random.seed):
        seed(99)
    global_state = np.random.get_state()[1].copy()
    torch_state = torch.get_rng_state()
    # In another order, and by another object: nothing is carried from sample to sample.
    again = {
        n: Augmentation(AugmentationSettings(axial_flip=0.5), CROP, AIR)(image, target, draw(n)) for n in (5, 2, 0)
    }
    for n, (picture, classes) in again.items():
        assert torch.equal(picture, first[n][0]) and torch.equal(classes, first[n][1])
    assert not torch.equal(first[0][0], first[1][0])
    assert np.array_equal(np.random.get_state()[1], global_state)
    assert torch.equal(torch.get_rng_state(), torch_state)


def test_input_is_left_alone() -> None:
    image, target = balls()
    before = image.copy(), target.copy()
    augmentation(**{name: 1.0 for name in OFF})(image, target, draw(0))
    assert np.array_equal(image, before[0]) and np.array_equal(target, before[1])


@pytest.mark.parametrize("share", [0.0, 1.0])
def test_without_changes_the_crop_is_cut_out_voxel_by_voxel(share: float) -> None:
    generator = np.random.default_rng(0)
    image = generator.normal(size=(60, 90, 100)).astype(np.float16)
    # Each voxel's class tells where it was.
    target = (np.indices(image.shape).sum(axis=0) % 250 + 1).astype(np.uint8)
    for n in range(5):
        picture, classes = augmentation(organ_centred=share)(image, target, draw(n))
        windows = np.lib.stride_tricks.sliding_window_view(image, CROP)
        places = np.argwhere(np.abs(windows[..., 3, 5, 7].astype(float) - float(picture[0, 3, 5, 7])) < 2e-3)
        cut = [windows[tuple(p)] for p in places]
        errors = [np.abs(c.astype(float) - picture[0].numpy()).max() for c in cut]
        assert min(errors) < 2e-3
        k, j, i = places[int(np.argmin(errors))]
        expected = target[k : k + CROP[0], j : j + CROP[1], i : i + CROP[2]]
        assert np.array_equal(classes.numpy(), expected)


@pytest.mark.parametrize("shape", [(20, 30, 40), (21, 31, 64), (32, 90, 33)])
def test_scan_smaller_than_the_crop_is_wholly_in_it_amid_air(shape: tuple[int, int, int]) -> None:
    generator = np.random.default_rng(0)
    image = generator.uniform(1, 2, shape).astype(np.float16)
    target = np.ones(shape, dtype=np.uint8)
    inside = np.minimum(shape, CROP)
    corners = set()
    for n in range(8):
        picture, classes = augmentation()(image, target, draw(n))
        assert int(classes.sum()) == np.prod(inside)
        places = np.argwhere(classes.numpy())
        corners.add(tuple(places.min(axis=0)))
        assert tuple(np.ptp(places, axis=0) + 1) == tuple(inside)
        np.testing.assert_allclose(picture[0][classes == 0].numpy(), AIR, atol=1e-3)
        values = picture[0][classes == 1].numpy()
        assert values.min() > 0.99 and values.max() < 2.01
    # It lies anywhere, not always in the middle.
    assert len(corners) > 4


def test_image_and_labels_move_together() -> None:
    image, target = balls()
    apply = augmentation(affine=1.0, axial_flip=0.5, organ_centred=1.0, rotate_degrees=30, scale=0.3, shear=0.1)
    seen = 0
    for n in range(12):
        picture, classes = apply(image, target, draw(n))
        # Halfway between tissue and ball 1, and between ball 1 and ball 2 where both are bright.
        bright = picture[0].numpy() > 1.5
        labelled = classes.numpy() > 0
        if labelled.sum() < 500:
            continue
        seen += 1
        overlap = 2 * (bright & labelled).sum() / (bright.sum() + labelled.sum())
        assert overlap > 0.95
        for value, z_score in ((1, 3.0), (2, 5.0)):
            core = ndimage.binary_erosion(classes.numpy() == value, iterations=3)
            assert np.abs(picture[0].numpy()[core] - z_score).max(initial=0) < 0.05
    assert seen >= 8


def test_affine_changes_size_and_place() -> None:
    image, target = balls()
    volumes = []
    for n in range(10):
        classes = augmentation(crop=(64, 96, 112), affine=1.0, scale=0.3, organ_centred=0.0)(image, target, draw(n))[1]
        volumes.append(int((classes == 1).sum()))
    assert np.ptp(volumes) > 0.3 * (target == 1).sum()


def test_axial_flip_swaps_left_and_right_alone() -> None:
    image, target = balls()
    for n in range(2):
        # As drawn: affine and flip take a number each, whether they happen or not.
        plain = augmentation(organ_centred=0.0)(image, target, draw(n))
        flipped = augmentation(organ_centred=0.0, axial_flip=1.0)(image, target, draw(n))
        assert torch.equal(flipped[1], plain[1].flip(2))
        assert not torch.equal(flipped[1], plain[1])
        torch.testing.assert_close(flipped[0], plain[0].flip(3), atol=2e-3, rtol=0)


@pytest.mark.parametrize("change", INTENSITY)
def test_intensity_changes_leave_labels_and_anatomy(change: str) -> None:
    image, target = balls()
    differences = []
    for n in range(4):
        plain = augmentation(organ_centred=1.0)(image, target, draw(n))
        changed = augmentation(organ_centred=1.0, **{change: 1.0})(image, target, draw(n))
        assert torch.equal(changed[1], plain[1])
        differences.append(float((changed[0] - plain[0]).abs().max()))
        assert torch.isfinite(changed[0]).all()
        # What was bright is bright still.
        correlation = np.corrcoef(changed[0].numpy().ravel(), plain[0].numpy().ravel())[0, 1]
        assert correlation > 0.8
    assert max(differences) > 0.2


def test_constant_scan_stays_finite() -> None:
    image, target = np.zeros((40, 50, 60), dtype=np.float16), np.zeros((40, 50, 60), dtype=np.uint8)
    for n in range(4):
        picture, classes = augmentation(**{name: 1.0 for name in OFF})(image, target, draw(n))
        assert torch.isfinite(picture).all()
        assert not classes.any()


def test_organ_centred_share_of_crops_holds_an_organ() -> None:
    # One small organ in a corner of a large scan: by chance alone it is seldom hit.
    image = np.zeros((64, 64, 128), dtype=np.float16)
    target = np.zeros(image.shape, dtype=np.uint8)
    target[:3, :3, :3] = 1
    hits = {}
    for share in (0.0, 0.5, 1.0):
        apply = augmentation((32, 32, 32), organ_centred=share)
        hits[share] = sum(bool(apply(image, target, draw(n))[1].any()) for n in range(60))
    assert hits[1.0] == 60
    assert hits[0.0] < 12
    # 60 draws of at least one half: 20 to 45 with more than 99 % probability.
    assert 20 <= hits[0.5] <= 45


def test_small_organs_are_chosen_as_often_as_large_ones() -> None:
    image = np.zeros((64, 64, 160), dtype=np.float16)
    target = np.zeros(image.shape, dtype=np.uint8)
    target[:, :, :60] = 1
    target[30:33, 30:33, 140:143] = 2
    apply = augmentation((32, 32, 32), organ_centred=1.0)
    small = sum(bool((apply(image, target, draw(n))[1] == 2).any()) for n in range(60))
    assert 18 <= small <= 42
