"""slicer.parameterNodeWrapper: the widgets that parameters can be bound to, and how."""

import enum
import pathlib
from collections.abc import Callable
from typing import Any

from Testing.slicer_standin.parameter_values import (
    Choice,
    Decimals,
    Maximum,
    Minimum,
    SingleStep,
    WithinRange,
    findFirstAnnotation,
    getNodeTypes,
    isNodeOrUnionOfNodes,
    splitAnnotations,
)


class GuiConnector:
    """Binds one widget: reads and writes its value, and calls back when it changes."""

    signal = ""

    def __init__(self, widget: Any, datatype: Any) -> None:
        self._widget = widget
        self._type, self._annotations = splitAnnotations(datatype)
        self._callback: Callable[[], None] | None = None

    def onChanged(self, callback: Callable[[], None] | None) -> None:
        """Calls this when the user changes the value; None undoes it."""
        self._callback = callback
        if self.signal:
            bound = getattr(self._widget, self.signal)
            (bound.disconnect if callback is None else bound.connect)(self.changed)

    def changed(self) -> None:
        if self._callback:
            self._callback()

    def widget(self) -> Any:
        return self._widget

    def _annotation(self, kind: type) -> Any:
        return findFirstAnnotation(self._annotations, kind)


class _Attribute(GuiConnector):
    """A widget whose value is one of its properties."""

    attribute = ""

    def read(self) -> Any:
        return self._type(getattr(self._widget, self.attribute))

    def write(self, value: Any) -> None:
        setattr(self._widget, self.attribute, value)


class _Checked(_Attribute):
    attribute = "checked"
    signal = "toggled"


class _StateChecked(_Checked):
    signal = "stateChanged"


class _Number(_Attribute):
    attribute = "value"
    signal = "valueChanged"

    def __init__(self, widget: Any, datatype: Any) -> None:
        super().__init__(widget, datatype)
        name = type(widget).__name__
        step, decimals = self._annotation(SingleStep), self._annotation(Decimals)
        if name not in ("QSlider", "QSpinBox"):
            if self._type is int:
                widget.decimals = 0
            elif decimals is not None:
                widget.decimals = decimals.value
        if step is not None:
            widget.singleStep = step.value
        bounds = self._annotation(WithinRange)
        low, high = bounds or self._annotation(Minimum), bounds or self._annotation(Maximum)
        if name in ("QSlider", "ctkSliderWidget", "qMRMLSliderWidget") and (low is None or high is None):
            raise RuntimeError(f"Cannot have a connection to {name} where the type is unbounded.")
        unbounded = 2**31 - 1 if name == "QSpinBox" else float("inf")
        widget.minimum = -unbounded if low is None else low.minimum
        widget.maximum = unbounded if high is None else high.maximum


class _Text(_Attribute):
    attribute = "text"
    signal = "textChanged"

    def write(self, value: str) -> None:
        if value != self._widget.text:
            self._widget.text = value


class _Label(_Attribute):
    attribute = "text"


class _PlainText(GuiConnector):
    signal = "textChanged"

    def read(self) -> str:
        return self._widget.toPlainText()

    def write(self, value: str) -> None:
        self._widget.setPlainText(value)


class _Choices(GuiConnector):
    """A combo box filled with the choices of the parameter, or with the members of an enumeration."""

    signal = "currentIndexChanged"

    def __init__(self, widget: Any, datatype: Any) -> None:
        super().__init__(widget, datatype)
        if issubclass(self._type, enum.Enum):
            label = getattr(self._type, "label", lambda member: member.name)
            self._items = [(label(member), member) for member in self._type]
        else:
            choice = self._annotation(Choice)
            if choice is None:
                raise RuntimeError("ComboBoxToStringableConnector requires the Choice annotation to be used.")
            self._items = [(str(value), value) for value in choice.choices]
        widget.clear()
        for text, _ in self._items:
            widget.addItem(text)

    def read(self) -> Any:
        return self._items[self._widget.currentIndex][1]

    def write(self, value: Any) -> None:
        values = [item for _, item in self._items]
        if value not in values:
            raise ValueError(f"Unable to find value {value} in choices {values}")
        self._widget.currentIndex = values.index(value)


class _CurrentPath(_Attribute):
    attribute = "currentPath"
    signal = "currentPathChanged"

    def write(self, value: Any) -> None:
        self._widget.currentPath = str(value)


class _Directory(_CurrentPath):
    attribute = "directory"
    signal = "directoryChanged"

    def write(self, value: Any) -> None:
        self._widget.directory = str(value)


class _Node(GuiConnector):
    signal = "currentNodeChanged"

    def __init__(self, widget: Any, datatype: Any) -> None:
        super().__init__(widget, datatype)
        widget.nodeTypes = getNodeTypes(datatype)

    def read(self) -> Any:
        return self._widget.currentNode()

    def write(self, value: Any) -> None:
        self._widget.setCurrentNode(value)


_COMBO_BOXES = ("QComboBox", "ctkComboBox")
_FLOAT_WIDGETS = ("QDoubleSpinBox", "ctkSliderWidget", "qMRMLSliderWidget", "ctkDoubleSpinBox", "qMRMLSpinBox")
_CONNECTORS: tuple[tuple[tuple[str, ...], tuple[type, ...], type[GuiConnector]], ...] = (
    (("QCheckBox", "ctkCheckBox"), (bool,), _StateChecked),
    (("QPushButton",), (bool,), _Checked),
    (("QSlider", "QSpinBox"), (int,), _Number),
    (_FLOAT_WIDGETS, (float, int), _Number),
    (_COMBO_BOXES, (int, float, str, bool), _Choices),
    (_COMBO_BOXES, (enum.Enum,), _Choices),
    (("QLineEdit",), (str,), _Text),
    (("QLabel",), (str,), _Label),
    (("QTextEdit",), (str,), _PlainText),
    (("ctkPathLineEdit",), (pathlib.Path,), _CurrentPath),
    (("ctkDirectoryButton",), (pathlib.Path,), _Directory),
)


def createGuiConnector(widget: Any, datatype: Any) -> GuiConnector:
    """The connector of a widget for a type; RuntimeError where Slicer has none."""
    name = type(widget).__name__
    if name == "qMRMLNodeComboBox" and isNodeOrUnionOfNodes(datatype):
        return _Node(widget, datatype)
    actual = splitAnnotations(datatype)[0]
    for names, datatypes, connector in _CONNECTORS:
        isEnum = isinstance(actual, type) and issubclass(actual, enum.Enum) and enum.Enum in datatypes
        if name in names and (actual in datatypes or isEnum):
            return connector(widget, datatype)
    raise RuntimeError(f"Unable to create GUI connector from datatype '{datatype}' to widget type '{type(widget)}'.")
