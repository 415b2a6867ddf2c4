"""The folder that holds the results of one case: all of them or none, and never in place of a user's own files."""

from __future__ import annotations

import os
import re
import shutil
import tempfile
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from AGTraining.errors import InputError


@dataclass(frozen=True)
class ResultNames:
    """How the files of a case's results are named, behind the name of the case.

    table: of the file that every result has. pattern: of them all. longest: the longest one.
    """

    table: str
    pattern: re.Pattern[str]
    longest: str


SEGMENTATION = ResultNames(
    "_volumes.csv",
    re.compile(
        r"\.seg\.nrrd|_labels\.nii\.gz|_volumes\.csv|_report\.json|_preview\.png"
        r"|_attention_level\d+(_gate\d+)?\.(nii\.gz|nrrd)"
    ),
    "_attention_level2_gate1.nii.gz",
)


def require_apart(inputs: Iterable[Path], out: Path, cases: Iterable[str]) -> None:
    """Raises InputError where the results of a case would go into a folder that is an input or holds one."""
    occupied = {_identity(place): path for path in inputs for place in (path.resolve(), *path.resolve().parents)}
    for case in cases:
        final = out / case
        if final.exists() and _identity(final) in occupied:
            raise InputError(
                f"{final}: the results would go into this folder, which belongs to the input "
                f"{occupied[_identity(final)]}; choose another output folder."
            )


def _identity(path: Path) -> tuple[int, int] | None:
    """What tells files apart whatever their names: links and upper case do not matter."""
    try:
        status = path.stat()
    except OSError:
        return None
    return status.st_dev, status.st_ino


def require_writable(out: Path, case: str = "case", names: ResultNames = SEGMENTATION) -> None:
    """Makes the output folder and writes into it, with the longest name that a result of the case can have.

    Raises InputError when that fails.
    """
    try:
        out.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(prefix=f".{case}-", dir=out) as folder:
            Path(folder, case + names.longest).write_bytes(b"probe")
    except OSError as error:
        raise InputError(
            f"{out}: cannot hold the results ({error.strerror}); choose another folder, or a shorter name for the scan "
            "where that is too long."
        ) from error


def require_free(final: Path, overwrite: bool, names: ResultNames = SEGMENTATION) -> None:
    """Raises InputError when results would replace something and must not."""
    if final.is_symlink() or (final.exists() and not final.is_dir()):
        raise InputError(f"{final}: a file of this name is in the way of the results; choose another output folder.")
    present = {part.name for part in final.iterdir()} if final.exists() else set()
    if present and not overwrite:
        raise InputError(f"{final}: results are already there; choose another folder, or --overwrite.")
    # Every program of ours writes a table; a label map without one is somebody's own.
    foreign = sorted(name for name in present if _is_result(name, final.name, names))
    if foreign and final.name + names.table not in present:
        raise InputError(
            f"{final}: {foreign[0]} is there without {final.name}{names.table}, so it may not come from here and is "
            "not replaced; choose another output folder."
        )


@contextmanager
def case_folder(out: Path, case: str, overwrite: bool, names: ResultNames = SEGMENTATION) -> Iterator[Path]:
    """A temporary folder that becomes `out/case` when all went well, and is removed when not.

    With `overwrite`, what an earlier run of any of our programs left for this case is removed, foreign files kept.
    Raises InputError when the folder exists and `overwrite` is off, or when it or a file in it cannot be written.
    """
    final = out / case
    require_free(final, overwrite, names)
    require_writable(out, case, names)
    try:
        temporary = Path(tempfile.mkdtemp(prefix=f".{case}-", dir=out))
        try:
            yield temporary
            # mkdtemp makes folders for its owner alone; results get the rights that the user's umask gives.
            mask = os.umask(0)
            os.umask(mask)
            temporary.chmod(0o777 & ~mask)
            if overwrite and final.exists():
                _replace(final, temporary, names)
                return
            if final.exists():
                final.rmdir()
            temporary.rename(final)
        finally:
            shutil.rmtree(temporary, ignore_errors=True)
    except OSError as error:
        # Another run may have written the same case meanwhile.
        require_free(final, overwrite, names)
        raise InputError(
            f"{final}: the results cannot be written ({error.strerror or error}); free space on the disk, or choose "
            "another folder."
        ) from error


def _replace(final: Path, temporary: Path, names: ResultNames) -> None:
    """Puts the new folder in place of the old one, with the old one's foreign files.

    The old folder is first renamed, in plain sight: after a kill at any moment one of the two is whole. A foreign file
    whose name is taken by a new one is kept beside it under a longer name.
    """
    aside = final.with_name(temporary.name.removeprefix(".") + ".replaced")
    final.rename(aside)
    try:
        temporary.rename(final)
    except OSError:
        aside.rename(final)
        raise
    try:
        for part in list(aside.iterdir()):
            if _is_result(part.name, final.name, names):
                part.unlink()
            elif (final / part.name).exists():
                part.rename(final / f"{part.name}.{aside.name}")
            else:
                part.rename(final / part.name)
        aside.rmdir()
    except OSError as error:
        raise InputError(
            f"{final}: the new results are there, but {aside} still holds files of the old folder that could not be "
            f"moved ({error.strerror or error}); move or delete them by hand."
        ) from error


def _is_result(name: str, case: str, names: ResultNames) -> bool:
    """Whether a file of this name is a result for the case. A scan is never one, not even one resampled upright."""
    return name.startswith(case) and names.pattern.fullmatch(name.removeprefix(case)) is not None
