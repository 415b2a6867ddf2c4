"""Which table and attention volumes belong to a segmentation node: it remembers them, also in a saved scene."""

from collections.abc import Iterable
from typing import Any

from .AttentionNodes import MAP_ATTRIBUTE
from .SequenceFrames import browserOf

TABLE_ROLE = "AttentionSegmentation.table"
ATTENTION_ROLE = "AttentionSegmentation.attention"


def tableNodeOf(segmentationNode: Any) -> Any:
    """The table of organ volumes of an earlier run, or None."""
    return None if segmentationNode is None else segmentationNode.GetNodeReference(TABLE_ROLE)


def attentionNodesOf(segmentationNode: Any) -> dict[str, Any]:
    """The attention volumes of an earlier run, by the name of their map, in the order in which they were made."""
    if segmentationNode is None:
        return {}
    count = segmentationNode.GetNumberOfNodeReferences(ATTENTION_ROLE)
    nodes = [segmentationNode.GetNthNodeReference(ATTENTION_ROLE, index) for index in range(count)]
    return {node.GetAttribute(MAP_ATTRIBUTE) or node.GetName(): node for node in nodes if node is not None}


def setCompanions(segmentationNode: Any, tableNode: Any, attentionNodes: Iterable[Any]) -> None:
    """Lets a segmentation node remember the others, in place of those before."""
    segmentationNode.SetNodeReferenceID(TABLE_ROLE, tableNode.GetID())
    segmentationNode.RemoveNodeReferenceIDs(ATTENTION_ROLE)
    for node in attentionNodes:
        segmentationNode.AddNodeReferenceID(ATTENTION_ROLE, node.GetID())


def removeNodes(volumeNodes: Iterable[Any]) -> None:
    """Removes volumes with all that came with them: display, sequence, and the folder that they leave empty."""
    for node in volumeNodes:
        scene = node.GetScene()
        browserNode = browserOf(node)
        if browserNode is not None:
            sequenceNode = browserNode.GetSequenceNode(node)
            browserNode.RemoveSynchronizedSequenceNode(sequenceNode.GetID())
            _remove(scene, sequenceNode)
        for index in reversed(range(node.GetNumberOfDisplayNodes())):
            scene.RemoveNode(node.GetNthDisplayNode(index))
        _remove(scene, node)


def _remove(scene: Any, node: Any) -> None:
    storageNode = node.GetStorageNode()
    if storageNode is not None:
        scene.RemoveNode(storageNode)
    subjectHierarchy = scene.GetSubjectHierarchyNode()
    item = subjectHierarchy.GetItemByDataNode(node)
    if item:
        parentItem = subjectHierarchy.GetItemParent(item)
        subjectHierarchy.RemoveItem(item, False, False)
        isFolder = subjectHierarchy.IsItemLevel(parentItem, "Folder")
        if isFolder and subjectHierarchy.GetNumberOfItemChildren(parentItem) == 0:
            subjectHierarchy.RemoveItem(parentItem, False, False)
    scene.RemoveNode(node)
