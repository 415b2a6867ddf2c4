"""Random crops and augmentation of training volumes, by MONAI's transforms."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import torch
from monai.transforms import (
    AdjustContrast,
    Affine,
    GaussianSmooth,
)
from monai.utils import convert_to_tensor
from torch import Tensor
from torch.nn import functional as F

from AGTraining.training.config import AugmentationSettings

# Of a crop's size: rotation, shear and scale reach beyond it.
MARGIN = 1.3


class Augmentation:
    """Cuts a random crop out of a case, moved by a random affine map in the same interpolation, and changes its values.

    crop: (K, J, I) voxels. air: z-score of air, which fills what lies outside the scan; None: the minimum around the
    crop. All randomness comes from the generator that is handed in.

    The two halves may run at different places: `cut` where the case lies, `change` on a GPU.
    """

    def __init__(self, settings: AugmentationSettings, crop: tuple[int, int, int], air: float | None) -> None:
        self._settings = settings
        self.crop = crop
        self._air = air

    def __call__(self, image: np.ndarray, target: np.ndarray, random: np.random.Generator) -> tuple[Tensor, Tensor]:
        """image: (K, J, I) z-scores; target: (K, J, I) classes. Returns (1, K, J, I) float32 and (K, J, I) uint8."""
        return self.change(*self.cut(image, target, random), random)

    @property
    def block(self) -> tuple[int, int, int]:
        """The size of what `cut` gives: the crop with a margin for what an affine map turns into it."""
        k, j, i = (2 * math.ceil(n * MARGIN / 2) for n in self.crop)
        return k, j, i

    def cut(self, image: np.ndarray, target: np.ndarray, random: np.random.Generator) -> tuple[Tensor, Tensor]:
        """The block around a random crop, (1, *block) float16 and (*block) uint8, air where it reaches beyond the scan.

        Only this part of a memory-mapped case is read, and of the target what is needed to find the organs.
        """
        size = self.block
        corner = self._corner(target, random)
        inside = tuple(
            slice(max(0, a), max(0, min(a + n, limit))) for a, n, limit in zip(corner, size, image.shape, strict=True)
        )
        part = image[inside]
        air = self._air if self._air is not None else float(part.min()) if part.size else 0.0
        picture, classes = np.full(size, air, dtype=np.float16), np.zeros(size, dtype=np.uint8)
        place = tuple(slice(s.start - a, s.stop - a) for s, a in zip(inside, corner, strict=True))
        picture[place], classes[place] = part, target[inside]
        return torch.from_numpy(picture)[None], torch.from_numpy(classes)

    def change(self, picture: Tensor, classes: Tensor, random: np.random.Generator) -> tuple[Tensor, Tensor]:
        """The crop out of a block, moved and changed, where the block is: (1, K, J, I) float32 and (K, J, I) uint8."""
        picture = picture.float()
        air = float(picture.min()) if self._air is None else self._air
        picture, moved = self._affine(picture - air, classes[None].float(), random)
        picture = self._intensity(picture + air, random)
        return picture.contiguous(), moved[0].to(torch.uint8)

    def _corner(self, target: np.ndarray, random: np.random.Generator) -> list[int]:
        """First voxel of the block: around a labelled voxel, or anywhere within the scan."""
        crop = np.array(self.crop)
        size = np.array(target.shape)
        labelled = np.flatnonzero(target) if random.random() < self._settings.organ_centred else np.empty(0)
        if labelled.size:
            # A class first, then one of its voxels: the pancreas is small.
            classes = target.ravel()[labelled]
            chosen = labelled[classes == random.choice(np.unique(classes))]
            centre = np.array(np.unravel_index(random.choice(chosen), target.shape), dtype=float)
            centre += random.uniform(-0.25, 0.25, 3) * crop
        else:
            free = np.maximum(size - crop, 0)
            centre = crop / 2 + random.random(3) * free
        # Where the scan is smaller than the crop, it may lie anywhere within it, but as a whole.
        small = size <= crop
        centre = np.where(small, size / 2 + random.uniform(-0.5, 0.5, 3) * (crop - size), centre)
        inside = np.clip(centre, np.minimum(crop, size) / 2, np.maximum(size - crop / 2, crop / 2))
        centre = np.where(small, centre, inside)
        corner: list[int] = (np.round(centre).astype(int) - np.array(self.block) // 2).tolist()
        return corner

    def _affine(self, picture: Tensor, classes: Tensor, random: np.random.Generator) -> tuple[Tensor, Tensor]:
        s = self._settings
        rotate, scale, shear = np.zeros(3), np.ones(3), np.zeros(6)
        if random.random() < s.affine:
            rotate = np.deg2rad(random.uniform(-s.rotate_degrees, s.rotate_degrees, 3) * (1.0, 0.5, 0.5))
            scale = random.uniform(1 - s.scale, 1 + s.scale) * random.uniform(1 - s.scale / 3, 1 + s.scale / 3, 3)
            shear = random.uniform(-s.shear, s.shear, 6)
        if random.random() < s.axial_flip:
            scale[2] = -scale[2]
        parameters: dict[str, Any] = {
            "rotate_params": rotate.tolist(),
            "shear_params": shear.tolist(),
            "scale_params": scale.tolist(),
            "spatial_size": self.crop,
            "padding_mode": "zeros",
            "image_only": True,
            "device": picture.device,
        }
        moved = Affine(mode="bilinear", **parameters)(picture)
        moved_classes = Affine(mode="nearest", **parameters)(classes)
        return _plain(moved), _plain(moved_classes)

    def _intensity(self, picture: Tensor, random: np.random.Generator) -> Tensor:
        s = self._settings
        if random.random() < s.low_resolution:
            # Thick slices, or all axes: as a scanner that averages over more.
            factors = [random.uniform(1.3, 3.0) if axis == 0 or random.random() < 0.3 else 1.0 for axis in range(3)]
            small = [max(2, round(n / f)) for n, f in zip(picture.shape[1:], factors, strict=True)]
            coarse = F.interpolate(picture[None], size=small, mode="area")
            picture = F.interpolate(coarse, size=tuple(picture.shape[1:]), mode="trilinear", align_corners=False)[0]
        if random.random() < s.blur:
            picture = _plain(GaussianSmooth(sigma=float(random.uniform(0.3, 1.0)))(picture))
        if random.random() < s.contrast:
            picture = picture * float(random.uniform(0.8, 1.25)) + float(random.uniform(-0.25, 0.25))
            if random.random() < 0.3:
                picture = _plain(AdjustContrast(gamma=float(random.uniform(0.75, 1.35)))(picture))
        if random.random() < s.noise:
            generator = torch.Generator(picture.device).manual_seed(int(random.integers(2**62)))
            noise = torch.randn(picture.shape, generator=generator, device=picture.device)
            picture = picture + noise * float(random.uniform(0.02, 0.25))
        return picture


def _plain(tensor: Any) -> Tensor:
    """MONAI's own tensors would go on into the network and take each of its operations through Python."""
    plain: Tensor = convert_to_tensor(tensor, track_meta=False)
    return plain
