"""Which organ of a prediction is which label of a data set: by name, with sides, and unions where one has no sides."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

from AGTraining.errors import ConfigurationError

SIDES = ("right", "left")
BACKGROUND = "background"


@dataclass(frozen=True)
class Organ:
    """What is compared. predicted: names in the prediction that make it up; labels: names in the data set that do."""

    name: str
    predicted: tuple[str, ...]
    labels: tuple[str, ...]


def canonical_name(name: str) -> str:
    """`kidney_right`, `Right Kidney` and `kidney (right)` as `right kidney`; `kidneys` as `kidney`."""
    words = [word for word in re.split(r"[^\w]+|_+", name.lower()) if word]
    words = [*(word for word in words if word in SIDES), *(word for word in words if word not in SIDES)]
    return re.sub(r"\bkidneys$", "kidney", " ".join(words))


def match_organs(
    predicted: Iterable[str], labels: Iterable[str], chosen: Mapping[str, Sequence[str]] | None = None
) -> tuple[Organ, ...]:
    """The organs that both know, in the order of the prediction.

    An organ with sides in one and without in the other is compared as a whole: both of its sides together.
    chosen: the organs to take, each with the label names that make it up (none: the label of its name).
    Raises ConfigurationError where a chosen organ is not known to both, or nothing is.
    """
    ours, theirs = _by_canonical_name(predicted), _by_canonical_name(labels)
    if chosen:
        return tuple(_chosen(name, parts, ours, theirs) for name, parts in chosen.items())
    organs = []
    for name in dict.fromkeys([*ours, *theirs]):
        found, wanted = _find(name, ours), _find(name, theirs)
        if found and wanted:
            organs.append(Organ(name, found, wanted))
    if not organs:
        raise ConfigurationError(
            f"The prediction has {_list(ours)} and the data set {_list(theirs)}: no organ of one name; say which label "
            "belongs to which organ with --organ NAME=LABEL."
        )
    return tuple(organs)


def unmatched(names: Iterable[str], used: Iterable[str]) -> list[str]:
    """The names that no organ uses, without the background."""
    taken = set(used)
    return [name for name in names if name not in taken and canonical_name(name) != BACKGROUND]


def _chosen(
    name: str, parts: Sequence[str], ours: Mapping[str, tuple[str, ...]], theirs: Mapping[str, tuple[str, ...]]
) -> Organ:
    found = _find(canonical_name(name), ours)
    if not found:
        raise ConfigurationError(f"The prediction has no organ '{name}'; it has {_list(ours)}.")
    wanted: list[str] = []
    for part in parts or (name,):
        label = _find(canonical_name(part), theirs)
        if not label:
            raise ConfigurationError(f"The data set has no label '{part}'; it has {_list(theirs)}.")
        wanted += label
    return Organ(canonical_name(name), found, tuple(wanted))


def _by_canonical_name(names: Iterable[str]) -> dict[str, tuple[str, ...]]:
    table: dict[str, tuple[str, ...]] = {}
    for name in names:
        canonical = canonical_name(name)
        if canonical != BACKGROUND:
            table[canonical] = (*table.get(canonical, ()), name)
    return table


def _find(name: str, table: Mapping[str, tuple[str, ...]]) -> tuple[str, ...]:
    """The organ's names: its own, or those of both of its sides."""
    if name in table:
        return table[name]
    sides = [table.get(f"{side} {name}", ()) for side in SIDES]
    return (*sides[0], *sides[1]) if all(sides) else ()


def _list(table: Mapping[str, tuple[str, ...]]) -> str:
    return ", ".join(names[0] for names in table.values()) or "none"
