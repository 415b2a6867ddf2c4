"""Ending a process together with those it started: what a launcher has started outlives the launcher."""

import os
import signal
from collections.abc import Iterator
from contextlib import suppress


def endProcesses(launcherId: int, workerId: int | None = None) -> None:
    """Ends, at once, the process behind a launcher that is still running; the launcher itself is left to its owner.

    launcherId: the process that was started. workerId: the process that the worker said it is.
    """
    for processId in {*_descendants(launcherId), workerId}:
        if processId is not None and processId not in (launcherId, os.getpid()) and processId > 1:
            # On Windows os.kill with SIGTERM is TerminateProcess; there is no SIGKILL.
            with suppress(OSError):
                os.kill(processId, getattr(signal, "SIGKILL", signal.SIGTERM))


def _descendants(processId: int) -> Iterator[int]:
    """Numbers of all processes below one; none where psutil, which the worker needs too, is not installed yet."""
    try:
        import psutil
    except ImportError:
        return
    with suppress(psutil.Error):
        yield from (child.pid for child in psutil.Process(processId).children(recursive=True))
