"""Attention maps over the CT in the slice views, and back."""

from collections.abc import Iterable, Mapping
from typing import Any

import numpy as np
import slicer
import vtk

from ..VolumeConversion import worldFromParent
from .AttentionNodes import ATTENTION_THRESHOLD, MAP_ATTRIBUTE, VOLUME_ROLE

# On a slice view's composite node: what it showed before the overlay. Saved with the scene as the overlay is; volumes
# are node references because IDs change when a scene is added to another.
_BACKGROUND_ROLE = "AttentionSegmentation.backgroundBeforeOverlay"
_FOREGROUND_ROLE = "AttentionSegmentation.foregroundBeforeOverlay"
_OPACITY_ATTRIBUTE = "AttentionSegmentation.opacityBeforeOverlay"


def showOverlay(attentionNode: Any, opacity: float = 0.5) -> None:
    """Lays the map over its CT in all slice views; `hideOverlay` brings back what they showed.

    opacity: in [0, 1]. Where the CT of the map is gone, the views keep their background.
    """
    volumeNode = attentionNode.GetNodeReference(VOLUME_ROLE)
    for view in _compositeNodes(attentionNode.GetScene()):
        wasModified = view.StartModify()
        if not _showsOverlay(view):
            view.SetNodeReferenceID(_BACKGROUND_ROLE, view.GetBackgroundVolumeID())
            view.SetNodeReferenceID(_FOREGROUND_ROLE, view.GetForegroundVolumeID())
            view.SetAttribute(_OPACITY_ATTRIBUTE, str(view.GetForegroundOpacity()))
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
            wasModified = view.StartModify()
            # Nodes that are gone meanwhile cannot come back.
            foreground, background = (view.GetNodeReference(role) for role in (_FOREGROUND_ROLE, _BACKGROUND_ROLE))
            view.SetForegroundVolumeID(None if foreground is None else foreground.GetID())
            view.SetForegroundOpacity(float(view.GetAttribute(_OPACITY_ATTRIBUTE) or 0.0))
            if background is not None:
                view.SetBackgroundVolumeID(background.GetID())
            view.EndModify(wasModified)
        _forgetBefore(view)
    for node in slicer.util.getNodesByClass("vtkMRMLScalarVolumeNode", scene):
        if isAttentionMap(node):
            showLegend(node, False)


def isAttentionMap(node: Any) -> bool:
    """Whether a node is an attention map of this module's."""
    return node.GetAttribute(MAP_ATTRIBUTE) is not None


def isOverlayShown(scene: Any = None) -> bool:
    """Whether a slice view shows an attention map on top. scene: None is the application's."""
    return bool(_shownIDs(scene or slicer.mrmlScene))


def shownMap(attentionNodes: Mapping[str, Any]) -> str | None:
    """The name of that of the maps, given by name, which lies on top in a slice view; None when none of them does."""
    for name, node in attentionNodes.items():
        if node.GetScene() is not None and node.GetID() in _shownIDs(node.GetScene()):
            return name
    return None


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
    """Makes coefficients below the value, in [0, 1], transparent. Maps that were removed are passed over."""
    for node in attentionNodes:
        display = node.GetDisplayNode()
        if display is not None:
            display.SetThreshold(value, 1.0)


def threshold(attentionNode: Any) -> float:
    """From which coefficient on the map is shown."""
    display = attentionNode.GetDisplayNode()
    return ATTENTION_THRESHOLD if display is None else float(display.GetLowerThreshold())


def jumpToMaximum(attentionNode: Any) -> tuple[float, float, float] | None:
    """Moves all slice views to the map's largest coefficient; returns where that is, in RAS mm of the world.

    None, and nothing moves, when the map was removed from the scene.
    """
    if attentionNode.GetScene() is None:
        return None
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
    return node is not None and isAttentionMap(node)


def _shownIDs(scene: Any) -> set[str]:
    """The IDs of the attention maps that lie on top in slice views."""
    return {view.GetForegroundVolumeID() for view in _compositeNodes(scene) if _showsOverlay(view)}


def _forgetBefore(view: Any) -> None:
    for role in (_BACKGROUND_ROLE, _FOREGROUND_ROLE):
        view.RemoveNodeReferenceIDs(role)
    view.RemoveAttribute(_OPACITY_ATTRIBUTE)
