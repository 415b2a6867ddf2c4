"""Where the nodes of a result go in the subject hierarchy: to their CT, in its study."""

from collections.abc import Iterable
from typing import Any

import slicer


class HierarchyPlacement:
    """Places nodes beside a volume, so that they belong to the same patient and study."""

    def __init__(self, volumeNode: Any) -> None:
        self._volumeNode = volumeNode
        # The application gives every volume an item; without it a volume may have none.
        self._volumeItem = self._subjectHierarchy.GetItemByDataNode(volumeNode)
        sceneItem = self._subjectHierarchy.GetSceneItemID()
        self._parentItem = self._subjectHierarchy.GetItemParent(self._volumeItem) if self._volumeItem else sceneItem

    @property
    def _subjectHierarchy(self) -> Any:
        # Never kept: the scene would go on using a node that somebody holds, also when the scene has been closed.
        return self._volumeNode.GetScene().GetSubjectHierarchyNode()

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

    def referToDicom(self, segmentationNode: Any) -> None:
        """Notes on the segmentation which DICOM instances it was made from, if the volume was loaded from DICOM.

        With these, and the volume as its reference, Slicer offers to export it as DICOM SEG into the volume's study.
        """
        constants = slicer.vtkMRMLSubjectHierarchyConstants
        instances = self._volumeNode.GetAttribute("DICOM.instanceUIDs") or ""
        if not instances and self._volumeItem:
            instances = self._subjectHierarchy.GetItemUID(self._volumeItem, constants.GetDICOMInstanceUIDName())
        item = self._subjectHierarchy.GetItemByDataNode(segmentationNode)
        attribute = constants.GetDICOMReferencedInstanceUIDsAttributeName()
        if instances or self._subjectHierarchy.GetItemAttribute(item, attribute):
            self._subjectHierarchy.SetItemAttribute(item, attribute, instances)
