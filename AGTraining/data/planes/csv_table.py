"""Frames by a table: FETAL_PLANES_DB's own file as it is, and plain CSV with a row for each frame.

`FETAL_PLANES_DB_data.csv` (Burgos-Artizzu et al. 2020) is separated by semicolons: Image_name; Patient_num; Plane;
Brain_plane; Operator; US_Machine; Train. Its images have no ending there and lie in the folder `Images`. "Fetal brain"
with the brain plane "Trans-ventricular" becomes the label "Fetal brain/Trans-ventricular".
"""

from __future__ import annotations

import codecs
import csv
import io
import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from AGTraining.data.planes.labelled import LEVEL, LabelledFrame, PlaneDataset
from AGTraining.data.planes.settings import ColumnSettings
from AGTraining.errors import ConfigurationError
from AGTraining.imaging.box import Box

ENDINGS = (".png", ".jpg", ".jpeg", ".bmp", ".tif", ".tiff", ".pgm", ".dcm", ".mha")
# Column names that tables use, in small letters; the first that is there counts.
FILE = ("file", "image_name", "filename", "file_name", "image", "path")
PATIENT = ("patient", "patient_num", "patient_id", "subject", "subject_id")
LABELS = (("plane", "label", "class"), ("brain_plane",))
PART = ("official_split", "train", "split", "part", "set")
BOXES = (("x0", "y0", "x1", "y1"), ("head_x0", "head_y0", "head_x1", "head_y1"))
# Said of frames that have no particular label, by FETAL_PLANES_DB.
NOTHING_PARTICULAR = {"", "not a brain"}
# FETAL_PLANES_DB's column Train holds 1 and 0.
PARTS = {"1": "train", "0": "test", "1.0": "train", "0.0": "test"}
# Patients of HC18's files: 010_HC, 010_2HC and 010_3HC are of one examination.
KNOWN_PATTERNS = (re.compile(r"^[Pp]atient[_-]?(\d+)"), re.compile(r"^(\d+)_\d?HC"))


@dataclass(frozen=True)
class _Columns:
    """Positions of the columns that a table has."""

    file: int
    labels: tuple[int, ...]
    patient: int | None
    part: int | None
    box: tuple[int, ...]


def read_table(
    path: str | Path, columns: ColumnSettings | None = None, images: Path | None = None, pattern: str | None = None
) -> PlaneDataset:
    """The frames that a table lists, in its order, with what could not be understood as `problems`.

    columns: names, where they are not among those that are known. images: folder of the files (default: the table's
    own, or `Images` in it). pattern: a regular expression whose group is the patient in a file's name, for a table
    that does not name patients. Raises ConfigurationError when the table cannot be read at all.
    """
    path = Path(path)
    rows = _rows(path)
    head = [name.strip() for name in rows[0]] if rows else []
    if len(rows) < 2:
        raise ConfigurationError(f"{path}: has no rows; is it the right table?")
    found = _find_columns(path, head, columns or ColumnSettings())
    folders = [images] if images is not None else [path.parent, path.parent / "Images"]
    listed: dict[Path, set[str]] = {folder: _names(folder) for folder in folders}
    frames: list[LabelledFrame] = []
    problems: list[str] = []
    seen: dict[Path, int] = {}
    for line, row in _with_lines(rows):
        place = f"{path}, line {line}"
        if len(row) != len(head):
            problems.append(f"{place}: has {len(row)} values, but the table has {len(head)} columns.")
            continue
        row = [value.strip() for value in row]
        # Also of a path as Windows writes it.
        name = row[found.file].replace("\\", "/")
        source = _find(name, listed)
        if source is None:
            where = " or ".join(str(folder) for folder in folders)
            problems.append(f"{place}: {name or 'a file without a name'} is not in {where}.")
            continue
        label = _label(row, found.labels)
        before = seen.setdefault(source, line)
        if before != line:
            problems.append(f"{place}: {source.name} is also in line {before}; leave one of them.")
            continue
        try:
            box = _box(row, found.box)
        except ValueError as error:
            problems.append(f"{place}: {error}")
            continue
        patient, known = patient_of(name, row[found.patient] if found.patient is not None else "", pattern)
        part = row[found.part] if found.part is not None else ""
        frames.append(
            LabelledFrame(
                source, label, patient, known_patient=known, box=box, part=PARTS.get(part, part.lower()) or None
            )
        )
    licence = "CC BY 4.0" if path.name == "FETAL_PLANES_DB_data.csv" else ""
    # Of many data sets the table is called labels.csv; patients are told apart by the data set's name.
    name = path.resolve().parent.name if path.stem == "labels" else path.stem
    return PlaneDataset(path, name, tuple(frames), licence, tuple(problems))


def _with_lines(rows: Sequence[Sequence[str]]) -> list[tuple[int, list[str]]]:
    """The rows below the head that hold anything, with the numbers of their lines."""
    return [(line, list(row)) for line, row in enumerate(rows[1:], 2) if any(value.strip() for value in row)]


def patient_of(name: str, given: str, pattern: str | None) -> tuple[str, bool]:
    """The patient of a file and whether that is known: as given, by the pattern, or by a known way of naming files.

    A file of which nothing is known counts as a patient of its own, under its name.
    """
    stem = Path(name).stem
    if given:
        return given, True
    for expression in [re.compile(pattern)] if pattern else KNOWN_PATTERNS:
        found = expression.search(stem)
        if found:
            return found.group(1), True
    return stem, False


def _rows(path: Path) -> list[list[str]]:
    """All rows as text. Values are separated by that of , ; and tab that the head has most of."""
    try:
        data = path.read_bytes()
    except OSError as error:
        raise ConfigurationError(f"{path}: cannot be read ({error.strerror}).") from error
    try:
        # UTF-16 is what Excel calls Unicode text.
        text = data.decode("utf-16" if data.startswith((codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE)) else "utf-8-sig")
    except UnicodeDecodeError:
        # As older versions of Excel save it.
        text = data.decode("cp1252", errors="replace")
    head = text.partition("\n")[0]
    separator = max(",;\t", key=head.count)
    try:
        return list(csv.reader(io.StringIO(text, newline=""), delimiter=separator))
    except csv.Error as error:
        raise ConfigurationError(f"{path}: is no table of text ({error}).") from error


def _find_columns(path: Path, head: list[str], wanted: ColumnSettings) -> _Columns:
    places = {name.casefold(): number for number, name in reversed(list(enumerate(head)))}

    def named(name: str, what: str) -> int:
        if name.strip().casefold() not in places:
            raise ConfigurationError(f"{path}: has no column '{name}' for {what}; it has {', '.join(head)}.")
        return places[name.strip().casefold()]

    def known(names: Sequence[str]) -> int | None:
        return next((places[name] for name in names if name in places), None)

    file = known(FILE) if wanted.file is None else named(wanted.file, "the files")
    if file is None:
        raise ConfigurationError(
            f"{path}: none of its columns ({', '.join(head)}) is known to hold the files; name it as columns.file."
        )
    if wanted.label is None:
        labels = tuple(place for place in map(known, LABELS) if place is not None)
    else:
        names = [wanted.label] if isinstance(wanted.label, str) else wanted.label
        labels = tuple(named(name, "the labels") for name in names)
    if wanted.box is None:
        box = next((tuple(places[n] for n in names) for names in BOXES if set(names) <= places.keys()), ())
    else:
        box = tuple(named(name, "the box") for name in wanted.box)
    patient = known(PATIENT) if wanted.patient is None else named(wanted.patient, "the patients")
    part = known(PART) if wanted.part is None else named(wanted.part, "the data set's own split")
    return _Columns(file, labels, patient, part, box)


def _names(folder: Path) -> set[str]:
    """Names of the files in a folder: looked up once, and not for each of thousands of rows."""
    return {entry.name for entry in folder.iterdir()} if folder.is_dir() else set()


def _find(name: str, listed: dict[Path, set[str]]) -> Path | None:
    """The file of this name, whose ending may be missing."""
    if not name:
        return None
    for folder, names in listed.items():
        for candidate in (name, *(name + ending for ending in ENDINGS)):
            if candidate in names or ("/" in name and (folder / candidate).is_file()):
                return folder / candidate
    return None


def _label(row: Sequence[str], columns: Sequence[int]) -> str | None:
    levels = [row[place] for place in columns if row[place].casefold() not in NOTHING_PARTICULAR]
    return LEVEL.join(levels) or None


def _box(row: Sequence[str], columns: Sequence[int]) -> Box | None:
    """The box of a row; None where its values are empty. Raises ValueError with a sentence."""
    values = [row[place] for place in columns]
    if not any(values):
        return None
    try:
        x0, y0, x1, y1 = map(float, values)
        return Box(x0, y0, x1, y1)
    except ValueError as error:
        raise ValueError(f"its box ({', '.join(values)}) is none; left, top, right and bottom are wanted.") from error
