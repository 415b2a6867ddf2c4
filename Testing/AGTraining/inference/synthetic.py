"""A patient of spheres, and a network that tells its organs by their Hounsfield units, exactly and without training."""

from __future__ import annotations

from itertools import permutations, product
from pathlib import Path

import numpy as np
import torch

from AGTraining.bundle import Bundle, BundleInfo, OrganClass
from AGTraining.imaging.intensity import IntensityRule
from AGTraining.imaging.volume import Volume
from AGTraining.networks import AttentionUNet

# Centre (LPS, mm), radius (mm) and HU. Left is +x.
ORGANS = {
    "pancreas": ((5.0, -25.0, 10.0), 26.0, 90.0),
    "spleen": ((75.0, 10.0, 30.0), 30.0, 150.0),
    "right kidney": ((-55.0, 25.0, -20.0), 24.0, 230.0),
    "left kidney": ((55.0, 30.0, -30.0), 28.0, 230.0),
}
BODY_RADII = (130.0, 85.0)
HALF_EXTENT = np.array([150.0, 110.0, 80.0])
CLASSES = [
    OrganClass(name="pancreas", type_code="15776009", type_meaning="Pancreas", color=(249, 180, 111)),
    OrganClass(name="spleen", type_code="78961009", type_meaning="Spleen", color=(157, 108, 162)),
    OrganClass(name="kidney", type_code="64033007", type_meaning="Kidney", color=(185, 102, 83), paired=True),
]


def patient(
    matrix: np.ndarray, shape: tuple[int, int, int], organs: tuple[str, ...] = tuple(ORGANS), dtype: type = np.int16
) -> Volume:
    """The patient sampled at the voxels of a grid: shape (K, J, I), matrix (i, j, k) → LPS mm."""
    k, j, i = np.indices(shape, dtype=np.float64)
    x, y, z = (matrix[n, 0] * i + matrix[n, 1] * j + matrix[n, 2] * k + matrix[n, 3] for n in range(3))
    array = np.where((x / BODY_RADII[0]) ** 2 + (y / BODY_RADII[1]) ** 2 <= 1, 0.0, -1000.0)
    for name in organs:
        centre, radius, hu = ORGANS[name]
        array[(x - centre[0]) ** 2 + (y - centre[1]) ** 2 + (z - centre[2]) ** 2 <= radius**2] = hu
    return Volume(array.astype(dtype), matrix, "patient")


def grid_matrix(
    axes: tuple[int, ...], signs: tuple[int, ...], spacing: tuple[float, ...], tilt: float = 0.0, extent: float = 1.0
):
    """Matrix and shape (K, J, I) of a grid whose index axis n runs along patient axis axes[n] with a sign.

    tilt: degrees of rotation about an oblique axis. extent: times the patient's. The grid's middle is the patient's.
    """
    direction = np.zeros((3, 3))
    for n, (axis, sign) in enumerate(zip(axes, signs, strict=True)):
        direction[axis, n] = sign
    angle = np.deg2rad(tilt)
    u = np.array([1.0, 2.0, 2.0]) / 3
    cross = np.array([[0, -u[2], u[1]], [u[2], 0, -u[0]], [-u[1], u[0], 0]])
    direction = (np.eye(3) + np.sin(angle) * cross + (1 - np.cos(angle)) * cross @ cross) @ direction
    size = [int(2 * extent * HALF_EXTENT[axis] / s) for axis, s in zip(axes, spacing, strict=True)]
    matrix = np.eye(4)
    matrix[:3, :3] = direction * np.asarray(spacing)
    matrix[:3, 3] = -matrix[:3, :3] @ ((np.array(size) - 1) / 2)
    return matrix, (size[2], size[1], size[0])


ALL_AXES = [(axes, signs) for axes in permutations(range(3)) for signs in product((1, -1), repeat=3)]


def world_centre(labels: Volume, value: int) -> np.ndarray:
    """Centre of a label in LPS mm."""
    k, j, i = np.nonzero(labels.array == value)
    index = np.array([i.mean(), j.mean(), k.mean(), 1.0])
    return (labels.ijk_to_world @ index)[:3]


def threshold_bundle(spacing: float = 4.0, attention_hu: float | None = None, normalisation: str = "sigmoid") -> Bundle:
    """A bundle whose Attention U-Net labels by HU: 45–120 pancreas, 120–190 spleen, above kidney.

    Its logits are lines over HU whose upper envelope changes at those limits. attention_hu: the gates of level 2 open
    where the mean HU of a 2×2×2 block is above; None leaves them pass-through.
    """
    rule = IntensityRule(low=-200, high=300, mean=0.0, sd=100.0)
    network = AttentionUNet(features=(2, 2, 2), sub_gates=2, normalisation=normalisation).eval()
    with torch.no_grad():
        for parameter in network.parameters():
            parameter.zero_()
        for module in network.modules():
            if isinstance(module, torch.nn.BatchNorm3d):
                module.weight.fill_(1.0)
        # HU/100 + 3 (positive, so ReLU passes it) travels through the centre taps of channel 0.
        network.encoder[0][0].bias[0] = 3.0
        for block in (*network.encoder, network.decoder[0]):
            block[0].weight[0, 0, 1, 1, 1] = 1.0
            block[3].weight[0, 0, 1, 1, 1] = 1.0
        steep, offset = 0.0, 0.0
        for value, limit in enumerate((0.45, 1.2, 1.9), 1):
            steep, offset = steep + 8.0, offset - 8.0 * (limit + 3.0)
            network.heads[0].weight[value, 0, 0, 0, 0] = steep
            network.heads[0].bias[value] = offset
        for value in range(4):
            network.fuse.weight[value, value, 0, 0, 0] = 1.0
        for gate in network.gates[0].gates:
            gate.psi.bias.fill_(3.0)
            if attention_hu is not None:
                gate.theta.weight[0, 0] = 1 / 8
                gate.psi.weight[0, 0] = 8.0
                gate.psi.bias.fill_(-8.0 * (attention_hu / 100 + 3.0))
    info = BundleInfo(
        name="thresholds",
        network="AttentionUNet",
        arguments={"features": [2, 2, 2], "sub_gates": 2, "normalisation": normalisation},
        spacing_mm=(spacing, spacing, spacing),
        intensity=rule,
        classes=CLASSES,
        mirror_axes=("x",),
        licence="Apache-2.0",
    )
    return Bundle(info, network.requires_grad_(False), torch.device("cpu"), Path("thresholds.safetensors"))
