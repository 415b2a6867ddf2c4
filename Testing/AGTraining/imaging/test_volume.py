from __future__ import annotations

import numpy as np
import pytest
import SimpleITK as sitk

from AGTraining.errors import InputError
from AGTraining.imaging.volume import Volume

OBLIQUE = sitk.Euler3DTransform()
OBLIQUE.SetRotation(0.3, -0.2, 0.5)


def oblique_matrix() -> np.ndarray:
    matrix = np.eye(4)
    matrix[:3, :3] = np.reshape(OBLIQUE.GetMatrix(), (3, 3)) * (0.7, 0.8, 2.5)
    matrix[:3, 3] = (-120.0, 35.5, 900.25)
    return matrix


def ramp() -> np.ndarray:
    return np.arange(2 * 3 * 4, dtype=np.int16).reshape(2, 3, 4)


def test_same_voxel_lies_at_the_same_point_in_itk() -> None:
    volume = Volume(ramp(), oblique_matrix())
    image = volume.to_sitk()
    for index in [(0, 0, 0), (3, 2, 1), (1, 2, 0)]:
        expected = (volume.ijk_to_world @ (*index, 1))[:3]
        assert image.TransformIndexToPhysicalPoint(index) == pytest.approx(expected, abs=1e-6)
        assert image[index] == volume.array[index[::-1]]


def test_itk_and_back_is_the_same_volume() -> None:
    volume = Volume(ramp(), oblique_matrix())
    back = Volume.from_sitk(volume.to_sitk(), "back")
    assert np.array_equal(back.array, volume.array)
    assert back.array.dtype == volume.array.dtype
    assert np.allclose(back.ijk_to_world, volume.ijk_to_world, atol=1e-9)


def test_spacing_extent_and_voxel_volume_are_those_of_the_axes() -> None:
    volume = Volume(ramp(), oblique_matrix())
    assert volume.size == (4, 3, 2)
    assert volume.spacing == pytest.approx((0.7, 0.8, 2.5))
    assert volume.extent_mm == pytest.approx((2.8, 2.4, 5.0))
    assert volume.voxel_volume_ml == pytest.approx(0.7 * 0.8 * 2.5 / 1000)


def test_shear_does_not_change_the_voxel_volume() -> None:
    matrix = np.diag([1.0, 1.0, 5.0, 1.0])
    matrix[1, 2] = 2.0
    assert Volume(ramp(), matrix).voxel_volume_ml == pytest.approx(0.005)


def test_sheared_grid_is_refused_as_itk_image() -> None:
    matrix = np.diag([1.0, 1.0, 5.0, 1.0])
    matrix[1, 2] = 2.0
    with pytest.raises(InputError, match=r"tilted\.nii: its grid is sheared"):
        Volume(ramp(), matrix, "tilted.nii").to_sitk()


@pytest.mark.parametrize("shape", [(3, 4), (1, 2, 3, 4)])
def test_only_three_dimensions_are_taken(shape: tuple[int, ...]) -> None:
    with pytest.raises(InputError, match="3-D scalar volume"):
        Volume(np.zeros(shape), np.eye(4))


@pytest.mark.parametrize(
    ("matrix", "reason"),
    [
        (np.diag([1.0, 1.0, 0.0, 1.0]), "spacing is zero"),
        (np.array([[1, 0, 1, 0], [0, 1, 0, 0], [0, 0, 0, 0], [0, 0, 0, 1.0]]), "spacing is zero"),
        (np.diag([1.0, np.nan, 1.0, 1.0]), "not a finite 4×4 matrix"),
        (np.eye(3), "not a finite 4×4 matrix"),
        (np.array([[1, 0, 0, 0], [0, 1, 0, 0], [0, 0, 1, 0], [0, 0, 0.1, 1.0]]), "not an affine matrix"),
    ],
)
def test_matrix_without_inverse_is_refused(matrix: np.ndarray, reason: str) -> None:
    with pytest.raises(InputError, match=reason):
        Volume(ramp(), matrix)


def test_geometry_cannot_be_changed_from_outside() -> None:
    matrix = np.eye(4)
    volume = Volume(ramp(), matrix)
    matrix[0, 0] = 5.0
    assert volume.spacing[0] == 1.0
    with pytest.raises(ValueError, match="read-only"):
        volume.ijk_to_world[0, 0] = 5.0


def test_same_grid_compares_places_not_numbers() -> None:
    volume = Volume(ramp(), oblique_matrix())
    moved = oblique_matrix()
    moved[0, 3] += 5e-4
    assert volume.same_grid(Volume(ramp(), moved))
    moved[0, 3] += 5e-3
    assert not volume.same_grid(Volume(ramp(), moved))
    assert not volume.same_grid(Volume(ramp()[:1], oblique_matrix()))


def test_other_values_must_fit_the_grid() -> None:
    volume = Volume(ramp(), oblique_matrix(), "ct")
    assert volume.with_array(np.ones((2, 3, 4))).name == "ct"
    with pytest.raises(ValueError, match="does not fit"):
        volume.with_array(np.ones((2, 3, 5)))
