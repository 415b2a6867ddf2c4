"""Frames by tables: FETAL_PLANES_DB's own file, and others."""

from __future__ import annotations

from pathlib import Path

import pytest

from AGTraining.data.planes.csv_table import read_table
from AGTraining.data.planes.settings import ColumnSettings
from AGTraining.errors import ConfigurationError
from AGTraining.imaging.box import Box
from Testing.AGTraining.data.planes.frames_on_disk import write_picture, write_table

# The head as the data set has it, with the blank at its end.
FETAL_PLANES = "Image_name;Patient_num;Plane;Brain_plane;Operator;US_Machine;Train "


def test_fetal_planes_db_is_read_as_it_is(tmp_path: Path) -> None:
    for name in ("Patient00001_Plane3_1_of_2", "Patient00002_Plane1_1_of_1"):
        write_picture(tmp_path / "Images" / f"{name}.png")
    table = tmp_path / "FETAL_PLANES_DB_data.csv"
    table.write_text(
        f"{FETAL_PLANES}\nPatient00001_Plane3_1_of_2;1;Fetal brain;Trans-thalamic;Op. 1;Voluson E6;1\n"
        "Patient00002_Plane1_1_of_1;2;Other;Not A Brain;Other;Aloka;0\n",
        encoding="utf-8",
    )

    dataset = read_table(table)

    assert dataset.problems == () and dataset.licence == "CC BY 4.0"
    first, second = dataset.frames
    assert first.source == tmp_path / "Images/Patient00001_Plane3_1_of_2.png"
    assert (first.label, first.patient, first.part) == ("Fetal brain/Trans-thalamic", "1", "train")
    assert (second.label, second.patient, second.part) == ("Other", "2", "test")


def test_shared_tables_of_planes_and_heads_are_read(shared_data: Path) -> None:
    planes = read_table(shared_data / "ultrasound/fetal_planes/labels.csv")
    heads = read_table(shared_data / "ultrasound/head_circumference/labels.csv")

    assert planes.problems == heads.problems == ()
    assert planes.labels["Maternal cervix"] == 16 and {frame.part for frame in planes.frames} == {"train", "test"}
    assert len(heads.frames) == 806 and heads.labels == {}
    assert heads.frames[0].box == Box(144.5, 66.0, 258.0, 155.5) and heads.frames[0].patient == "001"


def test_columns_of_other_names_are_named(tmp_path: Path) -> None:
    table = write_table(tmp_path, [("a.png", "7", "heart", "5", "6", "50", "40")], "img,who,what,l,t,r,b")
    columns = ColumnSettings(file="img", patient="who", label="what", box=("l", "t", "r", "b"))

    (frame,) = read_table(table, columns).frames

    assert (frame.patient, frame.label, frame.box) == ("7", "heart", Box(5, 6, 50, 40))


def test_patients_are_found_in_names_where_no_column_has_them(tmp_path: Path) -> None:
    table = write_table(tmp_path, [("case12_a.png", "x"), ("other.png", "x")], "file,plane")

    found = [(frame.patient, frame.known_patient) for frame in read_table(table, pattern=r"case(\d+)").frames]

    assert found == [("12", True), ("other", False)]


def test_files_of_one_examination_of_hc18_are_of_one_patient(tmp_path: Path) -> None:
    table = write_table(tmp_path, [("010_HC.png",), ("010_2HC.png",), ("011_HC.png",)], "file")

    assert [frame.patient for frame in read_table(table).frames] == ["010", "010", "011"]


def test_all_problems_are_said_with_their_lines(tmp_path: Path) -> None:
    table = write_table(
        tmp_path,
        [("a.png", "1", "x", "1", "2", "3", "4"), ("b.png", "1", "x", "9", "2", "3", "4")],
        "file,patient,plane,x0,y0,x1,y1",
    )
    with table.open("a", encoding="utf-8") as file:
        file.write("missing.png,1,x,,,,\na.png,1,x,,,,\nb.png,1\n\n")

    dataset = read_table(table)

    assert [frame.name for frame in dataset.frames] == ["a.png"]
    assert dataset.problems == (
        f"{table}, line 3: its box (9, 2, 3, 4) is none; left, top, right and bottom are wanted.",
        f"{table}, line 4: missing.png is not in {tmp_path} or {tmp_path / 'Images'}.",
        f"{table}, line 5: a.png is also in line 2; leave one of them.",
        f"{table}, line 6: has 2 values, but the table has 7 columns.",
    )


def test_rows_without_a_label_are_unlabelled_frames(tmp_path: Path) -> None:
    table = write_table(tmp_path, [("a.png", "1", "", ""), ("b.png", "2", "heart", "")])

    assert [frame.label for frame in read_table(table).frames] == [None, "heart"]


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("file;plane\n", "has no rows"),
        ("a,b\n1,2\n", r"none of its columns \(a, b\) is known to hold the files"),
    ],
)
def test_what_is_no_table_of_frames_is_refused(tmp_path: Path, text: str, message: str) -> None:
    (tmp_path / "t.csv").write_text(text, encoding="utf-8")

    with pytest.raises(ConfigurationError, match=message):
        read_table(tmp_path / "t.csv")


def test_column_that_is_not_there_is_named_with_those_that_are(tmp_path: Path) -> None:
    table = write_table(tmp_path, [("a.png", "1")], "file,patient")

    with pytest.raises(ConfigurationError, match="has no column 'view' for the labels; it has file, patient"):
        read_table(table, ColumnSettings(label="view"))


def test_missing_table_is_said(tmp_path: Path) -> None:
    with pytest.raises(ConfigurationError, match="none.csv: cannot be read"):
        read_table(tmp_path / "none.csv")


@pytest.mark.parametrize(
    ("text", "encoding"),
    [
        ("file,patient,plane\na.png,1,He\u0085art\n", "utf-8"),
        ("file\tpatient\tplane\r\na.png\t1\tHe\u0085art\r\n", "utf-16"),
        ("file,patient,plane\nImages\\a.png,1,He\u0085art\n", "utf-8"),
    ],
)
def test_tables_as_other_programs_write_them(tmp_path: Path, text: str, encoding: str) -> None:
    write_picture(tmp_path / "Images/a.png")
    (tmp_path / "table.csv").write_text(text, encoding=encoding, newline="")

    dataset = read_table(tmp_path / "table.csv")

    assert dataset.problems == ()
    assert [(frame.name, frame.patient, frame.label) for frame in dataset.frames] == [("a.png", "1", "He\u0085art")]
