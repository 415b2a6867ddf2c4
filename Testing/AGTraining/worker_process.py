"""The worker as a client sees it: a process, requests in, events out."""

from __future__ import annotations

import json
import os
import queue
import subprocess
import sys
import threading
import time
from dataclasses import asdict
from pathlib import Path
from typing import Any

from AGTraining.exchange import save_volume
from AGTraining.imaging.volume import Volume
from AGTraining.inference.result import SegmentOptions

ROOT = Path(__file__).resolve().parents[2]
# A machine under load may take long; a worker that hangs fails the test nevertheless.
PATIENCE_SECONDS = 60.0


class WorkerProcess:
    """Starts `python -m AGTraining worker`; leaving the context ends it.

    shims: a folder whose modules hide installed ones.
    """

    def __init__(self, *arguments: str, shims: Path | None = None, read: bool = True) -> None:
        environment = dict(os.environ)
        environment["PYTHONPATH"] = os.pathsep.join(str(path) for path in (shims, ROOT) if path is not None)
        self.process = subprocess.Popen(
            [sys.executable, "-m", "AGTraining", "worker", *arguments],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            env=environment,
        )
        self.lines: queue.SimpleQueue[bytes] = queue.SimpleQueue()
        self.log = b""
        self.threads = [threading.Thread(target=self._read_errors)]
        if read:
            self.threads.append(threading.Thread(target=self._read_events))
        for thread in self.threads:
            thread.start()

    def __enter__(self) -> WorkerProcess:
        return self

    def __exit__(self, *_: object) -> None:
        self.process.kill()
        self.process.wait()
        for thread in self.threads:
            thread.join()
        for stream in (self.process.stdin, self.process.stdout, self.process.stderr):
            if stream is not None and not stream.closed:
                stream.close()

    def _read_events(self) -> None:
        assert self.process.stdout is not None
        for line in self.process.stdout:
            self.lines.put(line)

    def _read_errors(self) -> None:
        assert self.process.stderr is not None
        for line in self.process.stderr:
            self.log += line

    def send(self, request: dict[str, Any] | bytes) -> None:
        assert self.process.stdin is not None
        line = request if isinstance(request, bytes) else json.dumps(request, ensure_ascii=False).encode()
        self.process.stdin.write(line + b"\n")
        self.process.stdin.flush()

    def event(self) -> dict[str, Any]:
        """The next event. A line that is no JSON object fails the test."""
        line = self.lines.get(timeout=PATIENCE_SECONDS)
        event = json.loads(line)
        assert isinstance(event, dict)
        return event

    def until(self, kind: str, **fields: Any) -> dict[str, Any]:
        """The next event of this kind with these fields; those before it are dropped, but no other end of a task is."""
        while True:
            event = self.event()
            if event["event"] == kind and all(event.get(name) == value for name, value in fields.items()):
                return event
            assert event["event"] in ("ready", "progress"), event

    def ask(self, request: dict[str, Any], answer: str = "result") -> dict[str, Any]:
        """The event that answers a request."""
        self.send(request)
        return self.until(answer, id=request["id"])

    def close_input(self) -> float:
        """Closes the worker's stdin; the seconds until its process has ended."""
        assert self.process.stdin is not None
        start = time.monotonic()
        self.process.stdin.close()
        self.process.wait(PATIENCE_SECONDS)
        return time.monotonic() - start


def segment_request(
    identifier: str, folder: Path, volume: Volume, model: Path | None, **options: Any
) -> dict[str, Any]:
    """A request with the volume's file in the folder, which is made when it is not there."""
    folder.mkdir(parents=True, exist_ok=True)
    return {
        "request": "segment",
        "id": identifier,
        "folder": str(folder),
        "volume": save_volume(volume, folder, "volume"),
        "model": None if model is None else str(model),
        "options": asdict(SegmentOptions(device="cpu", **options)),
    }
