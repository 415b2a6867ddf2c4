"""ctk containers and buttons."""

from typing import Any

from PySide6 import QtCore, QtGui, QtWidgets

from Testing.slicer_standin import dialogs
from Testing.slicer_standin.ui_loader import registered
from Testing.slicer_standin.widget_parts import Collapsing, passed, row, stored


@registered
class ctkCollapsibleButton(Collapsing, QtWidgets.QAbstractButton):
    """A header with an arrow; its layout lies below."""

    slicerName = "ctk.ctkCollapsibleButton"
    contentsCollapsed = QtCore.Signal(bool)

    def __init__(self, *arguments: Any) -> None:
        text = arguments[0] if arguments and isinstance(arguments[0], str) else ""
        super().__init__(next((value for value in arguments if isinstance(value, QtWidgets.QWidget)), None))
        self._setUpCollapsing()
        self.setCheckable(True)
        self.setChecked(True)
        self.setText(text)
        self.setContentsMargins(0, self._headerHeight(), 0, 0)
        self.setSizePolicy(QtWidgets.QSizePolicy.Policy.Minimum, QtWidgets.QSizePolicy.Policy.Preferred)
        self.toggled.connect(self._onToggled)

    collapsedHeight = stored(int, "collapsedHeight", 14)
    flat = stored(bool, "flat", False)

    def _isCollapsed(self) -> bool:
        return not self.isChecked()

    collapsed = QtCore.Property(bool, _isCollapsed, lambda self, value: self.setChecked(not value))

    def collapse(self, collapsed: bool) -> None:
        self.setChecked(not collapsed)

    def sizeHint(self) -> QtCore.QSize:
        closed = QtCore.QSize(120, self._headerHeight() + self.collapsedHeight)
        return closed if self._isCollapsed() or not self.layout() else self.layout().totalSizeHint().expandedTo(closed)

    def minimumSizeHint(self) -> QtCore.QSize:
        return self.sizeHint() if self._isCollapsed() or not self.layout() else self.layout().totalMinimumSize()

    def hitButton(self, position: QtCore.QPoint) -> bool:
        return position.y() <= self._headerHeight()

    def paintEvent(self, event: QtGui.QPaintEvent) -> None:
        painter = QtWidgets.QStylePainter(self)
        option = QtWidgets.QStyleOptionButton()
        option.initFrom(self)
        option.rect = QtCore.QRect(0, 0, self.width(), self._headerHeight())
        painter.drawControl(QtWidgets.QStyle.ControlElement.CE_PushButtonBevel, option)
        arrow = (
            "\N{BLACK RIGHT-POINTING SMALL TRIANGLE}"
            if self._isCollapsed()
            else "\N{BLACK DOWN-POINTING SMALL TRIANGLE}"
        )
        painter.drawText(option.rect.adjusted(8, 0, -8, 0), 0x0080 | 0x0001, f"{arrow}  {self.text()}")

    def _headerHeight(self) -> int:
        return self.fontMetrics().height() + 8

    def _onToggled(self, checked: bool) -> None:
        self._collapseChildren(not checked)
        self.setMaximumHeight((1 << 24) - 1 if checked else self.sizeHint().height())
        self.updateGeometry()
        self.contentsCollapsed.emit(not checked)


@registered
class ctkCollapsibleGroupBox(Collapsing, QtWidgets.QGroupBox):
    """A group box whose check mark opens and closes it."""

    slicerName = "ctk.ctkCollapsibleGroupBox"

    def __init__(self, *arguments: Any) -> None:
        super().__init__(*arguments)
        self._setUpCollapsing()
        self.setCheckable(True)
        self.setChecked(True)
        self.toggled.connect(self.expand)

    collapsedHeight = stored(int, "collapsedHeight", 14)

    def _isCollapsed(self) -> bool:
        return not self.isChecked()

    collapsed = QtCore.Property(bool, _isCollapsed, lambda self, value: self.setChecked(not value))

    def expand(self, expanded: bool) -> None:
        self._collapseChildren(not expanded)
        self.setMaximumHeight((1 << 24) - 1 if expanded else self.fontMetrics().height() + 8)


@registered
class ctkExpandButton(QtWidgets.QToolButton):
    """A small tool button."""

    slicerName = "ctk.ctkExpandButton"
    mirrorOnExpand = stored(bool, "mirrorOnExpand", False)

    def __init__(self, parent: QtWidgets.QWidget | None = None) -> None:
        super().__init__(parent)
        self.setCheckable(True)
        self.setAutoRaise(True)
        self.setArrowType(QtCore.Qt.ArrowType.RightArrow)


@registered
class ctkMenuButton(QtWidgets.QPushButton):
    """A button with a menu at its side."""

    slicerName = "ctk.ctkMenuButton"


class ctkMessageBox(QtWidgets.QMessageBox):
    """A message box that can be told not to come again."""

    slicerName = "ctk.ctkMessageBox"
    dontShowAgain = stored(bool, "dontShowAgain", False)
    dontShowAgainVisible = stored(bool, "dontShowAgainVisible", False)
    dontShowAgainSettingsKey = stored(str, "dontShowAgainSettingsKey", "")


class _ElidingButton(QtWidgets.QPushButton):
    """A button that shortens a text for which it is too narrow."""

    def minimumSizeHint(self) -> QtCore.QSize:
        return QtCore.QSize(self.sizeHint().height() * 2, self.sizeHint().height())

    def paintEvent(self, event: QtGui.QPaintEvent) -> None:
        option = QtWidgets.QStyleOptionButton()
        self.initStyleOption(option)
        room = self.width() - self.iconSize().width() - 16
        option.text = self.fontMetrics().elidedText(self.text(), QtCore.Qt.TextElideMode.ElideMiddle, room)
        QtWidgets.QStylePainter(self).drawControl(QtWidgets.QStyle.ControlElement.CE_PushButton, option)


@registered
class ctkDirectoryButton(QtWidgets.QWidget):
    """A button that shows and chooses a folder."""

    slicerName = "ctk.ctkDirectoryButton"
    directoryChanged = QtCore.Signal(str)
    directorySelected = QtCore.Signal(str)
    caption = stored(str, "caption", "")

    def __init__(self, *arguments: Any) -> None:
        super().__init__(next((value for value in arguments if isinstance(value, QtWidgets.QWidget)), None))
        self._button = _ElidingButton()
        self._button.setIcon(self.style().standardIcon(QtWidgets.QStyle.StandardPixmap.SP_DirIcon))
        self._button.setSizePolicy(QtWidgets.QSizePolicy.Policy.Expanding, QtWidgets.QSizePolicy.Policy.Fixed)
        row(self, self._button)
        folder = next((value for value in arguments if isinstance(value, str)), ".")
        self._directory = QtCore.QDir(folder).absolutePath()
        self._button.setText(self._directory)
        self._button.clicked.connect(self.browse)

    text = passed(str, "_button", "text")

    def _setDirectory(self, folder: str) -> None:
        before, self._directory = self._directory, QtCore.QDir(folder).absolutePath()
        self._button.setText(self._directory)
        self.directorySelected.emit(self._directory)
        if self._directory != before:
            self.directoryChanged.emit(self._directory)

    directory = QtCore.Property(str, lambda self: self._directory, _setDirectory)

    def browse(self) -> None:
        chosen = dialogs.show("folder", self.caption, start=self._directory)
        if chosen:
            self._setDirectory(str(chosen))


@registered
class ctkPathLineEdit(QtWidgets.QWidget):
    """A line with a path, and a button that asks for one."""

    slicerName = "ctk.ctkPathLineEdit"
    currentPathChanged = QtCore.Signal(str)
    validInputChanged = QtCore.Signal(bool)
    filters = stored(int, "filters", 0)
    options = stored(int, "options", 0)
    label = stored(str, "label", "")
    nameFilters = stored("QStringList", "nameFilters", [])
    settingKey = stored(str, "settingKey", "")
    showBrowseButton = stored(bool, "showBrowseButton", True, changed="_update")
    showHistoryButton = stored(bool, "showHistoryButton", True)

    def __init__(self, parent: QtWidgets.QWidget | None = None) -> None:
        super().__init__(parent)
        self._combo = QtWidgets.QComboBox(editable=True)
        self._combo.setSizePolicy(QtWidgets.QSizePolicy.Policy.Expanding, QtWidgets.QSizePolicy.Policy.Fixed)
        self._browse = QtWidgets.QToolButton(text="...")
        row(self, self._combo, self._browse)
        self._combo.editTextChanged.connect(self.currentPathChanged)
        self._browse.clicked.connect(self.browse)

    currentPath = QtCore.Property(
        str, lambda self: self._combo.currentText(), lambda self, path: self._combo.setEditText(path)
    )

    def setCurrentPath(self, path: str) -> None:
        self._combo.setEditText(path)

    def comboBox(self) -> QtWidgets.QComboBox:
        return self._combo

    def browse(self) -> None:
        chosen = dialogs.show("file", self.label)
        if chosen:
            self._combo.setEditText(str(chosen))

    def addCurrentPathToHistory(self) -> None:
        """The stand-in keeps no history."""

    def _update(self) -> None:
        self._browse.setVisible(self.showBrowseButton)
