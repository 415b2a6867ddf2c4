"""Functions of `slicer.util` and `slicer.packaging` that would open windows or install packages.

All others are Slicer's own: slicer-core brings its `slicer.util`, which runs on the stand-in of `qt`.
"""

import types
from collections.abc import Callable
from typing import Any

import slicer

from Testing.slicer_standin import dialogs
from Testing.slicer_standin.api import classApi


def _display(kind: str) -> Callable[..., Any]:
    def show(
        text: str, windowTitle: str | None = None, parent: Any = None, standardButtons: Any = None, **keywords: Any
    ) -> None:
        _show(kind, text, windowTitle, keywords)

    return show


def _confirm(text: str, windowTitle: str | None = None, parent: Any = None, **keywords: Any) -> bool:
    if slicer.app.testingEnabled():
        return True
    answer = _show("confirm", text, windowTitle, keywords)
    return True if answer is None else bool(answer)


def _messageBox(text: str, parent: Any = None, **keywords: Any) -> Any:
    return _show("message", text, keywords.pop("windowTitle", None), keywords)


def _show(kind: str, text: str, windowTitle: str | None, keywords: dict[str, Any]) -> Any:
    """Slicer sets the keywords on a ctkMessageBox and silently drops those that it does not have."""
    unknown = [name for name in keywords if name not in classApi("ctk.ctkMessageBox").properties]
    if unknown:
        raise AssertionError(f"ctkMessageBox has no property {unknown[0]}")
    if slicer.app.testingEnabled():
        return None
    return dialogs.show(kind, text, windowTitle=windowTitle, **keywords)


def _delayDisplay(message: str, autoCloseMsec: int = 1000, parent: Any = None, **keywords: Any) -> None:
    slicer.app.processEvents()


def _pip(verb: str) -> Callable[..., Any]:
    def run(requirements: Any, *arguments: Any, **keywords: Any) -> Any:
        listed = [requirements] if isinstance(requirements, str) else [str(item) for item in requirements]
        return dialogs.show("pip", f"{verb} {' '.join(listed)}", arguments=arguments, **keywords)

    return run


def _selectModule(module: Any) -> None:
    slicer.app._qt.modules.select(module if isinstance(module, str) else module.name)


REPLACED: dict[str, Callable[..., Any]] = {
    "infoDisplay": _display("info"),
    "warningDisplay": _display("warning"),
    "errorDisplay": _display("error"),
    "confirmOkCancelDisplay": _confirm,
    "confirmYesNoDisplay": _confirm,
    "confirmRetryCloseDisplay": _confirm,
    "messageBox": _messageBox,
    "delayDisplay": _delayDisplay,
    "pip_install": _pip("install"),
    "pip_uninstall": _pip("uninstall"),
    "selectModule": _selectModule,
}
"""Name in `slicer.util` to what stands there while the stand-in is installed."""


def packaging() -> types.ModuleType:
    """The module `slicer.packaging`; what would be installed is recorded as a dialog of kind "pip"."""
    made = types.ModuleType("slicer.packaging", packaging.__doc__)
    made.pip_install = _pip("install")
    made.pip_uninstall = _pip("uninstall")
    made.pip_ensure = _pip("ensure")
    made.pip_check = lambda requirements, _seen=None: False
    made.isPipInstallInProgress = lambda: False
    return made


def i18n() -> types.ModuleType:
    """The module `slicer.i18n`, in English."""
    made = types.ModuleType("slicer.i18n", i18n.__doc__)
    made.tr = lambda text: text
    made.translate = lambda context, text: text
    made.getContext = lambda sourceFile: sourceFile
    return made
