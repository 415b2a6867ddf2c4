from __future__ import annotations

import numpy as np
import pytest

from AGTraining.imaging.resample import Grid
from AGTraining.inference.laterality import left_side, midline

SHAPE = (40, 60, 90)
SPACING = 4.0


def make_grid() -> Grid:
    """Its x runs from -178 to 178 mm."""
    matrix = np.diag([SPACING, SPACING, SPACING, 1.0])
    matrix[:3, 3] = (-178.0, -118.0, 0.0)
    return Grid(SHAPE, matrix)


def world(grid: Grid) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """x, y, z in mm of each voxel."""
    k, j, i = np.indices(SHAPE)
    return tuple(grid.ijk_to_world[n, n] * index + grid.ijk_to_world[n, 3] for n, index in enumerate((i, j, k)))


def body(grid: Grid, middle: float = 0.0) -> np.ndarray:
    x, y, _ = world(grid)
    return np.where(((x - middle) / 150) ** 2 + (y / 100) ** 2 <= 1, 40.0, -1000.0).astype(np.float32)


def ball(grid: Grid, centre: tuple[float, float, float], radius: float) -> np.ndarray:
    x, y, z = world(grid)
    return (x - centre[0]) ** 2 + (y - centre[1]) ** 2 + (z - centre[2]) ** 2 <= radius**2


def add_spine(hounsfield: np.ndarray, grid: Grid, at: np.ndarray | float) -> None:
    x, y, _ = world(grid)
    at = np.broadcast_to(np.asarray(at, dtype=float), (SHAPE[0],))[:, None, None]
    hounsfield[(np.abs(x - at) < 20) & (np.abs(y - 60) < 18)] = 400


def test_midline_is_the_body_middle_where_no_bone_is_seen():
    grid = make_grid()
    assert np.allclose(midline(body(grid, middle=25.0), grid)[0], 25.0, atol=4)


def test_midline_follows_the_spine_of_a_scoliosis():
    grid = make_grid()
    hounsfield = body(grid)
    curve = 25 * np.sin(np.linspace(0, np.pi, SHAPE[0]))
    add_spine(hounsfield, grid, curve)
    assert np.abs(midline(hounsfield, grid)[0] - curve).max() < 6


def test_midline_says_whether_it_saw_the_spine():
    grid = make_grid()
    hounsfield = body(grid)
    assert midline(hounsfield, grid)[1] is False
    add_spine(hounsfield, grid, 0.0)
    assert midline(hounsfield, grid)[1] is True


def test_midline_is_the_spine_in_a_cut_off_field_of_view():
    grid = make_grid()
    hounsfield = body(grid)
    add_spine(hounsfield, grid, 0.0)
    # The patient's right side was not scanned beyond x = -80 mm: the middle of what is left is 35 mm off.
    hounsfield[:, :, world(grid)[0][0, 0] < -80] = -1000
    assert np.abs(midline(hounsfield, grid)[0]).max() < 4


def test_midline_is_not_drawn_to_a_bright_kidney():
    grid = make_grid()
    hounsfield = body(grid)
    kidney = ball(grid, (45.0, 40.0, 80.0), 28.0)
    hounsfield[kidney] = 260
    assert np.abs(midline(hounsfield, grid, organs=kidney)[0]).max() < 4


def test_midline_of_an_empty_scan_is_its_centre():
    grid = make_grid()
    assert np.allclose(midline(np.full(SHAPE, -1000, np.float32), grid)[0], 0.0, atol=SPACING)


@pytest.mark.parametrize("x", [-60.0, 60.0])
def test_a_kidney_belongs_to_the_side_where_it_lies(x):
    grid = make_grid()
    kidney = ball(grid, (x, 30.0, 80.0), 28.0)
    left = left_side(kidney, np.zeros(SHAPE[0]), grid)
    assert left[kidney].all() == (x > 0)
    assert left[kidney].any() == (x > 0)


def test_a_kidney_that_bends_over_the_midline_stays_whole():
    grid = make_grid()
    kidney = ball(grid, (22.0, 30.0, 80.0), 28.0)
    assert left_side(kidney, np.zeros(SHAPE[0]), grid)[kidney].all()


def test_a_horseshoe_kidney_is_cut_at_the_midline():
    grid = make_grid()
    x, _, _ = world(grid)
    halves = [ball(grid, (side * 45.0, 30.0, 80.0), 28.0) for side in (-1, 1)]
    horseshoe = halves[0] | halves[1] | ((np.abs(x) < 45) & ball(grid, (0.0, 30.0, 80.0), 46.0) & (world(grid)[1] < 32))
    left = left_side(horseshoe, np.zeros(SHAPE[0]), grid)
    assert left[horseshoe & (x > 0)].all()
    assert not left[horseshoe & (x < 0)].any()


def test_without_a_kidney_the_midline_decides():
    grid = make_grid()
    left = left_side(np.zeros(SHAPE, bool), np.full(SHAPE[0], 10.0), grid)
    assert np.array_equal(left, world(grid)[0] > 10)
