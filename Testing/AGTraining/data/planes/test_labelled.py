"""Which class a data set's label belongs to."""

from __future__ import annotations

import pytest

from AGTraining.data.planes.labelled import LabelMap, is_part_of
from Testing.AGTraining.data.planes.frames_on_disk import NamedClass

CLASSES = [
    NamedClass("Brain (Tv.)", labels=["Fetal brain/Trans-ventricular"]),
    NamedClass("Brain", labels=["Fetal brain", "Head"]),
    NamedClass("Femur"),
]


@pytest.mark.parametrize(
    ("label", "number"),
    [
        ("Fetal brain/Trans-ventricular", 0),
        ("fetal brain / trans-ventricular", 0),
        ("Fetal brain/Trans-thalamic", 1),
        ("Fetal brain", 1),
        ("Head", 1),
        ("femur", 2),
        ("Brain", None),
        ("Fetal", None),
        (None, None),
    ],
)
def test_the_most_particular_label_counts(label: str | None, number: int | None) -> None:
    assert LabelMap(CLASSES).number(label) == number


def test_a_part_of_a_label_is_found_by_whole_levels() -> None:
    assert is_part_of("Fetal brain/Other", ["fetal brain"])
    assert not is_part_of("Fetal brainstem", ["Fetal brain"])
