from __future__ import annotations

import itertools

import numpy as np
import pytest

from AGTraining.imaging.resample import Grid, GridSampler, canonical_grid, resample, resample_labels
from AGTraining.imaging.volume import Volume

FILL = -5000.0
SLOPE, OFFSET = np.array([1.7, -2.3, 0.9]), 31.0
# The range of the ramp's values is some 500, and float32 keeps seven digits.
TOLERANCE = 2e-3
ORIENTATIONS = [
    (order, signs) for order in itertools.permutations(range(3)) for signs in itertools.product((1, -1), repeat=3)
]
SPACINGS = {"isotropic": (2.0, 2.0, 2.0), "anisotropic": (1.5, 2.2, 3.1)}
SHAPES = ["straight", "oblique", "sheared"]


def names(orientation: tuple[tuple[int, ...], tuple[int, ...]]) -> str:
    """As in LPS: which way i, j and k run."""
    order, signs = orientation
    return "".join("LPS"[axis] if sign > 0 else "RAI"[axis] for axis, sign in zip(order, signs, strict=True))


def make_matrix(
    orientation: tuple[tuple[int, ...], tuple[int, ...]], spacing: tuple[float, ...], form: str
) -> np.ndarray:
    """(i, j, k) → LPS: axes in the given order and signs, turned or sheared, somewhere in the scanner."""
    order, signs = orientation
    linear = np.zeros((3, 3))
    for column, (row, sign) in enumerate(zip(order, signs, strict=True)):
        linear[row, column] = sign * spacing[column]
    if form == "oblique":
        a, b = np.deg2rad(17), np.deg2rad(-11)
        about_z = np.array([[np.cos(a), -np.sin(a), 0], [np.sin(a), np.cos(a), 0], [0, 0, 1]])
        about_x = np.array([[1, 0, 0], [0, np.cos(b), -np.sin(b)], [0, np.sin(b), np.cos(b)]])
        linear = about_z @ about_x @ linear
    elif form == "sheared":
        # A tilted gantry: slices are shifted to the back as they go up.
        linear = np.array([[1, 0, 0], [0, 1, 0.3], [0, 0, 1]]) @ linear
    matrix = np.eye(4)
    matrix[:3, :3], matrix[:3, 3] = linear, (-31.4, 52.7, -213.9)
    return matrix


def positions(grid: Grid) -> np.ndarray:
    """LPS of each voxel's centre, (K, J, I, 3)."""
    k, j, i = np.indices(grid.shape, dtype=np.float64)
    ijk = np.stack((i, j, k), axis=-1)
    return ijk @ grid.ijk_to_world[:3, :3].T + grid.ijk_to_world[:3, 3]


def ramp(grid: Grid, origin: np.ndarray) -> np.ndarray:
    """A value that depends on the place in the patient alone."""
    return (positions(grid) - origin) @ SLOPE + OFFSET


def indices_in(grid: Grid, world: np.ndarray) -> np.ndarray:
    """Continuous (i, j, k) of points in LPS."""
    inverse = np.linalg.inv(grid.ijk_to_world)
    return world @ inverse[:3, :3].T + inverse[:3, 3]


def within(grid: Grid, world: np.ndarray, margin: float) -> np.ndarray:
    """Which points lie in the box of the voxels' centres, grown by a margin in voxels."""
    index = indices_in(grid, world)
    return np.all((index >= -margin) & (index <= np.array(grid.shape[::-1]) - 1 + margin), axis=-1)


def centroid(mask: np.ndarray, grid: Grid) -> np.ndarray:
    return np.asarray(positions(grid)[mask].mean(axis=0))


GEOMETRIES = list(itertools.product(SPACINGS, SHAPES))


@pytest.mark.parametrize("orientation", ORIENTATIONS, ids=names)
def test_ramp_in_patient_coordinates_is_kept_there_and_back(orientation: tuple) -> None:
    for spacing, form in GEOMETRIES:
        matrix = make_matrix(orientation, SPACINGS[spacing], form)
        source = Grid((9, 11, 13), matrix)
        origin = matrix[:3, 3]
        volume = Volume(ramp(source, origin).astype(np.float32), matrix)
        grid = canonical_grid(volume, (2.1, 1.9, 2.4))

        forward = resample(volume, grid, FILL)
        expected, world = ramp(grid, origin), positions(grid)
        inside = within(source, world, -1e-6)
        assert inside.sum() > 200, (spacing, form)
        np.testing.assert_allclose(forward[inside], expected[inside], atol=TOLERANCE, err_msg=f"{spacing} {form}")
        assert (forward[~within(source, world, 0.5 + 1e-6)] == FILL).all()

        # Back: exact where all neighbours on the model's grid were.
        back_inside = GridSampler(inside.astype(np.float32), grid, source, 0.0)
        sampler = GridSampler(forward, grid, source, FILL)
        whole = (slice(0, 9), slice(0, 11), slice(0, 13))
        known = back_inside.sample(whole) > 1 - 1e-5
        assert known.sum() > 150, (spacing, form)
        back = sampler.sample(whole)
        np.testing.assert_allclose(back[known], volume.array[known], atol=2 * TOLERANCE, err_msg=f"{spacing} {form}")


@pytest.mark.parametrize("orientation", ORIENTATIONS, ids=names)
def test_canonical_grid_runs_along_the_patients_axes_and_covers_the_outer_faces(orientation: tuple) -> None:
    for spacing, form in GEOMETRIES:
        source = Grid((9, 11, 13), make_matrix(orientation, SPACINGS[spacing], form))
        grid = canonical_grid(source, (2.0, 2.5, 3.0))
        np.testing.assert_array_equal(grid.ijk_to_world[:3, :3], np.diag([2.0, 2.5, 3.0]))
        ends = [(-0.5, n - 0.5) for n in source.shape[::-1]]
        corners = np.array(list(itertools.product(*ends))) @ source.ijk_to_world[:3, :3].T + source.ijk_to_world[:3, 3]
        low = grid.ijk_to_world[:3, 3] - grid.spacing / 2
        high = low + grid.spacing * grid.shape[::-1]
        # Faces may stand out by rounding only, and the grid is no larger than it must be.
        assert (low <= corners.min(axis=0) + 1e-3).all() and (high >= corners.max(axis=0) - 1e-3).all()
        assert (high - low < np.ptp(corners, axis=0) + grid.spacing).all()
        np.testing.assert_allclose((low + high) / 2, (corners.min(axis=0) + corners.max(axis=0)) / 2)


@pytest.mark.parametrize("orientation", ORIENTATIONS, ids=names)
def test_asymmetric_label_stays_where_it_is_in_the_patient(orientation: tuple) -> None:
    for spacing, form in GEOMETRIES:
        source = Grid((22, 24, 26), make_matrix(orientation, SPACINGS[spacing], form))
        k, j, i = np.indices(source.shape)
        blob = ((k - 8) / 5) ** 2 + ((j - 10) / 6) ** 2 + ((i - 9) / 7) ** 2 < 1
        blob |= (abs(k - 10) < 3) & (abs(j - 11) < 3) & (i >= 9) & (i < 21)
        labels = Volume(np.where(blob, 5, 0).astype(np.int16), source.ijk_to_world)
        grid = canonical_grid(labels, (2.0, 2.0, 2.0))
        classes = resample_labels(labels, grid, [[7], [5]])
        assert set(np.unique(classes)) == {0, 2}
        shift = centroid(classes == 2, grid) - centroid(blob, source)
        assert np.abs(shift / grid.spacing).max() < 0.2, (spacing, form, shift)
        source_ml = blob.sum() * abs(np.linalg.det(source.ijk_to_world[:3, :3]))
        assert (classes == 2).sum() * 8.0 == pytest.approx(source_ml, rel=0.05)

        back = GridSampler((classes == 2).astype(np.float32), grid, source, 0.0).sample(
            (slice(0, 22), slice(0, 24), slice(0, 26))
        )
        overlap = 2 * ((back > 0.5) & blob).sum() / ((back > 0.5).sum() + blob.sum())
        assert overlap > 0.9, (spacing, form)


@pytest.mark.parametrize("orientation", ORIENTATIONS[::5], ids=names)
@pytest.mark.parametrize("form", SHAPES)
def test_averaging_of_fine_voxels_shifts_nothing(orientation: tuple, form: str) -> None:
    matrix = make_matrix(orientation, (0.9, 1.1, 0.7), form)
    # Sizes that no block of 3, 4 or 5 voxels divides.
    source = Grid((31, 29, 37), matrix)
    volume = Volume(ramp(source, matrix[:3, 3]).astype(np.float32), matrix)
    grid = canonical_grid(volume, (4.0, 4.0, 4.0))
    result, world = resample(volume, grid, FILL), positions(grid)
    # Centres of the outermost whole blocks are at most 4 + 5/2 voxels from the edge.
    inside = within(source, world, -7.0)
    assert inside.sum() > 25
    np.testing.assert_allclose(result[inside], ramp(grid, matrix[:3, 3])[inside], atol=TOLERANCE)


def test_blocks_of_fine_voxels_are_averaged_and_not_skipped() -> None:
    draw = np.random.default_rng(0)
    noise = draw.normal(0, 100, (24, 24, 24)).astype(np.float32)
    volume = Volume(noise, np.eye(4))
    result = resample(volume, canonical_grid(volume, (3.0, 3.0, 3.0)), FILL)
    blocks = noise.reshape(8, 3, 8, 3, 8, 3).mean(axis=(1, 3, 5))
    np.testing.assert_allclose(result, blocks, atol=1e-3)
    assert result.std() < 30


def test_averaging_needs_twice_the_resolution() -> None:
    draw = np.random.default_rng(0)
    noise = draw.normal(0, 100, (10, 10, 10)).astype(np.float32)
    volume = Volume(noise, np.eye(4))
    firsts = [resample(volume, Grid((4, 4, 4), np.diag([s, s, s, 1.0])), FILL)[0, 0, 0] for s in (1.9, 2.0)]
    assert firsts[0] == pytest.approx(noise[0, 0, 0], rel=1e-5)
    assert firsts[1] == pytest.approx(noise[:2, :2, :2].mean(), rel=1e-4)


@pytest.mark.parametrize("dtype", ["uint8", "int8", "uint16", "int16", "uint32", "int32", "float32", "float64"])
def test_nearest_keeps_type_and_values(dtype: str) -> None:
    array = np.arange(5 * 6 * 7).reshape(5, 6, 7).astype(dtype)
    volume = Volume(array, np.diag([-1.5, 2.0, 3.0, 1.0]))
    result = resample(volume, Grid.of(volume), fill=0, nearest=True)
    assert result.dtype == array.dtype
    np.testing.assert_array_equal(result, array)


@pytest.mark.parametrize("dtype", ["bool", "uint8", "int16", "float16", "int64", "float64"])
def test_linear_takes_any_type_and_gives_float32(dtype: str) -> None:
    array = (np.arange(5 * 6 * 7).reshape(5, 6, 7) % 2).astype(dtype)
    volume = Volume(array, np.eye(4))
    result = resample(volume, Grid.of(volume), FILL)
    assert result.dtype == np.float32
    np.testing.assert_array_equal(result, array.astype(np.float32))


def test_integers_are_not_rounded_between_voxels() -> None:
    volume = Volume(np.tile(np.array([0, 1, 0, 1], dtype=np.int16), (2, 2, 1)), np.eye(4))
    matrix = np.eye(4)
    matrix[0, 3] = 0.25
    result = resample(volume, Grid((2, 2, 3), matrix), FILL)
    np.testing.assert_allclose(result[0, 0], [0.25, 0.75, 0.25])


def test_single_slice_is_sampled_within_its_thickness() -> None:
    volume = Volume(np.full((1, 8, 8), 7.0, dtype=np.float32), np.diag([1.0, 1.0, 5.0, 1.0]))
    grid = canonical_grid(volume, (1.0, 1.0, 1.0))
    assert grid.shape == (5, 8, 8)
    np.testing.assert_array_equal(resample(volume, grid, FILL), 7.0)


def test_largest_fraction_of_a_voxel_gives_its_class() -> None:
    # Each model voxel is 2×2×2 label voxels; three classes and the rest.
    labels = np.zeros((2, 2, 8), dtype=np.uint8)
    labels[:, :, 0:2] = 1
    labels[:, :, 2:4].flat[:5] = 2
    labels[:, :, 4:6].flat[:3] = 2
    labels[:, :, 6:8].flat[:3] = 2
    labels[:, :, 6:8].flat[3:6] = 3
    labels[:, :, 6:8].flat[6:] = 1
    volume = Volume(labels, np.eye(4))
    result = resample_labels(volume, canonical_grid(volume, (2.0, 2.0, 2.0)), [[1], [2]])
    assert result.dtype == np.uint8
    # 8 of 8 voxels are 1; 5 are 2; 5 are background; 3 are 2, 3 are of a value that is no class, and 2 are 1.
    assert result[0, 0, :3].tolist() == [1, 2, 0]
    assert resample_labels(volume, canonical_grid(volume, (2.0, 2.0, 2.0)), [[1, 3], [2]])[0, 0].tolist() == [
        1,
        2,
        0,
        1,
    ]


def test_several_label_values_make_one_class() -> None:
    labels = np.zeros((4, 4, 8), dtype=np.int16)
    labels[:, :, 2:4], labels[:, :, 4:6] = 3, 4
    volume = Volume(labels, np.eye(4))
    result = resample_labels(volume, Grid.of(volume), [[9], [3, 4]])
    np.testing.assert_array_equal(result, np.where(labels > 0, 2, 0))


def test_outside_of_the_label_map_is_background() -> None:
    volume = Volume(np.ones((4, 4, 4), dtype=np.uint8), np.eye(4))
    matrix = np.eye(4)
    matrix[:3, 3] = -3
    result = resample_labels(volume, Grid((10, 10, 10), matrix), [[1]])
    assert result[3:7, 3:7, 3:7].all() and result.sum() == 64


@pytest.mark.parametrize("form", SHAPES)
def test_sampling_boxes_equals_sampling_the_whole(form: str) -> None:
    source = Grid((8, 9, 10), np.diag([2.0, 2.0, 2.0, 1.0]))
    target = Grid((12, 14, 16), make_matrix(((2, 0, 1), (1, -1, 1)), (1.1, 1.3, 0.9), form))
    moved = target.ijk_to_world.copy()
    moved[:3, 3] += positions(source).mean(axis=(0, 1, 2)) - positions(target).mean(axis=(0, 1, 2))
    target = Grid(target.shape, moved)
    array = np.random.default_rng(0).normal(size=source.shape).astype(np.float32)
    sampler = GridSampler(array, source, target, fill=-9.0)
    whole = sampler.sample((slice(0, 12), slice(0, 14), slice(0, 16)))
    assert (whole != -9).mean() > 0.2
    pieces = np.empty_like(whole)
    for k, j, i in itertools.product((0, 5), (0, 3, 9), (0, 11)):
        box = (
            slice(k, {0: 5, 5: 12}[k]),
            slice(j, {0: 3, 3: 9, 9: 14}[j]),
            slice(i, {0: 11, 11: 16}[i]),
        )
        pieces[box] = sampler.sample(box)
    np.testing.assert_allclose(pieces, whole, atol=1e-5)
