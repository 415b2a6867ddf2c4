"""Qt connections that were really made, and that can all be taken back."""

from collections.abc import Callable
from typing import Any


class QtConnections:
    """Remembers connections, so that a panel leaves none behind when it goes."""

    def __init__(self) -> None:
        self._connections: list[tuple[Any, str, Callable[..., Any]]] = []

    def connect(self, sender: Any, signal: str, slot: Callable[..., Any]) -> None:
        """Connects a signal, given as Qt writes it (`clicked(bool)`), to a slot.

        Raises RuntimeError when the sender has no such signal: PythonQt alone would only print a line.
        """
        if not sender.connect(signal, slot):
            raise RuntimeError(f"{sender} has no signal {signal}")
        self._connections.append((sender, signal, slot))

    def disconnectAll(self) -> None:
        """Takes all connections back. Senders that Qt has deleted meanwhile are passed over."""
        connections, self._connections = self._connections, []
        for sender, signal, slot in reversed(connections):
            try:
                sender.disconnect(signal, slot)
            except ValueError:
                # PythonQt's error for an object that is gone, and its connections with it.
                continue
