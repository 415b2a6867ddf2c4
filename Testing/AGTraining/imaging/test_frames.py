"""What every clip does, whatever its format, and which files a command line means."""

from __future__ import annotations

import shutil
import tracemalloc
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
import SimpleITK as sitk
from PIL import Image

from AGTraining.errors import InputError
from AGTraining.imaging.frame_sequence import Frame, FrameError, FrameSequence, Missing, display, gray
from AGTraining.imaging.frames import find_clips, open_frames


def ramp(count: int, rows: int = 6, columns: int = 8) -> np.ndarray:
    """A clip (count, rows, columns) in which every pixel tells frame, row and column."""
    frame, row, column = np.indices((count, rows, columns))
    return (frame * 50 + row * 8 + column).astype(np.uint8)


def write_mha(path: Path, frames: np.ndarray, compress: bool = True) -> Path:
    sitk.WriteImage(sitk.GetImageFromArray(frames), str(path), useCompression=compress)
    return path


class Recorded(FrameSequence):
    """Frames from memory, to see what the base class makes of them."""

    def __init__(self, items: list[Frame | Missing], breaks_off: bool = False, count: int | None = None) -> None:
        super().__init__(Path("clip.xyz"), count)
        self.items = items
        self.breaks_off = breaks_off

    def _read_from(self, start: int) -> Iterator[Frame | Missing]:
        yield from self.items[start:]
        if self.breaks_off:
            raise self._broken(len(self.items), "cut off")


def picture(index: int, value: float = 1.0) -> Frame:
    return Frame(index, np.full((2, 3), value, np.float32))


def test_a_damaged_frame_is_left_out_with_a_sentence() -> None:
    clip = Recorded([picture(0), Missing(1, "its data are damaged"), picture(2)])

    assert [frame.index for frame in clip] == [0, 2]
    assert clip.messages == ["clip.xyz: frame 2 was left out: its data are damaged."]


def test_many_damaged_frames_are_one_sentence_however_often_the_clip_is_read() -> None:
    clip = Recorded([picture(0), *(Missing(n, "damaged") for n in range(1, 9))])

    assert len(list(clip)) == len(list(clip)) == 1
    assert clip.messages == ["clip.xyz: 8 frames were left out (2, 3, 4, 5, 6, …): damaged."]


def test_frames_with_nan_are_left_out() -> None:
    clip = Recorded([picture(0), picture(1, np.nan), picture(2, np.inf), picture(3)])

    assert [frame.index for frame in clip] == [0, 3]
    assert "2 frames were left out (2, 3): it has pixels that are not numbers" in clip.messages[0]


def test_a_clip_that_breaks_off_gives_its_frames_and_then_the_error_with_the_number() -> None:
    clip = Recorded([picture(0), picture(1)], breaks_off=True, count=5)
    frames = []

    with pytest.raises(
        FrameError, match="clip.xyz: the file is cut off after 2 of 5 frames, which are whole"
    ) as caught:
        frames.extend(frame for frame in clip)
    indices = []
    with pytest.raises(FrameError):
        for frame in clip:
            indices.append(frame.index)

    assert caught.value.index == 2
    assert indices == [0, 1]


def test_a_clip_without_any_usable_frame_is_an_error() -> None:
    with pytest.raises(InputError, match="clip.xyz: none of its frames can be read .the file is no picture"):
        list(Recorded([Missing(0, "the file is no picture")]))


def test_a_frame_can_be_read_by_its_number_in_any_order() -> None:
    clip = Recorded([picture(0), picture(1), Missing(2, "damaged"), picture(3)], count=4)

    assert [clip.read(n).index for n in (3, 0, 1, 3)] == [3, 0, 1, 3]
    with pytest.raises(FrameError, match="frame 3 cannot be used .damaged"):
        clip.read(2)
    with pytest.raises(IndexError):
        clip.read(4)


def test_reading_by_number_does_not_disturb_an_iteration(tmp_path: Path) -> None:
    with open_frames(write_mha(tmp_path / "clip.mha", ramp(5))) as clip:
        seen = []
        for frame in clip:
            seen.append(int(frame.image[0, 0]))
            assert clip.read(4).image[0, 0] == 200

    assert seen == [0, 50, 100, 150, 200]


def test_colors_become_the_mean_of_red_green_and_blue() -> None:
    color = np.zeros((2, 2, 3), np.uint8)
    color[0, 0] = (255, 0, 1)

    assert gray(color).dtype == np.float32
    assert gray(color)[0, 0] == pytest.approx(256 / 3)
    assert not gray(color)[1].any()


def test_equal_colors_stay_whole_numbers_and_alpha_is_ignored() -> None:
    rgba = np.dstack([*(np.full((2, 2), 7, np.uint8),) * 3, np.array([[0, 255], [1, 2]], np.uint8)])

    assert gray(rgba).dtype == np.uint8
    assert (gray(rgba) == 7).all()


def test_other_numbers_become_float32_and_16_bits_stay() -> None:
    assert gray(np.array([[-5, 300]], np.int16)).tolist() == [[-5.0, 300.0]]
    assert gray(np.array([[1, 65535]], ">u2")).dtype == np.uint16
    assert gray(np.array([[1, 65535]], ">u2")).tolist() == [[1, 65535]]
    assert gray(np.array([[False, True]])).tolist() == [[0, 255]]


def test_display_rounds_what_fits_and_scales_what_does_not() -> None:
    assert display(np.array([[0.4, 254.6]], np.float32)).tolist() == [[0, 255]]
    assert display(np.array([[1000, 2000, 3000]], np.uint16)).tolist() == [[0, 128, 255]]
    assert display(np.full((1, 2), 999, np.uint16)).tolist() == [[0, 0]]


@pytest.mark.parametrize("compress", [False, True])
def test_memory_does_not_grow_with_the_length_of_a_clip(tmp_path: Path, compress: bool) -> None:
    frames = np.random.default_rng(0).integers(0, 255, (1000, 64, 80), np.uint8)
    path = write_mha(tmp_path / "clip.mha", frames, compress)
    total = 0
    tracemalloc.start()
    with open_frames(path) as clip:
        for frame in clip:
            total += int(frame.image.sum())
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()

    assert total == frames.sum()
    # Of 5 MB: some frames of 5 kB, and pieces of 64 kB of compressed data.
    assert peak < 400_000


@pytest.mark.parametrize(
    ("name", "content", "sentence"),
    [
        ("clip.mha", b"", "the file is empty"),
        ("clip.nrrd", b"no header", "is no NRRD file, or damaged"),
        ("clip.mha", b"no header", "is no MetaImage file, or damaged"),
        ("clip.xyz", b"some text", "of no known format"),
        ("ct.nii.gz", b"\x1f\x8b", "a volume file, not a clip of frames"),
        ("DICOMDIR", b"x", "name one of them, or their folder"),
        ("clip.dcm", b"no DICOM at all", "clip.dcm: a"),
        ("clip.png", b"\x89PNG\r\n\x1a\nbut not for long", "the file is no picture, or damaged"),
    ],
)
def test_files_that_are_no_clips_get_a_sentence(tmp_path: Path, name: str, content: bytes, sentence: str) -> None:
    path = tmp_path / name
    path.write_bytes(content)

    with pytest.raises(InputError, match=sentence) as caught:
        open_frames(path)

    assert str(caught.value).startswith(str(path))


def test_what_does_not_exist_gets_a_sentence(tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"gone.mha: no such file or folder"):
        open_frames(tmp_path / "gone.mha")
    with pytest.raises(InputError, match=r"gone: no such file or folder"):
        find_clips([tmp_path / "gone"])


@pytest.fixture
def archive(tmp_path: Path) -> Path:
    """A folder as people have them: clips, stills in folders of their own, other files, hidden ones."""
    for name in ("clip10.mha", "clip2.mha", "stills/frame.txt", "stills/a.png", "empty/notes.txt", ".hidden/clip.mha"):
        path = tmp_path / name
        path.parent.mkdir(exist_ok=True)
        path.write_bytes(b"x")
    Path(tmp_path, "scanner").mkdir()
    Path(tmp_path, "scanner", "IM0001").write_bytes(b"\0" * 128 + b"DICM")
    Path(tmp_path, "scanner", "README").write_bytes(b"text")
    return tmp_path


def test_a_folder_stands_for_all_clips_in_it_in_natural_order(archive: Path) -> None:
    found = [str(path.relative_to(archive)) for path in find_clips([archive])]

    assert found == ["clip2.mha", "clip10.mha", str(Path("scanner", "IM0001")), "stills"]


def test_a_clip_that_is_named_twice_is_found_once(archive: Path) -> None:
    assert len(find_clips([archive / "clip2.mha", archive, archive / "clip10.mha"])) == 4


def test_a_folder_without_clips_gets_a_sentence(archive: Path) -> None:
    with pytest.raises(InputError, match="empty: the folder holds no clips; name a DICOM, MHA"):
        find_clips([archive / "empty"])


def test_every_public_sequence_opens_and_is_not_empty(shared_data: Path) -> None:
    folder = shared_data / "ultrasound" / "sequences"
    if not folder.is_dir():
        pytest.skip(f"the public sequences are not on this machine ({folder})")
    counts, spread = {}, {}
    for path in find_clips([folder]):
        with open_frames(path) as clip:
            frames = list(clip)
            counts[path.name] = len(frames)
            spread[path.name] = min(float(np.ptp(frame.image)) for frame in frames)
            assert clip.count == len(frames)

    assert counts == {
        "BoneUltrasound_L14.igs.mha": 21,
        "ColorNrrdSample.igs.nrrd": 1,
        "examples_ybr_color.dcm": 30,
        "IM00001.implicit_little_endian.dcm": 8,
        "NrrdSample.igs.nrrd": 1,
        "OBXXXX1A_2frame.dcm": 2,
        "SpinePhantomFreehand.igs.mha": 21,
        "UltrasonixCurvilinearScanConvertedData.igs.mha": 5,
    }
    assert min(spread.values()) > 100


def test_frames_of_one_picture_are_the_same_in_every_format(tmp_path: Path) -> None:
    frames = ramp(3)
    folder = tmp_path / "folder"
    folder.mkdir()
    for n, frame in enumerate(frames):
        Image.fromarray(frame).save(folder / f"{n}.png")
    write_mha(tmp_path / "clip.mha", frames)
    sitk.WriteImage(sitk.GetImageFromArray(frames), str(tmp_path / "clip.nrrd"))
    shutil.copy(folder / "0.png", tmp_path / "single.png")

    for name in ("folder", "clip.mha", "clip.nrrd"):
        with open_frames(tmp_path / name) as clip:
            assert np.array_equal([frame.image for frame in clip], frames), name
    with open_frames(tmp_path / "single.png") as clip:
        assert np.array_equal(clip.read(0).image, frames[0])


def test_a_folder_that_cannot_be_read_gets_a_sentence(archive: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def closed(folder: Path) -> None:
        raise PermissionError(13, "Permission denied", str(folder))

    monkeypatch.setattr(Path, "iterdir", closed)
    with pytest.raises(InputError, match=r"cannot be read \(Permission denied\); check its permissions"):
        find_clips([archive])
