"""Configurations that say only what differs from another one: `extends: other.yaml`."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import yaml

from AGTraining.errors import ConfigurationError

EXTENDS = "extends"


def read_document(path: Path, below: tuple[Path, ...] = ()) -> dict[str, Any]:
    """The keys and values of a YAML file, on top of those of the file that its key `extends` names (in its folder).

    A key of the file replaces that of the other as a whole: nothing is merged within a value, so that what a network's
    arguments or a list of sources are is read in one place. below: files that extend this one.
    Raises ConfigurationError with the file, and for YAML with the line, that is wrong.
    """
    try:
        document = yaml.safe_load(path.read_text(encoding="utf-8"))
    except OSError as error:
        by = f" (extended by {below[-1]})" if below else ""
        raise ConfigurationError(f"{path}: cannot be read ({error.strerror}){by}.") from error
    except (yaml.YAMLError, UnicodeDecodeError) as error:
        raise ConfigurationError(f"{path}: not valid YAML: {' '.join(str(error).split())}") from error
    if not isinstance(document, dict):
        raise ConfigurationError(f"{path}: expected keys and values, such as 'output: runs/first'.")
    if EXTENDS not in document:
        return document
    name = document.pop(EXTENDS)
    if not isinstance(name, str):
        raise ConfigurationError(f"{path}: '{EXTENDS}': name one file in the same folder.")
    base = path.parent / name
    chain = (*below, path)
    if base.resolve() in (link.resolve() for link in chain):
        raise ConfigurationError(f"{path}: '{EXTENDS}': {name} extends this file in turn; remove one of the two.")
    return read_document(base, chain) | document
