"""Attention maps over the CT in the slice views, and back."""

import json
from collections.abc import Iterable
from typing import Any

import numpy as np
import slicer
import vtk

from ..VolumeConversion import worldFromParent
from .AttentionNodes import MAP_ATTRIBUTE, VOLUME_ROLE

# On a slice view's composite node: what it showed before the overlay, as JSON. Saved with the scene as the overlay is.
_BEFORE_ATTRIBUTE = "AttentionSegmentation.viewBeforeOverlay"


def showOverlay(attentionNode: Any, opacity: float = 0.5) -> None:
    """Lays the map over its CT in all slice views; `hideOverlay` brings back what they showed.

    opacity: in [0, 1]. Where the CT of the map is gone, the views keep their background.
    """
    volumeNode = attentionNode.GetNodeReference(VOLUME_ROLE)
    for view in _compositeNodes(attentionNode.GetScene()):
        if not _showsOverlay(view):
            view.SetAttribute(
                _BEFORE_ATTRIBUTE,
                json.dumps(
                    {
                        "background": view.GetBackgroundVolumeID(),
                        "foreground": view.GetForegroundVolumeID(),
                        "opacity": view.GetForegroundOpacity(),
                    }
                ),
            )
        wasModified = view.StartModify()
        if volumeNode is not None:
            view.SetBackgroundVolumeID(volumeNode.GetID())
        view.SetForegroundVolumeID(attentionNode.GetID())
        view.SetForegroundOpacity(opacity)
        view.EndModify(wasModified)


def hideOverlay(scene: Any = None) -> None:
    """Takes attention maps and their legends off all slice views; views that show something else are left alone.

    scene: None is the application's.
    """
    scene = scene or slicer.mrmlScene
    for view in _compositeNodes(scene):
        if _showsOverlay(view):
            before = json.loads(view.GetAttribute(_BEFORE_ATTRIBUTE) or "{}")
            wasModified = view.StartModify()
            # Nodes that are gone meanwhile cannot come back.
            view.SetForegroundVolumeID(_existing(scene, before.get("foreground")))
            view.SetForegroundOpacity(before.get("opacity", 0.0))
            background = _existing(scene, before.get("background"))
            if background is not None:
                view.SetBackgroundVolumeID(background)
            view.EndModify(wasModified)
        view.RemoveAttribute(_BEFORE_ATTRIBUTE)
    for node in slicer.util.getNodesByClass("vtkMRMLScalarVolumeNode", scene):
        if _isAttention(node):
            showLegend(node, False)


def isOverlayShown(scene: Any = None) -> bool:
    """Whether a slice view shows an attention map on top. scene: None is the application's."""
    return any(_showsOverlay(view) for view in _compositeNodes(scene or slicer.mrmlScene))


def showLegend(attentionNode: Any, visible: bool) -> None:
    """Shows or hides the legend of a map's colors in the slice views that show the map. Does nothing without Slicer."""
    logic = slicer.modules.colors.logic()
    if not hasattr(logic, "AddDefaultColorLegendDisplayNode"):
        return
    legend = logic.GetColorLegendDisplayNode(attentionNode)
    if legend is None and visible:
        legend = logic.AddDefaultColorLegendDisplayNode(attentionNode)
        legend.SetTitleText("Attention")
        legend.SetLabelFormat("%.1f")
        legend.SetNumberOfLabels(6)
    if legend is not None:
        legend.SetVisibility(visible)


def setThreshold(attentionNodes: Iterable[Any], value: float) -> None:
    """Makes coefficients below the value, in [0, 1], transparent."""
    for node in attentionNodes:
        node.GetDisplayNode().SetThreshold(value, 1.0)


def threshold(attentionNode: Any) -> float:
    """From which coefficient on the map is shown."""
    return float(attentionNode.GetDisplayNode().GetLowerThreshold())


def jumpToMaximum(attentionNode: Any) -> tuple[float, float, float]:
    """Moves all slice views to the map's largest coefficient; returns where that is, in RAS mm of the world."""
    array = slicer.util.arrayFromVolume(attentionNode)
    k, j, i = np.unravel_index(int(array.argmax()), array.shape)
    ijkToRAS = vtk.vtkMatrix4x4()
    attentionNode.GetIJKToRASMatrix(ijkToRAS)
    matrix = worldFromParent(attentionNode) @ slicer.util.arrayFromVTKMatrix(ijkToRAS)
    right, anterior, superior = (float(n) for n in (matrix @ (i, j, k, 1.0))[:3])
    slicer.vtkMRMLSliceNode.JumpAllSlices(
        attentionNode.GetScene(), right, anterior, superior, slicer.vtkMRMLSliceNode.CenteredJumpSlice
    )
    return right, anterior, superior


def _compositeNodes(scene: Any) -> list[Any]:
    return slicer.util.getNodesByClass("vtkMRMLSliceCompositeNode", scene)


def _showsOverlay(view: Any) -> bool:
    node = view.GetScene().GetNodeByID(view.GetForegroundVolumeID() or "")
    return node is not None and _isAttention(node)


def _isAttention(node: Any) -> bool:
    return node.GetAttribute(MAP_ATTRIBUTE) is not None


def _existing(scene: Any, nodeID: str | None) -> str | None:
    return nodeID if nodeID and scene.GetNodeByID(nodeID) is not None else None
