"""From the click on Segment to the end of the run: questions, progress, errors."""

import traceback
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Literal

from AGTraining.errors import AGTrainingError

from ..DependenciesWidget import DependenciesWidget
from ..DialogsWidget import Dialogs
from ..LogWidget import LogWidget
from ..NoticeWidget import Notice, NoticeWidget
from ..RunWidget import RunWidget
from .ProcessingOptions import ProcessingOptions
from .SegmentationJob import errorForUsers
from .SegmentationNodes import hasContent

_SHOW_LOG = "showLog"


@dataclass(frozen=True)
class RunRequest:
    """What is to be segmented, and where the organs go. outputSegmentationNode: None makes a new one."""

    volumeNode: Any
    options: ProcessingOptions
    outputSegmentationNode: Any
    frames: Literal["current", "all"]
    keepLogs: bool


class SegmentationRunWidget:
    """Starts and cancels the logic's jobs, one at a time.

    ui: the widgets of AttentionSegmentation.ui by name. request: gives what is to be done, or None when it cannot be
    done. onChanged: called when a run begins or ends. onFinished: called with the result.
    """

    def __init__(
        self,
        ui: Any,
        logic: Any,
        log: LogWidget,
        dependencies: DependenciesWidget,
        dialogs: Dialogs,
        request: Callable[[], RunRequest | None],
        onChanged: Callable[[], None],
        onFinished: Callable[[Any], None],
    ) -> None:
        self._logSection = ui.logCollapsibleButton
        self._logic = logic
        self._log = log
        self._dependencies = dependencies
        self._dialogs = dialogs
        self._request = request
        self._onChanged = onChanged
        self._onFinished = onFinished
        self._job: Any = None
        self._error = NoticeWidget(ui.errorLabel, self._onLink)
        self._run = RunWidget(ui, "Segment", "Find the organs in the input volume.", self.start, self.cancel)

    @property
    def isRunning(self) -> bool:
        """Whether a run is under way."""
        return self._run.isRunning

    def setDisabledReason(self, reason: str | None) -> None:
        """Why nothing can be segmented, or None."""
        self._run.setDisabledReason(reason)

    def showError(self, sentence: str, details: str = "") -> None:
        """Shows an error in the panel, and its details in the log."""
        self._log.append(sentence)
        self._log.append(details)
        self._error.show([Notice(sentence, "error", _SHOW_LOG, "Show log")])

    def start(self) -> None:
        """Looks whether all is there, asks before anything is replaced, and starts."""
        if self.isRunning:
            return
        self._error.clear()
        request = self._request()
        if request is None or not self._resolveDependencies() or not self._mayReplace(request.outputSegmentationNode):
            return
        if not request.keepLogs:
            self._log.clear()
        self._log.append(f"Segmenting {request.volumeNode.GetName()}: {request.options}")
        self._run.start("Starting")
        try:
            self._onChanged()
            job = self._logic.process(
                request.volumeNode,
                request.options,
                outputSegmentationNode=request.outputSegmentationNode,
                frames=request.frames,
                waitForCompletion=False,
                progress=self._run.setProgress,
                onFinished=self._finished,
                onError=self._failed,
                onCancelled=self._cancelled,
            )
        except Exception as error:
            # Whatever it was: there has to be an end, or the panel runs for ever.
            self._failed(errorForUsers(request.volumeNode.GetName(), error))
        else:
            # It may have ended already.
            self._job = job if job.isRunning else None

    def cancel(self) -> None:
        """Ends what runs; the scene stays as it is."""
        if self._job is not None:
            self._run.setCancelling()
            self._job.cancel()

    def cleanup(self) -> None:
        """Gives up what runs, and takes timers and connections back."""
        if self._job is not None:
            self._job.abandon()
            self._job = None
        self._run.cleanup()
        self._error.cleanup()

    def _resolveDependencies(self) -> bool:
        if self._dependencies.check():
            return True
        if self._dialogs.interactive and self._dependencies.resolveAll():
            return True
        for problem in self._dependencies.problems:
            self._log.append(problem.sentence)
        return False

    def _mayReplace(self, segmentationNode: Any) -> bool:
        if segmentationNode is None or not hasContent(segmentationNode):
            return True
        name = segmentationNode.GetName()
        if not self._dialogs.interactive:
            self.showError(
                f"{name}: this segmentation has segments already, and there is nobody to ask whether to replace them; "
                "choose another output."
            )
            return False
        return self._dialogs.confirm(f"Replace the segments of '{name}'? They cannot be brought back.", "Segment")

    def _end(self) -> None:
        self._job = None
        self._run.stop()
        self._onChanged()

    def _finished(self, result: Any) -> None:
        self._end()
        for message in result.messages:
            self._log.append(message)
        self._onFinished(result)

    def _failed(self, error: AGTrainingError) -> None:
        self._end()
        self.showError(str(error), _details(error))
        self._dependencies.showWorkerError(error)

    def _cancelled(self) -> None:
        self._end()
        self._log.append("Cancelled; the scene is as it was.")

    def _onLink(self, _link: str) -> None:
        self._logSection.collapsed = False


def _details(error: AGTrainingError) -> str:
    """What the log should hold of an error: the worker's traceback, or that of an error that nobody foresaw."""
    cause = error if hasattr(error, "details") else error.__cause__
    if cause is None:
        return ""
    return getattr(cause, "details", None) or "".join(traceback.format_exception(cause))
