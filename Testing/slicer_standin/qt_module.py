"""The module `qt`."""

import sys
import types
from collections.abc import Callable
from typing import Any

from PySide6 import QtCore, QtGui, QtUiTools, QtWidgets

from Testing.slicer_standin import dialogs, signals
from Testing.slicer_standin.api import classApi
from Testing.slicer_standin.proxies import QtObject, overrides, proxyClass, unwrap, wrap
from Testing.slicer_standin.ui_loader import loadWidget
from Testing.slicer_standin.values import ByteArray

# Values and helpers that PythonQt has but that were not among the classes looked at.
NOT_LOOKED_AT = frozenset(
    {
        *("QAbstractItemView", "QApplication", "QBrush", "QByteArray", "QClipboard", "QColor", "QCoreApplication"),
        *("QCursor", "QDateTime", "QDesktopServices", "QDialog", "QDialogButtonBox", "QDir", "QEvent", "QEventLoop"),
        *("QFile", "QFileInfo", "QFont", "QFontDatabase", "QFontMetrics", "QHeaderView", "QIcon", "QInputDialog"),
        *("QItemSelectionModel", "QKeySequence", "QListWidgetItem", "QLocale", "QMainWindow", "QObject", "QPainter"),
        *(
            "QPalette",
            "QPixmap",
            "QPoint",
            "QProcessEnvironment",
            "QProgressDialog",
            "QRect",
            "QScrollBar",
            "QShortcut",
        ),
        *("QSignalBlocker", "QSize", "QSizePolicy", "QSpacerItem", "QSplitter", "QStandardItem", "QStandardPaths"),
        *("QStyle", "QSysInfo", "QTabBar", "QTableWidgetItem", "QTextCursor", "QUiLoader", "QUrl", "Qt"),
    }
)


class QtModule(types.ModuleType):
    """Gives classes by name; AttributeError for those that Slicer lacks."""

    def __getattr__(self, name: str) -> Any:
        if name == "QByteArray":
            return ByteArray
        if classApi(f"qt.{name}") is None and name not in NOT_LOOKED_AT:
            raise AttributeError(f"module 'qt' has no attribute '{name}'")
        found = proxyClass(qtClass(name), f"qt.{name}")
        setattr(self, name, found)
        return found


def qtClass(name: str) -> type:
    """The class of PySide6; NotImplementedError when it has none of that name."""
    for library in (QtWidgets, QtGui, QtCore, QtUiTools):
        if hasattr(library, name):
            return getattr(library, name)
    raise NotImplementedError(f"The stand-in does not emulate qt.{name}")


settingsFile = ""
"""The file of `qt.QSettings()` and `slicer.app.settings()`; set when the stand-in is installed."""


class QSettings(QtCore.QSettings):
    """Settings in a file of the running test. Values come back as strings, as in the next run of Slicer."""

    slicerName = "qt.QSettings"

    def __init__(self, *arguments: Any) -> None:
        if len(arguments) == 2:
            super().__init__(*arguments)
        else:
            super().__init__(settingsFile, QtCore.QSettings.Format.IniFormat)

    def value(self, key: str, default: Any = None) -> Any:
        """The value as text or texts; the default when there is none."""
        if not self.contains(key):
            return default
        stored = super().value(key)
        if isinstance(stored, list | tuple):
            return [_settingText(item) for item in stored]
        return _settingText(stored) if isinstance(stored, bool | int | float | str) else stored


def _settingText(value: Any) -> str:
    return str(value).lower() if isinstance(value, bool) else str(value)


def _singleShot(proxy: QtObject | None, milliseconds: int, *receiver: Any) -> None:
    slot = receiver[-1]
    QtCore.QTimer.singleShot(int(milliseconds), lambda: signals.guarded(slot))


def _messageBoxExec(proxy: QtObject) -> Any:
    box = proxy._valid()
    answer = dialogs.show("message", box.text(), windowTitle=box.windowTitle(), informativeText=box.informativeText())
    for button in box.buttons():
        if unwrap(answer) in (box.standardButton(button), button.text().replace("&", "")):
            button.click()
    return answer


def _message(kind: str) -> Callable[..., Any]:
    def show(proxy: QtObject | None, parent: Any, title: str, text: str, *rest: Any) -> Any:
        return dialogs.show("confirm" if kind == "question" else kind, text, windowTitle=title)

    return show


def _fileDialog(kind: str) -> Callable[..., Any]:
    def show(proxy: QtObject | None, parent: Any = None, caption: str = "", *rest: Any) -> Any:
        answer = dialogs.show(kind, caption, arguments=rest)
        if kind == "files":
            return tuple(str(path) for path in answer or ())
        return "" if answer is None else str(answer)

    return show


def _dialogExec(proxy: QtObject, *arguments: Any) -> Any:
    return dialogs.show("dialog", proxy._valid().windowTitle(), dialog=proxy)


def _menuExec(proxy: QtObject, *arguments: Any) -> Any:
    menu = proxy._valid()
    texts = [action.text() for action in menu.actions()]
    answer = dialogs.show("menu", "\n".join(texts))
    chosen = next((action for action in menu.actions() if answer is not None and action.text() == answer), None)
    if chosen is not None:
        chosen.trigger()
    return wrap(chosen)


def _openUrl(proxy: QtObject | None, url: QtObject) -> bool:
    dialogs.show("url", unwrap(url).toString())
    return True


def _inputText(proxy: QtObject | None, parent: Any, title: str, label: str, *rest: Any) -> str:
    return dialogs.show("text", label, windowTitle=title) or ""


def _loadUi(proxy: QtObject, device: QtObject, parent: QtObject | None = None) -> Any:
    return wrap(loadWidget(bytes(unwrap(device).readAll().data()), unwrap(parent)))


overrides.update(
    {
        ("QTimer", "singleShot"): _singleShot,
        ("QUiLoader", "load"): _loadUi,
        ("QDesktopServices", "openUrl"): _openUrl,
        ("QInputDialog", "getText"): _inputText,
        ("QFileDialog", "getOpenFileName"): _fileDialog("file"),
        ("QFileDialog", "getOpenFileNames"): _fileDialog("files"),
        ("QFileDialog", "getSaveFileName"): _fileDialog("save"),
        ("QFileDialog", "getExistingDirectory"): _fileDialog("folder"),
        ("QMessageBox", "question"): _message("question"),
        ("QMessageBox", "information"): _message("info"),
        ("QMessageBox", "warning"): _message("warning"),
        ("QMessageBox", "critical"): _message("error"),
    }
)
for _exec in ("exec", "exec_"):
    overrides["QMenu", _exec] = _menuExec
    for _name in ("QMessageBox", "ctkMessageBox"):
        overrides[_name, _exec] = _messageBoxExec
    for _name in ("QDialog", "QFileDialog", "QInputDialog", "QProgressDialog"):
        overrides[_name, _exec] = _dialogExec


def module() -> types.ModuleType:
    """A fresh module `qt`."""
    made = QtModule("qt", __doc__)
    made.QSettings = proxyClass(QSettings, "qt.QSettings")
    return made


def isLoaded() -> bool:
    """Whether the stand-in is in the place of `qt`."""
    return isinstance(sys.modules.get("qt"), QtModule)
