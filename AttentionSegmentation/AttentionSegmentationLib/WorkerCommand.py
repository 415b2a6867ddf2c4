"""How the worker process is started: which Python, with which environment, in which folder."""

import os
import shutil
import sys
import tempfile
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import slicer

import AGTraining

from .SlicerHost import isSlicerApplication
from .WorkerError import WorkerError

# Of the variables that steer Python these are kept: Slicer's launcher sets the first ones, and without them its Python
# does not find its own library. Others (PYTHONINSPECT, PYTHONWARNINGS=error, PYTHONIOENCODING …) may stop the worker or
# garble what it says.
_KEPT = {
    "PYTHONHOME",
    "PYTHONPATH",
    "PYTHONNOUSERSITE",
    "PYTHONPLATLIBDIR",
    "PYTHONUSERBASE",
    "PYTHONDONTWRITEBYTECODE",
    "PYTHONPYCACHEPREFIX",
}
_ALWAYS = {
    "PYTHONUTF8": "1",
    "PYTHONUNBUFFERED": "1",
    # No module is taken from the folder that the process happens to run in.
    "PYTHONSAFEPATH": "1",
    # A crash in a library leaves its traceback in the log.
    "PYTHONFAULTHANDLER": "1",
}
# Threads that have nothing to do sleep instead of spinning, which would make Slicer itself slow. The user's own choice
# goes first.
_UNLESS_SET = {"OMP_WAIT_POLICY": "PASSIVE", "GOMP_SPINCOUNT": "0", "KMP_BLOCKTIME": "0"}


@dataclass(frozen=True)
class WorkerCommand:
    """What a transport starts."""

    program: str
    """Full path."""
    arguments: tuple[str, ...]
    environment: dict[str, str]
    """All variables of the process, not only the changed ones."""
    workingFolder: str


def workerCommand(idleSeconds: float = 300.0) -> WorkerCommand:
    """The command of `python -m AGTraining worker`: with Slicer's own Python in Slicer, else with this one.

    idleSeconds: the worker ends by itself after so long without a request.
    Raises WorkerError "start" when no Python is found.
    """
    try:
        folder = tempfile.gettempdir()
    except OSError:
        folder = os.path.expanduser("~")
    return WorkerCommand(
        program=_python(),
        arguments=("-m", "AGTraining", "worker", "--idle-seconds", f"{idleSeconds:g}"),
        environment=workerEnvironment(os.environ, Path(os.path.abspath(AGTraining.__file__)).parents[1]),
        workingFolder=folder,
    )


def _python() -> str:
    if not isSlicerApplication():
        if not sys.executable:
            raise WorkerError(
                "The Python that runs this cannot tell where its program lies; start it by its full path.", "start"
            )
        return sys.executable
    # sys.executable is empty where Slicer did not find it either. Where Slicer was not started by its launcher, its
    # folder of programs is not on the PATH.
    program = shutil.which("PythonSlicer") or shutil.which("PythonSlicer", path=_slicerProgramFolder())
    if program is None:
        raise WorkerError(
            "Slicer's Python (PythonSlicer) is neither on the PATH nor beside Slicer; start Slicer by its own "
            "launcher, or install it again.",
            "start",
        )
    return program


def _slicerProgramFolder() -> str:
    return os.path.join(slicer.app.slicerHome, "bin")


def workerEnvironment(inherited: Mapping[str, str], packageFolder: Path) -> dict[str, str]:
    """The environment of the worker, made of this process's.

    packageFolder: the folder that holds AGTraining; the worker finds it last, after all that Slicer's Python has.
    """
    environment = {
        name: value for name, value in inherited.items() if not name.upper().startswith("PYTHON") or name in _KEPT
    }
    # An empty or relative entry would be looked for in the worker's own folder.
    folders = [os.path.abspath(entry) for entry in inherited.get("PYTHONPATH", "").split(os.pathsep) if entry]
    # Where packages are installed Python looks by itself; named here it would hide parts of the standard library.
    if packageFolder.name not in ("site-packages", "dist-packages"):
        folders.append(str(packageFolder))
    environment.pop("PYTHONPATH", None)
    if folders:
        environment["PYTHONPATH"] = os.pathsep.join(dict.fromkeys(folders))
    return {**_UNLESS_SET, **environment, **_ALWAYS}
