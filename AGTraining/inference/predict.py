"""Runs a network over an image on the model's grid, in one piece or in tiles."""

from __future__ import annotations

import itertools
import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from typing import Literal

import numpy as np
import torch
from torch import Tensor

from AGTraining.bundle import Bundle
from AGTraining.errors import BundleError, DeviceError
from AGTraining.inference.device import GIB, choose_device, describe, free_cached_memory, free_memory_bytes
from AGTraining.inference.optimise import inference_dtype, prepare_for_inference
from AGTraining.inference.tiles import gaussian_window, pad_to_multiple, tile_slices
from AGTraining.networks.unet import UNet3D

OVERLAP = 0.25
SMALLEST_TILE = 64
LARGEST_CUBE = 512
# A larger tile saves no time on a CPU once the overlap is a small share of it.
CPU_TILE_BYTES = 2 * GIB
SHARE_OF_FREE_MEMORY = 0.6

Step = Callable[..., None]


@dataclass(frozen=True)
class Prediction:
    """probabilities: foreground classes, (classes - 1, K, J, I) float32; the background is what they leave.

    attention: by name, the coefficients in [0, 1], (k, j, i) float32, and how many model voxels one of theirs covers.
    """

    probabilities: np.ndarray
    attention: dict[str, tuple[np.ndarray, int]] = field(default_factory=dict)
    device: str = ""
    messages: tuple[str, ...] = ()


def predict(
    image: np.ndarray,
    bundle: Bundle,
    *,
    device: str = "auto",
    attention: Literal["none", "levels", "gates"] = "none",
    tile_size: Sequence[int] | None = None,
    mirror: bool = False,
    step: Step = lambda fraction, detail="": None,
    check: Callable[[], None] = lambda: None,
) -> Prediction:
    """Class probabilities and attention of z-scores on the model's grid, (K, J, I) float32.

    step(fraction, detail): progress after each tile; check(): called within tiles. Both may raise Cancelled
    and nothing else.
    When a device runs out of memory, smaller tiles are tried; when a GPU fails for good, the CPU is; where half
    precision overflows, full precision is. A message says so.
    Raises DeviceError when the memory does not even hold the smallest tile, BundleError when the network gives NaN.
    """
    chosen = choose_device(device)
    network = bundle.network
    assert isinstance(network, UNet3D)
    messages: list[str] = []
    if device == "auto" and chosen.type == "cpu" and torch.cuda.is_available():
        messages.append("No GPU answered or has free memory; the CPU was used.")
    axes = tuple("zyx".index(axis) for axis in bundle.info.mirror_axes) if mirror else ()
    if mirror and not axes:
        messages.append(f"The model {bundle.info.name} was not trained with mirrored images; mirroring was left out.")
    mixed: bool | None = None
    tile = _tile(image.shape, tile_size, network, chosen, mixed)
    while True:
        result, failure = None, ""
        try:
            result = _Run(image, network, chosen, tile, attention, axes, step, check, mixed).result()
        except _NotFiniteError:
            if inference_dtype(chosen, mixed) == torch.float32:
                raise BundleError(
                    f"{bundle.path.name}: the model computes no finite numbers for this image; use another model."
                ) from None
            mixed = False
            limit = _tile(image.shape, tile_size, network, chosen, mixed)
            tile = (min(tile[0], limit[0]), min(tile[1], limit[1]), min(tile[2], limit[2]))
            messages.append(f"{describe(chosen)}: half precision gave no finite numbers; full precision was used.")
        except (MemoryError, RuntimeError) as error:
            if not is_out_of_memory(error) and chosen.type == "cpu":
                raise
            failure = "memory" if is_out_of_memory(error) else " ".join(str(error).split())[:150]
        # Outside the except clauses: there the error's traceback would keep the tensors alive.
        free_cached_memory()
        if result is not None:
            if attention != "none" and not result.attention:
                messages.append(f"The model {bundle.info.name} has no attention gates; no attention maps were made.")
            return replace(result, messages=tuple(dict.fromkeys(messages)))
        if failure == "memory":
            smaller = _smaller(tile, network.divisor)
            if smaller != tile:
                tile = smaller
                messages.append(f"{describe(chosen)} ran out of memory; smaller tiles were used.")
                continue
            if chosen.type == "cpu":
                raise DeviceError(
                    f"Too little memory even for a tile of {' × '.join(map(str, tile))} voxels; close other programs."
                )
            failure = "too little free memory"
        if failure:
            messages.append(f"{describe(chosen)} could not run the network ({failure}); the CPU was used instead.")
            chosen = torch.device("cpu")
            tile = _tile(image.shape, tile_size, network, chosen, mixed)


class _NotFiniteError(ArithmeticError):
    """The network gave NaN."""


class _Run:
    """One attempt: a device, a tile size."""

    def __init__(
        self,
        image: np.ndarray,
        network: UNet3D,
        device: torch.device,
        tile: tuple[int, int, int],
        attention: str,
        mirror_axes: tuple[int, ...],
        step: Step,
        check: Callable[[], None],
        mixed: bool | None,
    ) -> None:
        self.device = device
        self.divisor = network.divisor
        self.network = prepare_for_inference(network, device, mixed, check)
        self.size = image.shape
        self.attention = attention
        self.normalised = getattr(network, "normalisation", "sigmoid") == "sigmoid"
        self.mirrors = [m for n in range(len(mirror_axes) + 1) for m in itertools.combinations(mirror_axes, n)]
        self.step = step
        padded, self.crop = pad_to_multiple(torch.from_numpy(image)[None, None], self.divisor)
        self.padded = padded
        self.tile = tile
        self.tiles = tile_slices(padded.shape[2:], tile, OVERLAP, self.divisor)
        self.classes = network.num_classes - 1
        self.maps: dict[str, np.ndarray] = {}

    @torch.inference_mode()
    def result(self) -> Prediction:
        size = self.padded.shape[2:]
        several = len(self.tiles) > 1
        if several:
            window = gaussian_window(self.tile)
            weighted = np.zeros((self.classes, *size), dtype=np.float32)
            weights = np.zeros(size, dtype=np.float32)
        for number, place in enumerate(self.tiles):
            probabilities, maps = self._tile(self.padded[(slice(None), slice(None), *place)])
            if several:
                weighted[(slice(None), *place)] += probabilities * window
                weights[place] += window
            self._add_maps(maps, place)
            self.step((number + 1) / len(self.tiles), f" (tile {number + 1} of {len(self.tiles)})")
        if several:
            weighted /= weights
            probabilities = weighted
        cropped = np.ascontiguousarray(probabilities[(slice(None), *self.crop)])
        return Prediction(cropped, self._finished_maps(), describe(self.device))

    def _tile(self, x: Tensor) -> tuple[np.ndarray, dict[str, np.ndarray]]:
        """Foreground probabilities (classes - 1, K, J, I) and coefficients by name, means over mirrored images."""
        probabilities: Tensor | None = None
        maps: dict[str, Tensor] = {}
        for mirror in self.mirrors:
            flipped = [axis + 2 for axis in mirror]
            p, alphas = self._forward(x.flip(flipped) if flipped else x)
            p = p.flip(flipped) if flipped else p
            probabilities = p if probabilities is None else probabilities + p
            for name, alpha in alphas.items():
                alpha = alpha.flip(flipped) if flipped else alpha
                maps[name] = maps[name] + alpha if name in maps else alpha
        assert probabilities is not None
        # NaN would lose every comparison and pass for "nothing found".
        if not bool(torch.isfinite(probabilities.sum())):
            raise _NotFiniteError
        count = len(self.mirrors)
        if count > 1:
            probabilities = probabilities / count
        return probabilities[0].cpu().numpy(), {n: (m[0, 0] / count).cpu().numpy() for n, m in maps.items()}

    def _forward(self, x: Tensor) -> tuple[Tensor, dict[str, Tensor]]:
        x = x.to(self.device)
        if self.attention == "none":
            return torch.softmax(self.network(x), dim=1)[:, 1:], {}
        output = self.network(x, attention=True)
        alphas: dict[str, Tensor] = output.attention
        if self.attention == "levels":
            levels: dict[str, list[Tensor]] = {}
            for name, alpha in alphas.items():
                levels.setdefault(name.split(".")[0], []).append(alpha)
            alphas = {name: torch.stack(parts).mean(0) for name, parts in levels.items()}
        return torch.softmax(output.logits, dim=1)[:, 1:], alphas

    def _add_maps(self, maps: dict[str, np.ndarray], place: tuple[slice, slice, slice]) -> None:
        for name, alpha in maps.items():
            factor = self.tile[0] // alpha.shape[0]
            if name not in self.maps:
                shape = tuple(n // factor for n in self.padded.shape[2:])
                self.maps[name] = np.zeros((2, *shape), dtype=np.float32)
            total, weight = self.maps[name]
            window = gaussian_window(alpha.shape)
            where = tuple(slice(s.start // factor, s.stop // factor) for s in place)
            total[where] += alpha * window
            weight[where] += window

    def _finished_maps(self) -> dict[str, tuple[np.ndarray, int]]:
        finished = {}
        for name, (total, weight) in sorted(self.maps.items()):
            factor = self.padded.shape[2] // total.shape[0]
            alpha = total / weight
            alpha = alpha[tuple(slice(0, -(-n // factor)) for n in self.size)]
            if not self.normalised:
                # Softmax coefficients are relative to even attention; as a picture they are relative to their maximum.
                alpha = alpha / max(float(alpha.max()), 1e-6)
            finished[name] = (np.clip(alpha, 0.0, 1.0).astype(np.float32), factor)
        return finished


def _tile(
    size: Sequence[int], wanted: Sequence[int] | None, network: UNet3D, device: torch.device, mixed: bool | None = None
) -> tuple[int, int, int]:
    """Tile size (K, J, I), multiples of the network's divisor, never larger than the padded image."""
    divisor = network.divisor
    padded = [-(-n // divisor) * divisor for n in size]
    if wanted is not None:
        tile = [min(p, max(divisor, w // divisor * divisor)) for p, w in zip(padded, wanted, strict=True)]
        return tile[0], tile[1], tile[2]
    budget = free_memory_bytes(device) * SHARE_OF_FREE_MEMORY
    if device.type == "cpu":
        budget = min(budget, CPU_TILE_BYTES)
    voxels = budget / bytes_per_voxel(network, inference_dtype(device, mixed))
    tile = list(padded)
    while np.prod([float(n) for n in tile]) > voxels and max(tile) > SMALLEST_TILE:
        longest = tile.index(max(tile))
        tile[longest] = max(min(SMALLEST_TILE, tile[longest]), tile[longest] - divisor)
    return tile[0], tile[1], tile[2]


def _smaller(tile: tuple[int, int, int], divisor: int) -> tuple[int, int, int]:
    """The tile with its longest side halved, but not below the smallest tile; the same where that is reached."""
    sides = list(tile)
    longest = sides.index(max(sides))
    half = -(-sides[longest] // 2 // divisor) * divisor
    sides[longest] = min(sides[longest], max(SMALLEST_TILE, half))
    return sides[0], sides[1], sides[2]


def bytes_per_voxel(network: UNet3D, dtype: torch.dtype) -> float:
    """Peak memory of a prepared network's forward pass per voxel of a tile, in bytes, with a fifth to spare.

    Measured on the default network: 110–160 in bfloat16, 190–240 in float32. Alive at once are the finest skip
    connection, the encoder's or a slab's activations, and logits and probabilities of all classes in float32.
    """
    return 1.2 * (15.0 * network.num_classes + 2.9 * network.features[0] * dtype.itemsize)


def largest_cube(network: UNet3D, device: torch.device) -> int:
    """Edge in voxels, a multiple of 16, of the largest cubic tile (64 to 512) for which memory is free now; else 0."""
    voxels = free_memory_bytes(device) * SHARE_OF_FREE_MEMORY / bytes_per_voxel(network, inference_dtype(device))
    step = math.lcm(16, network.divisor)
    edges = range(LARGEST_CUBE // step * step, SMALLEST_TILE - 1, -step)
    return next((edge for edge in edges if edge**3 <= voxels), 0)


def is_out_of_memory(error: BaseException) -> bool:
    """Whether an error says, in whatever words, that memory of the CPU or of a GPU was not enough."""
    if isinstance(error, torch.OutOfMemoryError | MemoryError):
        return True
    text = str(error).lower()
    # PyTorch's own allocators, cuDNN and cuBLAS, and Metal each have their words.
    return any(
        words in text
        for words in (
            "out of memory",
            "can't allocate memory",
            "not enough memory",
            "alloc_failed",
            "unable to find an engine",
            "invalid buffer size",
        )
    )
