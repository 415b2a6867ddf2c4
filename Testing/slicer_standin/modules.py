"""Modules as the application keeps them: `slicer.modules.NAME`, the module manager, the panel of a scripted module."""

import importlib.util
import sys
from pathlib import Path
from typing import Any

import slicer
from PySide6 import QtCore, QtWidgets

from Testing.slicer_standin.mrml_widgets import qMRMLWidget
from Testing.slicer_standin.proxies import wrap


class qSlicerScriptedLoadableModuleWidget(qMRMLWidget):
    """Holds the panel of a scripted module."""

    slicerName = "slicer.qSlicerScriptedLoadableModuleWidget"

    def __init__(self, moduleName: str) -> None:
        super().__init__()
        QtWidgets.QVBoxLayout(self)
        self._moduleName = moduleName
        self._python: Any = None
        self._isEntered = False
        self.setObjectName(f"{moduleName}ModuleWidget")
        self.setMRMLScene(slicer.mrmlScene)

    isEntered = QtCore.Property(bool, lambda self: self._isEntered)
    moduleName = QtCore.Property(str, lambda self: self._moduleName)

    def self(self) -> Any:
        """The panel's Python object."""
        return self._python

    def reload(self) -> None:
        """Makes a new panel from the class that the Python module has now."""
        widgetName = f"{self._moduleName}Widget"
        self._python = getattr(sys.modules[self._moduleName], widgetName)(wrap(self))
        setattr(slicer.modules, widgetName, self._python)
        self._python.setup()

    def enter(self) -> None:
        self._isEntered = True
        if hasattr(self._python, "enter"):
            self._python.enter()

    def exit(self) -> None:
        self._isEntered = False
        if hasattr(self._python, "exit"):
            self._python.exit()


class qSlicerScriptedLoadableModule:
    """`slicer.modules.NAME`: what a module class writes its title and texts into. Nothing else can be set."""

    __slots__ = (
        *("name", "path", "title", "icon", "index", "hidden", "categories", "contributors", "dependencies"),
        *("acknowledgementText", "associatedNodeTypes", "extensions", "helpText", "isBuiltIn", "isInstalled"),
        *("widgetRepresentationCreationEnabled", "_python", "_widget"),
    )

    def __init__(self, path: Path) -> None:
        self.name = path.stem
        self.path = str(path)
        self.hidden = self.isBuiltIn = False
        self.isInstalled = True
        self._widget: qSlicerScriptedLoadableModuleWidget | None = None
        self._python: Any = None

    def widgetRepresentation(self) -> Any:
        """The panel, made at the first call."""
        if self._widget is None:
            self._widget = qSlicerScriptedLoadableModuleWidget(self.name)
            self._widget.reload()
        return wrap(self._widget)

    def logic(self) -> Any:
        """A logic of C++; scripted modules have theirs in the panel."""
        return None


class _ModuleManager(QtCore.QObject):
    """`slicer.app.moduleManager()`."""

    slicerName = "slicer.qSlicerModuleManager"
    moduleLoaded = QtCore.Signal(str)
    moduleAboutToBeUnloaded = QtCore.Signal(str)

    def __init__(self, modules: dict[str, qSlicerScriptedLoadableModule]) -> None:
        super().__init__()
        self._modules = modules

    def module(self, name: str) -> Any:
        return getattr(slicer.modules, name.lower(), None)

    def modulesNames(self) -> list[str]:
        return list(self._modules)


class Modules:
    """What the application does with modules from its start to its end."""

    def __init__(self) -> None:
        self._modules: dict[str, qSlicerScriptedLoadableModule] = {}
        self._selected: qSlicerScriptedLoadableModule | None = None
        self.manager = _ModuleManager(self._modules)

    def load(self, path: Path) -> qSlicerScriptedLoadableModule:
        """Loads a module file as Slicer does at its start; its folder can be imported from then."""
        name = path.stem
        if str(path.parent) not in sys.path:
            sys.path.insert(0, str(path.parent))
        specification = importlib.util.spec_from_file_location(name, path)
        python = importlib.util.module_from_spec(specification)
        sys.modules[name] = python
        specification.loader.exec_module(python)
        parent = qSlicerScriptedLoadableModule(path)
        parent._python = getattr(python, name)(parent)
        self._modules[name] = parent
        setattr(slicer.modules, name.lower(), parent)
        setattr(slicer.modules, f"{name}Instance", parent._python)
        self.manager.moduleLoaded.emit(name)
        return parent

    def select(self, name: str) -> None:
        """Leaves the current module's panel and enters another one ("" for none)."""
        if self._selected is not None:
            self._selected._widget.exit()
        self._selected = next((entry for key, entry in self._modules.items() if key.lower() == name.lower()), None)
        if self._selected is not None:
            self._selected.widgetRepresentation()
            self._selected._widget.enter()

    def unloadAll(self) -> None:
        """What happens to modules when Slicer closes: cleanup of every panel."""
        self._selected = None
        for name, parent in list(self._modules.items()):
            self.manager.moduleAboutToBeUnloaded.emit(name)
            if parent._widget is not None:
                parent._widget.deleteLater()
            del self._modules[name]
