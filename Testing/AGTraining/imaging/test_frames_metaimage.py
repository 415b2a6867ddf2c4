"""MetaImage clips, with headers as the Plus toolkit writes them."""

from __future__ import annotations

import zlib
from pathlib import Path

import numpy as np
import pytest

from AGTraining.errors import InputError
from AGTraining.imaging.frame_sequence import FrameError
from AGTraining.imaging.frames import open_frames


def ramp(count: int, rows: int = 3, columns: int = 4) -> np.ndarray:
    return (np.arange(count * rows * columns) % 251).astype(np.uint8).reshape(count, rows, columns)


def write(path: Path, frames: np.ndarray, compress: bool = False, data: bytes | None = None, **changes: object) -> Path:
    """A Plus sequence (frames, rows, columns); `changes` replace, add or (None) remove header lines."""
    data = frames.tobytes() if data is None else data
    data = zlib.compress(data) if compress else data
    fields: dict[str, object] = {
        "ObjectType": "Image",
        "NDims": 3,
        "BinaryData": True,
        "CompressedData": compress,
        "CompressedDataSize": f"{len(data)}          ",
        "DimSize": " ".join(str(n) for n in frames.shape[::-1]) + "      ",
        "Kinds": "domain domain list",
        "ElementSpacing": "1 1 1",
        "ElementType": "MET_UCHAR",
        "UltrasoundImageOrientation": "MFA",
        **changes,
        "ElementDataFile": changes.get("ElementDataFile", "LOCAL"),
    }
    header = "".join(f"{key} = {value}\n" for key, value in fields.items() if value is not None)
    path.write_bytes(header.encode() + (data if fields["ElementDataFile"] == "LOCAL" else b""))
    return path


def images(path: Path) -> np.ndarray:
    with open_frames(path) as clip:
        return np.array([frame.image for frame in clip])


@pytest.mark.parametrize("compress", [False, True])
def test_frames_are_those_that_were_written(tmp_path: Path, compress: bool) -> None:
    path = write(tmp_path / "clip.igs.mha", ramp(5), compress)

    assert np.array_equal(images(path), ramp(5))
    with open_frames(path) as clip:
        assert clip.messages == []
        assert [int(clip.read(n).image[0, 0]) for n in (4, 1, 2)] == [48, 12, 24]


def test_times_and_status_stand_in_the_header_frame_by_frame(tmp_path: Path) -> None:
    fields = {f"Seq_Frame{n:04}_Timestamp": 98 + 0.1 * n for n in (0, 2)}
    path = write(tmp_path / "clip.mha", ramp(4), **fields, Seq_Frame0001_ImageStatus="INVALID")

    with open_frames(path) as clip:
        frames = list(clip)

    assert [(frame.index, frame.seconds) for frame in frames] == [(0, 98.0), (2, 98.2), (3, None)]
    assert clip.messages == [f"{path}: frame 2 was left out: its header calls the image invalid."]


@pytest.mark.parametrize(
    ("orientation", "stored"),
    [
        ("MF", lambda upright: upright),
        ("UF", lambda upright: upright[:, :, ::-1]),
        ("MN", lambda upright: upright[:, ::-1]),
        ("UNA", lambda upright: upright[:, ::-1, ::-1]),
        ("FM", lambda upright: upright.transpose(0, 2, 1)),
        ("NU", lambda upright: upright[:, ::-1, ::-1].transpose(0, 2, 1)),
    ],
)
def test_frames_are_turned_so_that_the_probe_is_on_top(tmp_path: Path, orientation: str, stored: object) -> None:
    upright = ramp(2)
    frames = np.ascontiguousarray(stored(upright))  # type: ignore[operator]
    path = write(tmp_path / "clip.mha", frames, UltrasoundImageOrientation=orientation, ElementSpacing="0.5 0.5 1")

    assert np.array_equal(images(path), upright)
    with open_frames(path) as clip:
        turned = [f"{path}: its frames were turned from {orientation} to MF, as the Plus toolkit does."]
        assert clip.messages == ([] if orientation == "MF" else turned)


def test_an_orientation_that_nobody_defined_is_left_and_told(tmp_path: Path) -> None:
    path = write(tmp_path / "clip.mha", ramp(2), UltrasoundImageOrientation="XX")

    assert np.array_equal(images(path), ramp(2))
    with open_frames(path) as clip:
        assert "UltrasoundImageOrientation 'XX' is not known" in clip.messages[0]


def test_colors_lie_beside_each_other(tmp_path: Path) -> None:
    color = np.random.default_rng(0).integers(0, 255, (2, 3, 4, 3), np.uint8)
    path = write(tmp_path / "clip.mha", color[..., 0], data=color.tobytes(), ElementNumberOfChannels=3)

    assert images(path) == pytest.approx(color.mean(axis=-1), abs=1e-4)


def test_other_types_byte_orders_and_spacings(tmp_path: Path) -> None:
    values = np.array([[[1, 40000], [3, 4]]], ">u2")
    path = write(
        tmp_path / "clip.mha", values, ElementType="MET_USHORT", BinaryDataByteOrderMSB=True, ElementSpacing="0.2 0.3 1"
    )

    assert images(path).tolist() == values.tolist()
    with open_frames(path) as clip:
        assert clip.spacing_mm == (0.2, 0.3)


def test_the_spacing_that_means_not_calibrated_is_none(tmp_path: Path) -> None:
    with open_frames(write(tmp_path / "clip.mha", ramp(2))) as clip:
        assert clip.spacing_mm is None


def test_pixels_can_lie_in_a_file_of_their_own(tmp_path: Path) -> None:
    (tmp_path / "clip.zraw").write_bytes(zlib.compress(ramp(3).tobytes()))
    path = write(tmp_path / "clip.mhd", ramp(3), ElementDataFile="clip.zraw", CompressedData=True)

    assert np.array_equal(images(path), ramp(3))
    (tmp_path / "clip.zraw").unlink()
    with pytest.raises(InputError, match=r"its data file 'clip.zraw' is missing"):
        open_frames(path)


def test_a_sequence_of_single_slices_in_four_dimensions_is_a_clip(tmp_path: Path) -> None:
    path = write(tmp_path / "clip.mha", ramp(3), NDims=4, DimSize="4 3 1 3", Kinds="domain domain domain list")

    assert np.array_equal(images(path), ramp(3))


def test_a_volume_that_does_not_call_itself_a_sequence_is_taken_as_one_with_a_message(tmp_path: Path) -> None:
    path = write(tmp_path / "volume.mha", ramp(3), Kinds=None)

    assert np.array_equal(images(path), ramp(3))
    with open_frames(path) as clip:
        assert clip.messages == [
            f"{path}: its header does not say that it is a sequence; its 3 slices were taken as frames."
        ]


@pytest.mark.parametrize("compress", [False, True])
def test_frames_before_the_end_of_a_file_that_was_cut_off_are_kept(tmp_path: Path, compress: bool) -> None:
    # Noise, so that compressed data are as long as others and end within the clip as well.
    frames = np.random.default_rng(0).integers(0, 255, (10, 30, 40), np.uint8)
    path = write(tmp_path / "clip.mha", frames, compress)
    path.write_bytes(path.read_bytes()[:-7000])
    kept = []

    with open_frames(path) as clip, pytest.raises(FrameError, match="cut off after 4 of 10 frames") as caught:
        for frame in clip:
            kept.append(frame.image)

    assert caught.value.index == len(kept) == 4
    assert np.array_equal(kept, frames[:4])


def test_damaged_compressed_data_that_can_still_be_unpacked_are_told(tmp_path: Path) -> None:
    frames = np.random.default_rng(0).integers(0, 40, (10, 100, 100), np.uint8)
    path = write(tmp_path / "clip.mha", frames, compress=True)
    data = bytearray(path.read_bytes())
    data[-30000:-29000] = b"\xff" * 1000
    path.write_bytes(bytes(data))

    with open_frames(path) as clip:
        read = [frame.image for frame in clip]
        assert np.array_equal(read[:5], frames[:5])
        assert not np.array_equal(read, frames)
        assert "do not match their checksum" in clip.messages[0]


def test_damaged_compressed_data_that_cannot_be_unpacked_end_the_clip_there(tmp_path: Path) -> None:
    frames = ramp(10, 50, 50)
    packer = zlib.compressobj()
    start = b"".join(packer.compress(frame.tobytes()) for frame in frames[:6]) + packer.flush(zlib.Z_FULL_FLUSH)
    # 0x07 begins a block of a kind that deflate does not have.
    path = write(tmp_path / "clip.mha", frames, data=start + b"\x07" * 100, CompressedData=True)
    read = []

    with open_frames(path) as clip, pytest.raises(FrameError, match="damaged after 6 of 10 frames, which are whole"):
        for frame in clip:
            read.append(frame.image)

    assert np.array_equal(read, frames[:6])


def test_a_wrong_checksum_is_told(tmp_path: Path) -> None:
    path = write(tmp_path / "clip.mha", ramp(5), compress=True)
    path.write_bytes(path.read_bytes()[:-4] + b"\0\0\0\0")

    with open_frames(path) as clip:
        assert len(list(clip)) == len(list(clip)) == 5
        assert clip.messages == [
            f"{path}: its compressed data do not match their checksum, so that some frames may be damaged."
        ]


def test_floats_with_nan_lose_that_frame_only(tmp_path: Path) -> None:
    frames = np.ones((3, 2, 2), np.float32)
    frames[1, 0, 0] = np.nan
    path = write(tmp_path / "clip.mha", frames, ElementType="MET_FLOAT")

    with open_frames(path) as clip:
        assert [frame.index for frame in clip] == [0, 2]
        assert "it has pixels that are not numbers" in clip.messages[0]


@pytest.mark.parametrize(
    ("changes", "sentence"),
    [
        ({"DimSize": "4 3 0"}, "it holds no frame"),
        ({"DimSize": "4 3 2 5", "NDims": 4, "Kinds": "domain domain domain list"}, "a sequence of volumes"),
        ({"DimSize": "4 3 2 5", "NDims": 4, "Kinds": None}, "a sequence of volumes"),
        ({"DimSize": "60", "NDims": 1, "Kinds": None}, "rows and columns are needed"),
        ({"UltrasoundImageType": "RF_REAL"}, "radio-frequency lines"),
        ({"ElementNumberOfChannels": 5}, "5 values a pixel; gray or RGB"),
        ({"ElementType": "MET_STRING"}, "its type is MET_STRING"),
        ({"DimSize": None}, "dimsize is missing"),
        ({"DimSize": "4 x 3"}, "cannot be understood"),
        ({"BinaryData": False}, "written as text"),
        ({"ElementDataFile": "slice%03d.raw"}, "in several files"),
    ],
)
def test_headers_that_are_no_clip_get_a_sentence(tmp_path: Path, changes: dict[str, object], sentence: str) -> None:
    path = write(tmp_path / "clip.mha", ramp(5), **changes)

    with pytest.raises(InputError, match=sentence) as caught:
        open_frames(path)

    assert str(caught.value).startswith(str(path))


def test_a_header_that_was_cut_off_gets_a_sentence(tmp_path: Path) -> None:
    path = write(tmp_path / "clip.mha", ramp(5))
    path.write_bytes(path.read_bytes()[:90])

    with pytest.raises(InputError, match="cut off before its end"):
        open_frames(path)


@pytest.mark.parametrize(
    ("size", "sentence"),
    [
        ("-4 3 2", "it holds no frame"),
        ("-4 -3 2", "it holds no frame"),
        ("64000000 4800000 2", "its header does not fit its data"),
        ("6400000000000 4800000000000 2", "its header does not fit its data"),
    ],
)
@pytest.mark.parametrize("compress", [False, True])
def test_impossible_sizes_get_a_sentence(tmp_path: Path, compress: bool, size: str, sentence: str) -> None:
    path = write(tmp_path / "clip.mha", ramp(2), compress, DimSize=size)
    with pytest.raises(InputError, match=sentence), open_frames(path) as clip:
        list(clip)


def test_data_file_that_is_shorter_than_its_header_says_gets_one_sentence(tmp_path: Path) -> None:
    (tmp_path / "clip.raw").write_bytes(b"123")
    path = write(tmp_path / "clip.mhd", ramp(2), HeaderSize=-1, ElementDataFile="clip.raw")
    with pytest.raises(InputError, match=r"clip.mhd: the file is cut off[^;]*; copy or export it again.$"):
        open_frames(path)
