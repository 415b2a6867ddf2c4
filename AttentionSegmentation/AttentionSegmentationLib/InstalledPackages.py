"""Which Python packages are installed, told from their files alone: nothing is imported into Slicer's process."""

import csv
import importlib
import re
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from importlib.machinery import PathFinder
from importlib.metadata import Distribution, distributions
from pathlib import Path
from typing import Literal

_LIBRARY = re.compile(r"\.(so(\.\d+)*|dll|dylib|pyd)$")
_BUILD = re.compile(r"""^(cuda|hip|xpu)\b[^=\n]*=\s*['"]([^'"\n]+)['"]""", re.MULTILINE)
# Files without which torch does not start, in any of its builds.
_TORCH_FILES = ("__init__.py", "version.py")


@dataclass(frozen=True)
class TorchState:
    """What is there of PyTorch.

    version: of an installed or broken one, when it is known. gpuBuild: the CUDA, HIP or XPU version that it was built
    for, None for a build that computes on the CPU (or on Apple's GPUs) only. reason: what is wrong with a broken one.
    folder: where it lies.
    """

    status: Literal["missing", "broken", "installed"]
    version: str | None = None
    gpuBuild: str | None = None
    reason: str = ""
    folder: Path | None = None


class InstalledPackages:
    """Looks in the folders of `sys.path`, or in those that are given. What was installed since is found."""

    def __init__(self, searchPath: Sequence[str] | None = None) -> None:
        self._searchPath = None if searchPath is None else [str(folder) for folder in searchPath]

    def version(self, name: str) -> str | None:
        """The version of an installed distribution; None when it is not installed."""
        for distribution in self._distributions(name):
            version = _version(distribution)
            if version:
                return version
        return None

    def hasModule(self, name: str) -> bool:
        """Whether a top-level module can be found; a folder without `__init__.py`, as pip may leave it, is none."""
        spec = self._spec(name)
        return spec is not None and spec.origin is not None

    def torch(self) -> TorchState:
        """Whether PyTorch is there, complete as far as its list of files tells, and which build it is."""
        spec, found = self._spec("torch"), self._distributions("torch")
        if spec is None and not found:
            return TorchState("missing")
        folder = None
        if spec is not None:
            folder = Path(spec.origin).parent if spec.origin else Path(next(iter(spec.submodule_search_locations)))
        version = next(filter(None, map(_version, found)), None)
        if folder is None or not all((folder / name).is_file() for name in _TORCH_FILES):
            return TorchState("broken", version, reason="its files are missing", folder=folder)
        if not version:
            return TorchState("broken", reason="its list of files is missing", folder=folder)
        # An update that was broken off leaves the old list beside the new one.
        if len({_version(distribution) for distribution in found if _holds(distribution, folder)}) > 1:
            return TorchState("broken", version, reason="two versions lie in one folder", folder=folder)
        damaged = _damagedFile(found[0])
        if damaged:
            return TorchState("broken", version, reason=f"{damaged} is missing or cut off", folder=folder)
        text = (folder / "version.py").read_text(encoding="utf-8", errors="replace")
        build = _BUILD.search(text)
        return TorchState("installed", version, build and f"{build[1]} {build[2]}", folder=folder)

    def _spec(self, name: str):
        importlib.invalidate_caches()
        if self._searchPath is not None:
            return PathFinder.find_spec(name, self._searchPath)
        # Not importlib.util.find_spec, which believes what is loaded already.
        specs = (finder.find_spec(name, None) for finder in sys.meta_path)
        return next(filter(None, specs), None)

    def _distributions(self, name: str) -> list[Distribution]:
        importlib.invalidate_caches()
        path = {} if self._searchPath is None else {"path": self._searchPath}
        return list(distributions(name=name, **path))


def meetsMinimum(version: str, minimum: str) -> bool:
    """Whether a version is at least another one, by the numbers of the release: 2.10.1+cu128 is more than 2.6."""
    found, needed = ([int(part) for part in re.findall(r"\d+", text.split("+")[0])] for text in (version, minimum))
    return found >= needed


def canonicalName(name: str) -> str:
    """A package's name as pip compares names: `typing-extensions` is `Typing_Extensions`."""
    return re.sub(r"[-_.]+", "-", name).lower()


def _version(distribution: Distribution) -> str | None:
    # A list of files that was cut off has no metadata.
    return (distribution.metadata or {}).get("Version")


def _holds(distribution: Distribution, folder: Path) -> bool:
    return Path(str(distribution.locate_file("torch"))) == folder


def _damagedFile(distribution: Distribution) -> str | None:
    """The first compiled library of a distribution that is not there in the size that its RECORD says."""
    for row in csv.reader((distribution.read_text("RECORD") or "").splitlines()):
        if row and _LIBRARY.search(row[0]):
            file = Path(str(distribution.locate_file(row[0])))
            size = row[2] if len(row) > 2 else ""
            if not file.is_file() or (size.isdigit() and file.stat().st_size != int(size)):
                return row[0]
    return None
