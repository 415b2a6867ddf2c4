"""Private folders for what travels between Slicer and the worker."""

import atexit
import ctypes
import os
import re
import shutil
import sys
import tempfile
import time
import weakref
from pathlib import Path
from types import TracebackType

from .WorkerError import WorkerError

_PREFIX = "AttentionSegmentation-"
_NAME = re.compile(re.escape(_PREFIX) + r"(\d+)-\w+")
_ADVICE = "free space on that disk, or set TMPDIR (TEMP on Windows) to a folder on another one and start again."
_DAY = 24 * 3600.0


class TemporaryFolder:
    """A new folder that only this user can read; removed by `remove`, at the end of a `with` block or of Python.

    neededBytes: what will be written to it.
    Raises WorkerError "disk" when it cannot be made, or has too little room.
    """

    def __init__(self, neededBytes: int = 0) -> None:
        parent = path = None
        try:
            parent = Path(tempfile.gettempdir())
            removeLeftovers(parent)
            _retry()
            path = Path(tempfile.mkdtemp(prefix=f"{_PREFIX}{os.getpid()}-", dir=parent))
            free = shutil.disk_usage(path).free
        except OSError as error:
            if path is not None:
                _remove(path)
            what = "made" if path is None else "used"
            raise WorkerError(
                f"{parent or 'Temporary files'}: no folder can be {what} there ({error.strerror or error}); {_ADVICE}",
                "disk",
            ) from error
        self.path = path
        self._end = weakref.finalize(self, _remove, path)
        if free < neededBytes:
            self.remove()
            raise WorkerError(
                f"{parent}: {neededBytes / 1e6:.0f} MB are needed there for a while, and {free / 1e6:.0f} MB are free; "
                f"{_ADVICE}",
                "disk",
            )

    def remove(self) -> None:
        """Deletes the folder and what is in it. What cannot be deleted yet goes with the next one, or at the end."""
        self._end()

    def __enter__(self) -> Path:
        return self.path

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.remove()


def temporaryFolder(neededBytes: int = 0) -> TemporaryFolder:
    """A private folder for one request: its path in a `with` block, or an object to keep and remove later."""
    return TemporaryFolder(neededBytes)


# On Windows a file cannot be deleted while a process that is just ending has it open.
_remaining: set[Path] = set()


def _remove(path: Path) -> None:
    shutil.rmtree(path, ignore_errors=True)
    (_remaining.add if os.path.exists(path) else _remaining.discard)(path)


def _retry() -> None:
    for path in tuple(_remaining):
        _remove(path)


atexit.register(_retry)


def removeLeftovers(parent: Path) -> None:
    """Deletes the folders in `parent` that are older than a day and whose process has ended."""
    try:
        entries = [entry for entry in os.scandir(parent) if _NAME.fullmatch(entry.name)]
    except OSError:
        return
    for entry in entries:
        try:
            isOld = time.time() - entry.stat(follow_symlinks=False).st_mtime > _DAY
            isFolder = entry.is_dir(follow_symlinks=False)
        except OSError:
            continue
        processId = int(_NAME.fullmatch(entry.name)[1])
        if isOld and isFolder and not _isAlive(processId):
            shutil.rmtree(entry.path, ignore_errors=True)


def _isAlive(processId: int) -> bool:
    """Whether a process of that number runs; also true where that cannot be told."""
    if sys.platform == "win32":
        # os.kill would send a signal there, whatever its number.
        synchronize = 0x00100000
        handle = ctypes.windll.kernel32.OpenProcess(synchronize, False, processId)
        if handle:
            ctypes.windll.kernel32.CloseHandle(handle)
        return bool(handle)
    try:
        os.kill(processId, 0)
    except ProcessLookupError:
        return False
    except (OSError, OverflowError):
        return True
    return True
