"""The logic behind the Segment button, the batch script and Python scripts: no Qt."""

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import vtk

from AGTraining.errors import AGTrainingError, InputError

from ..VolumeConversion import volumeFromNode
from .ProcessingOptions import ProcessingOptions
from .ResultNodes import ResultNodes, addResultNodes

if TYPE_CHECKING:
    from AGTraining.bundle import Bundle
    from AGTraining.inference.result import SegmentResult


@dataclass(frozen=True)
class ProcessingResult(ResultNodes):
    """The nodes of a result, and what the engine returned.

    messages: sentences for the user: organs not found, warnings about the image, a change of device.
    """

    messages: tuple[str, ...]
    segmentResult: "SegmentResult"


class SegmentationLogic:
    """Segments the organs of a CT in the scene.

    segment, loadBundle: used in place of `AGTraining.inference.segment.segment` and `AGTraining.bundle.load`.
    """

    def __init__(
        self,
        segment: "Callable[..., SegmentResult] | None" = None,
        loadBundle: "Callable[[Path], Bundle] | None" = None,
    ) -> None:
        self._segment = segment
        self._loadBundle = loadBundle
        self._bundle: tuple[tuple[Path, int, int], Bundle] | None = None

    def process(
        self,
        volumeNode: Any,
        options: ProcessingOptions | None = None,
        progress: Callable[[float, str], None] | None = None,
        isCancelled: Callable[[], bool] | None = None,
    ) -> ProcessingResult:
        """Segments a scalar volume node and adds the results to its scene; blocks until they are there.

        progress: called with a fraction in [0, 1] and the name of the stage. isCancelled: asked often.

        Raises InputError, BundleError, DeviceError and Cancelled, each with a sentence for the user, and
        AGTrainingError when a Python package is missing. The scene is then as it was before.
        """
        options = options or ProcessingOptions()
        volume = volumeFromNode(volumeNode)
        if volumeNode.GetScene() is None:
            raise InputError(f"{volume.name}: the volume is in no scene; add it with slicer.mrmlScene.AddNode first.")
        try:
            bundle = self.loadBundle(options.modelPath)
            segment = self._segment
            if segment is None:
                from AGTraining.inference.segment import segment
            segmentOptions = options.segmentOptions()
        except ModuleNotFoundError as error:
            raise AGTrainingError(
                f"The Python package '{error.name}' is needed and not installed; install it with "
                f"slicer.util.pip_install('{error.name}') in Slicer's Python console, or with pip elsewhere."
            ) from error
        result = segment(volume, bundle, segmentOptions, progress=progress, is_cancelled=isCancelled)
        nodes = addResultNodes(volumeNode, result)
        messages = (*_sequenceMessages(volumeNode), *result.messages)
        return ProcessingResult(**vars(nodes), messages=messages, segmentResult=result)

    def loadBundle(self, path: str | Path | None = None) -> "Bundle":
        """The model, read again only when another path is given or its file has changed.

        path: None is the model that comes with the extension. Raises BundleError.
        """
        from AGTraining import bundle

        path = Path(path or bundle.default_path()).absolute()
        load = self._loadBundle or bundle.load
        status = path.stat() if path.is_file() else None
        key = (path, status.st_mtime_ns, status.st_size) if status else (path, 0, 0)
        if self._bundle is None or self._bundle[0] != key:
            self._bundle = None
            self._bundle = (key, load(path))
        return self._bundle[1]


def _sequenceMessages(volumeNode: Any) -> tuple[str, ...]:
    """A sentence when the node shows a sequence frame by frame: only one frame was segmented."""
    for browserNode in _nodesOfClass(volumeNode.GetScene(), "vtkMRMLSequenceBrowserNode"):
        proxyNodes = vtk.vtkCollection()
        browserNode.GetAllProxyNodes(proxyNodes)
        if proxyNodes.IsItemPresent(volumeNode):
            frame = browserNode.GetSelectedItemNumber() + 1
            count = browserNode.GetNumberOfItems()
            return (f"{volumeNode.GetName()}: a sequence of {count} images; only image {frame} was segmented.",)
    return ()


def _nodesOfClass(scene: Any, className: str) -> list[Any]:
    return [scene.GetNthNodeByClass(index, className) for index in range(scene.GetNumberOfNodesByClass(className))]
