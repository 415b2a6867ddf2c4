"""From frames to inputs: crops, resampling as Pillow's, z-scores, and boxes there and back."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from PIL import Image

from AGTraining.imaging.box import Box
from AGTraining.imaging.frame_rule import FrameRule, resample


def noise(rows: int, columns: int, *channels: int) -> np.ndarray:
    return np.random.default_rng(rows).integers(0, 256, (rows, columns, *channels), dtype=np.uint8)


@pytest.mark.parametrize("size", [(32, 48), (208, 272), (160, 48)], ids=str)
@pytest.mark.parametrize("box", [(0, 0, 97, 83), (11, 5, 90, 61), (40, 30, 60, 50)], ids=str)
def test_resampling_is_pillows_bilinear_with_antialiasing(size: tuple[int, int], box: tuple[int, ...]) -> None:
    image = noise(83, 97).astype(np.float32)
    expected = Image.fromarray(image).crop(box).resize(size[::-1], Image.Resampling.BILINEAR)
    np.testing.assert_allclose(resample(image, Box(*box), size), np.asarray(expected), atol=2e-4)


def test_rounded_resampling_is_pillows_of_8_bit_pictures() -> None:
    image = noise(619, 793)
    expected = np.asarray(Image.fromarray(image).resize((288, 224), Image.Resampling.BILINEAR), np.float32)
    difference = np.abs(resample(image, Box(0, 0, 793, 619), (224, 288), rounded=True) - expected)
    # Pillow's weights are whole numbers of 22 bits: what lies between two levels may fall to either side.
    assert float(difference.max()) <= 1
    assert float((difference > 0).mean()) < 1e-3


def test_beyond_the_frame_is_black_and_inside_is_unchanged() -> None:
    image = np.full((32, 32), 100, np.uint8)
    result = resample(image, Box(-16, 0, 48, 32), (32, 64))
    np.testing.assert_allclose(result[:, :16], 0)
    np.testing.assert_allclose(result[:, 16:48], 100)
    np.testing.assert_allclose(result[:, 48:], 0)


def test_box_that_misses_the_frame_is_black() -> None:
    for box in (Box(50, 50, 90, 90), Box(-90, 0, -40, 30)):
        assert not resample(np.ones((32, 32), np.uint8), box, (16, 16)).any()


def test_input_is_the_z_score_of_the_cropped_frame_times_the_scale() -> None:
    rule = FrameRule(size=(32, 48), crop="centre", scale=255)
    x, box = rule.apply(noise(90, 100))
    assert x.dtype == np.float32
    assert x.shape == (32, 48)
    assert float(x.mean()) == pytest.approx(0, abs=1e-3)
    assert float(x.std()) == pytest.approx(255, rel=1e-4)
    plain = resample(noise(90, 100), box, (32, 48))
    np.testing.assert_allclose(x, 255 * (plain - plain.mean()) / plain.std(), atol=1e-2)


@pytest.mark.parametrize("value", [0, 7, 255])
def test_constant_frame_gives_zeros(value: int) -> None:
    for crop in ("centre", "sector"):
        x, _ = FrameRule(size=(32, 48), crop=crop).apply(np.full((50, 70), value, np.uint8))
        assert not x.any()


def test_values_that_are_not_finite_count_as_black() -> None:
    image = noise(50, 70).astype(np.float32)
    image[10, 10], image[20, 20], image[30, 30] = np.nan, np.inf, -np.inf
    black = np.where(np.isfinite(image), image, 0)
    for crop in ("centre", "sector"):
        rule = FrameRule(size=(32, 48), crop=crop)
        np.testing.assert_array_equal(rule.apply(image)[0], rule.apply(black)[0])


def test_brighter_and_deeper_frames_give_the_same_input() -> None:
    rule = FrameRule(size=(32, 48), crop="centre")
    image = noise(50, 70)
    np.testing.assert_allclose(rule.apply(image.astype(np.uint16) * 200 + 30)[0], rule.apply(image)[0], atol=1e-3)


def test_gray_of_a_color_frame_is_the_mean_of_its_three() -> None:
    color = noise(50, 70, 3)
    for crop in ("centre", "sector"):
        rule = FrameRule(size=(32, 48), crop=crop)
        gray = color.mean(axis=2, dtype=np.float32)
        assert rule.crop_of(color) == rule.crop_of(gray)
        np.testing.assert_allclose(rule.apply(color)[0], rule.apply(gray)[0], atol=1e-4)


def test_centre_is_the_papers_central_crop() -> None:
    # The paper's frames of 224×288, their central 208×272.
    box = FrameRule(crop="centre", share=272 / 288).crop_of(np.zeros((224, 288), np.uint8))
    assert box.edges == pytest.approx((8, 8, 280, 216))
    wide = FrameRule(crop="centre").crop_of(np.zeros((208, 600), np.uint8))
    assert wide.edges == pytest.approx((164, 0, 436, 208))


def test_sector_crop_keeps_proportions_and_contains_the_sector() -> None:
    frame = np.zeros((300, 400), np.uint8)
    frame[50:250, 120:220] = noise(200, 100)
    rule = FrameRule()
    box = rule.crop_of(frame)
    assert box.width / box.height == pytest.approx(272 / 208)
    assert box.x0 < 124
    assert box.x1 > 216
    assert box.y0 == pytest.approx(50, abs=4)
    assert box.y1 == pytest.approx(250, abs=4)


def test_fixed_crop_is_taken_where_the_frame_is_large_enough() -> None:
    rule = FrameRule(size=(224, 288), crop="fixed", fixed=(115, 734, 81, 874))
    large, small = np.zeros((735, 975), np.uint8), np.zeros((480, 640), np.uint8)
    assert rule.crop_of(large) == Box(81, 115, 874, 734)
    assert rule.message(large) is None
    assert rule.crop_of(small) == FrameRule(size=(224, 288), crop="centre").crop_of(small)
    assert "480 rows and 640 columns, but the model's crop ends at row 734 and column 874" in (
        rule.message(small) or ""
    )


def test_boxes_go_to_the_frame_and_back() -> None:
    rule, crop = FrameRule(size=(208, 272)), Box(-10, 20, 534, 436)
    assert rule.to_frame(Box(0, 0, 272, 208), crop) == crop
    box = Box(30, 40, 100.5, 90)
    assert rule.to_frame(box, crop).edges == pytest.approx((50, 100, 191, 200))
    assert rule.to_input(rule.to_frame(box, crop), crop).edges == pytest.approx(box.edges)


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"size": (200, 272)}, "multiples of 16"),
        ({"size": (0, 272)}, "multiples of 16"),
        ({"crop": "fixed"}, "give 'fixed'"),
        ({"fixed": (0, 5, 0, 5)}, "give 'fixed'"),
        ({"crop": "fixed", "fixed": (9, 5, 0, 5)}, "from < to"),
        ({"share": 0}, "greater than 0"),
        ({"scale": float("nan")}, "finite"),
        ({"shear": 1}, "not permitted"),
    ],
    ids=str,
)
def test_wrong_rules_are_refused(fields: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        FrameRule.model_validate(fields)


@pytest.mark.parametrize("crop", ["centre", "sector"])
def test_frame_of_one_color_gives_zeros(crop: Any) -> None:
    image = np.full((200, 300, 3), (0, 0, 200), np.uint8)
    assert not FrameRule(crop=crop).apply(image)[0].any()


def test_frames_much_larger_than_the_fixed_crop_get_a_message() -> None:
    rule = FrameRule(size=(224, 288), crop="fixed", fixed=(115, 734, 81, 874))
    assert "1080 rows and 1920 columns, of which the model sees rows 115 to 734 and columns 81 to 874 only" in (
        rule.message(np.zeros((1080, 1920), np.uint8)) or ""
    )
