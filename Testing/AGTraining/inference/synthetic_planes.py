"""A plane model that is right by construction, and clips for it: frames with one bright rectangle on black.

Its first channel carries the positive part of the z-scored picture through all blocks; attention lies where that is
bright, and the class follows from how bright: a rectangle that fills the share f of the input has the z-score
sqrt((1 − f) / f), so a small one is "Small" (above 5), a large one "Large" (below 3), what lies between "Background".
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import SimpleITK as sitk
import torch

from AGTraining import bundle
from AGTraining.imaging.frame_rule import FrameRule
from AGTraining.networks import AGSononet, Sononet

CLASSES = ("Small", "Large", "Background")
INPUT = (64, 80)
# Frames with the proportions of the input, and twice its size.
ROWS, COLUMNS = 128, 160
# x0, y0, x1, y1 in pixels of the frame, on whole pixels of the coarsest attention map (16 frame pixels).
SMALL, LARGE, MIDDLE = (32, 32, 48, 48), (32, 32, 128, 112), (64, 32, 96, 64)


def blob_bundle(with_attention: bool = True, crop: str = "centre") -> bundle.PlanesBundle:
    """The model; without attention a Sononet, whose weights are all zero and which finds all classes alike."""
    arguments = {"num_classes": 3, "features": 2, "convs": [1, 1, 1, 1, 1]}
    network: torch.nn.Module
    if with_attention:
        network = _blob_network(**arguments)
        arguments["aggregation"] = "concat"
    else:
        network = Sononet(**arguments).eval()
        for parameter in network.parameters():
            torch.nn.init.zeros_(parameter)
    info = bundle.PlanesInfo(
        name="blobs",
        network=type(network).__name__,
        arguments=arguments,
        frame=FrameRule(size=INPUT, crop=crop),  # type: ignore[arg-type]
        classes=[bundle.PlaneClass(name=name, background=name == "Background") for name in CLASSES],
        licence="CC0-1.0",
    )
    return bundle.PlanesBundle(info, network, torch.device("cpu"), Path("blobs.safetensors"))


def save_blobs(path: Path, with_attention: bool = True, crop: str = "centre") -> Path:
    """Writes the model's file."""
    model = blob_bundle(with_attention, crop)
    bundle.save(path, model.network, model.info)
    return path


def frame(
    *rectangles: tuple[int, int, int, int], level: int = 200, size: tuple[int, int] = (ROWS, COLUMNS)
) -> np.ndarray:
    """A black uint8 frame with bright rectangles."""
    image = np.zeros(size, dtype=np.uint8)
    for x0, y0, x1, y1 in rectangles:
        image[y0:y1, x0:x1] = level
    return image


def write_clip(path: Path, frames: Sequence[np.ndarray], spacing_mm: float = 0.5) -> Path:
    """Writes a MetaImage or NRRD file whose slices are the frames."""
    image = sitk.GetImageFromArray(np.stack(frames))
    image.SetSpacing((spacing_mm, spacing_mm, 1.0))
    path.parent.mkdir(parents=True, exist_ok=True)
    sitk.WriteImage(image, str(path))
    return path


def _blob_network(**arguments: object) -> AGSononet:
    network = AGSononet(aggregation="concat", **arguments).eval()  # type: ignore[arg-type]
    with torch.no_grad():
        for parameter in network.parameters():
            parameter.zero_()
        for block in network.blocks:
            convolution, norm = block[0], block[1]
            convolution.weight[0, 0, 1, 1] = 1.0
            norm.weight.fill_(1.0)
        for gate in network.gates.values():
            gate.theta.weight[0, 0] = 1.0
            gate.psi.weight[0, 0] = 1.0
        assert network.classifier is not None
        # The attended brightness of block 3 comes first; 4 ± 1 is the background's.
        network.classifier.weight[0, 0], network.classifier.bias[0] = 3.0, -15.0
        network.classifier.weight[1, 0], network.classifier.bias[1] = -3.0, 9.0
    return network
