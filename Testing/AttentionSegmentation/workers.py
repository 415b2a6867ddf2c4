"""Scripted workers, the two transports, and a record of how requests end: for the tests of the worker client."""

from __future__ import annotations

import os
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import psutil
from AttentionSegmentationLib.SubprocessTransport import SubprocessTransport
from AttentionSegmentationLib.WorkerClient import WorkerClient
from AttentionSegmentationLib.WorkerCommand import WorkerCommand
from AttentionSegmentationLib.WorkerTransport import WorkerTransport

# What all scripted workers can say.
PRELUDE = """
import json, os, subprocess, sys, time
def say(event, **fields):
    print(json.dumps({"event": event, **fields}), flush=True)
def ready():
    say("ready", protocol=1, version="0", pid=os.getpid())
def requests():
    for line in sys.stdin:
        yield json.loads(line)
"""
# One that answers, reports on the way, and confirms cancellations.
POLITE = """
ready()
for request in requests():
    if request["request"] == "cancel":
        say("cancelled", id=request["target"])
    elif request["request"] != "wait":
        say("progress", id=request["id"], fraction=0.5, stage="Halfway")
        say("result", id=request["id"], result={"echo": request["request"], "pid": os.getpid()})
"""
# One that neither answers nor confirms anything.
DEAF = """
ready()
for request in requests():
    say("progress", id=request["id"], fraction=0.0, stage="Never done")
    time.sleep(600)
"""


def scripted(code: str, *, folder: Path, launcher: bool = False) -> Callable[[], WorkerCommand]:
    """The command of a worker that runs this code, after PRELUDE.

    launcher: a second process stands between, as Slicer's launcher does: it hands its pipes on, and waits.
    """
    path = folder / "worker.py"
    path.write_text(PRELUDE + code, encoding="utf-8")
    arguments: tuple[str, ...] = ("-I", "-S", str(path))
    if launcher:
        between = folder / "launcher.py"
        between.write_text("import subprocess, sys\nsys.exit(subprocess.call([sys.executable, *sys.argv[1:]]))\n")
        arguments = ("-I", "-S", str(between), *arguments)
    return lambda: WorkerCommand(sys.executable, arguments, dict(os.environ), str(folder))


@contextmanager
def transports(kind: str, folder: Path) -> Iterator[Callable[[], WorkerTransport]]:
    """Makes transports of a kind: "subprocess", or "qt" in the stand-in for Slicer, whose files go to the folder."""
    if kind == "subprocess":
        yield SubprocessTransport
        return
    os.environ.setdefault("QT_QPA_PLATFORM", "offscreen")
    from Testing.slicer_standin import signals
    from Testing.slicer_standin.install import installed

    signals.slotErrors.clear()
    with installed(folder):
        from AttentionSegmentationLib.QtProcessTransport import QtProcessTransport

        yield QtProcessTransport
    assert signals.slotErrors == []


class Record:
    """The callbacks of a request, and what they were told."""

    def __init__(self) -> None:
        self.progress: list[tuple[float, str]] = []
        self.results: list[dict[str, Any]] = []
        self.errors: list[Any] = []
        self.cancelled = 0

    @property
    def callbacks(self) -> tuple[Callable[..., Any], ...]:
        """In the order of `WorkerClient.submit`."""
        return (
            lambda fraction, stage: self.progress.append((fraction, stage)),
            self.results.append,
            self.errors.append,
            self._count,
        )

    @property
    def ends(self) -> tuple[int, int, int]:
        """How many results, errors and cancellations there were."""
        return len(self.results), len(self.errors), self.cancelled

    def _count(self) -> None:
        self.cancelled += 1


def run(client: WorkerClient, request: dict[str, Any] | None = None, seconds: float = 20.0) -> Record:
    """Submits a request and waits for its end."""
    record = Record()
    client.submit(request or {"request": "echo"}, *record.callbacks)
    assert client.wait(seconds), f"no end within {seconds} s:\n{client.log}"
    return record


def waitUntil(condition: Callable[[], bool], client: WorkerClient | None = None, seconds: float = 10.0) -> None:
    """Waits, with the client's events handled, until something is so."""
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline, f"not so within {seconds} s:\n{client.log if client else ''}"
        if client is not None and client.isBusy:
            client.wait(0.02)
        else:
            _handleQtEvents()
            time.sleep(0.01)


def _handleQtEvents() -> None:
    """What Slicer does whenever nothing else runs."""
    if "PySide6.QtWidgets" in sys.modules:
        application = sys.modules["PySide6.QtWidgets"].QApplication.instance()
        if application is not None:
            application.processEvents()


def isGone(processId: int) -> bool:
    """Whether no process of that number does anything any more."""
    try:
        return psutil.Process(processId).status() == psutil.STATUS_ZOMBIE
    except psutil.NoSuchProcess:
        return True


def processesBelow() -> set[int]:
    """All processes that this one has started, and theirs."""
    return {child.pid for child in psutil.Process().children(recursive=True)}
