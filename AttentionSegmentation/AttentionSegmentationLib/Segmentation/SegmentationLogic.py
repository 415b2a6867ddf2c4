"""The logic behind the Segment button, the batch script and Python scripts: no Qt."""

import weakref
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from AGTraining.errors import AGTrainingError, InputError
from AGTraining.inference.result import SegmentResult

from ..WorkerError import WorkerError
from .ProcessingOptions import ProcessingOptions
from .ResultNodes import ResultNodes, addResultNodes
from .SegmentationEngine import SegmentationEngine, WorkerEngine
from .SegmentationJob import JobCallbacks, SegmentationJob
from .SequenceFrames import Frames, SequenceFrames, SingleVolume, framesOf
from .SequenceResults import SequenceResults, requireNoSequence, sequenceShownBy

_SECONDS_TO_CANCEL = 1.0


@dataclass(frozen=True)
class ProcessingResult(ResultNodes):
    """The nodes of a result, and what the engine returned.

    messages: sentences for the user: organs not found, warnings about the image, a change of device. segmentResult: of
    a sequence, that of the image that was shown.
    """

    messages: tuple[str, ...]
    segmentResult: SegmentResult


class SegmentationLogic:
    """Segments the organs of a CT in the scene.

    engine: what computes; None is the worker, which is started at the first use.
    """

    def __init__(self, *, engine: SegmentationEngine | None = None) -> None:
        # The next class is Slicer's own where a module's logic has both as its bases.
        super().__init__()
        self.engine = engine or WorkerEngine()
        # While a job is under way the engine holds it; afterwards its result, which is large, is only the caller's.
        self._job: Callable[[], SegmentationJob | None] = lambda: None

    @property
    def job(self) -> SegmentationJob | None:
        """What is under way, or None."""
        job = self._job()
        return job if job is not None and job.isRunning else None

    @property
    def isRunning(self) -> bool:
        """Whether a segmentation is under way."""
        return self.job is not None

    def process(
        self,
        volumeNode: Any,
        options: ProcessingOptions | None = None,
        outputSegmentationNode: Any = None,
        frames: Frames = "current",
        waitForCompletion: bool = True,
        progress: Callable[[float, str], None] | None = None,
        isCancelled: Callable[[], bool] | None = None,
        onFinished: Callable[[ProcessingResult], None] | None = None,
        onError: Callable[[AGTrainingError], None] | None = None,
        onCancelled: Callable[[], None] | None = None,
    ) -> "ProcessingResult | SegmentationJob":
        """Segments a scalar volume node and adds the results to its scene.

        outputSegmentationNode: the segments of this node, and its table and attention volumes of an earlier run, are
        replaced; None makes new nodes. frames: of a sequence, the current image or all of them. progress: called with
        a fraction in [0, 1] and the stage in words. isCancelled: asked often.

        waitForCompletion: True returns the result when it is in the scene, or raises. False returns the job at once,
        or raises what is wrong before the start; then exactly one of the last three is called when it ends, which may
        be before this returns. They are called in the first case too.

        Raises InputError, BundleError, DeviceError, WorkerError and Cancelled, each with a sentence for the user. The
        scene is then as it was before.
        """
        if self.job is not None:
            name = self.job.volumeNode.GetName()
            raise WorkerError(f"{name} is being segmented; wait for it or cancel it first.", "busy")
        options = options or ProcessingOptions()
        options.segmentOptions()
        images = framesOf(volumeNode, frames)
        _requireUsable(outputSegmentationNode, images)
        if isinstance(images, SequenceFrames):
            collector = _SequenceCollector(images, outputSegmentationNode)
        else:
            collector = _VolumeCollector(images, outputSegmentationNode)
        callbacks = JobCallbacks(progress, isCancelled, onFinished, onError, onCancelled)
        job = SegmentationJob(self.engine, images, options, collector, callbacks)
        self._job = weakref.ref(job)
        try:
            job.start()
            while waitForCompletion and job.isRunning:
                self.engine.wait()
        except BaseException:
            job.abandon()
            self.engine.wait(_SECONDS_TO_CANCEL)
            raise
        if not waitForCompletion:
            return job
        if job.error is not None:
            raise job.error
        return job.result

    def cancel(self) -> None:
        """Asks what is under way to end."""
        if self.job is not None:
            self.job.cancel()

    def shutdown(self) -> None:
        """Cancels what is under way and ends the worker's process; the next segmentation starts another one."""
        self.cancel()
        self.engine.shutdown()

    def describe(
        self,
        onResult: Callable[[dict[str, Any]], None],
        onError: Callable[[AGTrainingError], None],
        modelPath: str | Path | None = None,
    ) -> None:
        """Asks the worker for its versions and devices, without waiting; see `WorkerEngine.describe`."""
        self.engine.describe(modelPath, onResult, onError)

    @property
    def log(self) -> str:
        """What the worker has said of late."""
        return self.engine.client.log

    def addLogListener(self, listener: Callable[[str], None]) -> None:
        """Calls the listener with each new line of the worker's log."""
        self.engine.client.logListeners.append(listener)

    def removeLogListener(self, listener: Callable[[str], None]) -> None:
        """Calls the listener no more."""
        if listener in self.engine.client.logListeners:
            self.engine.client.logListeners.remove(listener)


class _VolumeCollector:
    """Takes the result of a single volume."""

    def __init__(self, frames: SingleVolume, outputSegmentationNode: Any) -> None:
        self._frames = frames
        self._output = outputSegmentationNode
        self._result: SegmentResult | None = None

    def add(self, index: int, result: SegmentResult) -> None:
        self._result = result

    def addToScene(self) -> ProcessingResult:
        output, messages = _stillThere(self._output)
        nodes = addResultNodes(self._frames.volumeNode, self._result, output)
        messages = (*self._frames.messages, *messages, *nodes.remarks, *self._result.messages)
        return ProcessingResult(**vars(nodes), messages=messages, segmentResult=self._result)


class _SequenceCollector:
    """Takes the results of a sequence."""

    def __init__(self, frames: SequenceFrames, outputSegmentationNode: Any) -> None:
        self._results = SequenceResults(frames)
        self._output = outputSegmentationNode

    def add(self, index: int, result: SegmentResult) -> None:
        self._results.add(index, result)

    def addToScene(self) -> ProcessingResult:
        output, messages = _stillThere(self._output)
        nodes = self._results.addToScene(output)
        messages = (*messages, *nodes.remarks, *self._results.messages)
        return ProcessingResult(**vars(nodes), messages=messages, segmentResult=self._results.selectedResult)


def _requireUsable(segmentationNode: Any, frames: SingleVolume | SequenceFrames) -> None:
    if segmentationNode is None:
        return
    name = segmentationNode.GetName()
    if not segmentationNode.IsA("vtkMRMLSegmentationNode"):
        raise InputError(f"{name}: this is a {segmentationNode.GetNodeTagName()}; choose a segmentation as the output.")
    if segmentationNode.GetScene() is not frames.volumeNode.GetScene():
        raise InputError(f"{name}: the output segmentation is not in the volume's scene; choose another or a new one.")
    if isinstance(frames, SequenceFrames):
        sequenceShownBy(segmentationNode, frames)
    else:
        requireNoSequence(segmentationNode)


def _stillThere(segmentationNode: Any) -> tuple[Any, tuple[str, ...]]:
    """The output that was chosen; when it was removed meanwhile, None, and a sentence for the user."""
    if segmentationNode is None or segmentationNode.GetScene() is not None:
        return segmentationNode, ()
    return None, (f"{segmentationNode.GetName()}: removed meanwhile, so the result is a new segmentation.",)
