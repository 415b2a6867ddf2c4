"""The values of a label map and what they stand for. Needs the standard library alone: Slicer's side uses it too."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any, NamedTuple

RIGHT = ("24028007", "Right")
LEFT = ("7771000", "Left")


class OutputLabel(NamedTuple):
    """A value of the label map: `organ` is the network class it comes from."""

    value: int
    name: str
    organ: str
    category_code: str
    category_meaning: str
    type_code: str
    type_meaning: str
    modifier_code: str | None
    modifier_meaning: str | None
    color: tuple[int, int, int]
    usual_ml: tuple[float, float] | None = None


def output_labels(classes: Iterable[Mapping[str, Any]]) -> tuple[OutputLabel, ...]:
    """The values of the label map, 1 and up: a paired class gives two, right before left.

    classes: foreground classes in the order of the network's outputs, each with the fields of `bundle.OrganClass`.
    """
    labels: list[OutputLabel] = []
    for organ in classes:
        for modifier in (RIGHT, LEFT) if organ["paired"] else (None,):
            code, meaning = modifier or (None, None)
            red, green, blue = organ["color"]
            usual = organ["usual_ml"]
            labels.append(
                OutputLabel(
                    len(labels) + 1,
                    f"{meaning.lower()} {organ['name']}" if meaning else organ["name"],
                    organ["name"],
                    organ["category_code"],
                    organ["category_meaning"],
                    organ["type_code"],
                    organ["type_meaning"],
                    code,
                    meaning,
                    (red, green, blue),
                    (usual[0], usual[1]) if usual else None,
                )
            )
    return tuple(labels)
