"""The requests of a worker client that have not ended: a single one, or some frames of a live stream."""

from collections.abc import Callable, Iterator
from typing import Any

from .WorkerRequest import WorkerRequest

# Frames that the worker has at a time: it works on one, one waits, and one is on its way. A newer one is held back, so
# that a worker that is slow for a moment does not leave a stream of old frames in the pipe.
_MOST_SENT = 3


class OpenRequests:
    """Oldest first. Frames of a stream may be open together; of those that are not sent yet only the newest is."""

    def __init__(self) -> None:
        self._open: list[WorkerRequest] = []

    def __bool__(self) -> bool:
        return bool(self._open)

    def __contains__(self, request: WorkerRequest) -> bool:
        return request in self._open

    def __iter__(self) -> Iterator[WorkerRequest]:
        return iter(tuple(self._open))

    def hasRoomFor(self, request: WorkerRequest) -> bool:
        """Whether it may be added: when no other is open, or all are frames that nobody has cancelled."""
        return all(other.isLive and request.isLive and other.cancelAt is None for other in self._open)

    def add(self, request: WorkerRequest) -> list[WorkerRequest]:
        """Opens a request; returns those that end because it is newer."""
        superseded = self.take(lambda other: not other.isSent)
        self._open.append(request)
        return superseded

    def take(self, choose: Callable[[WorkerRequest], bool] = lambda request: True) -> list[WorkerRequest]:
        """Closes the chosen requests, all by default, and returns them."""
        taken = [request for request in self._open if choose(request)]
        self._open = [request for request in self._open if request not in taken]
        return taken

    def remove(self, request: WorkerRequest) -> None:
        """Closes one request, if it is open."""
        self._open = [other for other in self._open if other is not request]

    def toSend(self) -> list[WorkerRequest]:
        """Those that the worker should get now."""
        unsent = [request for request in self._open if not request.isSent]
        return unsent[: max(0, _MOST_SENT - (len(self._open) - len(unsent)))]

    def about(self, event: dict[str, Any]) -> WorkerRequest | None:
        """The request that an event of the worker is about."""
        return next((request for request in self._open if request.isSent and request.concerns(event)), None)
