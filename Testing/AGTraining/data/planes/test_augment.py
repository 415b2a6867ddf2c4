"""Random changes of batches of frames."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from torch import Tensor

from AGTraining.data.planes.augment import PlaneAugmentation, draw, normalised, unchanged
from AGTraining.data.planes.settings import PlaneAugmentationSettings
from Testing.AGTraining.data.planes.frames_on_disk import picture

SIZE = (64, 80)
NOTHING = {"flip": 0, "affine": 0, "gain": 0, "speckle": 0, "blur": 0, "shadow": 0}
EVERYTHING = PlaneAugmentationSettings(
    vertical_flip=0.3, aspect=0.2, shift=0.1, zoom=0.3, gain=1, speckle=1, blur=1, shadow=1
)


def settings(**changes: float) -> PlaneAugmentationSettings:
    return PlaneAugmentationSettings.model_validate(NOTHING | changes)


def batch(count: int = 6) -> Tensor:
    """Frames with margins of 10 and 12 pixels."""
    return torch.from_numpy(np.stack([picture(n, (84, 104)) for n in range(count)]))[:, None]


def test_frames_larger_than_the_usual_noise_have_it_all_over() -> None:
    images = torch.full((1, 1, 700, 100), 128, dtype=torch.uint8)

    (picture_of_noise,) = PlaneAugmentation(settings(speckle=1.0), (672, 80))(images, [1])

    # Speckle has changed the first rows and the last ones.
    assert picture_of_noise[0, :32].std() > 0.01 and picture_of_noise[0, -32:].std() > 0.01


def test_without_changes_the_middle_comes_out() -> None:
    images = batch()

    pictures = PlaneAugmentation(settings(), SIZE)(images, range(6))

    assert pictures.shape == (6, 1, *SIZE) and pictures.dtype == torch.float32
    assert torch.allclose(pictures, unchanged(images, SIZE), atol=1e-4)


def test_a_sample_depends_on_the_seed_and_its_number_alone() -> None:
    images = batch()
    augmentation = PlaneAugmentation(EVERYTHING, SIZE, seed=5)
    together = augmentation(images, range(6))
    torch.manual_seed(99)

    alone = augmentation(images[4:5], [4])

    assert torch.allclose(alone, together[4:5], atol=1e-5)
    assert not torch.allclose(augmentation(images[4:5], [5]), alone, atol=0.05)
    assert not torch.allclose(PlaneAugmentation(EVERYTHING, SIZE, seed=6)(images[4:5], [4]), alone, atol=0.05)


@pytest.mark.parametrize(("name", "axis"), [("flip", -1), ("vertical_flip", -2)])
def test_flips_mirror_the_frame(name: str, axis: int) -> None:
    images = batch(2)

    flipped = PlaneAugmentation(settings(**{name: 1}), SIZE)(images, range(2))

    assert torch.allclose(flipped, unchanged(images, SIZE).flip(axis), atol=1e-4)


def blob(x: float, y: float) -> Tensor:
    """A frame with margins that is bright around a point, in pixels from the middle, x to the right."""
    rows, columns = torch.meshgrid(torch.arange(84) - 41.5, torch.arange(104) - 51.5, indexing="ij")
    return (255 * torch.exp(-((columns - x) ** 2 + (rows - y) ** 2) / 8)).to(torch.uint8)[None, None]


def centre(pictures: Tensor) -> tuple[float, float]:
    """The middle of what is bright, as for `blob`."""
    weights = pictures[0, 0] / pictures.sum()
    rows, columns = torch.arange(SIZE[0]) - (SIZE[0] - 1) / 2, torch.arange(SIZE[1]) - (SIZE[1] - 1) / 2
    return float((weights.sum(0) * columns).sum()), float((weights.sum(1) * rows).sum())


def test_the_affine_map_is_the_one_that_was_drawn_in_pixels() -> None:
    """A rotation turns by the same angle whatever the sides of the input; a scale enlarges, a shift moves."""
    chosen = settings(affine=1, rotate_degrees=25, scale=0.3, shift=0.05)
    augmentation = PlaneAugmentation(chosen, SIZE)
    for number in range(5):
        change = draw(chosen, 0, number)
        cos, sin = math.cos(change.angle), math.sin(change.angle)
        x = change.scale * (12 * cos + 7 * sin) + change.shift_x * SIZE[1] / 2
        y = change.scale * (12 * sin - 7 * cos) + change.shift_y * SIZE[0] / 2

        assert centre(augmentation(blob(12, -7), [number])) == pytest.approx((x, y), abs=0.1)


def test_drawn_values_stay_within_the_settings_and_reach_their_ends() -> None:
    chosen = settings(affine=1, rotate_degrees=25, scale=0.3, shift=0.02)
    changes = [draw(chosen, 1, n) for n in range(400)]

    angles = np.degrees([change.angle for change in changes])
    scales = np.array([change.scale for change in changes])
    # Of the whole input's size; a grid counts in halves.
    shifts = np.array([[change.shift_x, change.shift_y] for change in changes]) / 2
    assert 24 < np.abs(angles).max() <= 25 and abs(angles.mean()) < 2.5
    assert 0.7 <= scales.min() < 0.72 and 1.28 < scales.max() <= 1.3
    assert 0.019 < np.abs(shifts).max() <= 0.02


def test_a_strong_crop_never_shows_more_than_the_input() -> None:
    """An input that is bright as a whole stays so: what is enlarged and shifted has no black."""
    images = torch.zeros(40, 1, 84, 104, dtype=torch.uint8)
    images[..., 10:-10, 12:-12] = 200

    pictures = PlaneAugmentation(settings(zoom=1), SIZE)(images, range(40))

    assert float(pictures[..., 1:-1, 1:-1].min()) > 0.7
    zooms = [draw(settings(zoom=1), 0, n).scale for n in range(40)]
    assert 1 <= min(zooms) < 1.2 and 2.6 < max(zooms) <= 3


def test_margins_fill_what_a_smaller_scale_shows() -> None:
    images = torch.full((1, 1, 84, 104), 200, dtype=torch.uint8)
    number = next(n for n in range(99) if 0.8 < draw(settings(affine=1, rotate_degrees=0), 0, n).scale < 0.82)

    pictures = PlaneAugmentation(settings(affine=1, rotate_degrees=0), SIZE)(images, [number])

    assert float(pictures.min()) > 0.7


@pytest.mark.parametrize("kind", ["gain", "speckle", "blur", "shadow"])
def test_changes_of_brightness_keep_the_range_and_what_is_black(kind: str) -> None:
    images = batch()
    images[..., :30] = 0

    pictures = PlaneAugmentation(settings(**{kind: 1}), SIZE)(images, range(6))

    before = unchanged(images, SIZE)
    assert float(pictures.min()) >= 0 and float(pictures.max()) <= 1
    # Blurring spreads by two pixels.
    assert float(pictures[..., :16].max()) == 0
    # More than rounding.
    assert float((pictures - before).abs().mean()) > 0.002


def test_a_shadow_darkens_a_part_of_the_frame_only() -> None:
    images = torch.full((8, 1, 84, 104), 200, dtype=torch.uint8)

    pictures = PlaneAugmentation(settings(shadow=1), SIZE)(images, range(8))

    share = pictures / (200 / 255)
    assert float(share.max()) <= 1 + 1e-5
    assert bool((share.amin(dim=(1, 2, 3)) < 0.65).all())
    # The median of each frame is out of the shadow.
    assert bool((share.flatten(1).median(dim=1).values > 0.95).all())


def test_probabilities_decide_how_often() -> None:
    often = settings(flip=0.25, speckle=0.6)
    changes = [draw(often, 0, n) for n in range(1000)]

    assert sum(change.flip < 0 for change in changes) == pytest.approx(250, abs=45)
    assert sum(change.speckle > 0 for change in changes) == pytest.approx(600, abs=50)


def test_another_probability_changes_nothing_else() -> None:
    one, other = draw(settings(affine=1), 0, 7), draw(settings(affine=1, flip=1, shadow=1), 0, 7)

    assert (one.angle, one.scale, one.shift_x) == (other.angle, other.scale, other.shift_x)


def test_marked_frames_get_the_strong_changes() -> None:
    images = batch(2)
    augmentation = PlaneAugmentation(settings(), SIZE, strong=settings(flip=1))

    pictures = augmentation(images, [0, 1], torch.tensor([False, True]))

    plain = unchanged(images, SIZE)
    assert torch.allclose(pictures[0], plain[0], atol=1e-4)
    assert torch.allclose(pictures[1], plain[1].flip(-1), atol=1e-4)


def test_z_scores_of_each_frame_and_zeros_where_it_is_flat() -> None:
    pictures = unchanged(batch(2), SIZE)
    pictures[1] = 0.4

    inputs = normalised(pictures, scale=255)

    assert float(inputs[0].mean()) == pytest.approx(0, abs=1e-2)
    assert float(inputs[0].std(unbiased=False)) == pytest.approx(255, rel=1e-4)
    assert bool((inputs[1] == 0).all())


@pytest.mark.gpu
def test_on_a_gpu_the_same_comes_out() -> None:
    images = batch()
    augmentation = PlaneAugmentation(EVERYTHING, SIZE)

    assert torch.allclose(augmentation(images.cuda(), range(6)).cpu(), augmentation(images, range(6)), atol=2e-3)
