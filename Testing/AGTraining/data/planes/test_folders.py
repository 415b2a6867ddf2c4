"""Frames by folders."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from AGTraining.data.planes.folders import read_class_folders, read_unlabelled
from AGTraining.errors import ConfigurationError
from Testing.AGTraining.data.planes.frames_on_disk import picture, write_picture


def test_a_folder_is_a_class_and_the_patient_is_found_in_names_or_folders(tmp_path: Path) -> None:
    write_picture(tmp_path / "Femur/Patient00012_Plane5_1.png")
    write_picture(tmp_path / "Femur/clinic 3/b.png")
    write_picture(tmp_path / "Brain (Tv.)/c.jpg")

    frames = read_class_folders(tmp_path).frames

    assert [(frame.name, frame.label, frame.patient, frame.known_patient) for frame in frames] == [
        ("c.jpg", "Brain (Tv.)", "c", False),
        ("Patient00012_Plane5_1.png", "Femur", "00012", True),
        ("b.png", "Femur", "clinic 3", True),
    ]


def test_frames_of_a_clip_are_frames_of_its_class_and_of_one_patient(tmp_path: Path) -> None:
    (tmp_path / "Heart").mkdir()
    pages = [Image.fromarray(picture(n)) for n in range(3)]
    pages[0].save(tmp_path / "Heart/clip.tif", save_all=True, append_images=pages[1:])

    frames = read_class_folders(tmp_path).frames

    assert [(frame.name, frame.index, frame.patient) for frame in frames] == [
        (f"clip.tif[{n}]", n, "clip") for n in range(3)
    ]


def test_a_class_without_frames_and_a_damaged_clip_are_problems(tmp_path: Path) -> None:
    write_picture(tmp_path / "A/a.png")
    (tmp_path / "B").mkdir()
    (tmp_path / "A/clip.mha").write_bytes(b"nothing")

    problems = read_class_folders(tmp_path).problems

    assert len(problems) == 2
    assert "clip.mha" in problems[0]
    assert problems[1].startswith(f"{tmp_path / 'B'}: holds no frame")


def test_a_folder_without_classes_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ConfigurationError, match="has no subfolders"):
        read_class_folders(tmp_path)
    with pytest.raises(ConfigurationError, match="cannot be read"):
        read_class_folders(tmp_path / "nowhere")


def test_frames_without_labels_are_taken_from_all_folders(tmp_path: Path) -> None:
    write_picture(tmp_path / "x/a.png")
    write_picture(tmp_path / "b.bmp")
    (tmp_path / "notes.md").write_text("no frame", encoding="utf-8")

    frames = read_unlabelled(tmp_path).frames

    assert [(frame.name, frame.label) for frame in frames] == [("b.bmp", None), ("a.png", None)]


def test_real_clips_are_read_frame_by_frame(shared_data: Path) -> None:
    from AGTraining.data.planes.decode import read_frame

    frames = read_unlabelled(shared_data / "ultrasound/sequences/SpinePhantomFreehand.igs.mha").frames

    assert len(frames) > 2 and len({frame.patient for frame in frames}) == 1
    first, second = read_frame(frames[0]), read_frame(frames[1])
    assert first.dtype == np.uint8 and first.shape == second.shape and (first != second).any()
