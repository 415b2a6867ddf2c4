"""Which frames a configuration's source takes."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from pydantic import ValidationError

from AGTraining.data.planes.settings import PatientSplitSettings, PhantomFrameSettings, PlaneSourceSettings
from AGTraining.data.planes.sources import holds_frames, read_plane_source, source_of, with_plane_phantoms
from AGTraining.errors import ConfigurationError
from Testing.AGTraining.data.planes.frames_on_disk import write_picture, write_table

ROWS = [
    ("a.png", "1", "Heart", "train"),
    ("b.png", "2", "Femur", "train"),
    ("c.png", "3", "Femur", "test"),
    ("d.png", "4", "", "test"),
]


def names(source: PlaneSourceSettings, part: str = "training") -> list[str]:
    return [frame.name for frame in read_plane_source(source, part).frames]


def test_official_parts_and_labels_that_are_left_out(tmp_path: Path) -> None:
    table = write_table(tmp_path, ROWS)

    assert names(PlaneSourceSettings(csv=table, official="test")) == ["c.png", "d.png"]
    assert names(PlaneSourceSettings(csv=table, left_out=["femur"])) == ["a.png", "d.png"]


def test_frames_get_the_sources_label_and_weight_or_lose_theirs(tmp_path: Path) -> None:
    table = write_table(tmp_path, ROWS)

    named = read_plane_source(PlaneSourceSettings(csv=table, label="Head", weight=3)).frames
    assert [(frame.label, frame.weight) for frame in named[2:]] == [("Femur", 3), ("Head", 3)]
    unlabelled = read_plane_source(PlaneSourceSettings(csv=table, labelled=False)).frames
    assert {frame.label for frame in unlabelled} == {None}


def test_licence_is_said_where_the_files_do_not(tmp_path: Path) -> None:
    table = write_table(tmp_path, ROWS)

    assert read_plane_source(PlaneSourceSettings(csv=table)).licence == ""
    assert read_plane_source(PlaneSourceSettings(csv=table, licence="CC BY 4.0")).licence == "CC BY 4.0"


def test_both_parts_of_a_split_make_up_the_source(tmp_path: Path) -> None:
    split = PatientSplitSettings(share=0.4, seed=1)
    source = PlaneSourceSettings(csv=write_table(tmp_path, ROWS), split=split)

    training, validation = names(source, "training"), names(source, "validation")

    assert sorted(training + validation) == ["a.png", "b.png", "c.png", "d.png"]
    assert training and validation


@pytest.mark.parametrize(
    "change", [{"left_out": ["Heart"]}, {"label": "Heart"}, {"official": ["test"]}, {"labelled": False}]
)
def test_other_frames_of_a_source_leave_everyone_in_their_part(tmp_path: Path, change: dict[str, object]) -> None:
    planes = ("Heart", "Femur", "")
    rows = [(f"{n}.png", str(n // 2), planes[n * n % 7 % 3], "test" if n % 8 > 4 else "train") for n in range(40)]
    source = PlaneSourceSettings(csv=write_table(tmp_path, rows), split=PatientSplitSettings(share=0.3, seed=2))
    trained = {frame.patient for frame in read_plane_source(source).frames}

    changed = read_plane_source(source.model_copy(update=change), "validation").frames

    assert changed and not trained & {frame.patient for frame in changed}


def test_patients_of_a_split_file_may_be_left_out(tmp_path: Path) -> None:
    table = write_table(tmp_path, ROWS)
    (tmp_path / "splits.json").write_text(
        json.dumps({"seed": 0, "folds": [{"training": ["1", "2"], "validation": ["3", "4"]}]}), encoding="utf-8"
    )
    split = PatientSplitSettings(file=tmp_path / "splits.json")

    assert names(PlaneSourceSettings(csv=table, split=split, left_out=["Heart"])) == ["b.png"]
    assert names(PlaneSourceSettings(csv=table, split=split, official="test"), "validation") == ["c.png", "d.png"]


def test_a_split_parts_the_data_set_s_own_parts_alike(tmp_path: Path) -> None:
    rows = [(f"{n}.png", str(n), "Heart", "test" if n < 8 else "train") for n in range(40)]
    source = PlaneSourceSettings(
        csv=write_table(tmp_path, rows), official="test", split=PatientSplitSettings(share=0.25, seed=1)
    )

    assert (len(names(source)), len(names(source, "validation"))) == (6, 2)


def test_a_part_that_the_data_set_does_not_have_is_a_problem(tmp_path: Path) -> None:
    dataset = read_plane_source(PlaneSourceSettings(csv=write_table(tmp_path, ROWS), official=["val"]))

    assert dataset.problems == (f"{tmp_path / 'labels.csv'}: its own split has no part 'val'; it has test, train.",)


def test_nothing_left_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ConfigurationError, match="has no frame left"):
        read_plane_source(
            PlaneSourceSettings(csv=write_table(tmp_path, ROWS), official="train", left_out=["Heart", "Femur"])
        )


def test_phantoms_are_made_once_and_are_frames_of_a_table(tmp_path: Path) -> None:
    source = PlaneSourceSettings(phantoms=PhantomFrameSettings(first=4, patients=2, frames=1))

    (made,) = with_plane_phantoms([source], tmp_path)
    assert made.csv is not None
    before = made.csv.stat().st_mtime_ns
    (again,) = with_plane_phantoms([source], tmp_path)

    assert again == made and made.csv.stat().st_mtime_ns == before
    dataset = read_plane_source(made)
    assert dataset.problems == () and {frame.patient for frame in dataset.frames} == {"4", "5"}
    with pytest.raises(ConfigurationError, match="are not made yet"):
        read_plane_source(source)


def test_data_sets_are_known_by_their_path(tmp_path: Path) -> None:
    table = write_table(tmp_path / "tables", ROWS)
    write_picture(tmp_path / "classes/Femur/a.png")
    (tmp_path / "volumes").mkdir()
    (tmp_path / "volumes/dataset.json").touch()

    assert source_of(table.parent) == source_of(table) == PlaneSourceSettings(csv=table)
    assert source_of(tmp_path / "classes") == PlaneSourceSettings(folder=tmp_path / "classes")
    assert source_of(Path("x.h5")) == PlaneSourceSettings(hdf5=Path("x.h5"))
    found = {path.name: holds_frames(path) for path in tmp_path.iterdir()}
    assert found == {"tables": True, "classes": True, "volumes": False}
    with pytest.raises(ConfigurationError, match="is no data set of frames"):
        source_of(Path("x.png"))


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({}, "give one of"),
        ({"csv": "a", "folder": "b"}, "give one of"),
        ({"csv": "a", "patient_pattern": r"\d+"}, "needs one group in parentheses"),
        ({"csv": "a", "patient_pattern": "("}, "is no regular expression"),
        ({"csv": "a", "split": {"folds": 3, "share": 0.2}}, "give one of 'file', 'folds' and 'share'"),
        ({"csv": "a", "split": {"folds": 3, "fold": 3}}, "there is no fold 3 of 3"),
    ],
)
def test_settings_that_contradict_themselves_are_refused(settings: dict[str, object], message: str) -> None:
    with pytest.raises(ValidationError, match=message):
        PlaneSourceSettings.model_validate(settings)
