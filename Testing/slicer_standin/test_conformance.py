"""The stand-in offers nothing that Slicer 5.12.3 lacks."""

from __future__ import annotations

import inspect
import json
from pathlib import Path
from typing import Any

import pytest
import slicer
from PySide6 import QtCore

from Testing.slicer_standin import install, proxies, qt_module, util_functions
from Testing.slicer_standin.api import API_FILE, classApi, document, functions
from Testing.slicer_standin.code_check import ADDED
from Testing.slicer_standin.reduce_api import reduced

FULL_API = Path(__file__).resolve().parents[3] / "shared" / "slicer" / "api-5.12.3.json"
WIDGETS = install.standInClasses()
_PRIVATE = ("slicerName", "signalOverloads", "staticMetaObject")
QT_OF_SLICER = sorted(name for name in document()["classes"] if name.startswith("qt."))


@pytest.mark.skipif(not FULL_API.exists(), reason="the full dump of Slicer is not on this machine")
def test_names_are_those_of_the_running_slicer() -> None:
    full = json.loads(FULL_API.read_text(encoding="utf-8"))

    assert document() == reduced(full)
    for name, entry in full["classes"].items():
        api = classApi(name)
        if api is not None:
            assert set(entry["signals"]) == set(api.signals)
            assert entry["properties"] == api.properties
            assert {text for text in entry["members"] if not text.startswith("_")} <= api.names


def test_names_file_is_small() -> None:
    assert API_FILE.stat().st_size < 300_000


@pytest.mark.parametrize("name", sorted(set(WIDGETS) - {"ctk.ctkCheckBox"}))
def test_widget_has_no_property_signal_or_method_that_slicer_lacks(name: str) -> None:
    api, widgetClass = classApi(name), WIDGETS[name]
    assert api is not None
    own = [base for base in widgetClass.__mro__ if base.__module__.startswith("Testing.")]
    qtBase = next(base for base in widgetClass.__mro__ if base.__module__.startswith("PySide6"))
    offered = {key: value for base in own for key, value in vars(base).items() if not key.startswith("_")}
    # Not those that override Qt's own, nor what only the stand-in itself looks at.
    offered = {key: value for key, value in offered.items() if not callable(getattr(qtBase, key, None))}
    offered = {key: value for key, value in offered.items() if key not in _PRIVATE}

    assert set(offered) <= api.names
    for key, value in offered.items():
        assert isinstance(value, QtCore.Property) == (key in api.properties), key
        assert isinstance(value, QtCore.Signal) == bool(api.signaturesOf(key)), key


@pytest.mark.parametrize("name", [*QT_OF_SLICER, *sorted(set(WIDGETS) - {"ctk.ctkCheckBox"}), "slicer.app"])
def test_class_as_python_sees_it_has_only_names_of_slicer(slicerApplication: Any, name: str) -> None:
    import qt

    if name == "slicer.app":
        shown = type(slicerApplication)
    else:
        shown = proxies.proxyClass(WIDGETS[name], name) if name in WIDGETS else getattr(qt, name.removeprefix("qt."))
    names = {text for base in shown.__mro__ if base is not object for text in vars(base) if not text.startswith("_")}

    assert names
    assert names <= classApi(name).names | ADDED


def test_function_that_is_replaced_has_the_arguments_of_slicers() -> None:
    for name in ("infoDisplay", "warningDisplay", "errorDisplay", "confirmYesNoDisplay", "confirmOkCancelDisplay"):
        real, ours = (inspect.signature(found) for found in (getattr(slicer.util, name), util_functions.REPLACED[name]))
        assert list(real.parameters)[:3] == list(ours.parameters)[:3], name
    assert set(util_functions.REPLACED) <= functions("slicer.util")


@pytest.mark.parametrize(
    "name",
    ["slicer.ScriptedLoadableModule", "slicer.parameterNodeWrapper", "slicer.packaging", "slicer.i18n"],
)
def test_python_module_has_no_name_that_slicers_lacks(slicerApplication: Any, name: str) -> None:
    module = install.pythonModules()[name]
    names = {text for text in vars(module) if not text.startswith("_")}

    assert names
    assert names <= functions(name)


def test_scripted_classes_have_the_methods_of_slicers(slicerApplication: Any) -> None:
    module = install.pythonModules()["slicer.ScriptedLoadableModule"]
    for name, methods in document()["modules"]["slicer.ScriptedLoadableModule"].items():
        own = {text for text, value in vars(getattr(module, name)).items() if inspect.isfunction(value)}

        assert own == set(methods), name


def test_classes_that_were_not_looked_at_are_not_among_the_others() -> None:
    assert not [name for name in qt_module.NOT_LOOKED_AT if classApi(f"qt.{name}")]
    assert all(qt_module.qtClass(name) for name in qt_module.NOT_LOOKED_AT)


def test_nothing_is_left_behind(tmp_path: Path) -> None:
    import sys

    before = dict(vars(slicer)), dict(vars(slicer.util)), dict(vars(slicer.modules)), set(sys.modules), list(sys.path)
    with install.installed(tmp_path):
        import qt  # noqa: F401

        assert slicer.app is not None

    left = set(sys.modules) - before[3]
    assert (dict(vars(slicer)), dict(vars(slicer.util)), dict(vars(slicer.modules))) == before[:3]
    assert not hasattr(slicer, "app")
    assert not {"qt", "ctk", "slicer.packaging", "slicer.parameterNodeWrapper"} & left
    assert sys.path == before[4]
