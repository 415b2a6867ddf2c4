"""Ultrasound clips in DICOM files: frames, times, spacing, and files that are none."""

from __future__ import annotations

import tracemalloc
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pydicom
import pytest
import SimpleITK as sitk
from pydicom.dataset import Dataset
from pydicom.encaps import encapsulate
from pydicom.pixels import pixel_array
from pydicom.sequence import Sequence
from pydicom.uid import (
    CTImageStorage,
    DeflatedExplicitVRLittleEndian,
    ExplicitVRLittleEndian,
    ImplicitVRLittleEndian,
    RLELossless,
)

from AGTraining.errors import InputError
from AGTraining.imaging.frame_sequence import FrameError
from AGTraining.imaging.frames import open_frames
from Testing.AGTraining.imaging.ultrasound_dicom import images, smooth, write

MPEG2 = "1.2.840.10008.1.2.4.100"


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


def test_memory_does_not_grow_with_the_length_of_a_clip(tmp_path: Path) -> None:
    frames = np.random.default_rng(0).integers(0, 255, (1000, 64, 80), np.uint8)
    path = write(tmp_path / "clip.dcm", frames)
    # What is imported and cached once is not the clip's.
    images(write(tmp_path / "short.dcm", frames[:2]))
    total = 0
    tracemalloc.start()
    with open_frames(path) as clip:
        for frame in clip:
            total += int(frame.image.sum())
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()

    assert total == frames.sum()
    # Of 5 MB: some frames of 5 kB, where each frame lies, and pydicom's header.
    assert peak < 800_000
