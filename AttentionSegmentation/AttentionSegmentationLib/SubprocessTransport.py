"""The worker process where there is no Qt: plain Python, batch runs, tests."""

import queue
import subprocess
import threading
import time
from contextlib import suppress
from io import BufferedReader, BufferedWriter

from .WorkerCommand import WorkerCommand
from .WorkerTransport import TICK_SECONDS, WorkerTransport

# Chunks of output that may wait to be handed over; a process that says more is made to wait.
_WAITING_CHUNKS = 256
_CHUNK_BYTES = 1 << 16
# A process behind a killed launcher may hold the pipes open: output is not waited for longer than this after the end.
_SECONDS_FOR_LAST_OUTPUT = 0.3


class SubprocessTransport(WorkerTransport):
    """Threads read and write the pipes; everything is handed over by `wait` and `deliver` only, in their thread."""

    def __init__(self) -> None:
        super().__init__()
        self._process: subprocess.Popen[bytes] | None = None
        self._arrived: queue.Queue[tuple[str, bytes]] = queue.Queue(_WAITING_CHUNKS)
        self._toWrite: queue.SimpleQueue[bytes | None] = queue.SimpleQueue()
        self._openPipes = {"output", "error"}
        self._endedAt: float | None = None
        self._isDone = False
        self._lastTick = 0.0

    def start(self, command: WorkerCommand) -> None:
        """Starts the process; a program that cannot be started is reported before this returns."""
        try:
            self._process = subprocess.Popen(
                [command.program, *command.arguments],
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=subprocess.PIPE,
                env=command.environment,
                cwd=command.workingFolder,
                # No window pops up on Windows.
                creationflags=getattr(subprocess, "CREATE_NO_WINDOW", 0),
            )
        except (OSError, ValueError) as error:
            self._isDone = True
            self.onFailedToStart(f"{command.program}: {getattr(error, 'strerror', None) or error}")
            return
        process = self._process
        for function, *arguments in (
            (self._read, process.stdout, "output"),
            (self._read, process.stderr, "error"),
            (self._write, process.stdin),
        ):
            threading.Thread(target=function, args=arguments, name="worker pipe", daemon=True).start()

    def write(self, data: bytes) -> None:
        """Hands the bytes to the writing thread."""
        self._toWrite.put(data)

    def closeInput(self) -> None:
        """The writing thread closes the input after what it has still to write."""
        self._toWrite.put(None)

    def kill(self) -> None:
        """SIGKILL, or TerminateProcess."""
        if self._process is not None:
            with suppress(OSError):
                self._process.kill()

    @property
    def processId(self) -> int:
        """The number that the system gave the process; 0 when none runs."""
        return self._process.pid if self._process is not None and self.isRunning() else 0

    def isRunning(self) -> bool:
        """Asks the system."""
        return self._process is not None and self._process.poll() is None

    def deliver(self) -> None:
        """Hands over all that the reading threads have read."""
        while not self._isDone:
            try:
                self._handOver(*self._arrived.get_nowait())
            except queue.Empty:
                break
        self._deliverEnd()

    def wait(self, seconds: float) -> None:
        """Waits for the next output, tick or end."""
        deadline = time.monotonic() + seconds
        while not self._isDone:
            self._tick()
            if self._isDone:
                return
            patience = max(0.0, min(deadline - time.monotonic(), TICK_SECONDS))
            try:
                item = self._arrived.get(timeout=patience) if patience else self._arrived.get_nowait()
            except queue.Empty:
                self._deliverEnd()
                if time.monotonic() >= deadline:
                    return
                continue
            self._handOver(*item)
            self.deliver()
            return

    def waitForEnd(self, seconds: float) -> bool:
        """Waits in steps, handing over meanwhile what arrives: a process that cannot write does not end."""
        deadline = time.monotonic() + seconds
        self.deliver()
        while not self._isDone and self._process is not None and time.monotonic() < deadline:
            time.sleep(0.005)
            self.deliver()
        return not self.isRunning()

    def _tick(self) -> None:
        if self.isRunning() and time.monotonic() - self._lastTick >= TICK_SECONDS:
            self._lastTick = time.monotonic()
            self.onTick()

    def _handOver(self, pipe: str, data: bytes) -> None:
        if not data:
            self._openPipes.discard(pipe)
        elif pipe == "output":
            self.onOutput(data)
        else:
            self.onErrorOutput(data)

    def _deliverEnd(self) -> None:
        """Reports the end of the process once, after its last output."""
        if self._isDone or self._process is None or self.isRunning():
            return
        self._endedAt = self._endedAt or time.monotonic()
        isComplete = not self._openPipes and self._arrived.empty()
        if not isComplete and time.monotonic() - self._endedAt < _SECONDS_FOR_LAST_OUTPUT:
            return
        self._isDone = True
        self._toWrite.put(None)
        self.onFinished(*_exit(self._process.returncode))

    def _read(self, pipe: BufferedReader, name: str) -> None:
        with pipe, suppress(OSError):
            # read1: what is there at the moment, not a full chunk.
            while (data := pipe.read1(_CHUNK_BYTES)) and not self._isDone:
                self._put(name, data)
        self._put(name, b"")

    def _put(self, name: str, data: bytes) -> None:
        while not self._isDone:
            with suppress(queue.Full):
                self._arrived.put((name, data), timeout=0.2)
                return

    def _write(self, pipe: BufferedWriter) -> None:
        # The process may end at any time, and with it the other end of the pipe; that is noticed elsewhere.
        with suppress(OSError, ValueError), pipe:
            while (data := self._toWrite.get()) is not None:
                pipe.write(data)
                pipe.flush()


def _exit(code: int) -> tuple[int, bool]:
    """Exit code and whether it was a crash: negative numbers are signals, large ones Windows' exceptions."""
    return (-code, True) if code < 0 else (code, code >= 0x80000000)
