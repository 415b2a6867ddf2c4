"""Real MRML for the tests of the Slicer side: slicer-core's scene and logics."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

sys.path.append(str(Path(__file__).resolve().parents[2] / "AttentionSegmentation"))

import slicer
from AttentionSegmentationLib.SlicerHost import startSlicerHost

from AGTraining import bundle
from AGTraining.imaging.intensity import IntensityRule
from AGTraining.imaging.volume import Volume
from AGTraining.inference.result import OrganStatistics, SegmentResult
from AGTraining.networks import AttentionUNet

startSlicerHost()

# IJK to RAS of a grid that is rotated about all axes, with a spacing of 0.7 × 0.9 × 2.5 mm.
OBLIQUE = np.eye(4)
OBLIQUE[:3, :3] = np.linalg.qr([[0.9, -0.2, 0.2], [0.3, 0.9, 0.1], [-0.2, -0.1, 0.9]])[0] @ np.diag([0.7, 0.9, 2.5])
OBLIQUE[:3, 3] = (-83.2, 41.7, 1312.4)

ORGANS = [
    bundle.OrganClass(name="pancreas", type_code="15776009", type_meaning="Pancreas", color=(249, 180, 111)),
    bundle.OrganClass(name="spleen", type_code="78961009", type_meaning="Spleen", color=(157, 108, 162)),
    bundle.OrganClass(name="kidney", type_code="64033007", type_meaning="Kidney", color=(185, 102, 83), paired=True),
]


@pytest.fixture
def scene() -> Iterator[Any]:
    """The scene, with nothing in it but what the host puts there."""
    slicer.mrmlScene.Clear(False)
    slicer.mrmlScene.GetSubjectHierarchyNode()  # makes one
    yield slicer.mrmlScene
    slicer.mrmlScene.Clear(False)


@pytest.fixture
def addCT(scene: Any) -> Callable[..., Any]:
    """Adds a CT-like volume node: array (K, J, I), IJK→RAS matrix, name."""

    def add(array: np.ndarray | None = None, ijkToRAS: np.ndarray | None = None, name: str = "CT") -> Any:
        if array is None:
            array = np.random.default_rng(0).integers(-1000, 1500, (12, 17, 23)).astype(np.int16)
        return slicer.util.addVolumeFromArray(array, OBLIQUE if ijkToRAS is None else ijkToRAS, name)

    return add


@pytest.fixture
def labelArray() -> np.ndarray:
    """Four touching organs in a (12, 17, 23) label map, away from most borders of the grid."""
    labels = np.zeros((12, 17, 23), np.uint8)
    labels[2:5, 4:9, 3:8] = 1
    labels[3:6, 9:14, 5:11] = 2
    labels[5:9, 2:6, 10:16] = 3
    labels[7:12, 10:13, 15:23] = 4
    labels[8, 11, 17] = 0
    return labels


@pytest.fixture(scope="session")
def bundleInfo() -> bundle.BundleInfo:
    """The description of a tiny untrained model."""
    return bundle.BundleInfo(
        name="tiny",
        network="AttentionUNet",
        arguments={"features": [2, 3, 4, 5, 6]},
        spacing_mm=(2.0, 2.0, 2.0),
        intensity=IntensityRule(),
        classes=ORGANS,
        licence="Apache-2.0",
    )


@pytest.fixture(scope="session")
def tinyBundle(tmp_path_factory: pytest.TempPathFactory, bundleInfo: bundle.BundleInfo) -> Path:
    """The file of a tiny model with seeded random weights, which gives every class somewhere."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(3)
        network = AttentionUNet(features=(2, 3, 4, 5, 6))
    path = tmp_path_factory.mktemp("models") / "tiny.safetensors"
    bundle.save(path, network, bundleInfo)
    return path


@pytest.fixture
def makeResult(bundleInfo: bundle.BundleInfo) -> Callable[..., SegmentResult]:
    """A result as the engine would return it, with the organs where the label map says."""

    def make(volume: Volume, labels: np.ndarray, **fields: Any) -> SegmentResult:
        organs = []
        for label in bundleInfo.output_labels:
            values = volume.array[labels == label.value].astype(np.float64)
            mean, deviation = (values.mean(), values.std()) if values.size else (np.nan, np.nan)
            volume_ml = values.size * volume.voxel_volume_ml
            organs.append(OrganStatistics(label, values.size, volume_ml, float(mean), float(deviation), confidence=0.9))
        return SegmentResult(labels=volume.with_array(labels), organs=tuple(organs), **fields)

    return make
