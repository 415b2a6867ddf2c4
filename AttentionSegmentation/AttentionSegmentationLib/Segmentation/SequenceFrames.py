"""The images that a volume node stands for: itself, or all of the sequence that it shows one image of."""

import zlib
from dataclasses import replace
from typing import Any, Literal

import slicer

from AGTraining.errors import InputError
from AGTraining.imaging.volume import Volume

from ..VolumeConversion import nodeName, volumeFromNode, worldFromParent

Frames = Literal["current", "all"]


def framesOf(volumeNode: Any, frames: Frames = "current") -> "SingleVolume | SequenceFrames":
    """What is to be segmented. Raises InputError when the node is no volume or in no scene.

    frames: "all" takes all images of the sequence that the volume shows; without a sequence there is only the volume.
    """
    if volumeNode is not None and volumeNode.GetScene() is None:
        raise InputError(
            f"{nodeName(volumeNode)}: the volume is in no scene; add it with slicer.mrmlScene.AddNode first."
        )
    if frames == "all" and isFrameOfSequence(volumeNode):
        return SequenceFrames(volumeNode)
    if frames not in ("current", "all"):
        raise InputError(f"Frames '{frames}' are not known; choose 'current' or 'all'.")
    return SingleVolume(volumeNode)


def isFrameOfSequence(volumeNode: Any) -> bool:
    """Whether the volume shows one image of a sequence that has several."""
    browserNode = browserOf(volumeNode)
    return browserNode is not None and browserNode.GetSequenceNode(volumeNode).GetNumberOfDataNodes() > 1


def browserOf(node: Any) -> Any:
    """The sequence browser whose proxy the node is, or None."""
    if node is None or node.GetScene() is None:
        return None
    for browserNode in slicer.util.getNodesByClass("vtkMRMLSequenceBrowserNode", node.GetScene()):
        if browserNode.IsProxyNodeID(node.GetID()) and browserNode.GetSequenceNode(node) is not None:
            return browserNode
    return None


class SingleVolume:
    """A volume node as it is now."""

    count = 1

    def __init__(self, volumeNode: Any) -> None:
        self._volume = volumeFromNode(volumeNode)
        self._state = _imageState(volumeNode)
        # Browsing a sequence, even back to the same image, copies its voxels anew.
        self._checksum = zlib.adler32(self._volume.array) if isFrameOfSequence(volumeNode) else None
        self.volumeNode = volumeNode
        self.nodes = (volumeNode,)

    @property
    def messages(self) -> tuple[str, ...]:
        """A sentence when the volume shows a sequence: only one image of it is segmented."""
        if not isFrameOfSequence(self.volumeNode):
            return ()
        browserNode = browserOf(self.volumeNode)
        index, count = browserNode.GetSelectedItemNumber() + 1, browserNode.GetNumberOfItems()
        return (f"{self._volume.name}: a sequence of {count} images; only image {index} was segmented.",)

    def volume(self, index: int) -> Volume:
        """The volume in the world."""
        return self._volume

    def requireUnchanged(self) -> None:
        """Raises InputError when the voxels were edited, or the volume was moved."""
        volume = volumeFromNode(self.volumeNode)
        isSame = volume.same_grid(self._volume)
        if isSame and _imageState(self.volumeNode) != self._state:
            isSame = self._checksum == zlib.adler32(volume.array)
        if not isSame:
            raise _changed(self._volume.name)


class SequenceFrames:
    """The images of a sequence, each under the transforms of its own time point. The browser is left alone.

    browserNode, sequenceNode: of the volume node. selected: index of the image that the volume node shows.
    """

    messages: tuple[str, ...] = ()

    def __init__(self, volumeNode: Any) -> None:
        self.volumeNode = volumeNode
        self.browserNode = browserOf(volumeNode)
        self.sequenceNode = self.browserNode.GetSequenceNode(volumeNode)
        self.nodes = (volumeNode, self.browserNode, self.sequenceNode)
        self.count = self.sequenceNode.GetNumberOfDataNodes()
        masterNode = self.browserNode.GetMasterSequenceNode()
        value = masterNode.GetNthIndexValue(max(self.browserNode.GetSelectedItemNumber(), 0))
        self.selected = max(self.sequenceNode.GetItemNumberFromIndexValue(value, False), 0)
        self._name = nodeName(volumeNode)
        self._taken: dict[int, tuple[tuple[Any, int], Volume]] = {}
        self.volume(0)

    def imageNode(self, index: int) -> Any:
        """The volume node, of the sequence's own scene, that holds an image."""
        return self.sequenceNode.GetNthDataNode(index)

    def indexValue(self, index: int) -> str:
        """The time or whatever the sequence is over, as a text."""
        return self.sequenceNode.GetNthIndexValue(index)

    def parentToWorld(self, index: int) -> Any:
        """(4, 4) matrix of the volume node's parent transforms at that time point."""
        return worldFromParent(self.volumeNode, lambda transformNode: self._contentAt(transformNode, index))

    def volume(self, index: int) -> Volume:
        """An image in the world. Raises InputError when its transforms are not linear or it is not there any more."""
        self._requireAllImages()
        node = self.imageNode(index)
        volume = replace(volumeFromNode(node, self.parentToWorld(index)), name=f"{self._name} image {index + 1}")
        self._taken[index] = (_imageState(node), volume)
        return volume

    def requireUnchanged(self) -> None:
        """Raises InputError when an image was edited or moved, or the sequence has more or fewer of them now.

        Also when the volume shows this sequence no more.
        """
        self._requireAllImages()
        for index, (state, volume) in self._taken.items():
            node = self.imageNode(index)
            if _imageState(node) != state or not volumeFromNode(node, self.parentToWorld(index)).same_grid(volume):
                raise _changed(volume.name)

    def _requireAllImages(self) -> None:
        if self.browserNode.GetSequenceNode(self.volumeNode) is not self.sequenceNode:
            raise InputError(
                f"{self._name}: it was taken out of '{self.browserNode.GetName()}' while it was segmented; segment it "
                "again."
            )
        if self.sequenceNode.GetNumberOfDataNodes() != self.count:
            raise _changed(self._name)

    def _contentAt(self, transformNode: Any, index: int) -> Any:
        sequenceNode = self.browserNode.GetSequenceNode(transformNode)
        if sequenceNode is None or not self.browserNode.GetPlayback(sequenceNode):
            return transformNode
        return sequenceNode.GetDataNodeAtValue(self.indexValue(index), False) or transformNode


def _imageState(volumeNode: Any) -> tuple[Any, int]:
    """Changes when the voxels do."""
    image = volumeNode.GetImageData()
    return image, image.GetMTime() if image is not None else 0


def _changed(name: str) -> InputError:
    return InputError(f"{name}: the volume was changed while it was segmented; segment it again.")
