"""Loads the .ui files that Slicer loads: QUiLoader with the stand-ins for ctk and qMRML widgets."""

import xml.etree.ElementTree as ElementTree

from PySide6 import QtCore, QtUiTools, QtWidgets

from Testing.slicer_standin import signals
from Testing.slicer_standin.proxies import QtObject, wrap

widgetClasses: dict[str, type[QtWidgets.QWidget]] = {}
"""Custom widgets by class name; filled by `registered`."""


def registered(widgetClass: type[QtWidgets.QWidget]) -> type[QtWidgets.QWidget]:
    """Class decorator: makes a stand-in widget known to the loader."""
    widgetClasses[widgetClass.__name__] = widgetClass
    return widgetClass


class _Loader(QtUiTools.QUiLoader):
    def __init__(self) -> None:
        super().__init__()
        self._kept: list[QtWidgets.QWidget] = []

    def createWidget(
        self, className: str, parent: QtWidgets.QWidget | None = None, name: str = ""
    ) -> QtWidgets.QWidget:
        if className not in widgetClasses:
            if className not in self.availableWidgets():
                raise NotImplementedError(f"The stand-in has no widget {className}; the .ui file names it '{name}'")
            return super().createWidget(className, parent, name)
        widget = widgetClasses[className](parent)
        widget.setObjectName(name)
        self._kept.append(widget)
        return widget


def loadWidget(content: bytes, parent: QtWidgets.QWidget | None = None) -> QtWidgets.QWidget:
    """The widget that a .ui file describes. Its connections are made here, by the names that Slicer has.

    Raises RuntimeError for a file that cannot be read and for a connection that Slicer could not make.
    """
    root = ElementTree.fromstring(content)
    connections = root.find("connections")
    if connections is not None:
        root.remove(connections)
    buffer = QtCore.QBuffer()
    buffer.setData(ElementTree.tostring(root))
    buffer.open(QtCore.QIODevice.OpenModeFlag.ReadOnly)
    loader = _Loader()
    widget = loader.load(buffer, parent)
    if widget is None:
        raise RuntimeError(f"The .ui file could not be loaded: {loader.errorString()}")
    for connection in connections if connections is not None else ():
        _connect(widget, connection)
    return widget


def _connect(root: QtWidgets.QWidget, element: ElementTree.Element) -> None:
    sender, signal, receiver, slot = (element.findtext(tag) or "" for tag in ("sender", "signal", "receiver", "slot"))
    source, target = _named(root, sender), _named(root, receiver)
    slotName = slot.partition("(")[0]
    if slotName not in target._api.names or not signals.connect(source, signal, getattr(target, slotName)):
        raise RuntimeError(f"The .ui file connects {sender} {signal} to {receiver} {slot}, which Slicer cannot do")


def _named(root: QtWidgets.QWidget, name: str) -> QtObject:
    found = root if root.objectName() == name else root.findChild(QtCore.QObject, name)
    if found is None:
        raise RuntimeError(f"The .ui file connects '{name}', which it does not contain")
    return wrap(found)
