"""The worker process in Slicer: everything comes through Qt's event loop, since Python threads sleep while it idles."""

import os
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from typing import Any

import qt
import slicer

from .WorkerCommand import WorkerCommand
from .WorkerTransport import TICK_SECONDS, WorkerTransport


class QtProcessTransport(WorkerTransport):
    """A QProcess and a timer. The timer goes on for one step after the end, and then removes both.

    Nothing is deleted or disconnected in a slot of the process itself. Until the timer is gone its connection keeps
    this object.
    """

    def __init__(self) -> None:
        super().__init__()
        self._process: Any = None
        self._timer: Any = None
        self._exit: tuple[int, bool] | None = None
        self._failure: str | None = None
        self._isReported = False
        self._deliveries = 0
        self._lastTick = 0.0

    def start(self, command: WorkerCommand) -> None:
        """Starts the process; whether that worked is known later (on Windows: before this returns)."""
        self._process = qt.QProcess()
        self._timer = qt.QTimer()
        self._connect(self._process, "readyReadStandardOutput()", self.deliver)
        self._connect(self._process, "readyReadStandardError()", self.deliver)
        self._connect(self._process, "finished(int,QProcess::ExitStatus)", self._onProcessFinished)
        self._connect(self._process, "errorOccurred(QProcess::ProcessError)", self._onProcessError)
        self._connect(self._timer, "timeout()", self._onTimeout)
        self._timer.start(round(1000 * TICK_SECONDS))
        self._process.setWorkingDirectory(command.workingFolder)
        # The process inherits this process's variables byte for byte; QProcess's own way would send them through the
        # system's text encoding, which not always has all characters.
        with _environment(command.environment):
            self._process.start(command.program, list(command.arguments))

    def write(self, data: bytes) -> None:
        """Leaves the bytes to Qt, which sends them as the process takes them."""
        if self.isRunning():
            self._process.write(data)

    def closeInput(self) -> None:
        """Qt closes the input after what it has still to write."""
        if self.isRunning():
            self._process.closeWriteChannel()

    def kill(self) -> None:
        """SIGKILL, or TerminateProcess."""
        if self.isRunning():
            self._process.kill()

    @property
    def processId(self) -> int:
        """The number that the system gave the process; 0 when none runs."""
        return int(self._process.processId()) if self.isRunning() else 0

    def isRunning(self) -> bool:
        """Whether Qt has not seen the end yet."""
        if self._process is None or self._exit is not None or self._failure is not None:
            return False
        # At the end of Slicer Qt's objects may go before Python's.
        with suppress(ValueError):
            return bool(self._process.state() != qt.QProcess.NotRunning)
        return False

    def deliver(self) -> None:
        """Reads what Qt has buffered. Also called outside Qt's signals: within a slot they may not come again."""
        if self._process is None or self._isReported:
            return
        output = self._process.readAllStandardOutput().data()
        if output:
            self._deliveries += 1
            self.onOutput(output)
        error = b"" if self._isReported else self._process.readAllStandardError().data()
        if error:
            self._deliveries += 1
            self.onErrorOutput(error)
        self._deliverEnd()

    def wait(self, seconds: float) -> None:
        """Runs Qt's event loop, without the user's clicks and keys, until something was handed over."""
        deadline = time.monotonic() + seconds
        before = self._deliveries
        while True:
            slicer.app.processEvents(qt.QEventLoop.ExcludeUserInputEvents)
            self.deliver()
            # A timer does not fire within its own slot, from which this may have been called.
            self._tick()
            if self._isReported or self._deliveries != before or time.monotonic() >= deadline:
                return
            time.sleep(0.005)

    def waitForEnd(self, seconds: float) -> bool:
        """QProcess's own waiting: no other events are handled."""
        if self.isRunning():
            self._process.waitForFinished(max(1, round(1000 * seconds)))
        # Signals that could not come, because this was called within a slot, are made up for.
        if self._process is not None and self._exit is None and self._failure is None and not self.isRunning():
            self._onProcessFinished(self._process.exitCode(), self._process.exitStatus())
        return not self.isRunning()

    def _onProcessFinished(self, exitCode: int, exitStatus: Any) -> None:
        if self._exit is None:
            self._exit = (exitCode, bool(exitStatus == qt.QProcess.CrashExit))
        self.deliver()

    def _onProcessError(self, error: Any) -> None:
        # All other errors are followed by `finished`.
        if error == qt.QProcess.FailedToStart:
            self._failure = f"{self._process.program()}: {self._process.errorString()}"
            self._deliverEnd()

    def _deliverEnd(self) -> None:
        if self._isReported or (self._exit is None and self._failure is None):
            return
        self._isReported = True
        self._deliveries += 1
        if self._exit is not None:
            self.onFinished(*self._exit)
        else:
            self.onFailedToStart(self._failure or "")

    def _onTimeout(self) -> None:
        if self._isReported:
            self._timer.stop()
            self._process.deleteLater()
            self._timer.deleteLater()
            return
        self.deliver()
        self._tick()

    def _tick(self) -> None:
        # The timer may be early by a few milliseconds.
        if self.isRunning() and time.monotonic() - self._lastTick >= 0.8 * TICK_SECONDS:
            self._lastTick = time.monotonic()
            self.onTick()

    @staticmethod
    def _connect(sender: Any, signal: str, slot: Any) -> None:
        # PythonQt only prints a line when there is no such signal.
        if not sender.connect(signal, slot):
            raise RuntimeError(f"{sender} has no signal {signal}")


@contextmanager
def _environment(environment: dict[str, str]) -> Iterator[None]:
    """Within the block the variables of this process are these, and no others."""
    before = dict(os.environ)
    try:
        _apply(environment)
        yield
    finally:
        _apply(before)


def _apply(environment: dict[str, str]) -> None:
    for name in set(os.environ) - set(environment):
        del os.environ[name]
    for name, value in environment.items():
        if os.environ.get(name) != value:
            os.environ[name] = value
