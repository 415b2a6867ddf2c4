"""Ultrasound in DICOM files, written with pydicom in the many ways of scanners and compared with its pixels."""

from __future__ import annotations

import io
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pydicom
import pytest
import SimpleITK as sitk
from PIL import Image
from pydicom.dataset import Dataset, FileMetaDataset
from pydicom.encaps import encapsulate, generate_fragments
from pydicom.pixels import pixel_array
from pydicom.sequence import Sequence
from pydicom.uid import (
    CTImageStorage,
    DeflatedExplicitVRLittleEndian,
    ExplicitVRBigEndian,
    ExplicitVRLittleEndian,
    ImplicitVRLittleEndian,
    JPEG2000Lossless,
    JPEGBaseline8Bit,
    RLELossless,
    UltrasoundMultiFrameImageStorage,
    generate_uid,
)

from AGTraining.errors import InputError
from AGTraining.imaging.frame_sequence import FrameError
from AGTraining.imaging.frames import open_frames

MPEG2, HTJ2K = "1.2.840.10008.1.2.4.100", "1.2.840.10008.1.2.4.201"


def smooth(count: int = 3, rows: int = 16, columns: int = 24, channels: int = 1) -> np.ndarray:
    """Frames (count, rows, columns[, channels]) whose values change slowly, so that lossy codes keep them."""
    frame, row, column, channel = np.indices((count, rows, columns, channels))
    values = (10 + frame * 20 + row + column * 2 + channel * 15).astype(np.uint8)
    return values if channels > 1 else values[..., 0]


def write(path: Path, frames: np.ndarray, syntax: str = ExplicitVRLittleEndian, **changes: Any) -> Path:
    """A clip (frames, rows, columns[, 3]); `changes` replace, add or (None) remove elements."""
    color = frames.ndim == 4
    meta = FileMetaDataset()
    meta.MediaStorageSOPClassUID = UltrasoundMultiFrameImageStorage
    meta.MediaStorageSOPInstanceUID = generate_uid()
    meta.TransferSyntaxUID = syntax
    data = Dataset()
    data.file_meta = meta
    bits = 8 * frames.itemsize
    elements = {
        "SOPClassUID": UltrasoundMultiFrameImageStorage,
        "SOPInstanceUID": meta.MediaStorageSOPInstanceUID,
        "Modality": "US",
        "PatientID": "phantom",
        "NumberOfFrames": len(frames),
        "Rows": frames.shape[1],
        "Columns": frames.shape[2],
        "SamplesPerPixel": 3 if color else 1,
        "PhotometricInterpretation": "RGB" if color else "MONOCHROME2",
        "BitsAllocated": bits,
        "BitsStored": bits,
        "HighBit": bits - 1,
        "PixelRepresentation": 0,
        "PixelData": frames.tobytes(),
        **({"PlanarConfiguration": 0} if color else {}),
        **changes,
    }
    for name, value in elements.items():
        if value is not None:
            setattr(data, name, value)
    data["PixelData"].VR = "OW" if bits == 16 else "OB"
    data["PixelData"].is_undefined_length = isinstance(changes.get("PixelData"), bytes) and syntax in (
        JPEGBaseline8Bit, JPEG2000Lossless, RLELossless, MPEG2, HTJ2K,
    )  # fmt: skip
    implicit = syntax == ImplicitVRLittleEndian
    pydicom.dcmwrite(
        path, data, enforce_file_format=True, implicit_vr=implicit, little_endian=syntax != ExplicitVRBigEndian
    )
    return path


def coded(frames: np.ndarray, kind: str, **options: Any) -> list[bytes]:
    """Each frame as a JPEG or JPEG 2000 picture."""
    parts = []
    for frame in frames:
        buffer = io.BytesIO()
        Image.fromarray(frame).save(buffer, kind, **options)
        parts.append(buffer.getvalue())
    return parts


def images(path: Path) -> np.ndarray:
    with open_frames(path) as clip:
        return np.array([frame.image for frame in clip])


@pytest.mark.parametrize("syntax", [ImplicitVRLittleEndian, ExplicitVRLittleEndian, DeflatedExplicitVRLittleEndian])
def test_gray_frames_are_those_that_were_written(tmp_path: Path, syntax: str) -> None:
    path = write(tmp_path / "clip.dcm", smooth(), syntax)

    assert images(path).dtype == np.uint8
    assert np.array_equal(images(path), smooth())
    with open_frames(path) as clip:
        assert np.array_equal(clip.read(2).image, smooth()[2])
        assert clip.messages == []


def test_a_file_of_a_scanner_needs_no_suffix(tmp_path: Path) -> None:
    assert np.array_equal(images(write(tmp_path / "IM0001", smooth())), smooth())


def test_a_single_frame_is_a_clip_of_one(tmp_path: Path) -> None:
    path = write(tmp_path / "still.dcm", smooth(1), NumberOfFrames=None)

    assert np.array_equal(images(path), smooth(1))


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


def palette(reds: np.ndarray, greens: np.ndarray, blues: np.ndarray, bits: int) -> dict[str, Any]:
    elements: dict[str, Any] = {"PhotometricInterpretation": "PALETTE COLOR"}
    for name, table in (("Red", reds), ("Green", greens), ("Blue", blues)):
        elements[f"{name}PaletteColorLookupTableDescriptor"] = [len(table), 0, bits]
        elements[f"{name}PaletteColorLookupTableData"] = table.astype(f"u{bits // 8}").tobytes()
    return elements


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


@pytest.mark.parametrize("compressor", ["JPEG", "JPEGLS", "JPEG2000"])
@pytest.mark.parametrize("kind", [np.uint8, np.uint16])
def test_lossless_codes_for_which_pydicom_needs_other_packages(tmp_path: Path, compressor: str, kind: type) -> None:
    frames = smooth(2).astype(kind) * (1 if kind is np.uint8 else 100)
    writer = sitk.ImageFileWriter()
    writer.SetFileName(str(tmp_path / "clip.dcm"))
    writer.UseCompressionOn()
    writer.SetCompressor(compressor)
    writer.Execute(sitk.GetImageFromArray(frames))
    assert pydicom.dcmread(tmp_path / "clip.dcm").file_meta.TransferSyntaxUID.is_compressed

    assert np.array_equal(images(tmp_path / "clip.dcm"), frames)


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


def test_a_video_in_a_dicom_file(tmp_path: Path) -> None:
    av = pytest.importorskip("av", reason="PyAV is not installed")
    frames = smooth(10, 48, 64)
    with av.open(str(tmp_path / "clip.ts"), "w") as container:
        stream = container.add_stream("mpeg2video", rate=25)
        stream.height, stream.width, stream.pix_fmt, stream.bit_rate = 48, 64, "yuv420p", 4_000_000
        for frame in frames:
            container.mux(stream.encode(av.VideoFrame.from_ndarray(frame, "gray")))
        container.mux(stream.encode())
    data = (tmp_path / "clip.ts").read_bytes()
    path = write(tmp_path / "clip.dcm", frames, MPEG2, PixelData=encapsulate([data], fragments_per_frame=3))

    with open_frames(path) as clip:
        read = [frame.image for frame in clip]
        assert clip.name == "clip.dcm"

    assert np.shape(read) == frames.shape
    assert np.abs(np.array(read) - frames.astype(np.float32)).mean() < 4


def test_a_damaged_video_in_a_dicom_file_gets_a_sentence(tmp_path: Path) -> None:
    pytest.importorskip("av", reason="PyAV is not installed")
    path = write(tmp_path / "clip.dcm", smooth(), MPEG2, PixelData=encapsulate([b"no video" * 99]))

    with pytest.raises(InputError, match=r"clip.dcm: the file is no video, or cut off or damaged"):
        open_frames(path)


@pytest.mark.parametrize("compress", [False, True])
def test_frames_before_the_end_of_a_file_that_was_cut_off_are_kept(tmp_path: Path, compress: bool) -> None:
    frames = np.random.default_rng(0).integers(0, 255, (6, 100, 100), np.uint8)
    path = write(tmp_path / "clip.dcm", frames)
    if compress:
        data = pydicom.dcmread(path)
        data.compress(RLELossless)
        data.save_as(path)
    path.write_bytes(path.read_bytes()[:-15000])
    kept = []

    with open_frames(path) as clip, pytest.raises(FrameError, match="cut off after 4 of 6 frames") as caught:
        for frame in clip:
            kept.append(frame.image)

    assert caught.value.index == 4
    assert np.array_equal(kept, frames[:4])


def test_a_file_that_was_cut_off_in_its_header_gets_a_sentence(tmp_path: Path) -> None:
    path = write(tmp_path / "clip.dcm", smooth())
    whole = path.read_bytes()
    for length in (140, 300, whole.index(b"\xe0\x7f\x10\x00") + 6, whole.index(b"\xe0\x7f\x10\x00") + 12):
        path.write_bytes(whole[:length])
        with pytest.raises(InputError, match=r"clip.dcm: ") as caught, open_frames(path) as clip:
            list(clip)
        assert "copy or export it again" in str(caught.value) or "without pictures" in str(caught.value)


@pytest.mark.parametrize(
    ("elements", "seconds"),
    [
        ({"FrameTime": 40}, [0, 0.04, 0.08]),
        ({"FrameTimeVector": [33, 50, 20]}, [0, 0.05, 0.07]),
        ({"FrameTimeVector": [0, 50]}, [None, None, None]),
        ({"CineRate": 20}, [0, 0.05, 0.1]),
        ({"RecommendedDisplayFrameRate": 10}, [0, 0.1, 0.2]),
        ({"FrameTime": 0, "CineRate": 50}, [0, 0.02, 0.04]),
        ({}, [None, None, None]),
    ],
)
def test_times(tmp_path: Path, elements: dict[str, Any], seconds: list[float | None]) -> None:
    with open_frames(write(tmp_path / "clip.dcm", smooth(), **elements)) as clip:
        assert [frame.seconds for frame in clip] == (seconds if seconds[0] is None else pytest.approx(seconds))


def region(x1: int, y1: int, delta: float, units: int = 3) -> Dataset:
    item = Dataset()
    item.RegionSpatialFormat = 1
    item.RegionDataType = 1
    item.RegionLocationMinX0 = item.RegionLocationMinY0 = 0
    item.RegionLocationMaxX1, item.RegionLocationMaxY1 = x1, y1
    item.PhysicalUnitsXDirection = item.PhysicalUnitsYDirection = units
    item.PhysicalDeltaX, item.PhysicalDeltaY = -delta, 2 * delta
    return item


def test_the_largest_calibrated_region_gives_the_spacing(tmp_path: Path) -> None:
    regions = Sequence([region(5, 5, 0.01), region(20, 12, 0.02), region(23, 15, 0.5, units=4)])

    with open_frames(write(tmp_path / "clip.dcm", smooth(), SequenceOfUltrasoundRegions=regions)) as clip:
        assert clip.spacing_mm == pytest.approx((0.2, 0.4))


def test_a_calibration_of_larger_frames_is_not_used(tmp_path: Path) -> None:
    path = write(tmp_path / "clip.dcm", smooth(), SequenceOfUltrasoundRegions=Sequence([region(600, 400, 0.02)]))

    with open_frames(path) as clip:
        assert clip.spacing_mm is None
        assert "its calibrated region is larger than its frames" in clip.messages[0]


def test_pixel_spacing_names_rows_first(tmp_path: Path) -> None:
    with open_frames(write(tmp_path / "clip.dcm", smooth(), PixelSpacing=[0.3, 0.2])) as clip:
        assert clip.spacing_mm == (0.2, 0.3)


@pytest.mark.parametrize(
    ("changes", "sentence"),
    [
        ({"NumberOfFrames": 0}, "it holds no frame"),
        ({"Rows": None}, "a DICOM file without pictures"),
        ({"SOPClassUID": "1.2.840.10008.5.1.4.1.1.6.2"}, "a 3-D ultrasound volume"),
        ({"BitsAllocated": 32, "BitsStored": 32, "HighBit": 31}, "1 × 32 bits. are of a kind"),
        ({"BitsAllocated": None}, "header cannot be understood"),
    ],
)
def test_files_that_are_no_clip_get_a_sentence(tmp_path: Path, changes: dict[str, Any], sentence: str) -> None:
    path = write(tmp_path / "clip.dcm", smooth(), **changes)

    with pytest.raises(InputError, match=sentence) as caught:
        open_frames(path)

    assert str(caught.value).startswith(str(path))


def test_another_modality_is_told(tmp_path: Path) -> None:
    path = write(tmp_path / "ct.dcm", smooth(1), Modality="CT", SOPClassUID=CTImageStorage)

    with open_frames(path) as clip:
        assert clip.messages == [f"{path}: its modality is CT, not ultrasound; results mean nothing."]


@pytest.mark.parametrize(
    ("name", "read"),
    [
        ("IM00001.implicit_little_endian.dcm", pixel_array),
        ("examples_ybr_color.dcm", pixel_array),
        ("OBXXXX1A_2frame.dcm", lambda path: sitk.GetArrayFromImage(sitk.ReadImage(path))),
    ],
)
@pytest.mark.filterwarnings("ignore:Incorrect value for Specific Character Set")
def test_public_clips_have_the_pixels_that_other_programs_read(
    shared_data: Path, name: str, read: Callable[[Path], np.ndarray]
) -> None:
    path = shared_data / "ultrasound" / "sequences" / name
    if not path.is_file():
        pytest.skip(f"the public sequences are not on this machine ({path})")

    # float32 of a mean of three.
    assert np.abs(images(path) - read(path).mean(axis=-1)).max() < 1e-3


def test_fragments_of_pydicom_are_what_this_program_finds(tmp_path: Path) -> None:
    parts = coded(smooth(3, 40, 56), "JPEG")
    path = write(tmp_path / "clip.dcm", smooth(3, 40, 56), JPEGBaseline8Bit, PixelData=encapsulate(parts))
    from AGTraining.imaging import dicom_pixels

    with open(path, "rb") as file:
        data = file.read()
        start = data.index(b"\xe0\x7f\x10\x00") + 12
        table, pieces = dicom_pixels.fragments(file, start, len(data))

    assert len(table) == 3
    assert [data[at : at + length] for at, length in pieces] == list(
        generate_fragments(pydicom.dcmread(path).PixelData)
    )[1:]
