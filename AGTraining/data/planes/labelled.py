"""Frames of ultrasound with the plane that each shows, whatever form a data set has on disk."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol, TypeVar

from AGTraining.imaging.box import Box

# Between the general and the particular in a label: "Fetal brain/Trans-ventricular".
LEVEL = "/"
Value = TypeVar("Value")


class NamedPlane(Protocol):
    """A class of a network and the labels of data sets that make it up."""

    @property
    def name(self) -> str:
        """The class's name."""

    @property
    def background(self) -> bool:
        """Whether it is what no standard plane is."""

    @property
    def labels(self) -> Sequence[str]:
        """Labels of data sets; empty: the class's name is the label."""


@dataclass(frozen=True)
class LabelledFrame:
    """A frame and what is known of it.

    source: the file; index: the frame's number in it where it holds several, else None.
    label: the plane, from the general to the particular (`LEVEL`); None: not labelled.
    patient: whose frame it is. Frames of one patient never lie in two parts of a split.
    known_patient: whether the data set says so; where not, each file counts as a patient.
    box: of the structure, in pixels of the frame; None: not known.
    part: what the data set's own split says.
    dataset: the name of the data set: two of them may both have a patient 12.
    weight: how often the frame is drawn beside others of its class.
    """

    source: Path
    label: str | None
    patient: str
    index: int | None = None
    known_patient: bool = True
    box: Box | None = None
    part: str | None = None
    dataset: str = ""
    weight: float = 1.0

    @property
    def name(self) -> str:
        """The file's name, with the frame's number where the file holds several."""
        return self.source.name if self.index is None else f"{self.source.name}[{self.index}]"

    @property
    def place(self) -> str:
        """The file's path, with the frame's number where the file holds several: for messages."""
        return str(self.source) if self.index is None else f"{self.source}, frame {self.index}"


@dataclass(frozen=True)
class PlaneDataset:
    """A set of frames. path: of its table, folder or file; problems: sentences on what could not be taken from it."""

    path: Path
    name: str
    frames: tuple[LabelledFrame, ...]
    licence: str = ""
    problems: tuple[str, ...] = ()
    warnings: tuple[str, ...] = ()

    @property
    def labels(self) -> dict[str, int]:
        """How many frames each label has, by label."""
        counts: dict[str, int] = {}
        for frame in self.frames:
            if frame.label is not None:
                counts[frame.label] = counts.get(frame.label, 0) + 1
        return dict(sorted(counts.items()))

    @property
    def patients(self) -> int | None:
        """How many patients the frames are of; None where that is not known of all frames."""
        return count_patients(self.frames)


def count_patients(frames: Iterable[LabelledFrame]) -> int | None:
    """How many patients frames are of; None where that is not known of all of them."""
    found = {(frame.dataset, frame.patient) if frame.known_patient else None for frame in frames}
    return None if None in found else len(found)


class LabelMap:
    """Which class of a network a data set's label belongs to.

    A class may name a label ("Fetal brain/Trans-ventricular") or what it is part of ("Fetal brain"); the most
    particular one counts.
    """

    def __init__(self, classes: Iterable[NamedPlane]) -> None:
        self._numbers = {
            label_key(label): number for number, item in enumerate(classes) for label in item.labels or (item.name,)
        }

    def number(self, label: str | None) -> int | None:
        """The class's number; None for a frame without a label and for a label that no class names."""
        return most_particular(self._numbers, label) if label else None


def is_part_of(label: str, labels: Iterable[str]) -> bool:
    """Whether a label is one of these, or part of one of them."""
    return most_particular({label_key(other): True for other in labels}, label) is not None


def most_particular(table: Mapping[str, Value], label: str) -> Value | None:
    """What a table by `label_key` says of a label, or else of what it is part of; None where it says nothing."""
    levels = label_key(label).split(LEVEL)
    for count in range(len(levels), 0, -1):
        found = table.get(LEVEL.join(levels[:count]))
        if found is not None:
            return found
    return None


def label_key(label: str) -> str:
    """A label for comparisons: capital letters and blanks around the levels do not count."""
    return LEVEL.join(level.strip().casefold() for level in label.split(LEVEL))
