"""Attention coefficients as scalar volumes that can be laid over the CT."""

from typing import TYPE_CHECKING, Any

import numpy as np
import slicer

from ..VolumeConversion import addVolumeNode

if TYPE_CHECKING:
    from AGTraining.inference.result import SegmentResult

# Coefficients below this are transparent: an overlay shows where the network looks, not where it does not.
ATTENTION_THRESHOLD = 0.5

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


def addAttentionNodes(scene: Any, volumeNode: Any, result: "SegmentResult", name: str) -> dict[str, Any]:
    """A new volume node for each attention map of the result, by the map's name.

    The maps keep the model's own grid. They are placed under the CT's parent transform, with a matrix that undoes it,
    so that they stay on the CT when that transform is changed.
    """
    nodes = {}
    for mapName, volume in result.attention.items():
        node = addVolumeNode(scene, volume, f"{name} {mapName}", volumeNode.GetParentTransformNode())
        node.CreateDefaultDisplayNodes()
        display = node.GetDisplayNode()
        display.SetAndObserveColorNodeID(perceptualColorNode(scene).GetID())
        display.AutoWindowLevelOff()
        display.SetWindowLevelMinMax(0.0, 1.0)
        display.AutoThresholdOff()
        display.SetThreshold(ATTENTION_THRESHOLD, 1.0)
        display.ApplyThresholdOn()
        nodes[mapName] = node
    return nodes


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
