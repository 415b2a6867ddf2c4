"""A 3-D image with its geometry: the only form in which images travel inside AGTraining."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

import numpy as np

from AGTraining.errors import InputError

# Slicer imports this file when it starts; SimpleITK alone takes a third of a second.
if TYPE_CHECKING:
    import SimpleITK as sitk


@dataclass(frozen=True)
class Volume:
    """A scalar 3-D image and where its voxels lie in the patient.

    array: (K, J, I); I runs fastest, as in ITK, VTK and Slicer.
    ijk_to_world: (4, 4) affine from voxel indices (i, j, k) to **LPS** millimetres (DICOM's and ITK's
        patient coordinates: x to the left, y to the back, z to the head). Any invertible affine is allowed:
        flipped, permuted, oblique and sheared grids included.
    name: the file or node it came from, for messages.
    """

    array: np.ndarray
    ijk_to_world: np.ndarray
    name: str = "image"

    def __post_init__(self) -> None:
        """Raises InputError where the array is not 3-D or the matrix is no invertible affine."""
        if self.array.ndim != 3:
            raise InputError(
                f"{self.name}: a 3-D scalar volume is needed, but this one has {self.array.ndim} dimensions."
            )
        matrix = np.array(self.ijk_to_world, dtype=np.float64)
        if matrix.shape != (4, 4) or not np.all(np.isfinite(matrix)):
            raise InputError(f"{self.name}: its geometry is not a finite 4×4 matrix; check the file's header.")
        if not np.array_equal(matrix[3], (0.0, 0.0, 0.0, 1.0)):
            raise InputError(f"{self.name}: its geometry is not an affine matrix; harden the transform first.")
        if np.any(np.linalg.norm(matrix[:3, :3], axis=0) < 1e-6) or abs(np.linalg.det(matrix[:3, :3])) < 1e-12:
            raise InputError(f"{self.name}: voxel spacing is zero along an axis; correct the spacing in its header.")
        matrix.setflags(write=False)
        object.__setattr__(self, "ijk_to_world", matrix)

    @property
    def size(self) -> tuple[int, int, int]:
        """Number of voxels along (i, j, k)."""
        k, j, i = self.array.shape
        return i, j, k

    @property
    def spacing(self) -> np.ndarray:
        """Voxel edge lengths in mm along (i, j, k)."""
        return np.asarray(np.linalg.norm(self.ijk_to_world[:3, :3], axis=0))

    @property
    def voxel_volume_ml(self) -> float:
        """Volume of one voxel in ml (the determinant: right for sheared grids too)."""
        return float(abs(np.linalg.det(self.ijk_to_world[:3, :3]))) / 1000.0

    @property
    def extent_mm(self) -> np.ndarray:
        """Edge lengths in mm of the whole grid along (i, j, k)."""
        return np.asarray(self.spacing * np.asarray(self.size))

    def with_array(self, array: np.ndarray, name: str | None = None) -> Volume:
        """The same grid with other voxel values."""
        if array.shape != self.array.shape:
            raise ValueError(f"array of shape {array.shape} does not fit a grid of shape {self.array.shape}")
        return replace(self, array=array, name=self.name if name is None else name)

    def same_grid(self, other: Volume, tolerance_mm: float = 1e-3) -> bool:
        """Whether both have the same number of voxels at the same places (corners within tolerance)."""
        if self.array.shape != other.array.shape:
            return False
        corners = np.array([[i, j, k, 1] for i in (0, 1) for j in (0, 1) for k in (0, 1)], dtype=np.float64)
        corners[:, :3] *= np.asarray(self.size) - 1
        distance = (corners @ self.ijk_to_world.T - corners @ other.ijk_to_world.T)[:, :3]
        return bool(np.abs(distance).max() <= tolerance_mm)

    @classmethod
    def from_sitk(cls, image: sitk.Image, name: str = "image") -> Volume:
        """A SimpleITK image as a volume (copies the voxels)."""
        import SimpleITK as sitk

        matrix = np.eye(4)
        matrix[:3, :3] = np.asarray(image.GetDirection()).reshape(3, 3) * np.asarray(image.GetSpacing())
        matrix[:3, 3] = image.GetOrigin()
        return cls(sitk.GetArrayFromImage(image), matrix, name)

    def to_sitk(self) -> sitk.Image:
        """As a SimpleITK image with the same geometry.

        Raises InputError for sheared grids, which ITK's images (and NIfTI, NRRD, MHA through it) cannot hold.
        """
        import SimpleITK as sitk

        spacing = self.spacing
        direction = self.ijk_to_world[:3, :3] / spacing
        if np.abs(direction.T @ direction - np.eye(3)).max() > 1e-3:
            raise InputError(
                f"{self.name}: its grid is sheared and cannot be stored in an image file; resample it first."
            )
        image = sitk.GetImageFromArray(self.array)
        image.SetSpacing([float(s) for s in spacing])
        image.SetDirection([float(d) for d in direction.ravel()])
        image.SetOrigin([float(o) for o in self.ijk_to_world[:3, 3]])
        return image
