"""Undoing what was added to a scene."""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import vtk


class SceneChanges:
    """What was added to a scene since this object was made: nodes, and items of the subject hierarchy."""

    def __init__(self, scene: Any) -> None:
        self.scene = scene
        # First the items: asking for them makes the subject hierarchy, where the scene has none yet.
        self._items = set(self._allItems())
        self._nodeIDs = {node.GetID() for node in self._allNodes()}

    def undo(self) -> None:
        """Removes all of it from the scene."""
        for node in reversed(self._allNodes()):
            # A node may have gone with one that was removed before it.
            if node.GetID() not in self._nodeIDs and self.scene.IsNodePresent(node):
                self.scene.RemoveNode(node)
        for item in reversed(self._allItems()):
            if item not in self._items:
                self._subjectHierarchy.RemoveItem(item, False, False)

    @property
    def _subjectHierarchy(self) -> Any:
        # Never kept: the scene would go on using a node that somebody holds, also when the scene has been closed.
        return self.scene.GetSubjectHierarchyNode()

    def _allNodes(self) -> list[Any]:
        return [self.scene.GetNthNode(index) for index in range(self.scene.GetNumberOfNodes())]

    def _allItems(self) -> list[int]:
        items = vtk.vtkIdList()
        self._subjectHierarchy.GetItemChildren(self._subjectHierarchy.GetSceneItemID(), items, True)
        return [items.GetId(index) for index in range(items.GetNumberOfIds())]


@contextmanager
def allOrNothing(scene: Any) -> Iterator[None]:
    """Whatever is added to the scene in this block stays only when the block ends without an error."""
    changes = SceneChanges(scene)
    try:
        yield
    except BaseException:
        changes.undo()
        raise
