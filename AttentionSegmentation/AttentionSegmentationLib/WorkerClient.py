"""The worker process as seen by a Slicer module: one request at a time, or a stream of live frames, and an end for
each request, whatever happens.
"""

import time
import weakref
from collections.abc import Callable, Iterable, Sequence
from contextlib import ExitStack, suppress
from functools import partial
from typing import Any, Literal

from .OpenRequests import OpenRequests
from .SlicerHost import isSlicerApplication
from .WorkerCommand import WorkerCommand, workerCommand
from .WorkerError import WorkerError
from .WorkerLog import WorkerLog
from .WorkerRequest import WorkerRequest
from .WorkerSession import WorkerSession, startError
from .WorkerTransport import WorkerTransport

__all__ = ["WorkerClient", "WorkerError"]

# After these the process is not to be trusted: packages may be installed meanwhile, a GPU may have to be set up anew.
_ENDS_AFTER = ("package", "memory", "internal")

State = Literal["stopped", "starting", "idle", "busy"]


class WorkerClient:
    """Starts the worker when it is needed, hands requests to it, and tells how they ended.

    All callbacks come in the thread of the caller: in Slicer through Qt's event loop, elsewhere within `wait`. They are
    called when the client is ready for the next request, so they may submit one.

    transportFactory: makes the transport of a process; default: Qt's in Slicer, else `subprocess`.
    commandFactory: the command that is started; default: `workerCommand`.
    startupSeconds: how long a process may take until it says "ready".
    cancelSeconds: how long a process may take to confirm a cancellation before it is ended.
    """

    def __init__(
        self,
        transportFactory: Callable[[], WorkerTransport] | None = None,
        commandFactory: Callable[[], WorkerCommand] | None = None,
        startupSeconds: float = 60.0,
        cancelSeconds: float = 0.8,
    ) -> None:
        self._transportFactory = transportFactory or _defaultTransport
        self._commandFactory = commandFactory or workerCommand
        self._startupSeconds = startupSeconds
        self._cancelSeconds = cancelSeconds
        self._log = WorkerLog()
        self._open = OpenRequests()
        self._requests = 0
        self._session: WorkerSession | None = None
        # The current process and those that were killed but not gone yet. Ended with the client, or with Python.
        self._sessions: list[WorkerSession] = []
        self._finalizer = weakref.finalize(self, _endAll, self._sessions)

    @property
    def state(self) -> State:
        """Whether there is a process ("stopped"), it is ready ("starting"), and it has a request ("idle", "busy")."""
        session = self._session
        if session is None or (not self._open and not session.transport.isRunning()):
            return "stopped"
        if not session.isReady:
            return "starting"
        return "busy" if self._open else "idle"

    @property
    def isBusy(self) -> bool:
        """Whether a request has not ended yet; also while the process for it starts."""
        return bool(self._open)

    @property
    def log(self) -> str:
        """The last lines that the processes and this client have said."""
        return self._log.text

    @property
    def logListeners(self) -> list[Callable[[str], None]]:
        """Each is called with every new line of the log."""
        return self._log.listeners

    def submit(
        self,
        request: dict[str, Any],
        onProgress: Callable[[float, str], None],
        onResult: Callable[[dict[str, Any]], None],
        onError: Callable[[WorkerError], None],
        onCancelled: Callable[[], None],
    ) -> str:
        """Hands a request to the worker, which is started when there is none; returns the request's id.

        request: the JSON document without "id". onProgress gets fraction (0 to 1) and stage. Exactly one of the other
        callbacks is called, once: onResult with the worker's "result", onError, or onCancelled. onError may be called
        before this returns.
        Live frames ("frame") may be submitted one after another. The latest counts: an older one that the worker has
        not begun with ends in onCancelled.
        Raises WorkerError "busy" while another request has not ended, and TypeError when the request is no JSON.
        """
        self._settle()
        identifier = f"{self._requests + 1}"
        # Only when it is made: one that cannot be written as JSON must not keep others out.
        made = WorkerRequest(identifier, dict(request), onProgress, onResult, onError, onCancelled)
        if not self._open.hasRoomFor(made):
            raise WorkerError("Another run is not finished yet; wait for it or cancel it.", "busy")
        self._requests += 1
        isOnlyOne, superseded = not self._open, self._open.add(made)
        session = self._session
        if session is None or (isOnlyOne and not session.transport.isRunning()):
            self._start()
        elif session.isReady:
            # It may have been idle for long, and end or be gone in this very moment.
            made.mayRestart = True
            self._send(session)
        _tell([older.onCancelled for older in superseded])
        return identifier

    def cancel(self) -> None:
        """Asks for the end of the current request, or of all live frames; onCancelled follows within a second, or
        before this returns.

        A worker that does not confirm is ended. Without a request: nothing.
        """
        session = self._session
        if any(request.cancelAt is not None for request in self._open):
            return
        unsent = self._open.take(lambda request: session is None or not request.isSent)
        for request in self._open:
            assert session is not None
            request.cancelAt = time.monotonic() + self._cancelSeconds
            session.transport.write(request.cancelLine)
        _tell([request.onCancelled for request in unsent])

    def wait(self, seconds: float | None = None) -> bool:
        """Handles events until no request is left, for at most that long; whether none is left.

        What a callback raises comes out of here where there is no Qt; Qt prints it.
        """
        deadline = None if seconds is None else time.monotonic() + seconds
        while self._open and self._session is not None:
            remaining = 1.0 if deadline is None else deadline - time.monotonic()
            if remaining <= 0:
                break
            self._session.transport.wait(min(remaining, 1.0))
        return not self._open

    def shutdown(self, seconds: float = 2.0) -> None:
        """Ends the process: closes its input, and kills it when it is still there after so many seconds.

        A request that has not ended is cancelled. The client can be used again.
        """
        requests, session = self._open.take(), self._session
        self._session = None
        if session is not None:
            self._log.addLine("Ending the worker process.")
            session.transport.closeInput()
            if not session.transport.waitForEnd(seconds):
                self._kill(session)
        self._endFormer()
        _tell([request.onCancelled for request in requests])

    def _start(self) -> None:
        """Starts a process for the only request; what goes wrong is told to the request, whatever it is."""
        (request,) = self._open
        try:
            self._startSession()
        except BaseException as error:
            if request not in self._open:
                # It has ended, and this comes from its own callback.
                raise
            session = self._session
            if session is not None:
                with suppress(Exception):
                    self._kill(session)
                self._forget(session)
            self._open.remove(request)
            if not isinstance(error, Exception):
                raise
            request.onError(startError(error))

    def _startSession(self) -> None:
        self._session = None
        # What they still hold of the GPU's memory is needed now.
        self._endFormer()
        command = self._commandFactory()
        transport = self._transportFactory()
        session = WorkerSession(transport, time.monotonic(), self._log.mark)
        transport.onOutput = _weakly(self._onOutput, session)
        transport.onErrorOutput = _weakly(self._onErrorOutput)
        transport.onFinished = _weakly(self._onFinished, session)
        transport.onFailedToStart = _weakly(self._onFailedToStart, session)
        transport.onTick = _weakly(self._onTick, session)
        self._session = session
        self._sessions.append(session)
        self._log.addLine(f"Starting {command.program} {' '.join(command.arguments)}")
        transport.start(command)

    def _send(self, session: WorkerSession) -> None:
        """Sends what is to be sent now."""
        for request in self._open.toSend():
            request.isSent = True
            session.transport.write(request.line)

    def _onOutput(self, session: WorkerSession, data: bytes) -> None:
        session.add(data)
        self._handleEvents(session)

    def _onErrorOutput(self, data: bytes) -> None:
        self._log.addBytes(data)

    def _handleEvents(self, session: WorkerSession) -> None:
        # A callback may wait for another request: then the inner call takes the following events, in order.
        while session is self._session:
            try:
                event = session.nextEvent()
            except WorkerError as error:
                self._kill(session)
                self._fail(WorkerError(str(error), error.code, self._log.since(session.logMark)))
                return
            if event is None:
                return
            if isinstance(event, str):
                self._log.addLine(event)
            else:
                self._handle(session, event)

    def _handle(self, session: WorkerSession, event: dict[str, Any]) -> None:
        kind = event["event"]
        if kind == "ready":
            self._log.addLine(f"The worker is ready (version {event.get('version')}, process {event.get('pid')}).")
            self._send(session)
        elif kind == "ended":
            self._log.addLine(f"The worker ends itself ({event.get('reason')}).")
        elif (request := self._open.about(event)) is not None:
            request.isAnswered = True
            self._answer(session, request, event)

    def _answer(self, session: WorkerSession, request: WorkerRequest, event: dict[str, Any]) -> None:
        kind = event["event"]
        if kind == "progress":
            if request.cancelAt is None:
                request.onProgress(_fraction(event.get("fraction")), str(event.get("stage", "")))
            return
        if kind not in ("result", "error", "cancelled"):
            return
        code = str(event.get("code", "internal"))
        ended = [request]
        if kind == "error":
            self._log.addLine(f"{event.get('message')} [{code}]")
            if code in _ENDS_AFTER:
                self._dismiss(session)
                # Frames that the process had as well.
                ended += [other for other in self._open if other is not request]
        # Room for the next request is made first. Afterwards, and only then, the ends are told.
        self._open.take(lambda other: other in ended)
        if session is self._session:
            self._send(session)
        if kind == "cancelled" or request.cancelAt is not None:
            _tell([other.onCancelled for other in ended])
        elif kind == "result":
            request.onResult(event.get("result") or {})
        else:
            details = str(event.get("traceback") or self._log.since(session.logMark))
            self._tellError(ended, WorkerError(str(event.get("message")), code, details))

    def _onFinished(self, session: WorkerSession, exitCode: int, crashed: bool) -> None:
        self._forget(session)
        if session is not self._session:
            return
        self._session = None
        self._log.endOfProcess()
        log = self._log.since(session.logMark)
        self._log.addLine(f"The worker process has ended (exit code {exitCode}{', crashed' if crashed else ''}).")
        if not self._open:
            return
        *older, request = self._open
        if request.cancelAt is not None:
            _tell([other.onCancelled for other in self._open.take()])
        elif request.mayRestart and not any(other.isAnswered for other in self._open):
            request.isSent = request.mayRestart = False
            self._open.take(lambda other: other in older)
            self._start()
            _tell([other.onCancelled for other in older])
        else:
            self._fail(session.endError(exitCode, crashed, log))

    def _onFailedToStart(self, session: WorkerSession, reason: str) -> None:
        self._forget(session)
        if session is self._session:
            self._session = None
            self._log.addLine(f"The worker process could not be started: {reason}")
            message = f"The worker process could not be started ({reason}); install Slicer or its Python again."
            self._fail(WorkerError(message, "start", self._log.since(session.logMark)))

    def _onTick(self, session: WorkerSession) -> None:
        if session is not self._session:
            return
        # A callback that failed may have left events behind.
        self._handleEvents(session)
        now = time.monotonic()
        if session is not self._session:
            return
        if any(request.cancelAt is not None and now >= request.cancelAt for request in self._open):
            self._log.addLine("The worker did not confirm the cancellation in time and is ended.")
            self._kill(session)
            _tell([request.onCancelled for request in self._open.take()])
        elif not session.isReady and now - session.startedAt > self._startupSeconds:
            self._log.addLine("The worker did not become ready in time and is ended.")
            self._kill(session)
            self._fail(session.hangError(self._startupSeconds, self._log.since(session.logMark)))

    def _fail(self, error: WorkerError) -> None:
        self._tellError(self._open.take(), error)

    @staticmethod
    def _tellError(requests: Iterable[WorkerRequest], error: WorkerError) -> None:
        _tell([partial(request.onError, error) for request in requests])

    def _dismiss(self, session: WorkerSession) -> None:
        """Lets a process end by itself; the next request starts another one."""
        self._session = None
        session.transport.closeInput()

    def _kill(self, session: WorkerSession) -> None:
        """Ends a process and whatever it has started."""
        if self._session is session:
            self._session = None
        session.end()
        self._settle()

    def _endFormer(self) -> None:
        """Ends the processes that were told to end by themselves, or killed, and are still there."""
        for former in tuple(self._sessions):
            if former is not self._session:
                former.end()
        self._settle()

    def _settle(self) -> None:
        """Takes in what has arrived, and forgets processes that are gone."""
        for session in tuple(self._sessions):
            session.transport.deliver()
            if session is not self._session and not session.transport.isRunning():
                self._forget(session)

    def _forget(self, session: WorkerSession) -> None:
        if session in self._sessions:
            self._sessions.remove(session)


def _defaultTransport() -> WorkerTransport:
    if isSlicerApplication():
        from .QtProcessTransport import QtProcessTransport

        return QtProcessTransport()
    from .SubprocessTransport import SubprocessTransport

    return SubprocessTransport()


def _tell(callbacks: Sequence[Callable[[], None]]) -> None:
    """Calls all of them, also when one raises; what the last of those raises comes out."""
    with ExitStack() as stack:
        for callback in reversed(callbacks):
            stack.callback(callback)


def _endAll(sessions: list[WorkerSession]) -> None:
    """The last resort when a client goes without `shutdown`; Qt may be gone already."""
    for session in tuple(sessions):
        with suppress(Exception):
            session.end()


def _weakly(method: Callable[..., None], *arguments: Any) -> Callable[..., None]:
    """The method, unless its object is gone: a transport must not keep a client that nobody else has."""
    reference = weakref.WeakMethod(method)

    def call(*further: Any) -> None:
        bound = reference()
        if bound is not None:
            bound(*arguments, *further)

    return call


def _fraction(value: Any) -> float:
    return min(1.0, max(0.0, float(value))) if isinstance(value, int | float) else 0.0
