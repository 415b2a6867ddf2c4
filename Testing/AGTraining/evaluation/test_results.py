"""Files of an evaluation."""

from __future__ import annotations

import csv
import json
import math
from dataclasses import replace
from pathlib import Path

import pytest

from AGTraining.errors import ConfigurationError
from AGTraining.evaluation.results import Evaluation, Failure, read_evaluation, write_evaluation
from AGTraining.evaluation.scores import OrganScores, State, summarise
from Testing.AGTraining.evaluation.study import make_evaluation

NAN = float("nan")


@pytest.fixture
def evaluation() -> Evaluation:
    base = make_evaluation({"spleen": [0.9, 0.8], "left kidney": [NAN, 0.5]})
    incomplete = OrganScores("2", "spleen", State.INCOMPLETE)
    return replace(base, scores=(*base.scores, incomplete), failures=(Failure("3", "why"),), messages=("note",))


def test_what_is_written_is_read_again(evaluation: Evaluation, tmp_path: Path) -> None:
    path, _ = write_evaluation(evaluation, tmp_path)
    # NaN is not equal to itself; the text of all values is.
    assert repr(read_evaluation(tmp_path)) == repr(evaluation)
    assert repr(read_evaluation(path)) == repr(evaluation)


def test_json_has_null_for_what_is_not_defined_and_a_summary(evaluation: Evaluation, tmp_path: Path) -> None:
    path, _ = write_evaluation(evaluation, tmp_path)
    document = json.loads(path.read_text(encoding="utf-8"), parse_constant=lambda name: pytest.fail(name))
    assert document["scores"][2]["dsc"] is None
    assert document["summary"]["left kidney"]["dsc"]["undefined"] == 1
    assert document["summary"]["spleen"]["cases"] == {"scored": 2, "incomplete label": 1}
    assert document["summary"]["spleen"]["dsc"]["mean"] == pytest.approx(0.85)
    # (0.85 + 0.5) / 2: each organ counts alike.
    assert document["mean_of_organs"]["dsc"] == pytest.approx(0.675)


def test_csv_has_a_row_for_each_case_and_organ(evaluation: Evaluation, tmp_path: Path) -> None:
    _, path = write_evaluation(evaluation, tmp_path)
    with path.open(newline="", encoding="utf-8") as file:
        rows = list(csv.DictReader(file))
    assert [(row["case"], row["organ"], row["state"], row["dsc"]) for row in rows] == [
        ("0", "spleen", "scored", "0.9"),
        ("1", "spleen", "scored", "0.8"),
        ("0", "left kidney", "scored", ""),
        ("1", "left kidney", "scored", "0.5"),
        ("2", "spleen", "incomplete label", ""),
    ]


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("{", "not an evaluation of this version"),
        ("[]", "not an evaluation of this version"),
        ('{"format": "other", "format_version": 1}', "format other 1"),
    ],
)
def test_another_file_is_refused(text: str, message: str, tmp_path: Path) -> None:
    (tmp_path / "evaluation.json").write_text(text)
    with pytest.raises(ConfigurationError, match=message):
        read_evaluation(tmp_path)


def test_missing_file_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ConfigurationError, match=r"evaluation.json: cannot be read .*; name a folder that 'evaluate'"):
        read_evaluation(tmp_path)


def test_summary_of_nothing_and_of_one() -> None:
    nothing, one = summarise([NAN]), summarise([2.0, NAN])
    assert math.isnan(nothing.mean) and (nothing.count, nothing.undefined) == (0, 1)
    assert (one.mean, one.median, one.count) == (2.0, 2.0, 1)
    assert math.isnan(one.sd)
