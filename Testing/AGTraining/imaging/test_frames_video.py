"""Video, where PyAV is installed, and the sentence where it is not."""

from __future__ import annotations

import sys
from pathlib import Path

import numpy as np
import pytest

from AGTraining.errors import InputError, PackageError
from AGTraining.imaging.frame_sequence import FrameError
from AGTraining.imaging.frames import open_frames

FRAMES = (np.add.outer(np.arange(48), np.arange(64)) + 10 * np.arange(12)[:, None, None]).astype(np.uint8)


def write(path: Path, codec: str = "ffv1", pixels: str = "gray", frames: np.ndarray = FRAMES) -> Path:
    """A video of 25 frames a second; ffv1 keeps every value."""
    av = pytest.importorskip("av", reason="PyAV is not installed")
    with av.open(str(path), "w") as container:
        stream = container.add_stream(codec, rate=25)
        stream.height, stream.width, stream.pix_fmt = *frames.shape[1:3], pixels
        for frame in frames:
            picture = av.VideoFrame.from_ndarray(frame, "gray" if frame.ndim == 2 else "rgb24")
            container.mux(stream.encode(picture))
        container.mux(stream.encode())
    return path


def test_frames_and_times_of_a_lossless_video(tmp_path: Path) -> None:
    with open_frames(write(tmp_path / "clip.mkv")) as clip:
        frames = list(clip)

    assert np.array_equal([frame.image for frame in frames], FRAMES)
    assert [frame.seconds for frame in frames] == pytest.approx(np.arange(12) / 25, abs=1e-3)


def test_frames_by_number_also_backwards(tmp_path: Path) -> None:
    with open_frames(write(tmp_path / "clip.avi")) as clip:
        assert clip.count == 12
        assert [np.array_equal(clip.read(n).image, FRAMES[n]) for n in (7, 8, 3)] == [True] * 3


def test_colors_become_the_mean(tmp_path: Path) -> None:
    color = np.stack([FRAMES, FRAMES // 2, FRAMES // 4], axis=-1)
    path = write(tmp_path / "clip.avi", "png", "rgb24", color)

    with open_frames(path) as clip:
        assert np.allclose([frame.image for frame in clip], color.mean(axis=-1), atol=1e-4)


def test_a_usual_video_differs_by_its_compression_only(tmp_path: Path) -> None:
    with open_frames(write(tmp_path / "clip.mp4", "mpeg4", "yuv420p")) as clip:
        images = np.array([frame.image for frame in clip])

    assert images.shape == FRAMES.shape
    assert np.abs(images - FRAMES).mean() < 4


def test_a_video_that_was_cut_off_keeps_its_first_frames(tmp_path: Path) -> None:
    noise = np.random.default_rng(0).integers(0, 255, (12, 48, 64), np.uint8)
    path = write(tmp_path / "clip.avi", frames=noise)
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])
    kept = []

    with open_frames(path) as clip, pytest.raises(FrameError, match="after . of 12 frames") as caught:
        for frame in clip:
            kept.append(frame.image)

    assert caught.value.index == len(kept) > 0
    assert np.array_equal(kept, noise[: len(kept)])


def test_a_file_that_is_no_video_gets_a_sentence(tmp_path: Path) -> None:
    pytest.importorskip("av", reason="PyAV is not installed")
    (tmp_path / "clip.mp4").write_bytes(b"no video" * 100)

    with pytest.raises(InputError, match=r"clip.mp4: the file is no video, or cut off or damaged"):
        open_frames(tmp_path / "clip.mp4")


def test_without_the_package_a_sentence_says_how_to_get_it(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "clip.mp4").write_bytes(b"x")
    monkeypatch.setitem(sys.modules, "av", None)

    with pytest.raises(PackageError, match=r"clip.mp4: videos are read with the package PyAV.*'pip install av'"):
        open_frames(tmp_path / "clip.mp4")
