"""The models that a user can choose from: bundled ones, downloads, and own files. Works without a network."""

import errno
import hashlib
import json
import os
import shutil
import socket
import sys
import tempfile
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from typing import Any

import slicer.util

from AGTraining.bundle_file import read_document
from AGTraining.errors import AGTrainingError, BundleError, ConfigurationError

from .ExtensionResources import resourcePath
from .MemorySettings import MemorySettings
from .Model import Model, fileNameOfEntry, modelFromDocument, modelFromEntry
from .ModelConversion import CONVERSIONS

Download = Callable[[str, Path, str], bool]

_USER_FILES = "modelFiles"
_CACHE_FOLDER = "modelFolder"
# A firewall that swallows packets must not freeze Slicer for good.
_SECONDS_WITHOUT_ANSWER = 30
# What the folder of models is to blame for; other errors of a download are the network's.
_FOLDER_ERRORS = {errno.ENOSPC, errno.EDQUOT, errno.EFBIG, errno.EACCES, errno.EPERM, errno.EROFS, errno.EIO}


def downloadWithSlicer(url: str, path: Path, sha256: str) -> bool:
    """Downloads with `slicer.util.downloadFile`; False when that failed (the reason is in Slicer's log)."""
    before = socket.getdefaulttimeout()
    socket.setdefaulttimeout(_SECONDS_WITHOUT_ANSWER)
    try:
        return slicer.util.downloadFile(url, str(path), checksum=f"SHA256:{sha256}")
    finally:
        socket.setdefaulttimeout(before)


def defaultCacheFolder() -> Path:
    """Where downloaded models go unless the user chose a folder: it outlives an update of Slicer.

    A temporary folder for an account without a home.
    """
    if sys.platform == "win32":
        base = Path(os.environ.get("LOCALAPPDATA") or _home() / "AppData" / "Local")
    elif sys.platform == "darwin":
        base = _home() / "Library" / "Application Support"
    else:
        base = Path(os.environ.get("XDG_DATA_HOME") or _home() / ".local" / "share")
    return base / "AttentionSegmentation" / "Models"


def _home() -> Path:
    try:
        return Path.home()
    except RuntimeError:
        return Path(tempfile.gettempdir())


class ModelCatalogue:
    """The list of models, and what can be done with each.

    cataloguePath: a file as `Resources/Models/catalogue.json` (the default); bundled models lie beside it.
    settings: keeps the user's own files and folder (in Slicer QtSettings). download: (url, path, sha256) → whether it
        went well.
    """

    def __init__(
        self, cataloguePath: Path | None = None, settings: Any = None, download: Download | None = None
    ) -> None:
        self._cataloguePath = cataloguePath
        self._settings = MemorySettings() if settings is None else settings
        self._download = download or downloadWithSlicer

    @property
    def cacheFolder(self) -> Path:
        """The folder of downloaded models; it need not exist yet. None as a new value takes the default again."""
        chosen = self._settings.get(_CACHE_FOLDER)
        return Path(chosen) if chosen else defaultCacheFolder()

    @cacheFolder.setter
    def cacheFolder(self, folder: Path | str | None) -> None:
        self._settings.set(_CACHE_FOLDER, str(Path(folder).absolute()) if folder else None)

    def models(self, task: str | None = None) -> tuple[Model, ...]:
        """All usable models (of a task), those of the extension first. What cannot be used is left out: `problems`."""
        found = [model for model in self._read() if isinstance(model, Model)]
        return tuple(model for model in found if task in (None, model.task))

    def problems(self) -> tuple[str, ...]:
        """A sentence for each entry of the catalogue and each file of the user that cannot be used."""
        return tuple(str(problem) for problem in self._read() if not isinstance(problem, Model))

    def find(self, modelId: str) -> Model:
        """The model of that id. Raises BundleError when there is none (any more)."""
        for model in self.models():
            if model.id == modelId:
                return model
        name = modelId.removeprefix("user:")
        raise BundleError(f"The model '{name}' is not among the models; choose another one, or add its file again.")

    def isInstalled(self, model: Model) -> bool:
        """Whether the model's file is on this computer, complete; its contents are checked when it is used."""
        path = self.placeOf(model)
        try:
            if model.conversion is not None:
                return CONVERSIONS[model.conversion].isMadeOf(path, model.sha256)
            return path.is_file() and (model.source != "download" or path.stat().st_size == model.sizeBytes)
        except OSError:
            return False

    def placeOf(self, model: Model) -> Path:
        """Where the model's file is, or where it will be looked for: the place to put it by hand."""
        return self.cacheFolder / model.fileName if model.path is None else model.path

    def placeOfDownload(self, model: Model) -> Path:
        """Where a download that was made by hand is looked for: the model's file, or what it is made of."""
        if model.conversion is None:
            return self.placeOf(model)
        return self.placeOf(model).with_suffix(CONVERSIONS[model.conversion].suffix)

    def install(self, model: Model) -> Path:
        """The model's file, downloaded when it is not here yet; the download's SHA-256 is checked either way.

        Raises BundleError when it cannot be had; a failed download leaves nothing behind.
        """
        path = self.placeOf(model)
        if model.source != "download":
            if not self.isInstalled(model):
                raise BundleError(f"{path}: the file of the model '{model.title}' is gone; choose another model.")
            return path
        part = path.with_name(f".{path.name}.{os.getpid()}.part")
        try:
            if self._isRight(model, path):
                return path
            path.parent.mkdir(parents=True, exist_ok=True)
            self._checkFreeSpace(model, path.parent)
            if model.conversion is not None:
                self._convert(model, part, path)
            else:
                self._fetch(model, part)
                read_document(part)
                os.replace(part, path)
        except OSError as error:
            raise BundleError(
                f"The model '{model.title}' cannot be saved in {path.parent} ({error.strerror or error}); "
                "choose another folder for models."
            ) from error
        finally:
            _removeQuietly(part)
        return path

    def addFromFile(self, path: Path | str, task: str | None = None) -> Model:
        """Adds a user's own model and remembers where its file is; the file stays there.

        Raises BundleError when it is not a usable model (for that task).
        """
        path = Path(os.path.abspath(os.path.expanduser(path)))
        model = _userModel(path)
        if task not in (None, model.task):
            raise BundleError(f"{path}: a model for the task '{model.task}'; choose one for '{task}'.")
        for known in self.models():
            if known.path == path:
                return known
        self._rememberUserFiles([*self._userFiles(), str(path)])
        return model

    def remove(self, model: Model) -> None:
        """Deletes a downloaded model's file; forgets a user's model, whose file is not touched.

        Raises BundleError for a bundled model, and when the file cannot be deleted.
        """
        if model.source == "bundled":
            raise BundleError(f"The model '{model.title}' is part of the extension and cannot be removed alone.")
        if model.source == "user":
            self._rememberUserFiles([name for name in self._userFiles() if f"user:{name}" != model.id])
        else:
            self._delete([self.placeOf(model)])

    def clearCache(self) -> int:
        """Deletes the downloaded models, and nothing else in their folder. Returns the bytes freed.

        Raises BundleError when a file cannot be deleted; the others are gone then.
        """
        downloads = [model for model in self.models() if model.source == "download"]
        names = {path.name for model in downloads for path in (self.placeOf(model), self.placeOfDownload(model))}
        parts = [path for name in names for path in self.cacheFolder.glob(f".{name}.*.part")]
        return self._delete([*(self.cacheFolder / name for name in sorted(names)), *parts])

    def _read(self) -> Iterator[Model | AGTrainingError]:
        """Each model, or why it cannot be used: one broken entry leaves the others as they are."""
        known = set()
        try:
            path = self._cataloguePath or resourcePath("Models", "catalogue.json")
            readers = [partial(self._catalogueModel, path, entry) for entry in _readEntries(path)]
        except AGTrainingError as error:
            yield error
            readers = []
        for read in [*readers, *(partial(_userModel, Path(name)) for name in self._userFiles())]:
            try:
                model = read()
            except AGTrainingError as error:
                yield error
                continue
            if model.id in known:
                yield ConfigurationError(f"The model '{model.id}' is listed twice; the second one is left out.")
                continue
            known.add(model.id)
            yield model

    def _catalogueModel(self, cataloguePath: Path, entry: Any) -> Model:
        name = fileNameOfEntry(entry)
        if entry.get("source") == "bundled":
            path = cataloguePath.parent / name
            return modelFromEntry(entry, path, read_document(path))
        model = modelFromEntry(entry, None, None)
        return modelFromEntry(entry, self.placeOf(model), None) if self.isInstalled(model) else model

    def _isRight(self, model: Model, path: Path) -> bool:
        """Whether the file is the one that the catalogue means."""
        if model.conversion is not None:
            return CONVERSIONS[model.conversion].isMadeOf(path, model.sha256)
        return path.is_file() and _sha256(path) == model.sha256

    def _checkFreeSpace(self, model: Model, folder: Path) -> None:
        free = shutil.disk_usage(folder).free
        # What is converted lies there twice for a moment.
        needed = model.sizeBytes * (1 if model.conversion is None else 2)
        if free < needed:
            raise BundleError(
                f"The model '{model.title}' needs {needed / 1e6:.0f} MB, but the disk of {folder} has "
                f"{free / 1e6:.0f} MB left; make room or choose another folder for models."
            )

    def _convert(self, model: Model, part: Path, path: Path) -> None:
        """Makes the model's file of a download by hand, which is deleted then, or of one into `part`."""
        source = self.placeOfDownload(model)
        if not (source.is_file() and _sha256(source) == model.sha256):
            self._fetch(model, part)
            source = part
        CONVERSIONS[model.conversion].convert(source, path)
        _removeQuietly(source)

    def _fetch(self, model: Model, part: Path) -> None:
        """Downloads into `part`; raises BundleError unless the right file is there afterwards."""
        _removeQuietly(part)
        problem, arrived = None, False
        try:
            arrived = self._download(model.url, part, model.sha256)
        except Exception as error:
            if isinstance(error, OSError) and error.errno in _FOLDER_ERRORS:
                raise
            problem = error
        if part.is_file() and _sha256(part) == model.sha256:
            return
        if problem is not None:
            reason = " ".join(f"{type(problem).__name__}: {problem}".split())[:200]
        elif arrived or part.is_file():
            reason = "what arrived is not this model's file: cut off, altered, or replaced by a firewall's page"
        else:
            reason = "no answer; there may be no network, or a firewall may stand between"
        when = "" if model.conversion is None else " before that"
        raise BundleError(
            f"The model '{model.title}' could not be downloaded ({reason}); try again, or fetch {model.url} on another "
            f"computer and save it as {self.placeOfDownload(model)}{when}."
        ) from problem

    def _userFiles(self) -> list[str]:
        try:
            names = json.loads(self._settings.get(_USER_FILES) or "[]")
        except (TypeError, ValueError):
            names = []
        return [name for name in names if isinstance(name, str)] if isinstance(names, list) else []

    def _rememberUserFiles(self, names: list[str]) -> None:
        self._settings.set(_USER_FILES, json.dumps(names, ensure_ascii=False) if names else None)

    def _delete(self, paths: list[Path]) -> int:
        freed, failed = 0, []
        for path in paths:
            try:
                size = path.stat().st_size
                path.unlink()
                freed += size
            except FileNotFoundError:
                continue
            except OSError as error:
                failed.append(f"{path} ({error.strerror or error})")
        if failed:
            raise BundleError(f"{'; '.join(failed)}: cannot be deleted; close the programs that use it and try again.")
        return freed


def _readEntries(path: Path) -> list[Any]:
    try:
        catalogue = json.loads(path.read_text(encoding="utf-8"))
        entries = catalogue["models"]
        if not isinstance(entries, list):
            raise TypeError("'models' is no list")
    except OSError as error:
        raise ConfigurationError(f"{path}: the catalogue of models cannot be read ({error.strerror}).") from error
    except (ValueError, TypeError, KeyError, RecursionError) as error:
        raise ConfigurationError(f"{path}: the catalogue of models is not valid ({error}).") from error
    return entries


def _userModel(path: Path) -> Model:
    return modelFromDocument(path, read_document(path))


def _sha256(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def _removeQuietly(path: Path) -> None:
    try:
        path.unlink(missing_ok=True)
    except OSError:
        return
