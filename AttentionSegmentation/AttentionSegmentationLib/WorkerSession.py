"""What the client knows of one worker process: its events, one by one, and the sentences for its unexpected ends."""

import json
import signal
import traceback
from collections import deque
from dataclasses import dataclass, field
from typing import Any

from .ProcessTree import endProcesses
from .WorkerError import WorkerError
from .WorkerTransport import WorkerTransport

PROTOCOL = 1
# No event comes near these; beyond them it is not the worker that writes.
_LONGEST_LINE = 64 << 20
_MOST_FOREIGN_LINES = 1000
# A killed process is gone within milliseconds, unless the system has a lot of memory to free first.
_SECONDS_FOR_KILLED = 0.1
_AGAIN = "try again, and if that does not help, look at the log and install the extension again."


@dataclass(eq=False)
class WorkerSession:
    """One worker process, from its start on."""

    transport: WorkerTransport
    startedAt: float
    logMark: int
    """Where its lines begin in the log."""
    isReady: bool = False
    processId: int | None = None
    """The process that answers; not the one that was started where a launcher stands between."""
    _partial: bytearray = field(default_factory=bytearray)
    _lines: deque[bytes] = field(default_factory=deque)
    _foreignLines: int = 0

    def add(self, data: bytes) -> None:
        """Takes standard output, cut anywhere."""
        self._partial += data
        if b"\n" in data:
            *lines, rest = bytes(self._partial).split(b"\n")
            self._lines.extend(lines)
            self._partial = bytearray(rest)

    def nextEvent(self) -> dict[str, Any] | str | None:
        """The next event; a string is a line of a library or launcher from before "ready"; None: no line is complete.

        Raises WorkerError "protocol" for anything else.
        """
        while self._lines:
            line = self._lines.popleft().strip()
            if line:
                return self._event(line)
        if len(self._partial) > _LONGEST_LINE:
            raise self._garbage(bytes(self._partial[:200]))
        return None

    def end(self) -> None:
        """Ends the process and whatever it has started, in any state; returns within about a tenth of a second."""
        transport = self.transport
        transport.closeInput()
        if transport.isRunning():
            endProcesses(transport.processId, self.processId)
            transport.kill()
            transport.waitForEnd(_SECONDS_FOR_KILLED)

    def endError(self, exitCode: int, crashed: bool, log: str) -> WorkerError:
        """Why the process has ended that should not have."""
        how = _describe(exitCode, crashed)
        # Slicer's launcher ends normally, and says in the log that the Python behind it did not.
        if not crashed and "exit abnormally" in log:
            crashed, how = True, "it crashed"
        if not self.isReady:
            return WorkerError(
                f"The worker process ended before it was ready ({how}){_lastLine(log)}; {_AGAIN}", "start", log
            )
        hint = ""
        if crashed or exitCode == 137 or "bad_alloc" in log:
            hint = " The computer may have run out of memory: close other programs or choose a smaller tile size."
        return WorkerError(
            f"The worker process ended unexpectedly ({how}).{hint} The next run starts a new one.", "died", log
        )

    def hangError(self, seconds: float, log: str) -> WorkerError:
        """The process has not become ready in time."""
        return WorkerError(
            f"The worker process was not ready after {seconds:.0f} seconds and was ended; {_AGAIN} "
            "A virus scanner or a network drive can delay the start.",
            "start",
            log,
        )

    def _event(self, line: bytes) -> dict[str, Any] | str:
        try:
            event = json.loads(line)
        except (ValueError, RecursionError):
            event = None
        if not isinstance(event, dict) or not isinstance(event.get("event"), str):
            self._foreignLines += 1
            if self.isReady or self._foreignLines > _MOST_FOREIGN_LINES:
                raise self._garbage(line)
            return line.decode("utf-8", "replace")
        if event["event"] == "ready":
            self._checkProtocol(event)
        return event

    def _checkProtocol(self, event: dict[str, Any]) -> None:
        if event.get("protocol") != PROTOCOL:
            raise WorkerError(
                f"The worker (version {event.get('version')}) speaks protocol {event.get('protocol')}, and this module "
                f"protocol {PROTOCOL}; install the extension again, restart, and remove other installations of "
                "AGTraining.",
                "protocol",
            )
        self.isReady = True
        if isinstance(event.get("pid"), int):
            self.processId = event["pid"]

    @staticmethod
    def _garbage(line: bytes) -> WorkerError:
        text = " ".join(line[:80].decode("utf-8", "replace").split())
        return WorkerError(
            f"The worker process printed something that is not of its protocol ('{text}') and was ended; {_AGAIN}",
            "protocol",
        )


def startError(error: Exception) -> WorkerError:
    """What went wrong before there was a process."""
    if isinstance(error, WorkerError):
        return error
    reason = " ".join(str(error).split())[:200] or type(error).__name__
    return WorkerError(
        f"The worker process could not be started ({reason}); {_AGAIN}",
        "start",
        "".join(traceback.format_exception(error)),
    )


def _describe(exitCode: int, crashed: bool) -> str:
    if not crashed:
        return f"exit code {exitCode}"
    if exitCode >= 0x80000000:
        return f"exception {exitCode:#x}"
    try:
        return f"signal {exitCode}, {signal.Signals(exitCode).name}"
    except ValueError:
        return "it crashed"


def _lastLine(log: str) -> str:
    line = log.strip().rpartition("\n")[2].strip()
    return f": {line[:200]}" if line else ""
