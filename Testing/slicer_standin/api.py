"""What Slicer 5.12.3 has: names of properties, methods and signals, read off the running program."""

import json
from dataclasses import dataclass
from functools import cache
from pathlib import Path

API_FILE = Path(__file__).with_name("api-5.12.3.json")


@dataclass(frozen=True)
class ClassApi:
    """One class or object as PythonQt shows it: everything includes what its base classes have."""

    name: str
    properties: dict[str, str]
    """Name to C++ type; the type ends in " (read only)" when the property cannot be set."""
    signals: tuple[str, ...]
    """Normalized signatures."""
    names: frozenset[str]
    """Every attribute: properties, methods, signals, enumeration values."""

    def isReadOnly(self, name: str) -> bool:
        """Whether a property cannot be set."""
        return self.properties[name].endswith("(read only)")

    def propertyType(self, name: str) -> str:
        """C++ type of a property."""
        return self.properties[name].removesuffix(" (read only)")

    def signaturesOf(self, name: str) -> tuple[str, ...]:
        """The overloads of a signal, in the order of the class; none when there is no such signal."""
        return tuple(signature for signature in self.signals if signature.partition("(")[0] == name)


@cache
def document() -> dict:
    """The whole file: "classes", and "modules" with the names in Slicer's Python modules."""
    return json.loads(API_FILE.read_text(encoding="utf-8"))


@cache
def classApi(name: str) -> ClassApi | None:
    """The class of a full name such as `qt.QPushButton`; None when it was not among those that were looked at."""
    entry = document()["classes"].get(name)
    if entry is None:
        return None
    base = classApi(entry["like"]) if "like" in entry else ClassApi("", {}, (), frozenset())
    properties = {**base.properties, **entry["properties"]}
    signals = (*base.signals, *entry["signals"])
    names = {*base.names, *properties, *entry["members"], *(text.partition("(")[0] for text in signals)}
    return ClassApi(name, properties, signals, frozenset(names))


def functions(module: str) -> frozenset[str]:
    """The public names of a Python module such as `slicer.util`."""
    return frozenset(document()["modules"][module])
