"""What the stand-in widgets are made of."""

from typing import Any

from PySide6 import QtCore, QtWidgets


def stored(cppType: Any, name: str, default: Any = None, changed: str = "") -> QtCore.Property:
    """A Qt property that only keeps its value; calls the named method after it was set."""

    def get(self: Any) -> Any:
        return self.__dict__.get(f"_stored_{name}", default)

    def put(self: Any, value: Any) -> None:
        self.__dict__[f"_stored_{name}"] = value
        if changed:
            getattr(self, changed)()

    return QtCore.Property(cppType, get, put)


def passed(cppType: Any, part: str, name: str) -> QtCore.Property:
    """A Qt property that is that of a part of the widget."""
    return QtCore.Property(
        cppType,
        lambda self: getattr(self, part).property(name),
        lambda self, value: getattr(self, part).setProperty(name, value),
    )


def row(widget: QtWidgets.QWidget, *parts: QtWidgets.QWidget) -> None:
    """Puts parts side by side into a widget, without margins."""
    layout = QtWidgets.QHBoxLayout(widget)
    layout.setContentsMargins(0, 0, 0, 0)
    for part in parts:
        layout.addWidget(part)


class Collapsing:
    """Hides the children of a widget while it is collapsed, and shows those that are wanted afterwards."""

    def _setUpCollapsing(self) -> None:
        self._wanted: dict[QtCore.QObject, bool] = {}
        self._isHiding = False

    def childEvent(self, event: QtCore.QChildEvent) -> None:
        super().childEvent(event)
        if event.added() and event.child().isWidgetType():
            event.child().installEventFilter(self)

    def eventFilter(self, child: QtCore.QObject, event: QtCore.QEvent) -> bool:
        if "_wanted" in self.__dict__ and not self._isHiding and self._isCollapsed():
            if event.type() == QtCore.QEvent.Type.ShowToParent:
                self._hideChild(child)
            elif event.type() == QtCore.QEvent.Type.HideToParent:
                self._wanted[child] = False
        return False

    def _hideChild(self, child: QtWidgets.QWidget) -> None:
        self._isHiding = True
        self._wanted[child] = True
        child.setVisible(False)
        self._isHiding = False

    def _collapseChildren(self, collapsed: bool) -> None:
        """Hides or brings back the direct child widgets."""
        if collapsed:
            for child in self.children():
                if child.isWidgetType() and not child.isHidden():
                    self._hideChild(child)
            return
        self._isHiding = True
        for child in [child for child, wanted in self._wanted.items() if wanted]:
            child.setVisible(True)
        self._wanted.clear()
        self._isHiding = False
