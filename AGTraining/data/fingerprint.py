"""What is in a file, in short: to find again what was made from it."""

from __future__ import annotations

import hashlib
import json
import os
from pathlib import Path

CHUNK = 1 << 22
STORE = "fingerprints.json"


def content_hash(path: Path) -> str:
    """SHA-256 of a file's content, or of all files in a folder with their names below it. Raises OSError."""
    digest = hashlib.sha256()
    for part in files_of(path):
        if part != path:
            digest.update(part.relative_to(path).as_posix().encode() + b"\0")
        with part.open("rb") as file:
            while chunk := file.read(CHUNK):
                digest.update(chunk)
    return digest.hexdigest()


class KnownHashes:
    """Content hashes of files that have not changed since they were taken, kept in a folder.

    Files count as unchanged while their sizes and times of change are the same: a large data set on a slow disk is
    read once, not at every start.
    """

    def __init__(self, folder: Path) -> None:
        self._path = folder / STORE
        try:
            self._known: dict[str, list[str]] = dict(json.loads(self._path.read_text(encoding="utf-8")))
        except (OSError, ValueError, TypeError):
            self._known = {}

    def get(self, path: Path) -> str:
        """The content hash, taken now or known before. Raises OSError."""
        key, state = str(path.resolve()), _state(path)
        before, known = self._known.get(key, ("", ""))
        if before != state:
            known = content_hash(path)
            self._known[key] = [state, known]
        return known

    def save(self) -> None:
        """Keeps the hashes, with those of other runs that wrote meanwhile."""
        known = KnownHashes(self._path.parent)._known | self._known
        temporary = self._path.with_name(f".{STORE}.{os.getpid()}.part")
        temporary.write_text(json.dumps(known), encoding="utf-8")
        os.replace(temporary, self._path)


def files_of(path: Path) -> list[Path]:
    """The file itself, or all files in a folder and below it, sorted."""
    return [path] if path.is_file() else sorted(part for part in path.rglob("*") if part.is_file())


def _state(path: Path) -> str:
    """Sizes and times of change, in nanoseconds, as a short text."""
    stats = [(part.name, (stat := part.stat()).st_size, stat.st_mtime_ns) for part in files_of(path)]
    return hashlib.sha256(json.dumps(stats).encode()).hexdigest()
