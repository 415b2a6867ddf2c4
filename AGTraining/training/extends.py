"""Configurations as YAML: where each value stands, and files that say only what differs: `extends: other.yaml`."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml

from AGTraining.errors import ConfigurationError

EXTENDS = "extends"
Location = tuple[str | int, ...]


@dataclass(frozen=True)
class Document:
    """The keys and values of a configuration. places: file and line (from 1) of keys and list items, by their path."""

    values: dict[str, Any]
    places: dict[Location, tuple[Path, int]]

    def place(self, location: Sequence[str | int]) -> tuple[Path, int] | None:
        """File and line of a value, or of the nearest one around it; None when its first key is not in a file."""
        for end in range(len(location), 0, -1):
            found = self.places.get(tuple(location[:end]))
            if found is not None:
                return found
        return None


def read_document(path: Path, below: tuple[Path, ...] = ()) -> Document:
    """The keys and values of a YAML file, on top of those of the file that its key `extends` names (in its folder).

    A key of the file replaces that of the other as a whole: nothing is merged within a value, so that what a network's
    arguments or a list of sources are is read in one place. below: files that extend this one.
    Raises ConfigurationError with the file, and for YAML with the line, that is wrong.
    """
    try:
        document, lines = _read_yaml(path.read_text(encoding="utf-8"))
    except OSError as error:
        by = f" (extended by {below[-1]})" if below else ""
        raise ConfigurationError(f"{path}: cannot be read ({error.strerror}){by}.") from error
    except (yaml.YAMLError, UnicodeDecodeError) as error:
        raise ConfigurationError(f"{path}: not valid YAML: {' '.join(str(error).split())}") from error
    if not isinstance(document, dict):
        raise ConfigurationError(f"{path}: expected keys and values, such as 'output: runs/first'.")
    places = {location: (path, line) for location, line in lines.items()}
    if EXTENDS not in document:
        return Document(document, places)
    name = document.pop(EXTENDS)
    # Relative paths of both files start at one folder; those of a file elsewhere would silently mean something else.
    if not isinstance(name, str) or Path(name).name != name or "\\" in name:
        raise ConfigurationError(f"{path}: '{EXTENDS}': name one file in the same folder.")
    base = path.parent / name
    chain = (*below, path)
    if base.resolve() in (link.resolve() for link in chain):
        raise ConfigurationError(f"{path}: '{EXTENDS}': {name} extends this file in turn; remove one of the two.")
    extended = read_document(base, chain)
    kept = {location: place for location, place in extended.places.items() if location[0] not in document}
    return Document(extended.values | document, kept | places)


def _read_yaml(text: str) -> tuple[Any, dict[Location, int]]:
    """What the text says, and the line of each key and list item; raises YAMLError, also for a key that is repeated."""
    loader = yaml.SafeLoader(text)
    try:
        root = loader.get_single_node()
        if root is None:
            return None, {}
        lines: dict[Location, int] = {}
        _find_lines(root, (), lines, set())
        return loader.construct_document(root), lines
    finally:
        loader.dispose()


def _find_lines(node: yaml.Node, location: Location, lines: dict[Location, int], seen: set[int]) -> None:
    """Adds the lines of what is in a node; an aliased one only where it comes first, so that cycles end."""
    if id(node) in seen:
        return
    seen.add(id(node))
    if isinstance(node, yaml.SequenceNode):
        for number, item in enumerate(node.value):
            lines[*location, number] = item.start_mark.line + 1
            _find_lines(item, (*location, number), lines, seen)
    elif isinstance(node, yaml.MappingNode):
        keys = set()
        for key, value in node.value:
            if not isinstance(key, yaml.ScalarNode):
                continue
            if (key.tag, key.value) in keys:
                raise yaml.constructor.ConstructorError(None, None, f"'{key.value}' is given twice", key.start_mark)
            keys.add((key.tag, key.value))
            lines[*location, key.value] = key.start_mark.line + 1
            _find_lines(value, (*location, key.value), lines, seen)
