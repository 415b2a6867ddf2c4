"""All that a segmentation puts into the scene, beside its CT."""

from contextlib import ExitStack
from dataclasses import dataclass
from typing import Any

from AGTraining.errors import InputError
from AGTraining.inference.result import SegmentResult

from ..SceneChanges import allOrNothing
from ..VolumeConversion import nodeName
from .AttentionNodes import addAttentionNode
from .CompanionNodes import attentionNodesOf, removeNodes, restoringCompanions, setCompanions, tableNodeOf
from .HierarchyPlacement import HierarchyPlacement, restoringItem
from .SegmentationNodes import addSegmentationNode, hasContent, replacingSegments, setSegments
from .StatisticsTable import addTableNode, organTable, replacingTable


@dataclass(frozen=True)
class ResultNodes:
    """The nodes of a result.

    attentionNodes: volume nodes by the name of their map (`level2`, …). attentionFolderItem: the item of the subject
    hierarchy that holds them; None where there are none. sequenceNode: the segmentations of all images of a sequence,
    of which segmentationNode shows one; None for a single volume. remarks: sentences for the user on where they are.
    """

    segmentationNode: Any
    tableNode: Any
    attentionNodes: dict[str, Any]
    attentionFolderItem: int | None
    sequenceNode: Any
    remarks: tuple[str, ...]


def addResultNodes(volumeNode: Any, result: SegmentResult, outputSegmentationNode: Any = None) -> ResultNodes:
    """Adds the result of segmenting a CT to the CT's scene, beside it in the subject hierarchy.

    outputSegmentationNode: this node's segments, its table and its attention volumes of an earlier run are replaced;
    None makes new nodes. Nothing else in the scene is touched. Where the user has put the node it stays, unless that is
    in a patient or study that is not the CT's.

    Raises InputError when the volume node changed its size since it was segmented. Whatever goes wrong, the scene is
    then as it was before.
    """
    scene = volumeNode.GetScene()
    image = volumeNode.GetImageData()
    if scene is None or image is None or image.GetDimensions() != result.labels.size:
        raise InputError(f"{nodeName(volumeNode)}: the volume was changed while it was segmented; segment it again.")
    name = nodeName(volumeNode)
    placement = HierarchyPlacement(volumeNode)
    segmentationNode, tableNode = outputSegmentationNode, tableNodeOf(outputSegmentationNode)
    formerAttention = attentionNodesOf(outputSegmentationNode)
    isPlaced = keepsPlace(placement, outputSegmentationNode)
    with allOrNothing(scene), ExitStack() as replacing:
        if segmentationNode is None:
            segmentationNode = addSegmentationNode(
                scene, volumeNode, result, scene.GenerateUniqueName(f"{name} segmentation")
            )
        else:
            replacing.enter_context(restoringItem(segmentationNode))
            replacing.enter_context(restoringCompanions(segmentationNode))
            replacing.enter_context(replacingSegments(segmentationNode))
            setSegments(segmentationNode, volumeNode, result)
        table = organTable(result.organs)
        if tableNode is None:
            tableNode = addTableNode(scene, table, scene.GenerateUniqueName(f"{name} organ statistics"))
            placement.placeBeside(tableNode)
        else:
            replacing.enter_context(restoringItem(tableNode))
            replacing.enter_context(replacingTable(tableNode, table))
        attentionNodes = {
            mapName: addAttentionNode(scene, volumeNode, mapName, volume)
            for mapName, volume in result.attention.items()
        }
        folderItem = placement.placeInFolder(attentionNodes.values(), f"{name} attention")
        remarks = () if isPlaced else placeResult(placement, segmentationNode, tableNode)
        placement.referToDicom(segmentationNode)
        setCompanions(segmentationNode, tableNode, attentionNodes.values())
    removeNodes(formerAttention.values())
    return ResultNodes(segmentationNode, tableNode, attentionNodes, folderItem, None, remarks)


def keepsPlace(placement: HierarchyPlacement, segmentationNode: Any) -> bool:
    """Whether a segmentation stays where it is in the subject hierarchy: it has segments, so the user had it there.

    Not in the patient or study of the CT that it showed before.
    """
    if not hasContent(segmentationNode):
        return False
    formerVolumeNode = segmentationNode.GetNodeReference(segmentationNode.GetReferenceImageGeometryReferenceRole())
    return formerVolumeNode is placement.volumeNode or not placement.isElsewhere(segmentationNode)


def placeResult(placement: HierarchyPlacement, segmentationNode: Any, tableNode: Any) -> tuple[str, ...]:
    """Puts a segmentation beside its CT, and a table that lies elsewhere; a sentence when the user had it elsewhere."""
    isElsewhere = placement.isElsewhere(segmentationNode)
    placement.placeBeside(segmentationNode)
    if placement.isElsewhere(tableNode):
        placement.placeBeside(tableNode)
    if not isElsewhere:
        return ()
    name, volumeName = segmentationNode.GetName(), nodeName(placement.volumeNode)
    return (f"{name}: moved from another patient or study to '{volumeName}', which it shows now.",)
