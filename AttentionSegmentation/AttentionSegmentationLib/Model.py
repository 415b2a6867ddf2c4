"""A model that can be chosen, and how its facts are read from the catalogue and from model files."""

import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from AGTraining.bundle_file import TASKS, complete_class
from AGTraining.errors import BundleError, ConfigurationError
from AGTraining.labels import OutputLabel, output_labels

from .ModelConversion import CONVERSIONS

_ATTENTION_NETWORKS = ("AttentionUNet", "AGSononet")
# As in `catalogue.schema.json`.
_ID = re.compile(r"[a-z0-9]+(-[a-z0-9]+)*")
_FILE_NAME = re.compile(r"[A-Za-z0-9._-]+\.safetensors")
_URL = re.compile(r"https://\S{1,1992}")
# Windows opens a device instead of a file of such a name, whatever follows the first dot.
_WINDOWS_DEVICES = {"con", "prn", "aux", "nul", *(f"{port}{n}" for port in ("com", "lpt") for n in range(10))}


@dataclass(frozen=True)
class Model:
    """What a user reads about a model before choosing it.

    source: `bundled` came with the extension, `download` is fetched on demand, `user` is a file that the user added.
    path: the file, None as long as it is not on this computer. url, sha256, sizeBytes: of a download.
    performance: what was measured and on what data, as text. labels: the values of its label maps; none for planes.
    conversion: which of `CONVERSIONS` makes the model file of the download; None where it is one.
    """

    id: str
    title: str
    task: str
    source: Literal["bundled", "download", "user"]
    path: Path | None
    url: str | None
    sha256: str | None
    sizeBytes: int
    licence: str
    trainingData: str
    performance: str
    labels: tuple[OutputLabel, ...]
    hasAttention: bool
    description: str
    fileName: str
    conversion: str | None = None


def modelFromDocument(path: Path, document: Mapping[str, Any]) -> Model:
    """A user's own model, from the description inside its file (see `AGTraining.bundle_file.read_document`)."""
    training = document["provenance"].get("training")
    return Model(
        id=f"user:{path}",
        title=document["name"] or path.stem,
        task=document["task"],
        source="user",
        path=path,
        url=None,
        sha256=None,
        sizeBytes=_size(path),
        licence=document["licence"],
        trainingData=training if isinstance(training, str) and training else "not stated in the model file",
        performance="; ".join(_measurements(document["metrics"])) or "not stated in the model file",
        labels=_labels(document["task"], document["classes"]),
        hasAttention=document["network"] in _ATTENTION_NETWORKS,
        description=f"Added from {path}.",
        fileName=path.name,
    )


def modelFromEntry(entry: Any, path: Path | None, document: Mapping[str, Any] | None) -> Model:
    """A model of the catalogue (see `catalogue.schema.json`).

    path: its file when it is on this computer. document: the description inside the file; bundled models have both.
    Raises ConfigurationError with the entry and field that is wrong.
    """
    read = _Entry(entry)
    if read.choice("source", ("bundled", "download")) == "bundled":
        url, sha256, size, network = None, None, _size(path), document["network"]
        classes, hasAttention = document["classes"], network in _ATTENTION_NETWORKS
    else:
        url = read.matching("url", _URL, "an address that begins with https://")
        sha256, size = read.text("sha256").lower(), read.number("sizeBytes")
        classes, hasAttention = entry.get("classes", []), entry.get("hasAttention") is True
        if len(sha256) != 64 or not set(sha256) <= set("0123456789abcdef"):
            read.fail("sha256", "64 hexadecimal digits")
    task = read.choice("task", TASKS)
    if document is not None and document["task"] != task:
        read.fail("task", f"'{document['task']}', as its file says")
    try:
        labels = _labels(task, classes)
    except (TypeError, ValueError):
        read.fail("classes", "a list of organs with name, type_code, type_meaning and color")
    return Model(
        id=read.matching("id", _ID, "lower-case letters and digits, in groups with a hyphen between"),
        title=read.text("title"),
        task=task,
        source=entry["source"],
        path=path,
        url=url,
        sha256=sha256,
        sizeBytes=size,
        licence=read.text("licence"),
        trainingData=read.text("trainingData"),
        performance=read.text("performance"),
        labels=labels,
        hasAttention=hasAttention,
        description=read.text("description"),
        fileName=fileNameOfEntry(entry),
        conversion=read.choice("convert", tuple(CONVERSIONS)) if "convert" in entry else None,
    )


def fileNameOfEntry(entry: Any) -> str:
    """The file name of a catalogue's entry. Raises ConfigurationError for anything but a plain name."""
    read = _Entry(entry)
    expected = "a file name without folders that ends in .safetensors"
    # Neither drives nor backslashes, on every system: the name is joined to the user's folder.
    name = read.matching("file", _FILE_NAME, expected)
    if name.split(".")[0].lower() in _WINDOWS_DEVICES:
        read.fail("file", f"{expected}, and no name of a device in Windows")
    return name


def _labels(task: str, classes: Any) -> tuple[OutputLabel, ...]:
    """The values of a label map; the classes of planes have none. Raises TypeError or ValueError for wrong classes."""
    return () if task == "planes" else output_labels([complete_class(organ) for organ in classes])


def _size(path: Path) -> int:
    try:
        return path.stat().st_size
    except OSError as error:
        raise BundleError(f"{path}: the model file cannot be read ({error.strerror or error}).") from error


class _Entry:
    """Reads fields of a catalogue's entry; what is wrong is named with the entry and the field."""

    def __init__(self, entry: Any) -> None:
        if not isinstance(entry, dict):
            raise ConfigurationError(
                "The catalogue of models has an entry that is no JSON object; correct or remove it."
            )
        self._entry = entry

    def text(self, field: str) -> str:
        value = self._entry.get(field)
        if not isinstance(value, str) or not value.strip():
            self.fail(field, "a text")
        return value

    def matching(self, field: str, pattern: re.Pattern[str], expected: str) -> str:
        value = self.text(field)
        if not pattern.fullmatch(value):
            self.fail(field, expected)
        return value

    def number(self, field: str) -> int:
        value = self._entry.get(field)
        if type(value) is not int or value < 1:
            self.fail(field, "a whole number above 0")
        return value

    def choice(self, field: str, choices: tuple[str, ...]) -> Any:
        value = self._entry.get(field)
        if value not in choices:
            self.fail(field, " or ".join(choices))
        return value

    def fail(self, field: str, expected: str) -> None:
        raise ConfigurationError(
            f"The catalogue of models: '{field}' of the model '{self._entry.get('id')}' should be {expected}, "
            f"but is {self._entry.get(field)!r:.60}; correct or remove this entry."
        )


def _measurements(metrics: Mapping[str, Any], names: tuple[str, ...] = ()) -> Iterator[str]:
    """The numbers of a model file's metrics, one text a group: `validation dsc: spleen 0.95, pancreas 0.73`."""
    numbers = [f"{key} {value:.2f}" for key, value in metrics.items() if type(value) in (int, float)]
    if numbers:
        yield (" ".join(names).replace("_", " ") + ": " if names else "") + ", ".join(numbers)
    for key, value in metrics.items():
        if isinstance(value, Mapping):
            yield from _measurements(value, (*names, str(key)))
