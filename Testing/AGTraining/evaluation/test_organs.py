"""Which organ is compared with which label."""

from __future__ import annotations

import pytest

from AGTraining.errors import ConfigurationError
from AGTraining.evaluation.organs import Organ, canonical_name, match_organs, unmatched

MODEL = ("pancreas", "right kidney", "left kidney")


@pytest.mark.parametrize("name", ["right kidney", "kidney_right", "Right Kidney", "kidney (right)", "Kidney-Right"])
def test_names_of_one_organ_are_one(name: str) -> None:
    assert canonical_name(name) == "right kidney"


def test_sides_are_compared_side_by_side() -> None:
    assert match_organs(MODEL, ("background", "kidney_left", "kidney_right")) == (
        Organ("right kidney", ("right kidney",), ("kidney_right",)),
        Organ("left kidney", ("left kidney",), ("kidney_left",)),
    )


def test_both_sides_together_are_compared_with_a_label_without_sides() -> None:
    assert match_organs(MODEL, ("kidneys", "tumor")) == (
        Organ("kidney", ("right kidney", "left kidney"), ("kidneys",)),
    )


def test_an_organ_without_sides_is_compared_with_both_labels_together() -> None:
    assert match_organs(("kidney",), ("kidney_right", "kidney_left")) == (
        Organ("kidney", ("kidney",), ("kidney_right", "kidney_left")),
    )


def test_one_side_alone_is_not_the_organ() -> None:
    with pytest.raises(ConfigurationError, match="no organ of one name"):
        match_organs(("kidney",), ("kidney_right", "spleen"))


def test_background_is_no_organ() -> None:
    assert match_organs(("background", "spleen"), ("background", "spleen")) == (
        Organ("spleen", ("spleen",), ("spleen",)),
    )
    assert unmatched(("background", "liver", "spleen"), ("spleen",)) == ["liver"]


def test_chosen_organ_may_be_made_of_labels_with_other_names() -> None:
    chosen = {"kidney": ("kidney", "tumor", "cyst")}
    assert match_organs(("right kidney", "left kidney"), ("kidney", "tumor", "cyst"), chosen) == (
        Organ("kidney", ("right kidney", "left kidney"), ("kidney", "tumor", "cyst")),
    )


def test_chosen_organs_are_the_only_ones() -> None:
    organs = match_organs(MODEL, ("pancreas", "kidney_right", "kidney_left"), {"kidney_left": ()})
    assert [organ.name for organ in organs] == ["left kidney"]


@pytest.mark.parametrize(
    ("chosen", "message"),
    [
        ({"liver": ()}, "The prediction has no organ 'liver'; it has pancreas, right kidney, left kidney."),
        ({"pancreas": ("gland",)}, "The data set has no label 'gland'; it has pancreas."),
    ],
)
def test_chosen_organ_that_one_side_does_not_know_is_refused(chosen: dict[str, tuple[str, ...]], message: str) -> None:
    with pytest.raises(ConfigurationError, match=message):
        match_organs(MODEL, ("pancreas",), chosen)
