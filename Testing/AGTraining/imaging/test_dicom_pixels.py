"""Colors and compressed frames, compared with what pydicom reads or with what was written."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pydicom
import pytest
import SimpleITK as sitk
from pydicom.encaps import encapsulate, generate_fragments
from pydicom.pixels import pixel_array
from pydicom.uid import JPEG2000Lossless, JPEGBaseline8Bit, JPEGLosslessSV1, JPEGLSLossless, RLELossless

from AGTraining.errors import InputError
from AGTraining.imaging import dicom_pixels
from AGTraining.imaging.frames import open_frames
from Testing.AGTraining.imaging.ultrasound_dicom import coded, images, palette, smooth, write

HTJ2K = "1.2.840.10008.1.2.4.201"


@pytest.mark.parametrize("planar", [0, 1])
def test_rgb_becomes_the_mean(tmp_path: Path, planar: int) -> None:
    color = smooth(channels=3)
    stored = color.transpose(0, 3, 1, 2) if planar else color
    path = write(tmp_path / "clip.dcm", color, PlanarConfiguration=planar, PixelData=stored.tobytes())

    assert images(path) == pytest.approx(color.mean(axis=-1), abs=1e-4)


def test_ybr_is_converted_before_the_mean(tmp_path: Path) -> None:
    ybr = np.random.default_rng(0).integers(0, 255, (2, 4, 6, 3), np.uint8)
    path = write(tmp_path / "clip.dcm", ybr, PhotometricInterpretation="YBR_FULL")

    # Rounding of each color by one at most.
    assert images(path) == pytest.approx(pixel_array(path).mean(axis=-1), abs=1.01)


def test_ybr_with_shared_colors(tmp_path: Path) -> None:
    stored = np.random.default_rng(0).integers(0, 255, (2, 4, 6, 2), np.uint8)
    path = write(
        tmp_path / "clip.dcm",
        np.zeros((2, 4, 6, 3), np.uint8),
        PhotometricInterpretation="YBR_FULL_422",
        PixelData=stored.tobytes(),
    )

    assert images(path) == pytest.approx(pixel_array(path).mean(axis=-1), abs=1.01)


@pytest.mark.parametrize("offsets", [True, False])
@pytest.mark.parametrize("pieces", [1, 3])
def test_jpeg_frames_however_they_are_cut_into_fragments(tmp_path: Path, offsets: bool, pieces: int) -> None:
    frames = smooth(4, 40, 56)
    data = encapsulate(coded(frames, "JPEG", quality=95), fragments_per_frame=pieces, has_bot=offsets)
    path = write(tmp_path / "clip.dcm", frames, JPEGBaseline8Bit, PixelData=data)

    assert images(path).shape == frames.shape
    assert np.abs(images(path).astype(int) - frames).max() <= 3
    with open_frames(path) as clip:
        assert np.array_equal(clip.read(3).image, images(path)[3])


def test_jpeg_in_color(tmp_path: Path) -> None:
    frames = smooth(2, 40, 56, 3)
    data = encapsulate(coded(frames, "JPEG", quality=95))
    path = write(
        tmp_path / "clip.dcm", frames, JPEGBaseline8Bit, PixelData=data, PhotometricInterpretation="YBR_FULL_422"
    )

    assert np.abs(images(path) - frames.mean(axis=-1)).max() <= 3


@pytest.mark.parametrize("photometric", ["RGB", "YBR_FULL"])
def test_rle_in_color(tmp_path: Path, photometric: str) -> None:
    color = np.random.default_rng(0).integers(0, 255, (2, 16, 20, 3), np.uint8)
    path = write(tmp_path / "plain.dcm", color, PhotometricInterpretation=photometric)
    data = pydicom.dcmread(path)
    data.compress(RLELossless)
    data.save_as(tmp_path / "rle.dcm")

    assert np.array_equal(images(tmp_path / "rle.dcm"), images(path))


def test_rle_with_palette_and_16_bits(tmp_path: Path) -> None:
    table = np.arange(255, -1, -1)
    for path, frames in (
        (write(tmp_path / "palette.dcm", smooth(), **palette(table, table, table, 8)), 255 - smooth()),
        (write(tmp_path / "deep.dcm", smooth().astype(np.uint16) * 200), smooth().astype(np.uint16) * 200),
    ):
        data = pydicom.dcmread(path)
        data.compress(RLELossless)
        data.save_as(path)

        assert np.array_equal(images(path), frames)


def test_jpeg_2000_in_color(tmp_path: Path) -> None:
    frames = smooth(2, 40, 56, 3)
    data = encapsulate(coded(frames, "JPEG2000", no_jp2=True, irreversible=False, mct=1))
    path = write(tmp_path / "clip.dcm", frames, JPEG2000Lossless, PixelData=data, PhotometricInterpretation="YBR_RCT")

    assert images(path) == pytest.approx(frames.mean(axis=-1), abs=1e-4)


@pytest.mark.parametrize("compressor", ["JPEG", "JPEG2000"])
@pytest.mark.parametrize("kind", [np.uint8, np.uint16])
def test_lossless_codes_for_which_pydicom_needs_other_packages(tmp_path: Path, compressor: str, kind: type) -> None:
    frames = smooth(2).astype(kind) * (1 if kind is np.uint8 else 100)
    writer = sitk.ImageFileWriter()
    writer.SetFileName(str(tmp_path / "clip.dcm"))
    writer.UseCompressionOn()
    writer.SetCompressor(compressor)
    writer.Execute(sitk.GetImageFromArray(frames))
    assert pydicom.dcmread(tmp_path / "clip.dcm").file_meta.TransferSyntaxUID in (JPEGLosslessSV1, JPEG2000Lossless)

    assert np.array_equal(images(tmp_path / "clip.dcm"), frames)


def test_jpeg_ls(tmp_path: Path) -> None:
    frame = np.add.outer(np.arange(6) * 5, np.arange(8) * 3).astype(np.uint8)
    # Written by pyjpegls (CharLS).
    data = bytes.fromhex(
        "ffd8fff7000b060006000801011100ffda00080101000000008ccfdf0424ca840abd09fe6fd27f00ffd9"
    )  # fmt: skip
    path = write(tmp_path / "clip.dcm", frame[None], JPEGLSLossless, PixelData=encapsulate([data]))

    assert np.array_equal(images(path), frame[None])


def test_a_damaged_frame_among_others_is_left_out(tmp_path: Path) -> None:
    frames = smooth(4, 40, 56)
    parts = coded(frames, "JPEG", quality=95)
    parts[1] = b"\0" * 100 + b"\xff\xd9"
    path = write(tmp_path / "clip.dcm", frames, JPEGBaseline8Bit, PixelData=encapsulate(parts))

    with open_frames(path) as clip:
        assert [frame.index for frame in clip] == [0, 2, 3]
        assert clip.messages == [f"{path}: frame 2 was left out: its compressed data are damaged."]


def test_a_compression_that_cannot_be_decoded_gets_a_sentence(tmp_path: Path) -> None:
    path = write(tmp_path / "clip.dcm", smooth(), HTJ2K, PixelData=encapsulate([b"frame", b"x", b"y"]))

    with pytest.raises(InputError, match=r"compressed as 'High-Throughput.*', which cannot be decoded here; export it"):
        open_frames(path)


def test_fragments_of_pydicom_are_what_this_program_finds(tmp_path: Path) -> None:
    parts = coded(smooth(3, 40, 56), "JPEG")
    path = write(tmp_path / "clip.dcm", smooth(3, 40, 56), JPEGBaseline8Bit, PixelData=encapsulate(parts))

    with open(path, "rb") as file:
        data = file.read()
        start = data.index(b"\xe0\x7f\x10\x00") + 12
        table, pieces = dicom_pixels.fragments(file, start, len(data))

    assert len(table) == 3
    assert [data[at : at + length] for at, length in pieces] == list(
        generate_fragments(pydicom.dcmread(path).PixelData)
    )[1:]
