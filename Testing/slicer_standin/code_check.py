"""Reports names in the extension's sources and .ui files that Slicer does not have."""

import ast
import xml.etree.ElementTree as ElementTree
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from pathlib import Path

from Testing.slicer_standin.api import ClassApi, classApi, document, functions
from Testing.slicer_standin.proxies import introspected
from Testing.slicer_standin.qt_module import NOT_LOOKED_AT, qtClass
from Testing.slicer_standin.signals import normalized

# Attributes that PythonQt adds to those that it lists.
ADDED = {"name", "exec_"}
# What Qt's loader knows besides properties.
_ONLY_IN_UI_FILES = {"buddy"}
_UI_NAMES = ("ui", "_ui")
_PYTHON_MODULES = ("slicer.util", "slicer.packaging", "slicer.i18n", "slicer.parameterNodeWrapper")
# What calls give, where it matters.
_RETURNED = {
    "slicer.app.settings": "slicer.app.settings()",
    "slicer.app.userSettings": "qt.QSettings",
    "slicer.app.layoutManager": "slicer.app.layoutManager()",
    "slicer.app.clipboard": "qt.QClipboard",
    "slicer.util.loadUI": "slicer.qMRMLWidget",
}


def apiOf(name: str) -> ClassApi | None:
    """The class of a full name; for Qt classes that were not looked at what PySide6 has; None when unknown."""
    known = classApi(name)
    if known is None and name.startswith("qt.") and name[3:] in NOT_LOOKED_AT:
        return introspected(qtClass(name[3:]), name)
    return known


def fullName(className: str) -> str:
    """`ctk.ctkSliderWidget` for the class name that a .ui file gives."""
    prefix = {"Q": "qt.", "c": "ctk.", "q": "slicer."}
    return prefix.get(className[0], "") + className


@dataclass
class UiFile:
    """A .ui file: the class of each widget, and what is wrong with it."""

    widgets: dict[str, str] = field(default_factory=dict)
    problems: list[str] = field(default_factory=list)


def readUiFile(path: Path) -> UiFile:
    """Holds every property and connection of a .ui file to the classes of its widgets."""
    root = ElementTree.parse(path).getroot()
    read = UiFile()
    for element in root.iter("widget"):
        name, fullClass = element.get("name") or "", fullName(element.get("class") or "")
        read.widgets[name] = fullClass
        api = apiOf(fullClass)
        if api is None:
            read.problems.append(f"{path.name}: {name} is a {fullClass}, which Slicer lacks or nobody looked at")
            continue
        for item in element.findall("property"):
            if item.get("stdset") != "0" and item.get("name") not in {*api.properties, *_ONLY_IN_UI_FILES}:
                read.problems.append(f"{path.name}: {fullClass} {name} has no property {item.get('name')}")
    for element in root.iter("connection"):
        sender, signal, receiver, slot = (
            element.findtext(tag) or "" for tag in ("sender", "signal", "receiver", "slot")
        )
        source, target = (apiOf(read.widgets.get(name, "")) for name in (sender, receiver))
        if source is None or normalized(signal) not in source.signals:
            read.problems.append(f"{path.name}: {sender} has no signal {signal}")
        if target is None or slot.partition("(")[0] not in target.names:
            read.problems.append(f"{path.name}: {receiver} has no slot {slot}")
    return read


class _Checker(ast.NodeVisitor):
    """Walks one file. Types are class names, or `class of` and a class name for a class itself."""

    def __init__(self, path: Path, widgets: dict[str, str]) -> None:
        self.problems: list[str] = []
        self._path, self._widgets = path, widgets
        self._guarded: set[str] = set()
        self._scopes: list[dict[str, str | None]] = [{}]
        self._members: list[dict[str, str | None]] = [{}]

    def _report(self, node: ast.AST, text: str) -> None:
        self.problems.append(f"{self._path.name}:{node.lineno}: {text}")

    def check(self) -> list[str]:
        """What is wrong with the file. Names that it asks for with hasattr may be missing."""
        tree = ast.parse(self._path.read_text(encoding="utf-8"), str(self._path))
        calls = [node for node in ast.walk(tree) if isinstance(node, ast.Call) and len(node.args) == 2]
        asked = [node.args[1] for node in calls if ast.unparse(node.func) == "hasattr"]
        self._guarded = {node.value for node in asked if isinstance(node, ast.Constant)}
        self.visit(tree)
        return list(dict.fromkeys(self.problems))

    def visit_ClassDef(self, node: ast.ClassDef) -> None:
        self._members.append({})
        for inner in ast.walk(node):
            self._learn(inner)
        self.generic_visit(node)
        self._members.pop()

    def visit_FunctionDef(self, node: ast.FunctionDef) -> None:
        arguments = [*node.args.posonlyargs, *node.args.args, *node.args.kwonlyargs]
        self._scopes.append({item.arg: self._annotated(item.annotation) for item in arguments})
        for inner in ast.walk(node):
            self._learn(inner)
        self.generic_visit(node)
        self._scopes.pop()

    def _annotated(self, annotation: ast.expr | None) -> str | None:
        if isinstance(annotation, ast.Constant) and isinstance(annotation.value, str):
            annotation = ast.parse(annotation.value, mode="eval").body
        found = self._type(annotation) if annotation is not None else None
        return found.removeprefix("class of ") if found and found.startswith("class of ") else None

    def _learn(self, node: ast.AST) -> None:
        """Remembers what a plain assignment says of a variable; two types make it unknown."""
        if not isinstance(node, ast.Assign) or len(node.targets) != 1:
            return
        target, found = node.targets[0], self._type(node.value)
        if isinstance(target, ast.Name):
            place, name = self._scopes[-1], target.id
        elif isinstance(target, ast.Attribute) and isinstance(target.value, ast.Name) and target.value.id == "self":
            place, name = self._members[-1], target.attr
        else:
            return
        if isinstance(node.value, ast.Constant) and node.value.value is None:
            place.setdefault(name, None)
        else:
            place[name] = found if place.get(name) in (None, found) else ""

    def _type(self, node: ast.expr) -> str | None:
        if isinstance(node, ast.Name):
            return next((scope[node.id] for scope in reversed(self._scopes) if node.id in scope), None)
        if isinstance(node, ast.Call):
            called = self._type(node.func)
            if called and called.startswith("class of "):
                return called.removeprefix("class of ")
            return _RETURNED.get(ast.unparse(node.func))
        if not isinstance(node, ast.Attribute):
            return None
        text = ast.unparse(node)
        if text == "slicer.app" or (isinstance(node.value, ast.Name) and apiOf(text) is not None):
            return text if text == "slicer.app" else f"class of {text}"
        if self._isUi(node.value):
            return self._widgets.get(node.attr)
        if isinstance(node.value, ast.Name) and node.value.id == "self":
            return self._members[-1].get(node.attr)
        return None

    @staticmethod
    def _isUi(node: ast.expr) -> bool:
        return (isinstance(node, ast.Name) and node.id in _UI_NAMES) or (
            isinstance(node, ast.Attribute) and node.attr in _UI_NAMES
        )

    def visit_ImportFrom(self, node: ast.ImportFrom) -> None:
        if node.module in _PYTHON_MODULES or node.module == "slicer.ScriptedLoadableModule":
            for alias in node.names:
                if alias.name != "*" and alias.name not in functions(node.module):
                    self._report(node, f"{node.module} has no {alias.name}")

    def visit_Attribute(self, node: ast.Attribute) -> None:
        self.generic_visit(node)
        base, name = ast.unparse(node.value), node.attr
        if name in self._guarded:
            return
        if base in ("qt", "ctk") and apiOf(f"{base}.{name}") is None:
            self._report(node, f"{base} has no {name}, or nobody looked at it")
        elif base in _PYTHON_MODULES and name not in functions(base):
            self._report(node, f"{base} has no {name}")
        elif self._isUi(node.value) and self._widgets and name not in self._widgets:
            self._report(node, f"no .ui file has a widget {name}")
        owner = self._type(node.value)
        api = apiOf(owner.removeprefix("class of ")) if owner else None
        if api is None:
            return
        if name not in api.names | ADDED:
            self._report(node, f"{api.name} has no {name}")
        elif isinstance(node.ctx, ast.Store) and name != "name":
            if name not in api.properties:
                self._report(node, f"{api.name}.{name} is no property and cannot be set")
            elif api.isReadOnly(name):
                self._report(node, f"{api.name}.{name} cannot be set")

    def visit_Call(self, node: ast.Call) -> None:
        self.generic_visit(node)
        self._checkSignal(node)
        if not isinstance(node.func, ast.Attribute):
            return
        owner = self._type(node.func.value)
        api = apiOf(owner) if owner and not owner.startswith("class of ") else None
        if api is not None and node.func.attr in api.properties:
            self._report(node, f"{api.name}.{node.func.attr} is a property and cannot be called")

    def _checkSignal(self, node: ast.Call) -> None:
        """A call with a text that looks like a signature, such as connect("clicked(bool)", f)."""
        name = node.func.attr if isinstance(node.func, ast.Attribute) else getattr(node.func, "id", "")
        if name.lstrip("_") not in ("connect", "disconnect"):
            return
        texts = [(index, item.value) for index, item in enumerate(node.args) if isinstance(item, ast.Constant)]
        for index, text in texts:
            if not isinstance(text, str) or not text.endswith(")"):
                continue
            sender = node.args[index - 1] if index else getattr(node.func, "value", None)
            owner = self._type(sender) if sender is not None else None
            api = apiOf(owner) if owner and not owner.startswith("class of ") else None
            known = api.signals if api else allSignals()
            if normalized(text) not in known:
                self._report(node, f"{api.name} has no signal {text}" if api else f"no class has a signal {text}")


def allSignals() -> frozenset[str]:
    """Every signal of every class that was looked at."""
    return frozenset(text for name in document()["classes"] for text in classApi(name).signals) | {
        "moduleAboutToBeUnloaded(QString)",
        "moduleLoaded(QString)",
    }


def problems(sources: Iterable[Path], uiFiles: Iterable[Path]) -> Iterator[str]:
    """Sentences about names that Slicer lacks: file, line, class and name."""
    widgets: dict[str, str] = {}
    for path in uiFiles:
        read = readUiFile(path)
        widgets.update(read.widgets)
        yield from read.problems
    for path in sources:
        yield from _Checker(path, widgets).check()
