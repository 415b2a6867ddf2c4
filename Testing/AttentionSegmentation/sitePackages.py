"""Folders of installed packages and wheels, made by hand: what pip would leave, and what it leaves when it fails."""

from __future__ import annotations

import zipfile
from pathlib import Path


def addPackage(site: Path, name: str, version: str, files: dict[str, str] | None = None) -> Path:
    """Installs a package of these files (by default a module of its name); returns its dist-info folder."""
    files = {f"{name}/__init__.py": ""} if files is None else files
    for path, text in files.items():
        (site / path).parent.mkdir(parents=True, exist_ok=True)
        (site / path).write_text(text)
    information = site / f"{name}-{version}.dist-info"
    information.mkdir(parents=True)
    (information / "METADATA").write_text(f"Metadata-Version: 2.1\nName: {name}\nVersion: {version}\n")
    rows = [f"{path},sha256=x,{len(text)}" for path, text in files.items()]
    (information / "RECORD").write_text("\n".join([*rows, f"{information.name}/RECORD,,"]))
    return information


def addTorch(site: Path, version: str = "2.7.1", cuda: str | None = None) -> Path:
    """As much of PyTorch as tells that it is there: cuda as in "12.6", None for a build for the CPU."""
    text = f"__version__ = '{version}'\ncuda: Optional[str] = {cuda!r}\nhip: Optional[str] = None\n"
    files = {"torch/__init__.py": "", "torch/version.py": text, "torch/_C.so": "code", "torch/lib/libc10.so": "c" * 99}
    return addPackage(site, "torch", version, files)


def writeWheel(folder: Path, name: str, version: str, requirements: tuple[str, ...] = ()) -> None:
    """A wheel that pip installs: an empty module with these requirements."""
    information = f"{name}-{version}.dist-info"
    metadata = f"Metadata-Version: 2.1\nName: {name}\nVersion: {version}\n"
    with zipfile.ZipFile(folder / f"{name}-{version}-py3-none-any.whl", "w") as wheel:
        wheel.writestr(f"{name}/__init__.py", "")
        wheel.writestr(f"{information}/METADATA", metadata + "".join(f"Requires-Dist: {r}\n" for r in requirements))
        wheel.writestr(f"{information}/WHEEL", "Wheel-Version: 1.0\nRoot-Is-Purelib: true\nTag: py3-none-any\n")
        wheel.writestr(f"{information}/RECORD", "")
