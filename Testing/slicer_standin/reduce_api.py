"""Makes api-5.12.3.json: the names that the stand-in is held to, out of the full dump of a running Slicer.

python Testing/slicer_standin/reduce_api.py ../shared/slicer/api-5.12.3.json
"""

import json
import sys
from pathlib import Path

# The logics are VTK classes that slicer-core has itself.
_LEFT_OUT = ("slicer.mrmlScene", "slicer.modules.")
# Classes that others are described by, the more special ones first.
_BASES = ("qt.QAbstractItemView", "qt.QTableView", "qt.QTextBrowser", "qt.QComboBox", "qt.QPushButton", "qt.QWidget")


def reduced(full: dict) -> dict:
    """The part of the full dump that is kept: names without argument lists, signals with them.

    A class that has all of another one says "like" and lists only what it has besides.
    """
    classes = {name: _entry(entry) for name, entry in sorted(full["classes"].items()) if _isKept(name, entry)}
    short = {name: _relative(name, entry, classes) for name, entry in classes.items()}
    modules = {name: entry for name, entry in sorted(full.items()) if isinstance(entry, dict) and name != "classes"}
    return {
        "slicer": full["slicer"],
        "qt": full["qt"],
        "classes": short,
        "modules": {name: _names(entry) for name, entry in modules.items()},
    }


def _isKept(name: str, entry: dict) -> bool:
    return not name.startswith(_LEFT_OUT) and "error" not in entry


def _entry(entry: dict) -> dict:
    """One class of the dump; what starts with an underscore is private to Qt."""
    signals = list(dict.fromkeys(entry["signals"]))
    members = {text.partition("(")[0] for text in entry["methods"]} | set(entry["members"])
    members -= {*entry["properties"], *(text.partition("(")[0] for text in signals)}
    members = {text for text in members if not text.startswith("_")}
    return {"properties": entry["properties"], "signals": signals, "members": sorted(members)}


def _relative(name: str, entry: dict, classes: dict) -> dict:
    for base in _BASES:
        other = classes.get(base)
        if base == name or other is None or not _contains(entry, other):
            continue
        return {
            "like": base,
            "properties": {key: text for key, text in entry["properties"].items() if key not in other["properties"]},
            "signals": [text for text in entry["signals"] if text not in other["signals"]],
            "members": [text for text in entry["members"] if text not in other["members"]],
        }
    return entry


def _contains(entry: dict, other: dict) -> bool:
    return (
        other["properties"].items() <= entry["properties"].items()
        and set(other["signals"]) <= set(entry["signals"])
        and set(other["members"]) <= set(entry["members"])
    )


def _names(module: dict) -> dict:
    """Functions as None, classes with the sorted names of their methods."""
    return {name: sorted(entry) if isinstance(entry, dict) else None for name, entry in sorted(module.items())}


def write(document: dict, path: Path) -> None:
    """Writes one class a line, so that a difference can be read."""
    parts = [f'"{key}": {json.dumps(document[key])}' for key in ("slicer", "qt")]
    for key in ("classes", "modules"):
        rows = [f" {json.dumps(name)}: {json.dumps(entry)}" for name, entry in document[key].items()]
        parts.append(f'"{key}": {{\n' + ",\n".join(rows) + "\n}")
    path.write_text("{\n" + ",\n".join(parts) + "\n}\n", encoding="utf-8")


if __name__ == "__main__":
    dump = json.loads(Path(sys.argv[1]).read_text(encoding="utf-8"))
    write(reduced(dump), Path(__file__).with_name("api-5.12.3.json"))
