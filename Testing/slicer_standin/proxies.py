"""Python classes that show Qt objects the way PythonQt does: properties are attributes, and nothing else can be set."""

import functools
from collections.abc import Callable
from typing import Any

import shiboken6
from PySide6 import QtCore

from Testing.slicer_standin import signals
from Testing.slicer_standin.api import ClassApi, classApi
from Testing.slicer_standin.values import ByteArray, EnumValue, converted, enumValues

# Names that Python or PySide6 spell differently.
_QT6_NAMES = {"raise": "raise_", "exec_": "exec"}

overrides: dict[tuple[str, str], Callable[..., Any]] = {}
"""Class and method name to what is called in its place: with the proxy (None for the class itself), then arguments."""

_classes: dict[type, type["QtObject"]] = {}


class QtObject:
    """Base of all proxies. `_qt` is the PySide6 object behind it."""

    _qtClass: type = object
    _api: ClassApi
    _qt: Any

    def __init__(self, *arguments: Any, **keywords: Any) -> None:
        if keywords:
            raise TypeError(f"{type(self).__name__}() takes no keyword arguments")
        qtClass = self._qtClass if _isStock(type(self)) else _withOverriddenMethods(type(self))
        qtObject = qtClass(*(unwrap(value) for value in arguments))
        object.__setattr__(self, "_qt", qtObject)
        _remember(self, qtObject)

    def __setattr__(self, name: str, value: Any) -> None:
        descriptor = _lookUp(type(self), name)
        if isinstance(descriptor, _Property):
            descriptor.__set__(self, value)
        elif not _isStock(type(self)):
            object.__setattr__(self, name, value)
        else:
            raise AttributeError(f"'{type(self).__name__}' object has no attribute '{name}', and none can be added")

    def __getattr__(self, name: str) -> Any:
        raise AttributeError(f"{type(self).__name__} has no attribute named '{name}'")

    def __eq__(self, other: Any) -> bool:
        return isinstance(other, QtObject) and (self._qt is other._qt or self._qt == other._qt)

    def __hash__(self) -> int:
        return hash(self._qt)

    def __repr__(self) -> str:
        return f"{type(self).__name__} (stand-in {self._qt!r})"

    def _valid(self) -> Any:
        """The Qt object; ValueError when it was destroyed."""
        if isinstance(self._qt, shiboken6.Object) and not shiboken6.isValid(self._qt):
            raise ValueError(f"Trying to use a destroyed {type(self).__name__} object")
        return self._qt

    def _connections(self) -> list:
        return self._qt.__dict__.setdefault("_standInConnections", [])

    @staticmethod
    def _wrap(value: Any) -> Any:
        return wrap(value)


def _isStock(owner: type) -> bool:
    """Whether a class is one of Slicer's own, not a Python subclass."""
    return "_qtClass" in vars(owner)


def _lookUp(owner: type, name: str) -> Any:
    return next((vars(base)[name] for base in owner.__mro__ if name in vars(base)), None)


class _Property:
    """A Qt property: an attribute that is read and set, not called."""

    def __init__(self, name: str, cppType: str, readOnly: bool) -> None:
        self._name, self._cppType, self._readOnly = name, cppType, readOnly

    def __get__(self, proxy: QtObject | None, owner: type) -> Any:
        if proxy is None:
            # QTimer has a property and a function of one name.
            override = overrides.get((owner.__name__, self._name))
            return functools.partial(override, None) if override else self
        return wrap(self._checked(proxy).property(self._name))

    def __set__(self, proxy: QtObject, value: Any) -> None:
        qtObject = self._checked(proxy)
        if self._readOnly:
            raise AttributeError(f"Property '{self._name}' of {type(proxy).__name__} is not writable")
        if not qtObject.setProperty(self._name, converted(unwrap(value, enums=False), self._cppType)):
            raise AttributeError(
                f"Property '{self._name}' of type '{self._cppType}' does not accept an object of type "
                f"{type(value).__name__} ({value!r})"
            )

    def _checked(self, proxy: QtObject) -> Any:
        qtObject = proxy._valid()
        if qtObject.metaObject().indexOfProperty(self._name) < 0:
            raise NotImplementedError(f"The stand-in does not emulate {type(proxy).__name__}.{self._name}")
        return qtObject


class _Signal:
    def __init__(self, name: str) -> None:
        self._name = name

    def __get__(self, proxy: QtObject | None, owner: type) -> Any:
        return self if proxy is None else signals.BoundSignal(proxy, self._name)


class _Method:
    """A method, of the object or of the class."""

    def __init__(self, name: str, function: Any) -> None:
        self._name, self._function = name, function

    def __get__(self, proxy: QtObject | None, owner: type) -> Callable[..., Any]:
        className = next(base.__name__ for base in owner.__mro__ if _isStock(base))
        override = overrides.get((className, self._name)) or overrides.get(("*", self._name))
        name, function = self._name, self._function

        def call(*arguments: Any) -> Any:
            if override is not None:
                return override(proxy, *arguments)
            if function is None:
                raise NotImplementedError(f"The stand-in does not emulate {className}.{name}()")
            bound = function if proxy is None else _boundMethod(proxy, name)
            return wrap(bound(*(unwrap(value) for value in arguments)))

        call.__name__ = name
        return call


def _boundMethod(proxy: QtObject, name: str) -> Callable[..., Any]:
    """Qt's own method, also where a Python subclass overrides it."""
    qtObject = proxy._valid()
    owner = qtObject if _isStock(type(proxy)) else super(type(qtObject), qtObject)
    return getattr(owner, _QT6_NAMES.get(name, name))


def proxyClass(qtClass: type, fullName: str, aliases: dict[str, str] | None = None) -> type[QtObject]:
    """The class that code written for PythonQt sees, made for a PySide6 class at the first call.

    fullName: name in Slicer, such as `qt.QPushButton`. Its attributes are those that Slicer has; for a class that was
    not among those that were looked at (values and small helpers) they are those of PySide6.
    """
    if qtClass in _classes:
        return _classes[qtClass]
    api = classApi(fullName) or introspected(qtClass, fullName)
    enums = enumValues(qtClass)
    namespace: dict[str, Any] = {"_qtClass": qtClass, "_api": api, "__module__": fullName.split(".")[0]}
    for name in api.names | ({"exec_"} if "exec" in api.names else set()):
        namespace[name] = _attribute(name, qtClass, api, enums)
    if issubclass(qtClass, QtCore.QObject):
        namespace["name"] = _Property("objectName", "QString", readOnly=False)
    made = type(fullName.rpartition(".")[2], (QtObject,), namespace)
    _classes[qtClass] = made
    return made


def introspected(qtClass: type, fullName: str) -> ClassApi:
    """What PySide6 knows of a class that was not looked at in Slicer."""
    names = {name for name in dir(qtClass) if not name.startswith("_")} | set(enumValues(qtClass))
    properties, found = {}, []
    if issubclass(qtClass, QtCore.QObject):
        meta = qtClass.staticMetaObject
        for index in range(meta.propertyCount()):
            entry = meta.property(index)
            properties[entry.name()] = entry.typeName() + ("" if entry.isWritable() else " (read only)")
        methods = [meta.method(index) for index in range(meta.methodCount())]
        found = [
            entry.methodSignature().data().decode()
            for entry in methods
            if entry.methodType() == QtCore.QMetaMethod.MethodType.Signal
        ]
        names |= {"className", "delete"}
    return ClassApi(fullName, properties, tuple(found), frozenset(names))


def _attribute(name: str, qtClass: type, api: ClassApi, enums: dict[str, EnumValue]) -> Any:
    if name in api.properties:
        return _Property(name, api.propertyType(name), api.isReadOnly(name))
    if api.signaturesOf(name):
        return _Signal(name)
    if name in enums:
        return enums[name]
    found = getattr(qtClass, _QT6_NAMES.get(name, name), None)
    return _Method(name, found if callable(found) else None)


def wrap(value: Any) -> Any:
    """What PythonQt would hand to Python for a value of PySide6."""
    if isinstance(value, QtObject | EnumValue):
        return value
    if isinstance(value, QtCore.QByteArray):
        return ByteArray(value)
    if type(value).__module__.startswith("PySide6") or isinstance(value, shiboken6.Object):
        return EnumValue(value) if hasattr(type(value), "__members__") else _proxyOf(value)
    if isinstance(value, list | tuple):
        return tuple(wrap(item) for item in value)
    return value


def unwrap(value: Any, enums: bool = True) -> Any:
    """What PySide6 is given for a value of code written for PythonQt."""
    if isinstance(value, QtObject):
        return value._valid()
    if isinstance(value, EnumValue):
        return value.qtValue if enums else value
    if isinstance(value, ByteArray):
        return QtCore.QByteArray(value.data())
    if isinstance(value, type) and issubclass(value, QtObject):
        return value._qtClass
    if isinstance(value, list | tuple):
        return [unwrap(item, enums) for item in value]
    return value


def _proxyOf(qtObject: Any) -> QtObject:
    remembered = getattr(qtObject, "_standInProxy", None) if isinstance(qtObject, QtCore.QObject) else None
    if remembered is not None:
        return remembered
    known = next((_classes[base] for base in type(qtObject).__mro__ if base in _classes), None)
    base = next(base for base in type(qtObject).__mro__ if base.__module__.startswith(("PySide6", "Testing.")))
    if known is None or known._qtClass is not base:
        known = proxyClass(base, getattr(base, "slicerName", f"qt.{base.__name__}"))
    proxy = known.__new__(known)
    object.__setattr__(proxy, "_qt", qtObject)
    _remember(proxy, qtObject)
    return proxy


def _remember(proxy: QtObject, qtObject: Any) -> None:
    """One object keeps one proxy, so that `is` and attributes of Python subclasses hold."""
    if isinstance(qtObject, QtCore.QObject):
        qtObject._standInProxy = proxy


def _withOverriddenMethods(owner: type[QtObject]) -> type:
    """The PySide6 class for a Python subclass: Qt's calls of virtual methods reach the methods that it overrides."""
    stock = next(base for base in owner.__mro__ if _isStock(base))
    names = {name for base in owner.__mro__[: owner.__mro__.index(stock)] for name in vars(base)}

    def forward(name: str) -> Callable[..., Any]:
        return lambda self, *arguments: unwrap(getattr(self._standInProxy, name)(*(wrap(item) for item in arguments)))

    virtual = {name for name in names if not name.startswith("_") and callable(getattr(stock._qtClass, name, None))}
    return type(stock._qtClass)(owner.__name__, (stock._qtClass,), {name: forward(name) for name in virtual})


def _isKind(qtObject: QtCore.QObject, kind: Any) -> bool:
    """kind: a class of a module such as qt, or a class name."""
    if isinstance(kind, str):
        return any(base.__name__ == kind for base in type(qtObject).__mro__)
    return isinstance(qtObject, kind._qtClass)


def _commonMethods() -> dict[tuple[str, str], Callable[..., Any]]:
    def findChildren(proxy: QtObject, kind: Any, name: str = "") -> tuple:
        children = proxy._valid().findChildren(QtCore.QObject)
        found = [child for child in children if name in ("", child.objectName()) and _isKind(child, kind)]
        return wrap(found)

    def findChild(proxy: QtObject, kind: Any, name: str = "") -> Any:
        return next(iter(findChildren(proxy, kind, name)), None)

    return {
        ("*", "connect"): lambda proxy, signature, slot: signals.connect(proxy, signature, slot),
        ("*", "disconnect"): lambda proxy, signature, slot: signals.disconnect(proxy, signature, slot),
        ("*", "className"): lambda proxy: proxy._api.name.rpartition(".")[2],
        ("*", "delete"): lambda proxy: shiboken6.delete(proxy._valid()),
        ("*", "findChild"): findChild,
        ("*", "findChildren"): findChildren,
    }


overrides.update(_commonMethods())
