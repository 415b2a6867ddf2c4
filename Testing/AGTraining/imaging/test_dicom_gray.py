"""From stored values to grays: palettes, inverted grays, 16 bits, windows."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from pydicom.uid import ExplicitVRBigEndian, ExplicitVRLittleEndian

from AGTraining.errors import InputError
from AGTraining.imaging.frames import open_frames
from Testing.AGTraining.imaging.ultrasound_dicom import images, palette, smooth, write


def test_an_inverted_palette_gives_the_inverted_grays(tmp_path: Path) -> None:
    table = np.arange(255, -1, -1)
    path = write(tmp_path / "clip.dcm", smooth(), **palette(table, table, table, 8))

    assert np.array_equal(images(path), 255 - smooth())


def test_palette_colors_of_16_bits_become_the_mean_of_their_upper_bytes(tmp_path: Path) -> None:
    red, green, blue = np.arange(256) << 8, np.arange(255, -1, -1) << 8, np.full(256, 90 << 8)
    path = write(tmp_path / "clip.dcm", smooth(), **palette(red, green, blue, 16))

    assert images(path) == pytest.approx(np.full(smooth().shape, (255 + 90) / 3), abs=1e-4)


def test_a_palette_without_its_tables_gets_a_sentence(tmp_path: Path) -> None:
    path = write(tmp_path / "clip.dcm", smooth(), PhotometricInterpretation="PALETTE COLOR")

    with pytest.raises(InputError, match="its color palette cannot be read"):
        open_frames(path)


def test_monochrome1_is_inverted(tmp_path: Path) -> None:
    path = write(tmp_path / "clip.dcm", smooth(), PhotometricInterpretation="MONOCHROME1")

    assert np.array_equal(images(path), 255 - smooth())


@pytest.mark.parametrize("syntax", [ExplicitVRLittleEndian, ExplicitVRBigEndian])
def test_16_bits_stay_without_a_window(tmp_path: Path, syntax: str) -> None:
    deep = smooth().astype(np.uint16) * 200
    stored = deep.astype(">u2" if syntax == ExplicitVRBigEndian else "<u2")
    path = write(tmp_path / "clip.dcm", stored, syntax)

    assert images(path).dtype == np.uint16
    assert np.array_equal(images(path), deep)


def test_16_bits_are_rescaled_and_shown_through_the_window(tmp_path: Path) -> None:
    signed = np.array([[[-100, 0, 100, 1000]]], np.int16)
    path = write(
        tmp_path / "clip.dcm", signed, PixelRepresentation=1, RescaleSlope=2, RescaleIntercept=50,
        WindowCenter=[100.5, 7], WindowWidth=[201, 7],
    )  # fmt: skip

    # 2·s + 50 = -150, 50, 250, 2050; black below 0, white above 200: PS3.3 C.11.2.1.2.1.
    assert images(path)[0] == pytest.approx(np.array([[0, 50 / 200 * 255, 255, 255]]), abs=1e-3)


def test_bits_that_do_not_belong_to_the_picture_are_ignored(tmp_path: Path) -> None:
    values = np.array([[[1, 4095], [0xF001, 0x8000]]], np.uint16)
    path = write(tmp_path / "clip.dcm", values, BitsStored=12, HighBit=11)

    assert images(path).tolist() == [[[1, 4095], [1, 0]]]
