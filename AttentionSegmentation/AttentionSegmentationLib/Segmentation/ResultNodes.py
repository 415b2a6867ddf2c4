"""All that a segmentation puts into the scene, beside its CT."""

from contextlib import ExitStack
from dataclasses import dataclass
from typing import Any

from AGTraining.errors import InputError
from AGTraining.inference.result import SegmentResult

from ..SceneChanges import allOrNothing
from .AttentionNodes import addAttentionNode
from .CompanionNodes import attentionNodesOf, removeNodes, setCompanions, tableNodeOf
from .HierarchyPlacement import HierarchyPlacement
from .SegmentationNodes import addSegmentationNode, hasContent, replacingSegments, setSegments
from .StatisticsTable import addTableNode, organTable, replacingTable


@dataclass(frozen=True)
class ResultNodes:
    """The nodes of a result.

    attentionNodes: volume nodes by the name of their map (`level2`, …). attentionFolderItem: the item of the subject
    hierarchy that holds them; None where there are none. sequenceNode: the segmentations of all images of a sequence,
    of which segmentationNode shows one; None for a single volume.
    """

    segmentationNode: Any
    tableNode: Any
    attentionNodes: dict[str, Any]
    attentionFolderItem: int | None
    sequenceNode: Any


def addResultNodes(volumeNode: Any, result: SegmentResult, outputSegmentationNode: Any = None) -> ResultNodes:
    """Adds the result of segmenting a CT to the CT's scene, beside it in the subject hierarchy.

    outputSegmentationNode: this node's segments, its table and its attention volumes of an earlier run are replaced;
    None makes new nodes. Nothing else in the scene is touched.

    Raises InputError when the volume node changed its size since it was segmented. Whatever goes wrong, the scene is
    then as it was before.
    """
    scene = volumeNode.GetScene()
    image = volumeNode.GetImageData()
    if scene is None or image is None or image.GetDimensions() != result.labels.size:
        raise InputError(f"{volumeNode.GetName()}: the volume was changed while it was segmented; segment it again.")
    name = volumeNode.GetName()
    placement = HierarchyPlacement(volumeNode)
    segmentationNode, tableNode = outputSegmentationNode, tableNodeOf(outputSegmentationNode)
    formerAttention = attentionNodesOf(outputSegmentationNode)
    isPlaced = hasContent(outputSegmentationNode)
    with allOrNothing(scene), ExitStack() as replacing:
        if segmentationNode is None:
            segmentationNode = addSegmentationNode(
                scene, volumeNode, result, scene.GenerateUniqueName(f"{name} segmentation")
            )
        else:
            replacing.enter_context(replacingSegments(segmentationNode))
            setSegments(segmentationNode, volumeNode, result)
        table = organTable(result.organs)
        if tableNode is None:
            tableNode = addTableNode(scene, table, scene.GenerateUniqueName(f"{name} organ statistics"))
            placement.placeBeside(tableNode)
        else:
            replacing.enter_context(replacingTable(tableNode, table))
        attentionNodes = {
            mapName: addAttentionNode(scene, volumeNode, mapName, volume)
            for mapName, volume in result.attention.items()
        }
        folderItem = placement.placeInFolder(attentionNodes.values(), f"{name} attention")
        # A node that the user has put somewhere stays there.
        if not isPlaced:
            placement.placeBeside(segmentationNode)
        placement.referToDicom(segmentationNode)
        setCompanions(segmentationNode, tableNode, attentionNodes.values())
    removeNodes(formerAttention.values())
    return ResultNodes(segmentationNode, tableNode, attentionNodes, folderItem, None)
