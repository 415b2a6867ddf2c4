"""Values that cross between Python code written for PythonQt and PySide6."""

import enum
from typing import Any

from PySide6 import QtCore


class EnumValue(int):
    """An enumeration value as PythonQt shows it: an int, which still knows what PySide6 wants to be given."""

    qtValue: enum.Enum

    def __new__(cls, qtValue: enum.Enum) -> "EnumValue":
        value = super().__new__(cls, qtValue.value)
        value.qtValue = qtValue
        return value

    def _combined(self, other: Any, operation: str) -> Any:
        same = isinstance(other, EnumValue) and type(other.qtValue) is type(self.qtValue)
        if same and isinstance(self.qtValue, enum.Flag):
            return EnumValue(getattr(self.qtValue, operation)(other.qtValue))
        return getattr(int(self), operation)(int(other))

    def __or__(self, other: Any) -> Any:
        return self._combined(other, "__or__")

    def __and__(self, other: Any) -> Any:
        return self._combined(other, "__and__")

    def __xor__(self, other: Any) -> Any:
        return self._combined(other, "__xor__")

    def __invert__(self) -> Any:
        return EnumValue(~self.qtValue) if isinstance(self.qtValue, enum.Flag) else ~int(self)


class ByteArray:
    """QByteArray: `data()` gives bytes, and `bytes()` of it raises TypeError, as in PythonQt."""

    def __init__(self, content: bytes | QtCore.QByteArray = b"") -> None:
        self._content = content if isinstance(content, bytes) else content.data()

    def data(self) -> bytes:
        """The bytes."""
        return self._content

    def size(self) -> int:
        """The number of bytes."""
        return len(self._content)

    length = size

    def isEmpty(self) -> bool:
        """Whether there are none."""
        return not self._content


def enumValues(qtClass: type) -> dict[str, EnumValue]:
    """The values of all enumerations of a Qt class and its bases, which PythonQt has right in the class."""
    values = {}
    for base in reversed(qtClass.__mro__):
        for member in vars(base).values():
            if isinstance(member, type) and issubclass(member, enum.Enum):
                values.update({name: EnumValue(value) for name, value in member.__members__.items()})
    return values


def converted(value: Any, cppType: str) -> Any:
    """What a property of a C++ type becomes when it is set to this value: PythonQt is lenient with simple types.

    Raises AttributeError where PythonQt does.
    """
    if isinstance(value, EnumValue):
        return value.qtValue if cppType not in ("int", "double", "bool") else int(value)
    simple = {"QString": str, "int": int, "double": float, "bool": bool}.get(cppType)
    try:
        if simple is not None:
            return simple(value)
        if cppType == "QStringList":
            if isinstance(value, str):
                raise TypeError
            return [str(item) for item in value]
    except (TypeError, ValueError):
        raise AttributeError(
            f"Property of type '{cppType}' does not accept an object of type {type(value).__name__} ({value!r})"
        ) from None
    return value
