"""A segmentation that is under way, in a scene that may change meanwhile."""

import logging
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Protocol

import slicer
import vtk

from AGTraining.errors import AGTrainingError, Cancelled, InputError
from AGTraining.imaging.volume import Volume
from AGTraining.inference.result import SegmentResult

from .ProcessingOptions import ProcessingOptions
from .SegmentationEngine import EngineCallbacks, SegmentationEngine

_SCENE_EVENTS = ("StartCloseEvent", "NodeAboutToBeRemovedEvent")


class UnexpectedError(AGTrainingError):
    """An error that is not meant for users; its cause has the details."""

    code = "internal"


def errorForUsers(name: str, error: Exception) -> AGTrainingError:
    """The error itself when its text is for users, else a sentence about it; name: that of the volume."""
    if isinstance(error, AGTrainingError):
        return error
    logging.error("%s: unexpected error", name, exc_info=error)
    unexpected = UnexpectedError(
        f"{name}: something unexpected went wrong ({type(error).__name__}: {error}); the scene is as it was. "
        "Please report it with the log."
    )
    unexpected.__cause__ = error
    return unexpected


class VolumeFrames(Protocol):
    """The images that are segmented: a volume, or those of a sequence."""

    volumeNode: Any
    count: int
    nodes: tuple[Any, ...]
    """What must stay in the scene."""

    def volume(self, index: int) -> Volume:
        """An image, with its place in the world. Raises InputError."""

    def requireUnchanged(self) -> None:
        """Raises InputError when an image was edited or moved after it had been taken."""


class ResultCollector(Protocol):
    """Takes the result of each image, and puts all of them into the scene."""

    def add(self, index: int, result: SegmentResult) -> None:
        """Takes the result of an image."""

    def addToScene(self) -> Any:
        """Puts all results into the scene and returns what the job's result is."""


@dataclass(frozen=True)
class JobCallbacks:
    """What a job calls; at its end one of the last three, once. None is not called.

    progress: fraction in [0, 1] and the stage in words. isCancelled: asked often.
    """

    progress: Callable[[float, str], None] | None = None
    isCancelled: Callable[[], bool] | None = None
    onFinished: Callable[[Any], None] | None = None
    onError: Callable[[AGTrainingError], None] | None = None
    onCancelled: Callable[[], None] | None = None


class SegmentationJob:
    """Segments image after image and adds the results at the end, all or nothing.

    When the volume is removed or edited meanwhile, the job ends with a sentence; when the scene is closed, as if it
    had been cancelled. Nothing is added to the scene then.

    volumeNode: the volume that is segmented. result: what was added; None before and without success. error: why not.
    """

    def __init__(
        self,
        engine: SegmentationEngine,
        frames: VolumeFrames,
        options: ProcessingOptions,
        collector: ResultCollector,
        callbacks: JobCallbacks,
    ) -> None:
        self._engine = engine
        self._frames = frames
        self._options = options
        self._collector = collector
        self._callbacks = callbacks
        self.volumeNode = frames.volumeNode
        self.result: Any = None
        self.error: Exception | None = None
        self._name = self.volumeNode.GetName()
        self._scene = self.volumeNode.GetScene()
        self._observers: list[int] = []
        self._ending: AGTrainingError | None = None
        self._index = 0
        self._isRunning = False

    @property
    def isRunning(self) -> bool:
        """Whether it is under way still."""
        return self._isRunning

    def start(self) -> None:
        """Begins. What is wrong at the start is raised and not called back."""
        self._isRunning = True
        for event, observer in zip(_SCENE_EVENTS, (self._onSceneClosed, self._onNodeRemoved), strict=True):
            self._observers.append(self._scene.AddObserver(getattr(slicer.vtkMRMLScene, event), observer))
        try:
            self._startImage(0)
        except BaseException:
            self.abandon()
            raise

    def cancel(self) -> None:
        """Asks it to end; `onCancelled` is called when it has."""
        self._endWith(Cancelled())

    def abandon(self) -> None:
        """Ends it at once without calling back."""
        if self._isRunning:
            self._stop()
            self._callbacks = JobCallbacks()
            self._engine.cancel()

    def _startImage(self, index: int) -> None:
        self._index = index
        callbacks = EngineCallbacks(
            self._onProgress, self._onResult, self._finish, self._onCancelled, self._isCancelled
        )
        self._engine.start(self._frames.volume(index), self._options, callbacks)

    def _isCancelled(self) -> bool:
        asked = self._callbacks.isCancelled
        return self._ending is not None or (asked is not None and asked())

    def _onProgress(self, fraction: float, stage: str) -> None:
        if self._callbacks.progress is None or not self._isRunning:
            return
        count = self._frames.count
        if count > 1:
            stage = f"Image {self._index + 1} of {count}: {stage}"
        self._callbacks.progress((self._index + fraction) / count, stage)

    def _onResult(self, result: SegmentResult) -> None:
        if not self._isRunning:
            return
        try:
            if self._isCancelled():
                raise Cancelled
            self._collector.add(self._index, result)
            if self._index + 1 < self._frames.count:
                self._startImage(self._index + 1)
                return
            self._frames.requireUnchanged()
            self._stopObserving()
            self.result = self._collector.addToScene()
        except Exception as error:
            self._finish(error)
        else:
            self._stop()
            if self._callbacks.onFinished is not None:
                self._callbacks.onFinished(self.result)

    def _onCancelled(self) -> None:
        self._finish(self._ending or Cancelled())

    def _finish(self, error: Exception) -> None:
        """Ends without a result."""
        if not self._isRunning:
            return
        self._stop()
        # What made the engine stop says more than how it stopped.
        self.error = self._ending or error
        if isinstance(self.error, Cancelled):
            if self._callbacks.onCancelled is not None:
                self._callbacks.onCancelled()
        elif self._callbacks.onError is not None:
            self._callbacks.onError(errorForUsers(self._name, self.error))

    def _endWith(self, ending: AGTrainingError) -> None:
        if self._isRunning and self._ending is None:
            self._ending = ending
            self._engine.cancel()

    def _stop(self) -> None:
        self._isRunning = False
        self._stopObserving()

    def _stopObserving(self) -> None:
        for observer in self._observers:
            self._scene.RemoveObserver(observer)
        self._observers = []

    def _onSceneClosed(self, _scene: Any, _event: str) -> None:
        self._endWith(Cancelled("The scene was closed; the segmentation was stopped."))

    @vtk.calldata_type(vtk.VTK_OBJECT)
    def _onNodeRemoved(self, _scene: Any, _event: str, node: Any) -> None:
        if node in self._frames.nodes:
            what = "the volume" if node is self.volumeNode else f"its {node.GetNodeTagName()} '{node.GetName()}'"
            self._endWith(InputError(f"{self._name}: {what} was removed while it was segmented; nothing was added."))
