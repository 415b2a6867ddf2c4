"""A button that starts a computation and then cancels it, with its progress."""

import time
from collections.abc import Callable
from typing import Any

import qt

from .QtConnections import QtConnections

PROGRESS_STEPS = 1000
_TICK_MS = 500


class RunWidget:
    """Turns the button into Cancel while something runs, and shows stage and elapsed time.

    ui: has runButton, progressContainer (around the next two), progressBar (0 to 1000) and stageLabel.
    startText, startToolTip: the button while nothing runs and it may be clicked. onStart, onCancel: what clicks call.
    """

    def __init__(
        self,
        ui: Any,
        startText: str,
        startToolTip: str,
        onStart: Callable[[], None],
        onCancel: Callable[[], None],
    ) -> None:
        self._ui = ui
        self._startText = startText
        self._startToolTip = startToolTip
        self._onStart = onStart
        self._onCancel = onCancel
        self._reason: str | None = None
        self._startTime: float | None = None
        self._stage = ""
        self._cancelling = False
        self._connections = QtConnections()
        self._connections.connect(ui.runButton, "clicked()", self._onClicked)
        # Shows that time passes also while a stage reports nothing.
        self._timer = qt.QTimer()
        self._timer.interval = _TICK_MS
        self._connections.connect(self._timer, "timeout()", self._showStage)
        self._update()

    @property
    def isRunning(self) -> bool:
        """Whether something runs, or is being cancelled."""
        return self._startTime is not None

    def setDisabledReason(self, reason: str | None) -> None:
        """Why nothing can be started: the disabled button's tooltip. None enables it."""
        self._reason = reason
        self._update()

    def start(self, stage: str) -> None:
        """From now on something runs."""
        self._startTime = time.monotonic()
        self._cancelling = False
        self._ui.progressBar.value = 0
        self._timer.start()
        self._stage = stage
        self._update()

    def setProgress(self, fraction: float, stage: str) -> None:
        """fraction: in [0, 1]. stage: what is being done."""
        if self.isRunning and not self._cancelling:
            self._ui.progressBar.value = round(PROGRESS_STEPS * min(max(fraction, 0.0), 1.0))
            self._stage = stage
            self._showStage()

    def setCancelling(self) -> None:
        """The user asked to cancel; what runs has not ended yet."""
        self._cancelling = True
        self._stage = "Cancelling"
        self._update()

    def stop(self) -> None:
        """Nothing runs any more."""
        self._startTime = None
        self._timer.stop()
        self._update()

    def cleanup(self) -> None:
        """Stops the timer and takes the connections back."""
        self.stop()
        self._connections.disconnectAll()

    def _onClicked(self) -> None:
        if self.isRunning:
            self._onCancel()
        else:
            self._onStart()

    def _update(self) -> None:
        button = self._ui.runButton
        if self.isRunning:
            button.text = "Cancel"
            button.enabled = not self._cancelling
            button.toolTip = "Stop; the scene stays as it is."
        else:
            button.text = self._startText
            button.enabled = self._reason is None
            button.toolTip = self._reason or self._startToolTip
        self._ui.progressContainer.visible = self.isRunning
        self._showStage()

    def _showStage(self) -> None:
        if self._startTime is None:
            self._ui.stageLabel.text = ""
        else:
            seconds = int(time.monotonic() - self._startTime)
            self._ui.stageLabel.text = f"{self._stage} · {seconds // 60}:{seconds % 60:02d}"
