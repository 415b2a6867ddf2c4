from __future__ import annotations

import numpy as np
import pytest
from pydantic import ValidationError

from AGTraining.imaging.intensity import IntensityRule


def test_values_are_clipped_and_scaled_by_the_given_mean_and_sd() -> None:
    rule = IntensityRule(low=-200, high=300, mean=50, sd=100)
    result = rule.apply(np.array([-1000, -200, 50, 150, 300, 3000], dtype=np.int16))
    assert result.dtype == np.float32
    np.testing.assert_allclose(result, [-2.5, -2.5, 0, 1, 2.5, 2.5])


def test_without_mean_and_sd_the_voxels_above_low_get_mean_0_and_sd_1() -> None:
    draw = np.random.default_rng(0)
    scan = np.full((20, 20, 20), -1000.0)
    body = np.zeros(scan.shape, dtype=bool)
    body[5:15, 5:15, 5:15] = True
    scan[body] = draw.normal(40, 30, int(body.sum()))
    result = IntensityRule().apply(scan)
    assert result[body].mean() == pytest.approx(0, abs=1e-4)
    assert result[body].std() == pytest.approx(1, abs=1e-4)
    # Air takes no part in mean and sd; it is clipped to −200 HU.
    assert result[~body].max() == pytest.approx((-200 - scan[body].mean()) / scan[body].std(), rel=1e-4)


def test_values_that_are_not_finite_count_as_air_or_as_the_upper_limit() -> None:
    rule = IntensityRule(low=-200, high=300, mean=0, sd=100)
    result = rule.apply(np.array([np.nan, -np.inf, np.inf, 100.0]))
    np.testing.assert_allclose(result, [-2, -2, 3, 1])


@pytest.mark.parametrize("value", [-1000.0, 40.0])
def test_constant_image_stays_finite(value: float) -> None:
    result = IntensityRule().apply(np.full((4, 4, 4), value))
    assert np.isfinite(result).all()
    assert np.ptp(result) == 0


def test_integers_of_the_caller_are_left_alone() -> None:
    scan = np.array([-1000, 0, 1000], dtype=np.int16)
    IntensityRule(mean=0, sd=1).apply(scan)
    assert scan.tolist() == [-1000, 0, 1000]


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({"low": 1, "high": 1}, "low must be below high"),
        ({"mean": 1}, "both mean and sd"),
        ({"sd": 1}, "both mean and sd"),
        ({"mean": 1, "sd": 0}, "sd must be positive"),
        ({"low": float("nan")}, "finite number"),
        ({"mean": 0, "sd": float("inf")}, "finite number"),
        ({"hihg": 3}, "Extra inputs"),
    ],
)
def test_rules_that_make_no_sense_are_refused(values: dict[str, float], message: str) -> None:
    with pytest.raises(ValidationError, match=message):
        IntensityRule(**values)
