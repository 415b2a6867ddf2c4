"""ctk widgets that hold a number, a choice or a text."""

from typing import Any

from PySide6 import QtCore, QtGui, QtWidgets

from Testing.slicer_standin.ui_loader import registered
from Testing.slicer_standin.widget_parts import passed, row, stored

_SLIDER_STEPS = 1000


@registered
class ctkDoubleSpinBox(QtWidgets.QWidget):
    """A spin box."""

    slicerName = "ctk.ctkDoubleSpinBox"
    valueChanged = QtCore.Signal(float)
    decimalsChanged = QtCore.Signal(int)
    editingFinished = QtCore.Signal()

    def __init__(self, parent: QtWidgets.QWidget | None = None) -> None:
        super().__init__(parent)
        self._spinBox = QtWidgets.QDoubleSpinBox()
        row(self, self._spinBox)
        self._spinBox.valueChanged.connect(self.valueChanged)
        self._spinBox.editingFinished.connect(self.editingFinished)

    def setValue(self, value: float) -> None:
        self._spinBox.setValue(value)

    value = passed(float, "_spinBox", "value")
    minimum = passed(float, "_spinBox", "minimum")
    maximum = passed(float, "_spinBox", "maximum")
    singleStep = passed(float, "_spinBox", "singleStep")
    decimals = passed(int, "_spinBox", "decimals")
    prefix = passed(str, "_spinBox", "prefix")
    suffix = passed(str, "_spinBox", "suffix")
    readOnly = passed(bool, "_spinBox", "readOnly")
    alignment = passed(int, "_spinBox", "alignment")


@registered
class ctkSliderWidget(QtWidgets.QWidget):
    """A slider and a spin box for one number."""

    slicerName = "ctk.ctkSliderWidget"
    valueChanged = QtCore.Signal(float)
    valueIsChanging = QtCore.Signal(float)
    decimalsChanged = QtCore.Signal(int)

    def __init__(self, parent: QtWidgets.QWidget | None = None) -> None:
        super().__init__(parent)
        self._slider = QtWidgets.QSlider(QtCore.Qt.Orientation.Horizontal)
        self._slider.setRange(0, _SLIDER_STEPS)
        self._spinBox = QtWidgets.QDoubleSpinBox()
        row(self, self._slider, self._spinBox)
        self.setSizePolicy(QtWidgets.QSizePolicy.Policy.Minimum, QtWidgets.QSizePolicy.Policy.Fixed)
        self._spinBox.valueChanged.connect(self._onSpinBox)
        self._slider.valueChanged.connect(self._onSlider)

    def _setBound(self, name: str, value: float) -> None:
        self._spinBox.setProperty(name, value)
        self._moveSlider()

    def _onSpinBox(self, value: float) -> None:
        self._moveSlider()
        if self.tracking:
            self.valueIsChanging.emit(value)
        self.valueChanged.emit(value)

    def _moveSlider(self) -> None:
        low, high = self._spinBox.minimum(), self._spinBox.maximum()
        self._slider.blockSignals(True)
        self._slider.setValue(round((self._spinBox.value() - low) / ((high - low) or 1) * _SLIDER_STEPS))
        self._slider.blockSignals(False)

    def _onSlider(self, position: int) -> None:
        low, high = self._spinBox.minimum(), self._spinBox.maximum()
        self._spinBox.setValue(low + (high - low) * position / _SLIDER_STEPS)

    def setValue(self, value: float) -> None:
        self._spinBox.setValue(value)

    def setDecimals(self, decimals: int) -> None:
        self._spinBox.setDecimals(decimals)

    def setSpinBoxVisible(self, visible: bool) -> None:
        self._spinBox.setVisible(visible)

    value = passed(float, "_spinBox", "value")
    minimum = QtCore.Property(
        float, lambda self: self._spinBox.minimum(), lambda self, value: self._setBound("minimum", value)
    )
    maximum = QtCore.Property(
        float, lambda self: self._spinBox.maximum(), lambda self, value: self._setBound("maximum", value)
    )
    singleStep = passed(float, "_spinBox", "singleStep")
    pageStep = stored(float, "pageStep", 10.0)
    decimals = passed(int, "_spinBox", "decimals")
    prefix = passed(str, "_spinBox", "prefix")
    suffix = passed(str, "_spinBox", "suffix")
    tracking = stored(bool, "tracking", True)
    tickInterval = stored(float, "tickInterval", 0.0)
    popupSlider = stored(bool, "popupSlider", False)
    spinBoxVisible = QtCore.Property(bool, lambda self: not self._spinBox.isHidden(), setSpinBoxVisible)


@registered
class ctkRangeWidget(QtWidgets.QWidget):
    """Two spin boxes for a range."""

    slicerName = "ctk.ctkRangeWidget"
    valuesChanged = QtCore.Signal(float, float)
    minimumValueChanged = QtCore.Signal(float)
    maximumValueChanged = QtCore.Signal(float)
    rangeChanged = QtCore.Signal(float, float)

    def __init__(self, parent: QtWidgets.QWidget | None = None) -> None:
        super().__init__(parent)
        self._low, self._high = QtWidgets.QDoubleSpinBox(), QtWidgets.QDoubleSpinBox()
        row(self, self._low, self._high)
        self._high.setValue(self._high.maximum())
        self._low.valueChanged.connect(self.minimumValueChanged)
        self._high.valueChanged.connect(self.maximumValueChanged)
        for spinBox in (self._low, self._high):
            spinBox.valueChanged.connect(lambda value: self.valuesChanged.emit(self._low.value(), self._high.value()))

    def setValues(self, low: float, high: float) -> None:
        self._low.setValue(low)
        self._high.setValue(high)

    def setRange(self, low: float, high: float) -> None:
        for spinBox in (self._low, self._high):
            spinBox.setRange(low, high)
        self.rangeChanged.emit(low, high)

    def setMinimumValue(self, value: float) -> None:
        self._low.setValue(value)

    def setMaximumValue(self, value: float) -> None:
        self._high.setValue(value)

    minimumValue = passed(float, "_low", "value")
    maximumValue = passed(float, "_high", "value")
    minimum = QtCore.Property(
        float, lambda self: self._low.minimum(), lambda self, value: self.setRange(value, self._low.maximum())
    )
    maximum = QtCore.Property(
        float, lambda self: self._low.maximum(), lambda self, value: self.setRange(self._low.minimum(), value)
    )
    singleStep = passed(float, "_low", "singleStep")
    decimals = QtCore.Property(
        int,
        lambda self: self._low.decimals(),
        lambda self, value: (self._low.setDecimals(value), self._high.setDecimals(value)),
    )


@registered
class ctkComboBox(QtWidgets.QComboBox):
    """A combo box with a text for when nothing is chosen."""

    slicerName = "ctk.ctkComboBox"
    returnRelease = QtCore.Signal()
    forceDefault = stored(bool, "forceDefault", False)
    defaultIcon = stored(QtGui.QIcon, "defaultIcon", QtGui.QIcon())
    elideMode = stored(int, "elideMode", 3)
    scrollWheelEffect = stored(int, "scrollWheelEffect", 1)
    defaultText = QtCore.Property(
        str, lambda self: self.placeholderText(), lambda self, text: self.setPlaceholderText(text)
    )
    currentUserDataAsString = QtCore.Property(
        str,
        lambda self: str(self.currentData() or ""),
        lambda self, text: self.setCurrentIndex(self.findData(text)),
    )


@registered
class ctkCheckableComboBox(QtWidgets.QComboBox):
    """A combo box whose items have check marks."""

    slicerName = "ctk.ctkCheckableComboBox"
    checkedIndexesChanged = QtCore.Signal()
    returnRelease = QtCore.Signal()

    def __init__(self, parent: QtWidgets.QWidget | None = None) -> None:
        super().__init__(parent)
        self.model().rowsInserted.connect(self._onRowsInserted)
        self.model().dataChanged.connect(lambda *arguments: self.checkedIndexesChanged.emit())

    def _onRowsInserted(self, parent: QtCore.QModelIndex, first: int, last: int) -> None:
        for number in range(first, last + 1):
            item = self.model().item(number)
            item.setCheckable(True)
            item.setCheckState(QtCore.Qt.CheckState.Unchecked)

    def checkableModel(self) -> QtCore.QAbstractItemModel:
        return self.model()

    def checkedIndexes(self) -> list[QtCore.QModelIndex]:
        indexes = [self.model().index(number, 0) for number in range(self.count())]
        return [index for index in indexes if self.checkState(index) == QtCore.Qt.CheckState.Checked]

    def checkState(self, index: QtCore.QModelIndex) -> QtCore.Qt.CheckState:
        return self.model().itemFromIndex(index).checkState()

    def setCheckState(self, index: QtCore.QModelIndex, state: Any) -> None:
        self.model().itemFromIndex(index).setCheckState(QtCore.Qt.CheckState(state))

    def allChecked(self) -> bool:
        return len(self.checkedIndexes()) == self.count()

    def noneChecked(self) -> bool:
        return not self.checkedIndexes()


@registered
class ctkFittedTextBrowser(QtWidgets.QTextBrowser):
    """A text browser that is as high as its text."""

    slicerName = "ctk.ctkFittedTextBrowser"
    collapsed = stored(bool, "collapsed", False)
    disableMouseScroll = stored(bool, "disableMouseScroll", True)
    showDetailsText = stored(str, "showDetailsText", "")
    hideDetailsText = stored(str, "hideDetailsText", "")

    def __init__(self, parent: QtWidgets.QWidget | None = None) -> None:
        super().__init__(parent)
        policy = QtWidgets.QSizePolicy(QtWidgets.QSizePolicy.Policy.Expanding, QtWidgets.QSizePolicy.Policy.Fixed)
        policy.setHeightForWidth(True)
        self.setSizePolicy(policy)
        self.setVerticalScrollBarPolicy(QtCore.Qt.ScrollBarPolicy.ScrollBarAlwaysOff)
        self.textChanged.connect(self.updateGeometry)

    def heightForWidth(self, width: int) -> int:
        document = self.document().clone()
        document.setTextWidth(width - 2 * self.frameWidth())
        return int(document.size().height()) + 2 * self.frameWidth()

    def sizeHint(self) -> QtCore.QSize:
        return QtCore.QSize(200, self.heightForWidth(max(self.width(), 200)))

    minimumSizeHint = sizeHint

    def setCollapsibleText(self, text: str) -> None:
        self.setText(text)

    def setCollapsibleHtml(self, text: str) -> None:
        self.setHtml(text)


@registered
class ctkColorPickerButton(QtWidgets.QPushButton):
    """A button that holds a colour."""

    slicerName = "ctk.ctkColorPickerButton"
    colorChanged = QtCore.Signal(QtGui.QColor)
    displayColorName = stored(bool, "displayColorName", True)

    def setColor(self, color: QtGui.QColor) -> None:
        if color != self.color:
            self._color = color
            self.colorChanged.emit(color)

    color = QtCore.Property(QtGui.QColor, lambda self: self.__dict__.get("_color", QtGui.QColor()), setColor)


@registered
class ctkCheckBox(QtWidgets.QCheckBox):
    """A check box."""

    slicerName = "ctk.ctkCheckBox"
