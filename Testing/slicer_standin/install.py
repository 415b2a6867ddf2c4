"""Puts the stand-in into the places of Slicer's modules, and takes it out again without a trace."""

import sys
import types
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import slicer

from Testing.slicer_standin import (
    application,
    ctk_containers,
    ctk_values,
    mrml_widgets,
    node_combo_box,
    parameter_nodes,
    qt_module,
    scripted_module,
    util_functions,
)
from Testing.slicer_standin.api import classApi
from Testing.slicer_standin.modules import qSlicerScriptedLoadableModule, qSlicerScriptedLoadableModuleWidget
from Testing.slicer_standin.proxies import proxyClass

_WIDGET_FILES = (ctk_containers, ctk_values, mrml_widgets, node_combo_box)


def standInClasses() -> dict[str, type]:
    """All stand-in widgets by their name in Slicer, such as `ctk.ctkSliderWidget`."""
    found = {}
    for file in _WIDGET_FILES:
        for value in vars(file).values():
            if isinstance(value, type) and "slicerName" in vars(value):
                found[value.slicerName] = value
    return found


class _CtkModule(types.ModuleType):
    def __getattr__(self, name: str) -> Any:
        if classApi(f"ctk.{name}") is None:
            raise AttributeError(f"module 'ctk' has no attribute '{name}'")
        raise NotImplementedError(f"The stand-in does not emulate ctk.{name}")


def pythonModules() -> dict[str, types.ModuleType]:
    """Fresh modules by the name under which they are imported."""
    ctk = _CtkModule("ctk", "The stand-in for ctk.")
    for name, widgetClass in standInClasses().items():
        if name.startswith("ctk."):
            setattr(ctk, name.removeprefix("ctk."), proxyClass(widgetClass, name))
    return {
        "qt": qt_module.module(),
        "ctk": ctk,
        "slicer.ScriptedLoadableModule": scripted_module.module(),
        "slicer.parameterNodeWrapper": parameter_nodes.module(),
        "slicer.packaging": util_functions.packaging(),
        "slicer.i18n": util_functions.i18n(),
    }


@contextmanager
def installed(folder: Path) -> Iterator[Any]:
    """`slicer.app`, with qt, ctk and the rest of Slicer's Qt side importable; settings and files go to the folder.

    Needs the scene of `AttentionSegmentationLib.SlicerHost`. Afterwards `slicer`, `slicer.util`, `slicer.modules`,
    `sys.modules` and `sys.path` are as before.
    """
    before = {
        "slicer": (slicer, dict(vars(slicer))),
        "util": (slicer.util, dict(vars(slicer.util))),
        "modules": (slicer.modules, dict(vars(slicer.modules))),
    }
    loaded, path = set(sys.modules), list(sys.path)
    modules = pythonModules()
    sys.modules.update(modules)
    for name, module in modules.items():
        if name.startswith("slicer."):
            setattr(slicer, name.removeprefix("slicer."), module)
    for name, widgetClass in standInClasses().items():
        if name.startswith("slicer."):
            setattr(slicer, name.removeprefix("slicer."), proxyClass(widgetClass, name))
    slicer.qSlicerScriptedLoadableModule = qSlicerScriptedLoadableModule
    slicer.qSlicerScriptedLoadableModuleWidget = proxyClass(
        qSlicerScriptedLoadableModuleWidget, qSlicerScriptedLoadableModuleWidget.slicerName
    )
    vars(slicer.util).update(util_functions.REPLACED)
    slicer.app = application.proxy()
    application.application().begin(folder)
    try:
        yield slicer.app
    finally:
        application.application().end()
        for owner, attributes in before.values():
            vars(owner).clear()
            vars(owner).update(attributes)
        for name in set(sys.modules) - loaded:
            if name in modules or _holdsStandIn(sys.modules[name]):
                del sys.modules[name]
        sys.path[:] = path


def _holdsStandIn(module: Any) -> bool:
    """Whether a module that was loaded meanwhile has imported qt or ctk, or is the file of a scripted module."""
    values = list(vars(module).values())
    return any(isinstance(value, qt_module.QtModule | _CtkModule) for value in values) or any(
        isinstance(value, type) and issubclass(value, _SCRIPTED_CLASSES) for value in values
    )


_SCRIPTED_CLASSES = tuple(getattr(scripted_module, name) for name in scripted_module.__all__)
