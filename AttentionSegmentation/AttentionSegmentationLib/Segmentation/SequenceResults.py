"""The results of all images of a sequence, as sequences that the same browser shows."""

from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from typing import Any

import slicer

from AGTraining.errors import InputError
from AGTraining.inference.result import OrganStatistics, SegmentResult

from ..SceneChanges import allOrNothing
from ..VolumeConversion import nodeName, setVolume
from .AttentionNodes import MAP_ATTRIBUTE, addAttentionNode
from .CompanionNodes import attentionNodesOf, removeNodes, restoringCompanions, setCompanions, tableNodeOf
from .HierarchyPlacement import HierarchyPlacement, restoringItem
from .ResultNodes import ResultNodes, keepsPlace, placeResult
from .SegmentationNodes import replacingSegments, restoringPlace, setSegments
from .SequenceFrames import SequenceFrames, browserOf, isFrameOfSequence
from .StatisticsTable import addTableNode, organTableOfFrames, replacingTable


class SequenceResults:
    """Collects the results image by image; the scene sees nothing of them until all are there.

    selectedResult: that of the image that the volume node showed at the start. messages: of all images.
    """

    def __init__(self, frames: SequenceFrames) -> None:
        self._frames = frames
        self._segmentations = self._newSequence()
        self._attention: dict[str, Any] = {}
        self._organs: list[tuple[str, tuple[OrganStatistics, ...]]] = []
        self._messages: dict[str, None] = {}
        self.selectedResult: SegmentResult | None = None

    @property
    def messages(self) -> tuple[str, ...]:
        """Each sentence once."""
        return tuple(self._messages)

    def add(self, index: int, result: SegmentResult) -> None:
        """Takes the result of an image."""
        value = self._frames.indexValue(index)
        node = slicer.vtkMRMLSegmentationNode()
        node.SetName("segmentation")
        setSegments(node, self._frames.imageNode(index), result)
        self._segmentations.SetDataNodeAtValue(node, value)
        for mapName, volume in result.attention.items():
            node = slicer.vtkMRMLScalarVolumeNode()
            node.SetName(mapName)
            # What shows the image takes over its attributes.
            node.SetAttribute(MAP_ATTRIBUTE, mapName)
            setVolume(node, volume, self._frames.parentToWorld(index))
            self._attention.setdefault(mapName, self._newSequence()).SetDataNodeAtValue(node, value)
        self._organs.append((value, result.organs))
        self._messages.update(dict.fromkeys(result.messages))
        if index == self._frames.selected:
            self.selectedResult = result

    def addToScene(self, outputSegmentationNode: Any = None) -> ResultNodes:
        """Adds sequences to the volume's browser, with nodes that show their selected image, and one table for all.

        outputSegmentationNode: the node that shows the segmentations; what it and its sequence held is replaced.
        Whatever goes wrong, the scene is then as it was before.
        """
        frames, scene = self._frames, self._frames.volumeNode.GetScene()
        name = nodeName(frames.volumeNode)
        placement = HierarchyPlacement(frames.volumeNode)
        formerAttention = attentionNodesOf(outputSegmentationNode)
        isPlaced = keepsPlace(placement, outputSegmentationNode)
        with allOrNothing(scene), ExitStack() as undoing:
            segmentationNode, sequenceNode = self._addSegmentations(undoing, outputSegmentationNode)
            table = organTableOfFrames(self._organs, self._indexTitle())
            tableNode = tableNodeOf(outputSegmentationNode)
            if tableNode is None:
                tableNode = addTableNode(scene, table, scene.GenerateUniqueName(f"{name} organ statistics"))
                placement.placeBeside(tableNode)
            else:
                undoing.enter_context(restoringItem(tableNode))
                undoing.enter_context(replacingTable(tableNode, table))
            attentionNodes = {}
            for mapName, sequence in self._attention.items():
                volume = self.selectedResult.attention[mapName]
                attentionNodes[mapName] = addAttentionNode(scene, frames.volumeNode, mapName, volume)
                self._show(undoing, sequence, attentionNodes[mapName], False)
            folderItem = placement.placeInFolder(attentionNodes.values(), f"{name} attention")
            remarks = () if isPlaced else placeResult(placement, segmentationNode, tableNode)
            placement.referToDicom(segmentationNode)
            setCompanions(segmentationNode, tableNode, attentionNodes.values())
        removeNodes(formerAttention.values())
        return ResultNodes(segmentationNode, tableNode, attentionNodes, folderItem, sequenceNode, remarks)

    def _addSegmentations(self, undoing: ExitStack, node: Any) -> tuple[Any, Any]:
        """The node that shows the segmentations, and their sequence."""
        volumeNode = self._frames.volumeNode
        scene = volumeNode.GetScene()
        sequenceNode = None
        if node is None:
            name = scene.GenerateUniqueName(f"{nodeName(volumeNode)} segmentation")
            node = scene.AddNewNodeByClass("vtkMRMLSegmentationNode", name)
            node.CreateDefaultDisplayNodes()
        else:
            undoing.enter_context(restoringItem(node))
            undoing.enter_context(restoringCompanions(node))
            sequenceNode = sequenceShownBy(node, self._frames)
            if sequenceNode is None:
                undoing.enter_context(replacingSegments(node))
            else:
                undoing.enter_context(_replacingItems(sequenceNode, self._segmentations))
        undoing.enter_context(restoringPlace(node))
        node.SetAndObserveTransformNodeID(volumeNode.GetTransformNodeID())
        node.SetNodeReferenceID(node.GetReferenceImageGeometryReferenceRole(), volumeNode.GetID())
        if sequenceNode is None:
            # Corrections that the user makes to an image's segmentation stay when the next image is shown.
            sequenceNode = self._show(undoing, self._segmentations, node, True)
        return node, sequenceNode

    def _show(self, undoing: ExitStack, sequenceNode: Any, proxyNode: Any, keepEdits: bool) -> Any:
        """Adds the sequence to the scene and the browser; the proxy node shows its selected item."""
        browserNode = self._frames.browserNode
        sequenceNode.SetName(f"{proxyNode.GetName()} sequence")
        sequenceNode = proxyNode.GetScene().AddNode(sequenceNode)
        wasModified = browserNode.StartModify()
        undoing.enter_context(_onError(lambda: browserNode.RemoveSynchronizedSequenceNode(sequenceNode.GetID())))
        browserNode.AddProxyNode(proxyNode, sequenceNode, False)
        browserNode.SetSaveChanges(sequenceNode, keepEdits)
        # Another sequence of the browser may have images where this one has none: not the ones before them.
        mode = "MissingItemCreateFromDefault" if keepEdits else "MissingItemSetToDefault"
        browserNode.SetMissingItemMode(sequenceNode, getattr(slicer.vtkMRMLSequenceBrowserNode, mode))
        browserNode.EndModify(wasModified)
        return sequenceNode

    def _newSequence(self) -> Any:
        source = self._frames.sequenceNode
        sequenceNode = slicer.vtkMRMLSequenceNode()
        sequenceNode.SetIndexName(source.GetIndexName())
        sequenceNode.SetIndexUnit(source.GetIndexUnit())
        sequenceNode.SetIndexType(source.GetIndexType())
        return sequenceNode

    def _indexTitle(self) -> str:
        source = self._frames.sequenceNode
        title, unit = source.GetIndexName() or "Index", source.GetIndexUnit()
        return f"{title} ({unit})" if unit else title


def sequenceShownBy(segmentationNode: Any, frames: SequenceFrames) -> Any:
    """The sequence, of the browser of these images, that a segmentation node shows; None when it shows none.

    Raises InputError when the node shows a sequence of another browser.
    """
    browserNode = browserOf(segmentationNode)
    if browserNode is None:
        return None
    if browserNode is not frames.browserNode:
        raise InputError(
            f"{segmentationNode.GetName()}: it shows a sequence of '{browserNode.GetName()}', and the volume one of "
            f"'{frames.browserNode.GetName()}'; choose another output segmentation or a new one."
        )
    return browserNode.GetSequenceNode(segmentationNode)


def requireNoSequence(segmentationNode: Any) -> None:
    """Raises InputError when a segmentation node shows one image's segmentation of a sequence: its table and attention
    volumes are those of all images, and the result of a single volume would take their place.
    """
    if isFrameOfSequence(segmentationNode):
        raise InputError(
            f"{segmentationNode.GetName()}: it shows a sequence of segmentations; choose another output segmentation "
            "or a new one, or segment all images of the sequence."
        )


@contextmanager
def _onError(undo: Any) -> Iterator[None]:
    try:
        yield
    except BaseException:
        undo()
        raise


@contextmanager
def _replacingItems(sequenceNode: Any, newSequenceNode: Any) -> Iterator[None]:
    """Gives a sequence the items of another; when the block fails, it has its own again."""
    backup = slicer.vtkMRMLSequenceNode()
    _copyItems(sequenceNode, backup)
    _copyItems(newSequenceNode, sequenceNode)
    try:
        yield
    except BaseException:
        _copyItems(backup, sequenceNode)
        raise


def _copyItems(source: Any, target: Any) -> None:
    wasModified = target.StartModify()
    target.RemoveAllDataNodes()
    target.SetIndexType(source.GetIndexType())
    for index in range(source.GetNumberOfDataNodes()):
        target.SetDataNodeAtValue(source.GetNthDataNode(index), source.GetNthIndexValue(index))
    target.EndModify(wasModified)
