"""Connections as PythonQt makes them: by signature or by name, to any Python callable."""

import inspect
import sys
import traceback
from collections.abc import Callable
from typing import Any

from PySide6 import QtCore

# Overloads of Qt 5 that Qt 6 lacks or names differently.
_QT6_NAMES = {
    "activated(QString)": "textActivated(QString)",
    "highlighted(QString)": "textHighlighted(QString)",
    "currentIndexChanged(QString)": "currentTextChanged(QString)",
    "valueChanged(QString)": "textChanged(QString)",
    "finished(int)": "finished(int,QProcess::ExitStatus)",
    "error(QProcess::ProcessError)": "errorOccurred(QProcess::ProcessError)",
}

slotErrors: list[str] = []
"""Tracebacks of slots that raised: in Slicer they are printed and do not reach the caller."""


def normalized(signature: str) -> str:
    """A signal's signature without blanks, `const` and `&`, as Qt compares it."""
    return signature.replace("const ", "").replace("&", "").replace(" ", "")


def acceptedArguments(slot: Callable[..., Any]) -> int | None:
    """How many arguments PythonQt hands to a callable at most; None when it hands over all.

    It looks at functions and methods only: any other callable is called with everything.
    """
    function = slot.__func__ if inspect.ismethod(slot) else slot
    if not inspect.isfunction(function) or function.__code__.co_flags & inspect.CO_VARARGS:
        return None
    return function.__code__.co_argcount - inspect.ismethod(slot)


def guarded(slot: Callable[..., Any], *arguments: Any) -> None:
    """Calls a slot; its exception is printed and remembered, but goes no further."""
    accepted = acceptedArguments(slot)
    try:
        slot(*(arguments if accepted is None else arguments[:accepted]))
    except Exception:
        slotErrors.append(traceback.format_exc())
        traceback.print_exc()


class _Connection:
    """One connection: keeps its slot alive until it is disconnected."""

    def __init__(self, signature: str, slot: Callable[..., Any], convert: Callable[[Any], tuple]) -> None:
        self.signature = signature
        self.slot = slot
        self._convert = convert
        self.handle: QtCore.QMetaObject.Connection | None = None

    def __call__(self, *arguments: Any) -> None:
        guarded(self.slot, *self._convert(arguments))


def connect(proxy: Any, signature: str, slot: Callable[..., Any]) -> bool:
    """Connects a signal, given by its signature; False and a line on stderr when the class has no such signal."""
    signature = normalized(signature)
    if not callable(slot):
        raise TypeError(f"connect needs a callable, not {slot!r}")
    if signature not in proxy._api.signals:
        print(f"QObject::connect: No such signal {type(proxy).__name__}::{signature}", file=sys.stderr)
        return False
    qtObject = proxy._valid()
    types = signature.partition("(")[2].rstrip(")")
    count = len(types.split(",")) if types else 0
    select = getattr(qtObject, "signalOverloads", {}).get(signature)

    def convert(arguments: tuple) -> tuple:
        chosen = select(*arguments) if select else arguments[:count]
        return tuple(proxy._wrap(value) for value in chosen)

    connection = _Connection(signature, slot, convert)
    connection.handle = _connected(qtObject, signature, connection)
    proxy._connections().append(connection)
    return True


def _connected(qtObject: QtCore.QObject, signature: str, receiver: _Connection) -> QtCore.QMetaObject.Connection:
    meta = qtObject.metaObject()
    for candidate in (signature, _QT6_NAMES.get(signature, signature)):
        if meta.indexOfSignal(candidate) >= 0:
            return QtCore.QObject.connect(qtObject, QtCore.SIGNAL(candidate), lambda *values: receiver(*values))
    signal = getattr(qtObject, signature.partition("(")[0], None)
    if not isinstance(signal, QtCore.SignalInstance):
        raise NotImplementedError(f"The stand-in does not emulate the signal {meta.className()}::{signature}")
    return signal.connect(lambda *values: receiver(*values))


def disconnect(proxy: Any, signature: str, slot: Callable[..., Any]) -> bool:
    """Undoes connections of a signal to a callable; False when there was none."""
    signature = normalized(signature)
    connections = proxy._connections()
    found = [item for item in connections if item.signature == signature and item.slot == slot]
    for connection in found:
        QtCore.QObject.disconnect(connection.handle)
        connections.remove(connection)
    return bool(found)


class BoundSignal:
    """A signal as an attribute: `button.clicked.connect(f)`, the first overload of that name."""

    def __init__(self, proxy: Any, name: str) -> None:
        self._proxy = proxy
        self._signature = proxy._api.signaturesOf(name)[0]

    def connect(self, slot: Callable[..., Any]) -> bool:
        """Connects a callable."""
        return connect(self._proxy, self._signature, slot)

    def disconnect(self, slot: Callable[..., Any]) -> bool:
        """Undoes `connect`."""
        return disconnect(self._proxy, self._signature, slot)
