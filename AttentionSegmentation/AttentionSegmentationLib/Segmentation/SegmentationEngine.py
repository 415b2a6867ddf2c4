"""What computes a segmentation: this very process, or the worker."""

import time
import traceback
from collections import deque
from collections.abc import Callable
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol

from AGTraining.errors import AGTrainingError, BundleError, Cancelled, DeviceError, InputError
from AGTraining.exchange import load_result, save_volume
from AGTraining.imaging.volume import Volume
from AGTraining.inference.result import SegmentResult

from ..TemporaryFolder import TemporaryFolder, temporaryFolder
from ..WorkerError import WorkerError
from .ProcessingOptions import ProcessingOptions, absoluteModelPath

if TYPE_CHECKING:
    from AGTraining.bundle import Bundle

_POLL_SECONDS = 0.05
_ERROR_CLASSES = {kind.code: kind for kind in (InputError, BundleError, DeviceError)}


@dataclass(frozen=True)
class EngineCallbacks:
    """What an engine calls while it computes; one of the last three at the end, once.

    onProgress: fraction in [0, 1] and the name of the stage. onError: gets an AGTrainingError, or what nobody foresaw.
    isCancelled: asked often; True is as good as `cancel()`.
    """

    onProgress: Callable[[float, str], None]
    onResult: Callable[[SegmentResult], None]
    onError: Callable[[Exception], None]
    onCancelled: Callable[[], None]
    isCancelled: Callable[[], bool] = lambda: False


class SegmentationEngine(Protocol):
    """Computes one segmentation at a time. A callback of the end may start the next one."""

    def start(self, volume: Volume, options: ProcessingOptions, callbacks: EngineCallbacks) -> None:
        """Begins, or raises AGTrainingError without calling back. The voxels are not needed after it returns."""

    def cancel(self) -> None:
        """Asks what is being computed to end; `onCancelled` is called, from here or later."""

    def wait(self, seconds: float | None = None) -> None:
        """Returns when nothing is being computed any more, or after that many seconds."""

    def shutdown(self) -> None:
        """Ends everything at once, calling `onCancelled` of what was being computed."""


class InProcessEngine:
    """Computes in this process, for batch runs: `start` returns when all is done.

    segment, loadBundle: used in place of `AGTraining.inference.segment.segment` and `AGTraining.bundle.load`.
    """

    def __init__(
        self,
        segment: Callable[..., SegmentResult] | None = None,
        loadBundle: "Callable[[Path], Bundle] | None" = None,
    ) -> None:
        self._segment = segment
        self._loadBundle = loadBundle
        self._bundle: tuple[tuple[Path, int, int], Bundle] | None = None
        self._waiting: deque[tuple[Volume, ProcessingOptions, EngineCallbacks]] = deque()
        self._isRunning = False
        self._cancelled = False

    def start(self, volume: Volume, options: ProcessingOptions, callbacks: EngineCallbacks) -> None:
        """Computes and calls back before it returns; within a callback it only puts the next one in line.

        Errors that are no AGTrainingError are raised.
        """
        self._waiting.append((volume, options, callbacks))
        if self._isRunning:
            return
        self._isRunning = True
        try:
            while self._waiting:
                self._run(*self._waiting.popleft())
        finally:
            self._waiting.clear()
            self._isRunning = False

    def cancel(self) -> None:
        """Asks what is being computed to end; of use within its callbacks."""
        self._cancelled = True

    def wait(self, seconds: float | None = None) -> None:
        """Nothing is ever under way once `start` has returned."""

    def shutdown(self) -> None:
        """Ends what is being computed, and forgets the model."""
        self.cancel()
        self._bundle = None

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

    def _run(self, volume: Volume, options: ProcessingOptions, callbacks: EngineCallbacks) -> None:
        self._cancelled = False
        try:
            result = self._compute(volume, options, callbacks)
        except Cancelled:
            callbacks.onCancelled()
        except AGTrainingError as error:
            callbacks.onError(error)
        else:
            callbacks.onResult(result)

    def _compute(self, volume: Volume, options: ProcessingOptions, callbacks: EngineCallbacks) -> SegmentResult:
        try:
            bundle = self.loadBundle(absoluteModelPath(options.modelPath))
            segment = self._segment
            if segment is None:
                from AGTraining.inference.segment import segment
        except ModuleNotFoundError as error:
            raise WorkerError(
                f"The Python package '{error.name}' is needed and not installed; install it with "
                f"slicer.util.pip_install('{error.name}') in Slicer's Python console, or with pip elsewhere.",
                "package",
            ) from error
        return segment(
            volume,
            bundle,
            options.segmentOptions(),
            progress=callbacks.onProgress,
            is_cancelled=lambda: self._cancelled or callbacks.isCancelled(),
        )


class WorkerEngine:
    """Computes in the worker, a process of its own: the caller goes on.

    client: a WorkerClient; None makes one when it is first needed.
    """

    def __init__(self, client: Any = None) -> None:
        self._client = client
        self._run: _WorkerRun | None = None
        # Begins when the worker is free: it is still describing, or has not confirmed yet that a run was cancelled.
        self._waiting: _WorkerRun | None = None
        self._isDescribing = False

    @property
    def client(self) -> Any:
        """The WorkerClient."""
        if self._client is None:
            from ..WorkerClient import WorkerClient

            self._client = WorkerClient()
        return self._client

    def describe(
        self,
        modelPath: str | Path | None,
        onResult: Callable[[dict[str, Any]], None],
        onError: Callable[[AGTrainingError], None],
    ) -> None:
        """Asks the worker for its versions and devices (the worker's `describe` result), without waiting.

        modelPath: the model for whose tiles the memory is judged ("largest_tile"); None judges it for none.
        A segmentation that is started meanwhile begins when the answer is there. onError is called too when a
        shutdown came between. Raises WorkerError "busy" while something else is under way, and InputError for what is
        no path.
        """

        def answered(callback: Callable[[], None]) -> None:
            self._isDescribing = False
            try:
                # Before the callback, which may ask again.
                self._submitWaiting()
            finally:
                callback()

        def onCancelled() -> None:
            answered(lambda: onError(Cancelled("The worker was stopped before it could name its devices.")))

        client = self.client
        if client.isBusy:
            raise WorkerError("The worker is busy; ask again when it is done.", "busy")
        request = {"request": "describe", "model": _modelText(modelPath)}
        # Before, because an error may come back at once.
        self._isDescribing = True
        try:
            client.submit(
                request,
                lambda _fraction, _stage: None,
                lambda document: answered(lambda: onResult(document)),
                lambda error: answered(lambda: onError(error)),
                onCancelled,
            )
        except BaseException:
            self._isDescribing = False
            raise

    def start(self, volume: Volume, options: ProcessingOptions, callbacks: EngineCallbacks) -> None:
        """Hands the volume to the worker, which is started when needed. While it describes, or has a run to end that
        was cancelled, it gets the volume afterwards.

        Raises InputError for invalid options, AGTrainingError with code "disk" when the voxels cannot be handed over,
        and WorkerError "busy" while something else is under way.
        """
        segmentOptions = asdict(options.segmentOptions())
        if self._waiting is not None or (self._run is not None and not self._run.isCancelling):
            raise WorkerError("Another run is not finished yet; wait for it or cancel it.", "busy")
        # The voxels, the label map and as much again for attention maps on their coarser grids.
        folder = temporaryFolder(volume.array.nbytes + 2 * volume.array.size)
        try:
            document = save_volume(volume, folder.path, "volume")
            request = {
                "request": "segment",
                "folder": str(folder.path),
                "volume": document,
                "model": _modelText(options.modelPath),
                "options": segmentOptions,
            }
            run = _WorkerRun(callbacks, folder, request)
            if self._isDescribing or self._run is not None:
                self._waiting = run
            else:
                self._submit(run)
        except BaseException:
            folder.remove()
            raise

    def cancel(self) -> None:
        """Asks the worker to end; where it does not within a second, its process is ended."""
        waiting, self._waiting = self._waiting, None
        if waiting is not None:
            waiting.folder.remove()
            waiting.callbacks.onCancelled()
        elif self._run is not None:
            self._run.isCancelling = True
            self.client.cancel()

    def wait(self, seconds: float | None = None) -> None:
        """Lets the worker's messages in until nothing is being computed, at most for that many seconds."""
        end = None if seconds is None else time.monotonic() + seconds
        while (run := self._waiting or self._run) is not None and (end is None or time.monotonic() < end):
            self._cancelOnRequest(run)
            self.client.wait(_POLL_SECONDS)

    def shutdown(self) -> None:
        """Ends the worker's process. What was being computed counts as cancelled."""
        if self._waiting is not None:
            self.cancel()
        if self._client is not None:
            self._client.shutdown()

    def _submit(self, run: "_WorkerRun") -> None:
        self._run = run
        try:
            self.client.submit(
                run.request,
                lambda fraction, stage: self._onProgress(run, fraction, stage),
                lambda document: self._onResult(run, document),
                lambda error: self._end(run, lambda: run.callbacks.onError(_ofItsClass(error))),
                lambda: self._end(run, run.callbacks.onCancelled),
            )
        except BaseException:
            if self._run is run:
                self._run = None
            raise

    def _submitWaiting(self) -> None:
        run, self._waiting = self._waiting, None
        if run is None:
            return
        try:
            self._submit(run)
        except Exception as error:
            if run.hasEnded:
                # It comes from its own callback.
                raise
            run.hasEnded = True
            run.folder.remove()
            run.callbacks.onError(error)

    def _onProgress(self, run: "_WorkerRun", fraction: float, stage: str) -> None:
        self._cancelOnRequest(run)
        if not run.isCancelling:
            run.callbacks.onProgress(fraction, stage)

    def _cancelOnRequest(self, run: "_WorkerRun") -> None:
        if not run.isCancelling and run.callbacks.isCancelled():
            self.cancel()

    def _onResult(self, run: "_WorkerRun", document: Any) -> None:
        try:
            result = load_result(document, run.folder.path)
        except Exception as error:
            failure = _noRoom(error) if isinstance(error, MemoryError) else error
            self._end(run, lambda: run.callbacks.onError(failure))
        else:
            self._end(run, lambda: run.callbacks.onResult(result))

    def _end(self, run: "_WorkerRun", callback: Callable[[], None]) -> None:
        """Calls back. By then the engine is free for the next one, and the run's files are gone."""
        if self._run is run:
            self._run = None
            run.hasEnded = True
            run.folder.remove()
            try:
                self._submitWaiting()
            finally:
                callback()


@dataclass(eq=False)
class _WorkerRun:
    """A segmentation that the worker has or is going to get."""

    callbacks: EngineCallbacks
    folder: TemporaryFolder
    request: dict[str, Any]
    hasEnded: bool = False
    isCancelling: bool = False


def _modelText(path: str | Path | None) -> str | None:
    absolute = absoluteModelPath(path)
    return None if absolute is None else str(absolute)


def _noRoom(error: MemoryError) -> WorkerError:
    return WorkerError(
        "There is not enough memory to take over the result; close other programs, or ask for no attention maps.",
        "memory",
        "".join(traceback.format_exception(error)),
    )


def _ofItsClass(error: AGTrainingError) -> AGTrainingError:
    """The worker's error as the class that the same error has in this process, with the worker's as its cause."""
    kind = _ERROR_CLASSES.get(error.code)
    if kind is None or isinstance(error, kind):
        return error
    converted = kind(str(error))
    converted.__cause__ = error
    return converted
