"""The authors' layout."""

from __future__ import annotations

import sys
from pathlib import Path

import numpy as np
import pytest

from AGTraining.data.planes.decode import read_frame
from AGTraining.data.planes.hdf5 import read_hdf5
from AGTraining.errors import ConfigurationError, PackageError
from Testing.AGTraining.data.planes.frames_on_disk import picture

h5py = pytest.importorskip("h5py")
NAMES = [b"3VV", b"Background", b"Femur"]


def write(path: Path, **arrays: object) -> Path:
    with h5py.File(path, "w") as file:
        for name, array in arrays.items():
            file[name] = array
    return path


def frames(first: int, count: int) -> np.ndarray:
    return np.stack([picture(first + n, (56, 72)) for n in range(count)])[:, None]


def test_parts_labels_and_pixels_are_read(tmp_path: Path) -> None:
    path = write(
        tmp_path / "a.hdf5",
        label_names=NAMES, x_train=frames(0, 3), p_train=[2, 1, 0], x_test=frames(3, 1), p_test=[1],
    )  # fmt: skip

    dataset = read_hdf5(path)

    assert [(frame.label, frame.part, frame.index) for frame in dataset.frames] == [
        ("Femur", "train", 0), ("Background", "train", 1), ("3VV", "train", 2), ("Background", "test", 0),
    ]  # fmt: skip
    assert np.array_equal(read_frame(dataset.frames[1]), picture(1, (56, 72)))
    assert np.array_equal(read_frame(dataset.frames[3]), picture(3, (56, 72)))
    assert len(dataset.warnings) == 1 and "does not say whose frames these are" in dataset.warnings[0]


@pytest.mark.parametrize("scale", [1 / 255, 1.0])
def test_numbers_of_other_ranges_become_gray(tmp_path: Path, scale: float) -> None:
    path = write(tmp_path / "a.h5", label_names=NAMES, x_train=frames(0, 2) * np.float32(scale), p_train=[0, 1])

    assert np.array_equal(read_frame(read_hdf5(path).frames[1]), picture(1, (56, 72)))


def test_patients_are_those_of_the_file_where_it_has_them(tmp_path: Path) -> None:
    path = write(
        tmp_path / "a.h5", label_names=NAMES, x_train=frames(0, 2), p_train=[0, 1], patient_train=[b"p1", b"p1"]
    )

    dataset = read_hdf5(path)

    assert [(frame.patient, frame.known_patient) for frame in dataset.frames] == [("p1", True)] * 2
    assert dataset.warnings == ()


def test_classes_without_a_name_and_colors_are_problems(tmp_path: Path) -> None:
    path = write(
        tmp_path / "a.h5",
        label_names=NAMES, x_train=frames(0, 2), p_train=[0, 3], x_val=np.zeros((2, 3, 8, 8)), p_val=[0, 0],
    )  # fmt: skip

    dataset = read_hdf5(path)

    assert len(dataset.frames) == 1
    assert dataset.problems == (
        f"{path}: p_train holds class 3, but label_names has 3 names.",
        f"{path}: x_val has the shape (2, 3, 8, 8); frames of one channel, (N, 1, rows, columns), are wanted.",
    )


def test_classes_are_one_number_a_frame(tmp_path: Path) -> None:
    path = write(
        tmp_path / "a.h5",
        label_names=NAMES, x_train=frames(0, 2), p_train=[[2], [0]], x_test=frames(2, 2), p_test=np.eye(3)[:2],
    )  # fmt: skip

    dataset = read_hdf5(path)

    assert [frame.label for frame in dataset.frames] == ["Femur", "3VV"]
    assert dataset.problems == (f"{path}: p_test has the shape (2, 3); one class a frame, as a number, is wanted.",)


def test_files_of_another_form_are_refused(tmp_path: Path) -> None:
    with pytest.raises(ConfigurationError, match=r"is not of the authors' form.*it has images"):
        read_hdf5(write(tmp_path / "a.h5", images=[1]))
    (tmp_path / "b.h5").write_bytes(b"text")
    with pytest.raises(ConfigurationError, match="b.h5: cannot be read as HDF5"):
        read_hdf5(tmp_path / "b.h5")


def test_without_h5py_it_is_said_what_to_install(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "h5py", None)

    with pytest.raises(PackageError, match="install it with pip install h5py"):
        read_hdf5(tmp_path / "a.h5")
