"""All that is wrong with frames, at once."""

from __future__ import annotations

import shutil
from pathlib import Path

import numpy as np
from PIL import Image

from AGTraining.data.planes.check import check_pictures, check_planes
from AGTraining.data.planes.settings import PlaneSourceSettings
from AGTraining.data.planes.sources import read_plane_source
from Testing.AGTraining.data.planes.frames_on_disk import NamedClass, write_picture, write_table

CLASSES = [NamedClass("Heart"), NamedClass("Femur"), NamedClass("Background", True, ["Other"])]


def test_sound_data_have_no_problem(tmp_path: Path) -> None:
    rows = [("a.png", "1", "Heart", "train"), ("b.png", "2", "Femur", "train"), ("c.png", "3", "Other", "train")]
    table = write_table(tmp_path, [*rows, ("d.png", "4", "Heart", "test")])
    sources = ([PlaneSourceSettings(csv=table, official=part)] for part in ("train", "test"))

    trained, validated, findings = check_planes(*sources, CLASSES)

    assert findings.problems == findings.warnings == []
    assert [len(part[0].frames) for part in (trained, validated)] == [3, 1]


def test_all_problems_come_at_once(tmp_path: Path) -> None:
    table = write_table(
        tmp_path,
        [("a.png", "1", "Heart", "train"), ("b.png", "1", "Heart", "test"), ("c.png", "2", "Lips", "train")],
    )
    with table.open("a", encoding="utf-8") as file:
        file.write("gone.png,3,Heart,train\n")
    sources = ([PlaneSourceSettings(csv=table, official=part)] for part in ("train", "test"))

    _, _, findings = check_planes(*sources, CLASSES)

    text = "\n".join(findings.problems)
    assert len(findings.problems) == 5
    assert "line 5: gone.png is not in" in text
    assert f"{table}: label 'Lips' of 1 frames belongs to no class" in text
    assert "Class 'Femur' has no frame to train on: no data set has the label Femur" in text
    assert "Class 'Background' has no frame to train on: no data set has the label Other" in text
    assert "patient '1' is in the training part (a.png) and in the validation part (b.png)" in text


def test_classes_that_need_no_frames_are_warned_of(tmp_path: Path) -> None:
    source = PlaneSourceSettings(csv=write_table(tmp_path, [("a.png", "1", "Heart", "train")]))

    _, _, findings = check_planes([source], [], CLASSES, required=[True, False, False])

    assert findings.problems == [] and len(findings.warnings) == 2


def test_equal_pictures_under_two_names_in_both_parts_are_found(tmp_path: Path) -> None:
    training = write_table(tmp_path / "a", [("a.png", "1", "Heart", "")])
    validation = write_table(tmp_path / "b", [("z.png", "9", "Heart", "")])
    shutil.copy(tmp_path / "a/a.png", tmp_path / "b/z.png")

    _, _, findings = check_planes(
        [PlaneSourceSettings(csv=training)], [PlaneSourceSettings(csv=validation)], CLASSES[:1]
    )

    (problem,) = findings.problems
    assert problem.startswith(f"{tmp_path / 'b/z.png'}: is in the validation part and, with the same content")


def test_the_same_file_in_both_lists_is_found_without_patients(tmp_path: Path) -> None:
    write_picture(tmp_path / "Heart/a.png")
    source = PlaneSourceSettings(folder=tmp_path)

    _, _, findings = check_planes([source], [source], CLASSES[:1])

    assert findings.problems == [f"{tmp_path / 'Heart/a.png'}: is in the training and in the validation part."]
    assert "the patient is not known" in findings.warnings[0]


def test_a_patients_number_in_another_data_set_is_another_patient(tmp_path: Path) -> None:
    tables = [write_table(tmp_path / name, [(f"{name}.png", "1", "Heart", "")]) for name in ("a", "b")]
    write_picture(tmp_path / "b/b.png", seed=5)

    _, _, findings = check_planes(
        [PlaneSourceSettings(csv=tables[0])], [PlaneSourceSettings(csv=tables[1])], CLASSES[:1]
    )

    assert findings.problems == []


def test_a_patient_of_two_tables_whose_pictures_lie_in_one_folder_is_found(tmp_path: Path) -> None:
    tables = []
    for number, part in enumerate(("train", "val")):
        write_picture(tmp_path / f"{part}.png", seed=number)
        tables.append(tmp_path / f"{part}.csv")
        tables[-1].write_text(f"file,patient,plane\n{part}.png,1,Heart\n", encoding="utf-8")

    _, _, findings = check_planes(
        [PlaneSourceSettings(csv=tables[0])], [PlaneSourceSettings(csv=tables[1])], CLASSES[:1]
    )

    assert findings.problems == [
        "val: patient '1' is in the training part (train.png) and in the validation part (val.png); make the split by "
        "patient."
    ]


def test_pictures_that_cannot_be_used_are_named(tmp_path: Path) -> None:
    table = write_table(
        tmp_path,
        [(f"{name}.png", "1", "Heart", *box) for name, box in {
            "good": ("", "", "", ""), "broken": ("", "", "", ""), "flat": ("", "", "", ""),
            "small": ("", "", "", ""), "box": ("500", "0", "600", "9"),
        }.items()],
        "file,patient,plane,x0,y0,x1,y1",
    )  # fmt: skip
    (tmp_path / "broken.png").write_bytes((tmp_path / "good.png").read_bytes()[:200])
    Image.fromarray(np.full((64, 64), 7, dtype=np.uint8)).save(tmp_path / "flat.png")
    write_picture(tmp_path / "small.png", size=(20, 90))

    problems = check_pictures([read_plane_source(PlaneSourceSettings(csv=table))]).problems

    assert problems == [
        f"{tmp_path / 'broken.png'}: cannot be read (it is no picture, or damaged); leave it out, or copy it anew.",
        f"{tmp_path / 'flat.png'}: is of one gray value; leave it out.",
        f"{tmp_path / 'small.png'}: has 90×20 pixels, which is too small for a frame.",
        f"{tmp_path / 'box.png'}: its box lies outside of its 96×72 pixels.",
    ]
