"""Attention coefficients as scalar volumes that can be laid over the CT."""

import math
from typing import Any

import numpy as np
import slicer

from AGTraining.imaging.volume import Volume

from ..VolumeConversion import addVolumeNode, nodeName

# Where a map has no structure of its own to choose a threshold by.
ATTENTION_THRESHOLD = 0.5
LARGEST_SHARE_SHOWN = 0.1
MAP_ATTRIBUTE = "AttentionSegmentation.map"
VOLUME_ROLE = "AttentionSegmentation.volume"

# Eleven evenly spaced colors of matplotlib's Inferno.
_INFERNO = np.array(
    [
        (0, 0, 4),
        (23, 11, 59),
        (66, 10, 104),
        (107, 23, 110),
        (147, 38, 103),
        (187, 55, 85),
        (221, 81, 58),
        (243, 119, 26),
        (252, 165, 10),
        (246, 214, 68),
        (252, 255, 164),
    ]
)


def addAttentionNode(scene: Any, volumeNode: Any, mapName: str, volume: Volume) -> Any:
    """A new volume node for an attention map of the CT: on the map's own grid, under the CT's parent transform.

    Its matrix undoes that transform, so that the map stays on the CT when the transform is changed.
    """
    name = f"{nodeName(volumeNode)} attention {mapName}"
    node = addVolumeNode(scene, volume, name, volumeNode.GetParentTransformNode())
    node.SetAttribute(MAP_ATTRIBUTE, mapName)
    node.SetNodeReferenceID(VOLUME_ROLE, volumeNode.GetID())
    node.CreateDefaultDisplayNodes()
    display = node.GetDisplayNode()
    display.SetAndObserveColorNodeID(perceptualColorNode(scene).GetID())
    display.AutoWindowLevelOff()
    display.SetWindowLevelMinMax(0.0, 1.0)
    display.AutoThresholdOff()
    display.SetThreshold(defaultThreshold(volume.array), 1.0)
    display.ApplyThresholdOn()
    return node


def defaultThreshold(coefficients: np.ndarray) -> float:
    """From which coefficient on a map is shown: an overlay shows where the network looks, not where it does not.

    Otsu's threshold, raised where more than a tenth of the map would be shown. Each gate has a range of its own: in
    the model for abdominal CT some are near 0 away from the organs, and one (level 4, sub-gate 2) near 0.7. In four
    scans, the threshold of a level was 0.25 to 0.64 and left 92 to 100 % of the pancreas under the overlay.
    Coefficients that are not finite do not count.
    """
    values = np.asarray(coefficients, dtype=np.float32).ravel()
    values = values[np.isfinite(values)]
    if values.size == 0:
        return ATTENTION_THRESHOLD
    low, high = float(values.min()), float(values.max())
    if high - low < 0.05:
        return ATTENTION_THRESHOLD
    counts, edges = np.histogram(values, 256, (low, high))
    centers = (edges[:-1] + edges[1:]) / 2
    below, sums = np.cumsum(counts)[:-1], np.cumsum(counts * centers)[:-1]
    above = values.size - below
    # Never 0: the first bin and the last hold the extremes.
    between = (sums * values.size - (counts * centers).sum() * below) ** 2 / (below.astype(float) * above)
    otsu = float(edges[1:-1][between.argmax()])
    threshold = max(otsu, float(np.quantile(values, 1 - LARGEST_SHARE_SHOWN)))
    return min(math.ceil(threshold * 100) / 100, high)


def perceptualColorNode(scene: Any) -> Any:
    """Slicer's Inferno color table; where the application's color files are not loaded, a table equivalent to it."""
    nodeID = slicer.vtkMRMLColorLogic.GetFileColorNodeID("Inferno.txt")
    node = scene.GetNodeByID(nodeID)
    if node is None:
        node = slicer.vtkMRMLColorTableNode()
        node.SetTypeToUser()
        node.SetName("Inferno")
        node.SetSingletonTag(nodeID.removeprefix(node.GetClassName()))
        node.SetNumberOfColors(256)
        places = np.linspace(0, 255, len(_INFERNO))
        for index in range(256):
            color = [np.interp(index, places, channel) / 255 for channel in _INFERNO.T]
            node.SetColor(index, str(index), *color)
        node = scene.AddNode(node)
    return node
