"""Which table and attention volumes belong to a segmentation node: it remembers them, also in a saved scene."""

from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from typing import Any

from .AttentionNodes import MAP_ATTRIBUTE
from .SequenceFrames import browserOf

TABLE_ROLE = "AttentionSegmentation.table"
ATTENTION_ROLE = "AttentionSegmentation.attention"
# On the companions: a copy of a segmentation node refers to those of the original, which refer to the original only.
SEGMENTATION_ROLE = "AttentionSegmentation.segmentation"


def tableNodeOf(segmentationNode: Any) -> Any:
    """The table of organ volumes of an earlier run, or None."""
    nodes = _companions(segmentationNode, TABLE_ROLE)
    return nodes[0] if nodes else None


def attentionNodesOf(segmentationNode: Any) -> dict[str, Any]:
    """The attention volumes of an earlier run, by the name of their map, in the order in which they were made."""
    nodes = _companions(segmentationNode, ATTENTION_ROLE)
    return {node.GetAttribute(MAP_ATTRIBUTE) or node.GetName(): node for node in nodes}


def setCompanions(segmentationNode: Any, tableNode: Any, attentionNodes: Iterable[Any]) -> None:
    """Lets a segmentation node remember the others, in place of those before."""
    for role, nodes in ((TABLE_ROLE, [tableNode]), (ATTENTION_ROLE, attentionNodes)):
        segmentationNode.RemoveNodeReferenceIDs(role)
        for node in nodes:
            segmentationNode.AddNodeReferenceID(role, node.GetID())
            node.SetNodeReferenceID(SEGMENTATION_ROLE, segmentationNode.GetID())


@contextmanager
def restoringCompanions(segmentationNode: Any) -> Iterator[None]:
    """When the block fails, the node remembers the companions that it had before."""
    before = {role: _referenceIDs(segmentationNode, role) for role in (TABLE_ROLE, ATTENTION_ROLE)}
    try:
        yield
    except BaseException:
        for role, nodeIDs in before.items():
            segmentationNode.RemoveNodeReferenceIDs(role)
            for nodeID in nodeIDs:
                segmentationNode.AddNodeReferenceID(role, nodeID)
        raise


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


def _companions(segmentationNode: Any, role: str) -> list[Any]:
    """The node's own: those of the segmentation that it was copied from are not."""
    if segmentationNode is None:
        return []
    nodes = [
        segmentationNode.GetNthNodeReference(role, n) for n in range(segmentationNode.GetNumberOfNodeReferences(role))
    ]
    return [node for node in nodes if node is not None and node.GetNodeReference(SEGMENTATION_ROLE) is segmentationNode]


def _referenceIDs(node: Any, role: str) -> list[str]:
    return [node.GetNthNodeReferenceID(role, index) for index in range(node.GetNumberOfNodeReferences(role))]


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
