"""All that a segmentation puts into the scene, beside its CT."""

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from AGTraining.errors import InputError

from ..SceneChanges import allOrNothing
from .AttentionNodes import addAttentionNodes
from .SegmentationNodes import addSegmentationNode
from .StatisticsTable import addStatisticsTable

if TYPE_CHECKING:
    from AGTraining.inference.result import SegmentResult


@dataclass(frozen=True)
class ResultNodes:
    """The nodes of a result.

    attentionNodes: volume nodes by the name of their map (`level2`, …). attentionFolderItem: the item of the subject
    hierarchy that holds them; None where there are none.
    """

    segmentationNode: Any
    tableNode: Any
    attentionNodes: dict[str, Any]
    attentionFolderItem: int | None


def addResultNodes(volumeNode: Any, result: "SegmentResult") -> ResultNodes:
    """Adds the result of segmenting a CT to the CT's scene, beside it in the subject hierarchy.

    Raises InputError when the volume node changed its size since it was segmented. Whatever goes wrong, the scene is
    then as it was before.
    """
    scene = volumeNode.GetScene()
    image = volumeNode.GetImageData()
    if scene is None or image is None or image.GetDimensions() != result.labels.size:
        raise InputError(f"{volumeNode.GetName()}: the volume was changed while it was segmented; segment it again.")
    name = volumeNode.GetName()
    with allOrNothing(scene):
        subjectHierarchy = scene.GetSubjectHierarchyNode()
        # The application gives every volume an item; without it a volume may have none.
        volumeItem = subjectHierarchy.GetItemByDataNode(volumeNode)
        sceneItem = subjectHierarchy.GetSceneItemID()
        parentItem = subjectHierarchy.GetItemParent(volumeItem) if volumeItem else sceneItem
        segmentationNode = addSegmentationNode(
            scene, volumeNode, result, scene.GenerateUniqueName(f"{name} segmentation")
        )
        tableNode = addStatisticsTable(scene, result, scene.GenerateUniqueName(f"{name} organ statistics"))
        for node in (segmentationNode, tableNode):
            subjectHierarchy.CreateItem(parentItem, node)
        attentionNodes = addAttentionNodes(scene, volumeNode, result, f"{name} attention")
        folderItem = None
        if attentionNodes:
            folderItem = subjectHierarchy.CreateFolderItem(parentItem, f"{name} attention")
            for node in attentionNodes.values():
                subjectHierarchy.CreateItem(folderItem, node)
    return ResultNodes(segmentationNode, tableNode, attentionNodes, folderItem)
