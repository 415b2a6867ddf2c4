"""Random changes of whole batches of frames, in torch, on the CPU or the GPU where they lie.

What happens to a frame depends on the seed and its sample number alone: not on the state of any generator, on the rest
of the batch, or on the device. MONAI's random transforms work image by image and draw as they go; here one
`grid_sample` moves the whole batch.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, fields

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional as F

from AGTraining.data.planes.settings import PlaneAugmentationSettings

# Least side of the noise that frames take their windows of, and the grains of its kinds in pixels.
NOISE_SIDE = 640
GRAINS = (1, 2, 4)
# Part of a stream's key, so that drawing frames and changing them do not share numbers.
STREAM = 1
LARGEST_SHADOW = math.radians(14)


@dataclass
class Change:
    """What is done to one frame. Angles in radians; shifts and places in halves of the input's size, as in a grid.

    scale: of what is shown; above 1 it appears larger. aspect: of the columns against the rows.
    """

    flip: float = 1.0
    flip_rows: float = 1.0
    angle: float = 0.0
    scale: float = 1.0
    aspect: float = 1.0
    shift_x: float = 0.0
    shift_y: float = 0.0
    gain: float = 1.0
    offset: float = 0.0
    gamma: float = 1.0
    speckle: float = 0.0
    grain: float = 0.0
    noise_x: float = 0.0
    noise_y: float = 0.0
    blur: float = 0.0
    shadow: float = 0.0
    shadow_x: float = 0.0
    shadow_angle: float = 0.0
    shadow_width: float = 0.1
    shadow_start: float = 0.0


class PlaneAugmentation:
    """Changes a batch of frames.

    size: (rows, columns) of the network's input; the frames that come in are larger by `margin` on all sides (see
    `store`), so that what is moved in is picture. strong: settings of the frames that are marked as strong (default:
    the same). All frames come out as float32 from 0 to 1; `normalised` makes the network's input of them.
    """

    def __init__(
        self,
        settings: PlaneAugmentationSettings,
        size: tuple[int, int],
        seed: int = 0,
        strong: PlaneAugmentationSettings | None = None,
    ) -> None:
        self._settings = (settings, strong or settings)
        self._size = size
        self._seed = seed
        random = np.random.default_rng((seed, 2))
        self._noise = torch.stack([_noise(grain, max(NOISE_SIDE, *size), random) for grain in GRAINS])

    def __call__(self, images: Tensor, numbers: Tensor | Sequence[int], strong: Tensor | None = None) -> Tensor:
        """Frames with margins (N, 1, …, …) uint8, sample numbers (N,), marks (N,) bool → (N, 1, rows, columns)."""
        numbers = numbers.tolist() if isinstance(numbers, Tensor) else list(numbers)
        marks = [False] * len(numbers) if strong is None else strong.tolist()
        changes = [draw(self._settings[mark], self._seed, n) for n, mark in zip(numbers, marks, strict=True)]
        values = {
            field.name: torch.tensor([getattr(change, field.name) for change in changes], dtype=torch.float32)
            for field in fields(Change)
        }
        device = images.device
        values = {name: value.to(device).view(-1, 1, 1, 1) for name, value in values.items()}
        pictures = self._moved(images, values)
        pictures = self._blurred(pictures, values)
        pictures = self._speckled(pictures, changes, values)
        pictures = self._shadowed(pictures, values)
        return self._gained(pictures, values)

    def _moved(self, images: Tensor, v: dict[str, Tensor]) -> Tensor:
        """One interpolation for flips, rotation, scale and shift; black lies outside of the frame."""
        rows, columns = self._size
        high, wide = images.shape[-2:]
        # Coordinates in pixels from the middle, so that a rotation stays one where rows and columns differ.
        cos, sin = torch.cos(v["angle"]), torch.sin(v["angle"])
        x_scale, y_scale = 1 / (v["scale"] * v["aspect"].sqrt()), v["aspect"].sqrt() / v["scale"]
        x = torch.linspace(-1, 1, columns, device=images.device) * (columns - 1) / 2
        y = torch.linspace(-1, 1, rows, device=images.device) * (rows - 1) / 2
        x = (x.view(1, 1, 1, -1) - v["shift_x"] * columns / 2) * x_scale
        y = (y.view(1, 1, -1, 1) - v["shift_y"] * rows / 2) * y_scale
        moved_x = (cos * x + sin * y) * v["flip"]
        moved_y = (cos * y - sin * x) * v["flip_rows"]
        grid = torch.stack((moved_x[:, 0] * (2 / wide), moved_y[:, 0] * (2 / high)), dim=-1)
        return F.grid_sample(images.float() / 255, grid, mode="bilinear", padding_mode="zeros", align_corners=False)

    def _blurred(self, pictures: Tensor, v: dict[str, Tensor]) -> Tensor:
        """Towards the mean of 3 × 3 neighbours, as by a probe of less resolution."""
        if not v["blur"].any():
            return pictures
        smooth = F.avg_pool2d(F.pad(pictures, (1, 1, 1, 1), mode="replicate"), 3, stride=1)
        smooth = F.avg_pool2d(F.pad(smooth, (1, 1, 1, 1), mode="replicate"), 3, stride=1)
        return torch.lerp(pictures, smooth, v["blur"])

    def _speckled(self, pictures: Tensor, changes: Sequence[Change], v: dict[str, Tensor]) -> Tensor:
        """Noise that multiplies the signal, as speckle does; windows of noise that was made before."""
        if not v["speckle"].any():
            return pictures
        rows, columns = self._size
        self._noise = self._noise.to(pictures.device)
        windows = []
        for change in changes:
            top = int(change.noise_y * (self._noise.shape[-2] - rows))
            left = int(change.noise_x * (self._noise.shape[-1] - columns))
            windows.append(self._noise[int(change.grain), top : top + rows, left : left + columns])
        return pictures * (1 + v["speckle"] * torch.stack(windows)[:, None])

    def _shadowed(self, pictures: Tensor, v: dict[str, Tensor]) -> Tensor:
        """A dark wedge that begins at some depth and spreads from a point above the frame, as behind bone."""
        if not v["shadow"].any():
            return pictures
        rows, columns = self._size
        x = torch.linspace(-1, 1, columns, device=pictures.device).view(1, 1, 1, -1) * columns / rows
        y = torch.linspace(-1, 1, rows, device=pictures.device).view(1, 1, -1, 1)
        # The rays come from the middle of a curved probe above the frame.
        angle = torch.atan2(x - v["shadow_x"], y + 2.0)
        across = ((angle - v["shadow_angle"]) / v["shadow_width"]).square()
        below = torch.sigmoid((y - v["shadow_start"]) * 12)
        return pictures * (1 - v["shadow"] * torch.exp(-across * across) * below)

    def _gained(self, pictures: Tensor, v: dict[str, Tensor]) -> Tensor:
        """gain·x^gamma + offset; what is black stays black, as the margin of the sector does."""
        pictures = pictures.clamp(0, 1)
        changed = pictures.clamp_min(1e-6).pow(v["gamma"]) * v["gain"] + v["offset"] * (pictures > 0)
        return changed.clamp(0, 1) * (pictures > 0)


def unchanged(images: Tensor, size: tuple[int, int]) -> Tensor:
    """The middle of frames with margins, as a validation sees them: (N, 1, rows, columns) float32 from 0 to 1."""
    rows, columns = size
    top, left = (images.shape[-2] - rows) // 2, (images.shape[-1] - columns) // 2
    return images[..., top : top + rows, left : left + columns].float() / 255


def normalised(pictures: Tensor, scale: float = 1.0) -> Tensor:
    """scale·(g − mean)/SD of each frame, as `FrameRule.apply`; a frame of one gray value becomes zeros."""
    mean = pictures.mean(dim=(1, 2, 3), keepdim=True)
    centred = pictures - mean
    sd = centred.square().mean(dim=(1, 2, 3), keepdim=True).sqrt()
    return torch.where(sd > 1e-6, scale * centred / sd.clamp_min(1e-6), torch.zeros_like(centred))


def draw(settings: PlaneAugmentationSettings, seed: int, number: int) -> Change:
    """What is done to the sample of this number."""
    random = np.random.default_rng((seed, number, STREAM))
    # All that could be needed is drawn each time: a probability that is changed changes nothing else.
    u = dict(zip(DRAWN, random.random(len(DRAWN)).tolist(), strict=True))

    def symmetric(name: str, most: float) -> float:
        return (2 * u[name] - 1) * most

    change = Change(
        flip=-1.0 if u["flip"] < settings.flip else 1.0,
        flip_rows=-1.0 if u["flip_rows"] < settings.vertical_flip else 1.0,
    )
    if u["affine"] < settings.affine:
        change.angle = math.radians(symmetric("angle", settings.rotate_degrees))
        change.scale = 1 + symmetric("scale", settings.scale)
        change.aspect = 1 + symmetric("aspect", settings.aspect)
        change.shift_x, change.shift_y = (2 * symmetric(name, settings.shift) for name in ("shift_x", "shift_y"))
    if u["zoom"] < settings.zoom:
        change.scale = settings.zoom_most ** u["scale"]
        # As far as the frame still fills the input: shifts act on what is shown, which is `scale` times as large.
        reach = change.scale - 1
        change.shift_x, change.shift_y = symmetric("shift_x", reach), symmetric("shift_y", reach)
    if u["gained"] < settings.gain:
        change.gain = 1 + symmetric("gain", settings.gain_most)
        change.offset = symmetric("offset", 0.2 * settings.gain_most)
        change.gamma = math.exp(symmetric("gamma", settings.gamma_most))
    if u["speckled"] < settings.speckle:
        change.speckle = u["speckle"] * settings.speckle_most
        change.grain = int(u["grain"] * len(GRAINS))
        change.noise_x, change.noise_y = u["noise_x"], u["noise_y"]
    if u["blurred"] < settings.blur:
        change.blur = u["blur"]
    if u["shadowed"] < settings.shadow:
        change.shadow = 0.4 + 0.6 * u["shadow"]
        change.shadow_x = symmetric("shadow_x", 0.3)
        change.shadow_angle = symmetric("shadow_angle", 0.4)
        change.shadow_width = (0.2 + 0.8 * u["shadow_width"]) * LARGEST_SHADOW
        change.shadow_start = symmetric("shadow_start", 1.0)
    return change


DRAWN = (
    "flip", "flip_rows", "affine", "angle", "scale", "aspect", "shift_x", "shift_y", "zoom", "gained", "gain", "offset",
    "gamma", "speckled", "speckle", "grain", "noise_x", "noise_y", "blurred", "blur", "shadowed", "shadow", "shadow_x",
    "shadow_angle", "shadow_width", "shadow_start",
)  # fmt: skip


def _noise(grain: int, side: int, random: np.random.Generator) -> Tensor:
    """(side, side) of mean 0 and SD 1, correlated over some pixels, with the heavy tail of speckle above."""
    noise = torch.from_numpy(random.standard_normal((2, 1, side, side), dtype=np.float32))
    if grain > 1:
        width = 2 * grain + 1
        kernel = torch.exp(-torch.linspace(-2, 2, width).square())
        noise = F.conv2d(noise, kernel.view(1, 1, 1, -1), padding=(0, grain))
        noise = F.conv2d(noise, kernel.view(1, 1, -1, 1), padding=(grain, 0))
    # The amplitude of a sum of many echoes (Rayleigh), compressed as a scanner does.
    amplitude = noise.square().sum(0)[0].sqrt()
    return (amplitude - amplitude.mean()) / amplitude.std()
