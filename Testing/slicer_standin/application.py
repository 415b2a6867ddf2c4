"""`slicer.app`."""

import ctypes
import importlib.util
import sys
import tempfile
from pathlib import Path
from typing import Any

import slicer
from PySide6 import QtCore, QtGui, QtWidgets

from Testing.slicer_standin import qt_module
from Testing.slicer_standin.modules import Modules
from Testing.slicer_standin.proxies import proxyClass, wrap
from Testing.slicer_standin.widget_parts import stored

# PySide6 6.12 counts on a None that cannot be deleted, as since Python 3.12: before, each of its calls that returns
# nothing takes one reference to None away, and Python aborts when the last one is gone.
if sys.version_info < (3, 12):
    ctypes.c_ssize_t.from_address(id(None)).value += 1 << 40


class Application(QtWidgets.QApplication):
    """The one Qt application of the test process, in the guise of Slicer's."""

    slicerName = "slicer.app"
    mrmlSceneChanged = QtCore.Signal(object)
    startupCompleted = QtCore.Signal()

    slicerHome = stored(str, "slicerHome", "")
    temporaryPath = stored(str, "temporaryPath", tempfile.gettempdir())
    cachePath = stored(str, "cachePath", "")
    extensionsInstallPath = stored(str, "extensionsInstallPath", "")
    slicerUserSettingsFilePath = QtCore.Property(str, lambda self: qt_module.settingsFile)
    majorVersion = stored(int, "majorVersion", 5)
    minorVersion = stored(int, "minorVersion", 12)
    revision = stored(str, "revision", "34000")
    isInstalled = stored(bool, "isInstalled", True)
    os = stored(str, "os", "linux")
    arch = stored(str, "arch", "amd64")
    platform = stored(str, "platform", "linux-amd64")
    documentationBaseUrl = stored(str, "documentationBaseUrl", "https://slicer.readthedocs.io/")

    def __init__(self) -> None:
        super().__init__(["Slicer"])
        self.setApplicationName("Slicer")
        self.setApplicationVersion("5.12.3")
        self.setQuitOnLastWindowClosed(False)
        self.setStyle("Fusion")
        _useBundledFont()
        self.isTesting = False
        self.modules = Modules()

    def begin(self, folder: Path) -> None:
        """A fresh application for one test, with settings and files in a folder."""
        self.setProperty("temporaryPath", str(folder))
        self.setProperty("cachePath", str(folder / "cache"))
        self.setProperty("slicerHome", str(folder / "home"))
        qt_module.settingsFile = str(folder / "Slicer.ini")
        self.isTesting = False
        self._settings: Any = qt_module.QSettings()
        self.modules = Modules()
        self.clipboard().clear()

    def end(self) -> None:
        """Closes what a test left open."""
        self.modules.unloadAll()
        for connection in self.__dict__.pop("_standInConnections", []):
            QtCore.QObject.disconnect(connection.handle)
        self._mainWindow = None
        for widget in self.topLevelWidgets():
            widget.close()
            widget.deleteLater()
        self.sendPostedEvents(None, QtCore.QEvent.Type.DeferredDelete)
        self.processEvents()

    def showMainWindow(self) -> None:
        """Makes `slicer.util.mainWindow()` give a window, as where a user sits in front of Slicer."""
        window = QtWidgets.QMainWindow()
        window.setObjectName("qSlicerMainWindow")
        self._mainWindow = window

    def testingEnabled(self) -> bool:
        return self.isTesting

    def mrmlScene(self) -> Any:
        return slicer.mrmlScene

    def applicationLogic(self) -> Any:
        return slicer.modules.applicationLogic

    def moduleLogic(self, name: str) -> Any:
        return getattr(slicer.modules, name.lower()).logic()

    def moduleManager(self) -> Any:
        return self.modules.manager

    def layoutManager(self) -> Any:
        """None, as with --no-main-window."""

    def settings(self) -> Any:
        return self._settings

    userSettings = settings
    revisionUserSettings = settings

    def commandOptions(self) -> Any:
        return CommandOptions()

    def moduleDocumentationUrl(self, name: str) -> str:
        return f"{self.property('documentationBaseUrl')}{name}"

    def translate(self, context: str, text: str) -> str:
        return text

    def startupEnvironment(self) -> QtCore.QProcessEnvironment:
        return QtCore.QProcessEnvironment.systemEnvironment()

    def setRenderPaused(self, paused: bool) -> None:
        """The stand-in renders nothing."""

    def pauseRender(self) -> None:
        """The stand-in renders nothing."""

    def resumeRender(self) -> None:
        """The stand-in renders nothing."""


def _useBundledFont() -> None:
    """Sets the font that matplotlib brings: screenshots look alike everywhere, also where no font is installed."""
    found = importlib.util.find_spec("matplotlib")
    if found is not None:
        font = Path(found.origin).parent / "mpl-data" / "fonts" / "ttf" / "DejaVuSans.ttf"
        families = QtGui.QFontDatabase.applicationFontFamilies(QtGui.QFontDatabase.addApplicationFont(str(font)))
        QtWidgets.QApplication.setFont(QtGui.QFont(families[0], 9))


class CommandOptions(QtCore.QObject):
    """The command line that Slicer was started with."""

    slicerName = "slicer.qSlicerCommandOptions"
    noMainWindow = stored(bool, "noMainWindow", True)
    disableMessageHandlers = stored(bool, "disableMessageHandlers", False)


def application() -> Application:
    """The application of this process; RuntimeError when another Qt application is running."""
    running = QtWidgets.QApplication.instance() or Application()
    if not isinstance(running, Application):
        raise RuntimeError("Another Qt application is running in this process")
    return running


def proxy() -> Any:
    """`slicer.app`."""
    proxyClass(Application, Application.slicerName)
    return wrap(application())
