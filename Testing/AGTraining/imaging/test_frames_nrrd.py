"""NRRD clips: plain, from Slicer and from the Plus toolkit."""

from __future__ import annotations

import bz2
import gzip
from pathlib import Path

import numpy as np
import pytest

from AGTraining.errors import InputError
from AGTraining.imaging.frame_sequence import FrameError
from AGTraining.imaging.frames import open_frames

PACK = {"raw": bytes, "gzip": gzip.compress, "bzip2": bz2.compress}


def ramp(count: int, rows: int = 3, columns: int = 4) -> np.ndarray:
    return (np.arange(count * rows * columns) % 251).astype(np.uint8).reshape(count, rows, columns)


def write(path: Path, array: np.ndarray, encoding: str = "raw", **changes: str | None) -> Path:
    """An NRRD file of an array (slowest axis first); `changes` replace, add or (None) remove fields, "_" is a blank."""
    fields: dict[str, str | None] = {
        "type": "unsigned char",
        "dimension": str(array.ndim),
        "sizes": " ".join(str(n) for n in array.shape[::-1]),
        "encoding": encoding,
        **{key.replace("_", " "): value for key, value in changes.items()},
    }
    data = PACK.get(encoding, bytes)(array.tobytes())
    header = "".join(f"{key}: {value}\n" for key, value in fields.items() if value is not None)
    path.write_bytes(f"NRRD0004\n# a comment: with colon\n{header}".encode() + b"\n" + data)
    return path


def add_values(path: Path, **values: str) -> Path:
    """Adds `key:=value` lines, "_" in a key is a blank."""
    lines = "".join(f"{key.replace('__', ' ')}:={value}\n" for key, value in values.items())
    path.write_bytes(path.read_bytes().replace(b"\n\n", b"\n" + lines.encode() + b"\n", 1))
    return path


def images(path: Path) -> np.ndarray:
    with open_frames(path) as clip:
        return np.array([frame.image for frame in clip])


@pytest.mark.parametrize("encoding", ["raw", "gzip", "bzip2"])
def test_frames_are_those_that_were_written(tmp_path: Path, encoding: str) -> None:
    path = write(tmp_path / "clip.nrrd", ramp(5), encoding, kinds="domain domain list")

    assert np.array_equal(images(path), ramp(5))
    with open_frames(path) as clip:
        assert clip.messages == []
        assert [int(clip.read(n).image[0, 0]) for n in (4, 1, 2)] == [48, 12, 24]


@pytest.mark.parametrize("encoding", ["raw", "gzip"])
@pytest.mark.parametrize(
    ("kinds", "axes"),
    [
        ("vector domain domain list", (0, 1, 2, 3)),
        ("RGB-color space space time", (0, 1, 2, 3)),
        ("list domain domain vector", (3, 1, 2, 0)),
        ("domain domain vector list", (0, 3, 1, 2)),
        ("domain domain list vector", (3, 0, 1, 2)),
    ],
)
def test_axes_of_frames_and_colors_can_be_anywhere(
    tmp_path: Path, encoding: str, kinds: str, axes: tuple[int, ...]
) -> None:
    # (frame, row, column, color), the slowest first.
    color = np.random.default_rng(0).integers(0, 255, (5, 4, 6, 3), np.uint8)
    path = write(tmp_path / "clip.nrrd", np.ascontiguousarray(color.transpose(axes)), encoding, kinds=kinds)

    assert images(path) == pytest.approx(color.mean(axis=-1), abs=1e-4)
    with open_frames(path) as clip:
        assert clip.read(3).image == pytest.approx(color[3].mean(axis=-1), abs=1e-4)


def test_without_kinds_a_first_axis_of_three_holds_colors_and_the_last_axis_frames(tmp_path: Path) -> None:
    color = np.random.default_rng(0).integers(0, 255, (5, 4, 6, 3), np.uint8)

    assert images(write(tmp_path / "color.nrrd", color)) == pytest.approx(color.mean(axis=-1), abs=1e-4)
    assert np.array_equal(images(write(tmp_path / "gray.nrrd", color[..., 0])), color[..., 0])
    assert images(write(tmp_path / "single.nrrd", color[0])) == pytest.approx(color[:1].mean(axis=-1), abs=1e-4)


def test_a_sequence_saved_by_slicer_has_its_times_and_spacing(tmp_path: Path) -> None:
    path = write(
        tmp_path / "clip.seq.nrrd",
        ramp(3)[:, None],
        space="left-posterior-superior",
        space_directions="(-0.5,0,0) (0,-0.25,0) (0,0,1) none",
        kinds="domain domain domain list",
        labels='"" "" "" "time"',
        units='"" "" "" "s"',
    )
    add_values(path, axis__3__index__type="numeric", axis__3__index__values="232.5 232.6 232.7")

    with open_frames(path) as clip:
        assert [frame.seconds for frame in clip] == [232.5, 232.6, 232.7]
        assert clip.spacing_mm == (0.5, 0.25)
    assert np.array_equal(images(path), ramp(3))


def test_index_values_that_are_no_times_are_none(tmp_path: Path) -> None:
    path = write(tmp_path / "clip.seq.nrrd", ramp(2), kinds="domain domain list", units='"mm" "mm" ""')
    add_values(path, axis__2__index__values="5 6")

    with open_frames(path) as clip:
        assert [frame.seconds for frame in clip] == [None, None]


def test_times_by_the_spacing_of_the_axis_of_time(tmp_path: Path) -> None:
    path = write(
        tmp_path / "clip.nrrd", ramp(3), kinds="space space time", spacings="0.2 0.3 40", units='"mm" "mm" "ms"'
    )

    with open_frames(path) as clip:
        assert [frame.seconds for frame in clip] == pytest.approx([0, 0.04, 0.08])
        assert clip.spacing_mm == (0.2, 0.3)


def test_the_plus_toolkit_writes_times_and_orientation_as_values(tmp_path: Path) -> None:
    path = write(tmp_path / "clip.igs.nrrd", ramp(2)[:, ::-1], "gzip", kinds="domain domain list")
    add_values(path, ultrasound__image__orientation="MN", Seq_Frame0001_Timestamp="7.25", Seq_Frame0000_Status="OK")

    with open_frames(path) as clip:
        assert [frame.seconds for frame in clip] == [None, 7.25]
    assert np.array_equal(images(path), ramp(2))


def test_pixels_can_lie_in_a_file_of_their_own(tmp_path: Path) -> None:
    (tmp_path / "clip.raw").write_bytes(b"one line\nxx" + ramp(3).tobytes())
    kinds = "domain domain list"
    path = write(tmp_path / "clip.nhdr", ramp(3), kinds=kinds, data_file="clip.raw", line_skip="1", byte_skip="2")

    assert np.array_equal(images(path), ramp(3))
    path = write(tmp_path / "clip.nhdr", ramp(3), kinds=kinds, data_file="clip.raw", byte_skip="-1")
    assert np.array_equal(images(path), ramp(3))
    (tmp_path / "clip.raw").unlink()
    with pytest.raises(InputError, match=r"its data file 'clip.raw' is missing"):
        open_frames(path)


def test_bytes_in_the_order_of_other_machines(tmp_path: Path) -> None:
    values = np.array([[[-1, 2], [300, 4]]], ">i2")
    path = write(tmp_path / "clip.nrrd", values, type="int16", endian="big", kinds="domain domain list")

    assert images(path).tolist() == values.tolist()


@pytest.mark.parametrize("encoding", ["raw", "gzip", "bzip2"])
def test_frames_before_the_end_of_a_file_that_was_cut_off_are_kept(tmp_path: Path, encoding: str) -> None:
    # bzip2 packs blocks of 900 kB; only whole ones can be unpacked.
    frames = np.random.default_rng(0).integers(0, 255, (10, 500, 400), np.uint8)
    path = write(tmp_path / "clip.nrrd", frames, encoding, kinds="domain domain list")
    path.write_bytes(path.read_bytes()[:-300_000])
    kept = []

    with open_frames(path) as clip, pytest.raises(FrameError, match="cut off after [48] of 10 frames") as caught:
        for frame in clip:
            kept.append(frame.image)

    assert caught.value.index == len(kept) == (4 if encoding == "bzip2" else 8)
    assert np.array_equal(kept, frames[: len(kept)])


@pytest.mark.parametrize(
    ("changes", "sentence"),
    [
        ({"sizes": "4 3 0"}, "it holds no frame"),
        ({"sizes": "4 3 5 1 1"}, "3 axes with the sizes"),
        ({"sizes": "2 2 3 5", "dimension": "4", "kinds": "domain domain domain list"}, "a sequence of volumes"),
        ({"kinds": "2-vector domain domain", "sizes": "2 6 5"}, "2 values a pixel; gray or RGB"),
        ({"encoding": "hex"}, "written as hex"),
        ({"type": "block"}, "its type is block"),
        ({"type": None}, "type is missing"),
        ({"data_file": "LIST"}, "in several files"),
    ],
)
def test_headers_that_are_no_clip_get_a_sentence(tmp_path: Path, changes: dict[str, str | None], sentence: str) -> None:
    path = write(tmp_path / "clip.nrrd", ramp(5), **changes)

    with pytest.raises(InputError, match=sentence) as caught:
        open_frames(path)

    assert str(caught.value).startswith(str(path))


def test_radio_frequency_lines_get_a_sentence(tmp_path: Path) -> None:
    path = add_values(write(tmp_path / "clip.nrrd", ramp(2)), ultrasound__image__type="RF_I_LINE_Q_LINE")

    with pytest.raises(InputError, match="radio-frequency lines"):
        open_frames(path)


@pytest.mark.parametrize(
    ("skip", "sentence"), [(-1, "the file is cut off before its end"), (-5, "cannot be understood .byte skip is -5")]
)
def test_skipped_bytes_that_are_not_there_get_a_sentence(tmp_path: Path, skip: int, sentence: str) -> None:
    header = f"NRRD0004\ntype: uchar\ndimension: 3\nsizes: 5 4 9\nencoding: raw\nbyte skip: {skip}\n\n"
    # So many that the header's own bytes would have to serve as pixels.
    (tmp_path / "clip.nrrd").write_bytes(header.encode() + bytes(160))
    with pytest.raises(InputError, match=sentence):
        open_frames(tmp_path / "clip.nrrd")
