"""One request to the worker, from `submit` to its end."""

import json
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

from .WorkerError import WorkerError


def _line(document: dict[str, Any]) -> bytes:
    # ASCII: names of files that are not valid Unicode arrive as they are.
    return json.dumps(document).encode("ascii") + b"\n"


@dataclass(eq=False)
class WorkerRequest:
    """What was asked for, who is told about it, and how far it is."""

    id: str
    document: dict[str, Any]
    onProgress: Callable[[float, str], None]
    onResult: Callable[[dict[str, Any]], None]
    onError: Callable[[WorkerError], None]
    onCancelled: Callable[[], None]
    isSent: bool = False
    isAnswered: bool = False
    """Whether an event about it has come."""
    mayRestart: bool = False
    """Whether it goes to another process when its process ends before it has answered."""
    cancelAt: float | None = None
    """When the worker is ended, unless it has confirmed the cancellation."""
    line: bytes = field(init=False)
    """The request as the worker reads it. TypeError when it is made of a document that JSON does not have."""

    def __post_init__(self) -> None:
        self.line = _line({**self.document, "id": self.id})

    @property
    def isLive(self) -> bool:
        """Whether it is one frame of a stream, of which the latest counts."""
        return self.document.get("request") == "frame"

    @property
    def cancelLine(self) -> bytes:
        """The request to end this one."""
        return _line({"request": "cancel", "id": f"{self.id}-cancel", "target": self.id})

    def concerns(self, event: dict[str, Any]) -> bool:
        """Whether an event is about this request. An error without an id is: it had a line that was not understood."""
        return event.get("id") == self.id or (event["event"] == "error" and event.get("id") is None)
