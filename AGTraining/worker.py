"""The process that Slicer talks to: one JSON request a line on stdin, one JSON event a line on stdout, UTF-8.

Requests (`id`: a text that the events about it carry):
    {"request": "segment", "id", "folder", "volume", "model", "options"}    folder: for files, of this request alone;
        volume: `exchange.save_volume`; model: path, null for the bundled one; options: fields of SegmentOptions
    {"request": "planes", "id", "folder", "file", "model", "options"}    folder: as above; file: path of an ultrasound
        clip; options: fields of PlaneOptions
    {"request": "frame", "id", "frame", "model", "options"}    one live frame: `exchange_planes.save_frame`
    {"request": "describe", "id", "model"}    versions, devices, and the largest tiles for a model
    {"request": "cancel", "id", "target"}     target: the id of the request to end
    {"request": "shutdown"}
Events:
    {"event": "ready", "protocol", "version", "pid"}     first, before PyTorch is imported
    {"event": "progress", "id", "fraction", "stage"}
    {"event": "result", "id", "result"}       segment: `exchange.save_result`; describe: `worker_tasks.describe`;
        planes: `exchange_planes.save_clip_result`; frame: `worker_planes.frame`
    {"event": "cancelled", "id"}              for a frame whose turn a newer one took, with "superseded": true
    {"event": "error", "id", "code", "message", "traceback"}    code: of AGTraining.errors; busy, memory or internal
    {"event": "ended", "reason"}              last: idle, shutdown or stdin

Each request but cancel and shutdown ends in one result, cancelled or error. One is worked on at a time; another one
meanwhile is an error, busy. Frames are a stream of which the latest counts: while one is worked on another one waits,
and ends as superseded as soon as a newer one comes. What comes after the process has decided to end as idle is not
answered at all.
When stdin closes the process ends at once, whatever it is doing: whoever started it may be gone.
"""

from __future__ import annotations

import faulthandler
import gc
import json
import os
import queue
import signal
import threading
import time
from collections.abc import Mapping
from contextlib import suppress
from typing import Any, BinaryIO, NoReturn, TextIO

from AGTraining import __version__
from AGTraining.errors import AGTrainingError, Cancelled, RequestError
from AGTraining.terminal import stdout_kept_for_json
from AGTraining.worker_planes import PLANE_TASKS
from AGTraining.worker_tasks import SEGMENTATION_TASKS, ModelKeeper, error_fields, free_gpus, load_packages

PROTOCOL = 1
TASKS = {**SEGMENTATION_TASKS, **PLANE_TASKS}
STARTING = "Starting PyTorch"
SECONDS_BETWEEN_REPORTS = 0.1
SECONDS_TO_END = 0.3
INPUT_BYTES = 1 << 20


class BusyError(AGTrainingError):
    """A request while another one is worked on."""

    code = "busy"


def run(idle_seconds: float) -> NoReturn:
    """Serves requests until stdin closes, a shutdown, or `idle_seconds` without a request; ends the process."""
    # Ctrl+C in a console goes to all its processes; the one that started this one says what happens to it.
    if not os.isatty(0):
        signal.signal(signal.SIGINT, signal.SIG_IGN)
    faulthandler.enable()
    with stdout_kept_for_json(True) as output:
        Worker(_take_stdin(), output, idle_seconds).serve()


def _take_stdin() -> BinaryIO:
    """The requests; whatever else looks at stdin finds it empty.

    On Windows libraries that look at stdin when they are loaded (OpenBLAS, in numpy) would otherwise wait for the
    thread that reads it, until the next request comes: numpy issue 24290.
    """
    requests = os.fdopen(os.dup(0), "rb", INPUT_BYTES)
    # A live frame goes through the pipe at once, not in pieces with a change of process for each.
    with suppress(ImportError, AttributeError, OSError):
        import fcntl

        fcntl.fcntl(requests, fcntl.F_SETPIPE_SZ, INPUT_BYTES)
    with open(os.devnull, "rb") as nothing:
        os.dup2(nothing.fileno(), 0)
    return requests


class _Task:
    """A request that is worked on. is_live: it is one frame of a stream. begun: more than imports was done for it."""

    def __init__(self, identifier: str, request: Mapping[str, Any]) -> None:
        self.identifier = identifier
        self.request = request
        self.is_live = request["request"] == "frame"
        self.cancelled = threading.Event()
        self.begun = False
        self.stage = ""
        self.reported = 0.0

    def check(self) -> None:
        if self.cancelled.is_set():
            raise Cancelled


class Worker:
    """Works on requests in the main thread, while one thread reads them and another one writes events."""

    def __init__(self, requests: BinaryIO, output: TextIO, idle_seconds: float) -> None:
        self._input = requests
        self._output = output
        self._idle_seconds = idle_seconds
        self._events: queue.SimpleQueue[str | None] = queue.SimpleQueue()
        self._queue: queue.SimpleQueue[_Task] = queue.SimpleQueue()
        self._models = ModelKeeper()
        # What the lock guards: the task that is worked on, the frame that waits for it, and whether no more are taken.
        self._lock = threading.Lock()
        self._task: _Task | None = None
        self._waiting: _Task | None = None
        self._ending = False
        self._ready = False

    def serve(self) -> NoReturn:
        """Ends the process when there is nothing more to do."""
        self._emit({"event": "ready", "protocol": PROTOCOL, "version": __version__, "pid": os.getpid()})
        threading.Thread(target=self._write, name="events", daemon=True).start()
        threading.Thread(target=self._read, name="requests", daemon=True).start()
        while True:
            try:
                task = self._queue.get(timeout=self._idle_seconds)
            except queue.Empty:
                with self._lock:
                    self._ending = self._task is None
                if self._ending:
                    self._end("idle")
                continue
            self._finish(task, self._outcome(task))
            # Frames come one after another and need little; freeing its memory would take longer than the next one.
            if self._ready and not task.is_live:
                free_gpus()
            del task

    def _outcome(self, task: _Task) -> dict[str, Any]:
        """The event that ends the task. Nothing of it is in use any more: its folder may be deleted."""
        try:
            if not self._ready:
                load_packages(task.cancelled.is_set)
                self._ready = True
            with self._lock:
                task.begun = True
            task.check()
            work = TASKS[task.request["request"]]
            result = work(
                task.request, self._models, lambda *progress: self._report(task, *progress), task.cancelled.is_set
            )
            return {"event": "result", "id": task.identifier, "result": result}
        except Cancelled:
            event: dict[str, Any] = {"event": "cancelled", "id": task.identifier}
        except Exception as error:
            event = {"event": "error", "id": task.identifier, **error_fields(error)}
        # The error and its frames hold the volume's file open.
        gc.collect()
        return event

    def _finish(self, task: _Task, event: Mapping[str, Any]) -> None:
        with self._lock:
            if self._task is not task:
                return
            self._take_waiting()
        self._emit(event)

    def _take_waiting(self) -> None:
        """The frame that waits, if there is one, is worked on next. With the lock."""
        self._task, self._waiting = self._waiting, None
        if self._task is not None:
            self._queue.put(self._task)

    def _read(self) -> None:
        """Handles requests as they come, also while the main thread computes."""
        try:
            for line in self._input:
                if line.strip():
                    self._handle(line)
        finally:
            self._end("stdin")

    def _handle(self, line: bytes) -> None:
        identifier = None
        try:
            request = _parse(line)
            if isinstance(request.get("id"), str):
                identifier = request["id"]
            kind = request["request"]
            if kind == "shutdown":
                self._end("shutdown")
            if kind != "cancel" and kind not in TASKS:
                raise RequestError(f"This version of AGTraining does not know the request {kind[:50]!r}; update it.")
            if identifier is None:
                raise RequestError(f"A request {kind!r} without an id, which is a text.")
            if kind == "cancel":
                self._cancel(request.get("target"))
            else:
                self._accept(_Task(identifier, request))
        except Exception as error:
            self._emit({"event": "error", "id": identifier, **error_fields(error)})

    def _accept(self, task: _Task) -> None:
        older = None
        with self._lock:
            if self._ending:
                return
            if self._task is None:
                self._task = task
            elif self._task.is_live and task.is_live:
                older, self._waiting = self._waiting, task
            else:
                raise BusyError("Another request is being worked on; wait for its end, or cancel it.")
            waits = self._waiting is task
        if older is not None:
            self._emit({"event": "cancelled", "id": older.identifier, "superseded": True})
        if waits:
            return
        if not self._ready:
            self._report(task, 0.0, STARTING)
        self._queue.put(task)

    def _cancel(self, target: Any) -> None:
        """Asks the main thread to stop. While it only imports packages, which the next request needs too, the task
        ends at once. A task that has ended already is none to cancel.
        """
        with self._lock:
            task = self._task
            if self._waiting is not None and self._waiting.identifier == target:
                self._waiting = None
            elif task is not None and task.identifier == target:
                task.cancelled.set()
                if task.begun:
                    return
                self._take_waiting()
            else:
                return
        self._emit({"event": "cancelled", "id": target})

    def _report(self, task: _Task, fraction: float, stage: str) -> None:
        """A progress event, unless there was one of the same stage just now."""
        name, now = stage.partition(" (")[0], time.monotonic()
        if name == task.stage and now - task.reported < SECONDS_BETWEEN_REPORTS:
            return
        task.stage, task.reported = name, now
        fraction = round(min(max(fraction, 0.0), 1.0), 4)
        self._emit({"event": "progress", "id": task.identifier, "fraction": fraction, "stage": stage})

    def _emit(self, event: Mapping[str, Any]) -> None:
        """Hands an event to the thread that writes: a client that does not read must not stop anything else."""
        # ASCII holds all paths, those with undecodable bytes too.
        self._events.put(json.dumps(event, allow_nan=False) + "\n")

    def _write(self) -> None:
        try:
            while (line := self._events.get()) is not None:
                self._output.write(line)
                self._output.flush()
            os._exit(0)
        except OSError:
            # Nobody listens any more.
            os._exit(1)

    def _end(self, reason: str) -> NoReturn:
        """Ends the process now: computations in C, and imports, cannot be interrupted otherwise."""
        self._emit({"event": "ended", "reason": reason})
        self._events.put(None)
        time.sleep(SECONDS_TO_END)
        os._exit(0)


def _parse(line: bytes) -> dict[str, Any]:
    try:
        request = json.loads(line.decode("utf-8"))
    except (ValueError, RecursionError) as error:
        raise RequestError(f"A line that is no JSON ({error}).") from error
    if not isinstance(request, dict) or not isinstance(request.get("request"), str):
        raise RequestError("A line that is no request: a JSON object with the key 'request' is needed.")
    return request
