"""Where the nodes of a result go in the subject hierarchy: to their CT, in its study."""

from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from typing import Any

import slicer

_LEVELS = ("Patient", "Study")


class HierarchyPlacement:
    """Places nodes beside a volume, so that they belong to the same patient and study."""

    def __init__(self, volumeNode: Any) -> None:
        self.volumeNode = volumeNode
        # The application gives every volume an item; without it a volume may have none.
        self._volumeItem = self._subjectHierarchy.GetItemByDataNode(volumeNode)
        sceneItem = self._subjectHierarchy.GetSceneItemID()
        self._parentItem = self._subjectHierarchy.GetItemParent(self._volumeItem) if self._volumeItem else sceneItem

    @property
    def _subjectHierarchy(self) -> Any:
        # Never kept: the scene would go on using a node that somebody holds, also when the scene has been closed.
        return self.volumeNode.GetScene().GetSubjectHierarchyNode()

    def placeBeside(self, node: Any) -> None:
        """Puts a node beside the volume."""
        self._subjectHierarchy.CreateItem(self._parentItem, node)

    def placeInFolder(self, nodes: Iterable[Any], name: str) -> int | None:
        """Puts nodes into a new folder beside the volume and returns its item; without nodes there is none."""
        nodes = list(nodes)
        if not nodes:
            return None
        folderItem = self._subjectHierarchy.CreateFolderItem(self._parentItem, name)
        for node in nodes:
            self._subjectHierarchy.CreateItem(folderItem, node)
        return folderItem

    def isElsewhere(self, node: Any) -> bool:
        """Whether a node lies in a patient or study that is not the volume's."""
        item = self._subjectHierarchy.GetItemByDataNode(node)
        own = [self._ancestor(item, level) for level in _LEVELS]
        return any(own) and own != [self._ancestor(self._volumeItem, level) for level in _LEVELS]

    def _ancestor(self, item: int, level: str) -> int:
        return self._subjectHierarchy.GetItemAncestorAtLevel(item, level) if item else 0

    def referToDicom(self, segmentationNode: Any) -> None:
        """Notes on the segmentation which DICOM instances it was made from, if the volume was loaded from DICOM.

        With these, and the volume as its reference, Slicer offers to export it as DICOM SEG into the volume's study.
        """
        constants = slicer.vtkMRMLSubjectHierarchyConstants
        instances = self.volumeNode.GetAttribute("DICOM.instanceUIDs") or ""
        if not instances and self._volumeItem:
            instances = self._subjectHierarchy.GetItemUID(self._volumeItem, constants.GetDICOMInstanceUIDName())
        item = self._subjectHierarchy.GetItemByDataNode(segmentationNode)
        attribute = constants.GetDICOMReferencedInstanceUIDsAttributeName()
        if instances or self._subjectHierarchy.GetItemAttribute(item, attribute):
            self._subjectHierarchy.SetItemAttribute(item, attribute, instances)


@contextmanager
def restoringItem(node: Any) -> Iterator[None]:
    """When the block fails, a node is where it was in the subject hierarchy, and refers to the same DICOM instances."""
    scene = node.GetScene()
    before = _itemState(scene.GetSubjectHierarchyNode(), node)
    try:
        yield
    except BaseException:
        if before is not None:
            _restoreItem(scene.GetSubjectHierarchyNode(), node, *before)
        raise


def _itemState(hierarchy: Any, node: Any) -> tuple[int, int, str | None] | None:
    """Parent and position below it of a node's item, and the DICOM instances; None when the node has no item."""
    item = hierarchy.GetItemByDataNode(node)
    if not item:
        return None
    attribute = slicer.vtkMRMLSubjectHierarchyConstants.GetDICOMReferencedInstanceUIDsAttributeName()
    instances = hierarchy.GetItemAttribute(item, attribute) if hierarchy.HasItemAttribute(item, attribute) else None
    return hierarchy.GetItemParent(item), hierarchy.GetItemPositionUnderParent(item), instances


def _restoreItem(hierarchy: Any, node: Any, parentItem: int, position: int, instances: str | None) -> None:
    item = hierarchy.GetItemByDataNode(node)
    if hierarchy.GetItemParent(item) != parentItem:
        hierarchy.SetItemParent(item, parentItem)
        hierarchy.MoveItem(item, hierarchy.GetItemByPositionUnderParent(parentItem, position))
    attribute = slicer.vtkMRMLSubjectHierarchyConstants.GetDICOMReferencedInstanceUIDsAttributeName()
    if instances is None:
        hierarchy.RemoveItemAttribute(item, attribute)
    else:
        hierarchy.SetItemAttribute(item, attribute, instances)
