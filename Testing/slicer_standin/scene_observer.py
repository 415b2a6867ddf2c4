"""Follows a MRML scene on behalf of a widget, until the widget is destroyed."""

from collections.abc import Callable
from typing import Any

import slicer
import vtk
from PySide6 import QtCore

from Testing.slicer_standin.signals import guarded


class SceneObserver:
    """Calls back when nodes come, go or change; silent while the scene is being closed or loaded, as in Slicer."""

    def __init__(
        self,
        owner: QtCore.QObject,
        onChanged: Callable[[], None],
        onAdded: Callable[[Any], None],
        onRemoved: Callable[[Any], None],
    ) -> None:
        self._scene: Any = None
        self._sceneTags: list[int] = []
        self._nodeTags: dict[Any, int] = {}
        self._onChanged, self._onAdded, self._onRemoved = onChanged, onAdded, onRemoved
        owner.destroyed.connect(lambda *arguments: self.observe(None))

    def isPaused(self) -> bool:
        """Whether the scene is in the middle of a larger change."""
        return self._scene is not None and bool(self._scene.IsClosing() or self._scene.IsImporting())

    def nodes(self) -> list[Any]:
        """All nodes of the scene, in its order."""
        if self._scene is None:
            return []
        return [self._scene.GetNthNode(index) for index in range(self._scene.GetNumberOfNodes())]

    def observe(self, scene: Any) -> None:
        """Follows another scene, or none."""
        for tag in self._sceneTags:
            self._scene.RemoveObserver(tag)
        self._sceneTags = []
        self.observeNodes([])
        self._scene = scene
        if scene is None:
            return
        for event, callback in (
            (slicer.vtkMRMLScene.NodeAddedEvent, self._nodeAdded),
            (slicer.vtkMRMLScene.NodeAboutToBeRemovedEvent, self._nodeAboutToBeRemoved),
            (slicer.vtkMRMLScene.NodeRemovedEvent, self._changed),
            (slicer.vtkMRMLScene.EndCloseEvent, self._changed),
            (slicer.vtkMRMLScene.EndImportEvent, self._changed),
        ):
            self._sceneTags.append(scene.AddObserver(event, callback))

    def observeNodes(self, nodes: list[Any]) -> None:
        """Watches these nodes for changes, and no others."""
        for node in [node for node in self._nodeTags if node not in nodes]:
            node.RemoveObserver(self._nodeTags.pop(node))
        for node in nodes:
            if node not in self._nodeTags:
                self._nodeTags[node] = node.AddObserver(vtk.vtkCommand.ModifiedEvent, self._changed)

    @vtk.calldata_type(vtk.VTK_OBJECT)
    def _nodeAdded(self, scene: Any, event: str, node: Any) -> None:
        if not self.isPaused():
            guarded(self._onAdded, node)

    @vtk.calldata_type(vtk.VTK_OBJECT)
    def _nodeAboutToBeRemoved(self, scene: Any, event: str, node: Any) -> None:
        if node in self._nodeTags:
            node.RemoveObserver(self._nodeTags.pop(node))
        if not self.isPaused():
            guarded(self._onRemoved, node)

    def _changed(self, *arguments: Any) -> None:
        guarded(self._onChanged)
