"""Pictures and folders of them."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from AGTraining.errors import InputError
from AGTraining.imaging.frames import open_frames


def speckle(rows: int = 12, columns: int = 16, seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).integers(0, 255, (rows, columns), np.uint8)


def save(path: Path, pixels: np.ndarray, mode: str | None = None) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    image = Image.fromarray(pixels)
    (image.convert(mode) if mode else image).save(path)
    return path


def only_image(path: Path) -> np.ndarray:
    with open_frames(path) as clip:
        (frame,) = clip
    assert clip.count == 1
    return frame.image


@pytest.mark.parametrize("suffix", [".png", ".bmp", ".tif", ".TIFF"])
@pytest.mark.parametrize("mode", [None, "RGB", "P"])
def test_a_gray_picture_is_a_clip_of_one_frame_however_it_is_stored(
    tmp_path: Path, suffix: str, mode: str | None
) -> None:
    image = only_image(save(tmp_path / f"frame{suffix}", speckle(), mode))

    assert image.dtype == np.uint8
    assert np.array_equal(image, speckle())


def test_jpeg_differs_by_its_compression_only(tmp_path: Path) -> None:
    smooth = np.add.outer(np.arange(32), np.arange(48)).astype(np.uint8)

    assert np.abs(only_image(save(tmp_path / "frame.jpg", smooth)).astype(int) - smooth).max() <= 3


def test_colors_alpha_and_16_bits(tmp_path: Path) -> None:
    color = np.random.default_rng(1).integers(0, 255, (5, 6, 4), np.uint8)
    deep = np.arange(30, dtype=np.uint16).reshape(5, 6) * 2000

    assert only_image(save(tmp_path / "color.png", color)) == pytest.approx(color[..., :3].mean(axis=2), abs=1e-4)
    assert np.array_equal(only_image(save(tmp_path / "gray.png", speckle(), "LA")), speckle())
    assert np.array_equal(only_image(save(tmp_path / "deep.png", deep)), deep)
    assert np.array_equal(only_image(save(tmp_path / "deep.tif", deep)), deep)
    assert set(np.unique(only_image(save(tmp_path / "two.png", speckle() > 99)))) == {0, 255}


def test_a_picture_in_color_keeps_its_colors_beside_the_gray(tmp_path: Path) -> None:
    colors = np.random.default_rng(0).integers(0, 256, (8, 9, 3), dtype=np.uint8)
    Image.fromarray(colors).save(tmp_path / "color.png")
    Image.fromarray(np.repeat(colors[..., :1], 3, axis=2)).save(tmp_path / "gray.png")
    with open_frames(tmp_path) as clip:
        colored, gray = clip
    np.testing.assert_array_equal(colored.color, colors)
    np.testing.assert_allclose(colored.image, colors.mean(axis=2), atol=1e-4)
    assert gray.color is None


def test_pages_of_a_tiff_are_frames(tmp_path: Path) -> None:
    pages = [Image.fromarray(speckle(seed=n)) for n in range(3)]
    pages[0].save(tmp_path / "clip.tif", save_all=True, append_images=pages[1:])

    with open_frames(tmp_path / "clip.tif") as clip:
        assert clip.count == 3
        assert [np.array_equal(frame.image, speckle(seed=frame.index)) for frame in clip] == [True] * 3
        assert np.array_equal(clip.read(1).image, speckle(seed=1))


def test_an_animation_has_times(tmp_path: Path) -> None:
    pages = [Image.fromarray(speckle(seed=n)) for n in range(3)]
    pages[0].save(tmp_path / "clip.gif", save_all=True, append_images=pages[1:], duration=[40, 100, 40])

    with open_frames(tmp_path / "clip.gif") as clip:
        assert [frame.seconds for frame in clip] == pytest.approx([0, 0.04, 0.14])


def test_a_folder_is_read_in_natural_order_each_frame_with_its_own_size(tmp_path: Path) -> None:
    for n in (1, 2, 10):
        save(tmp_path / f"frame{n}.png", speckle(rows=5 + n, seed=n))

    with open_frames(tmp_path) as clip:
        assert clip.count == 3
        assert [frame.image.shape[0] for frame in clip] == [6, 7, 15]
        assert clip.messages == []
        assert clip.spacing_mm is None


def test_damaged_pictures_and_other_files_in_a_folder_are_told(tmp_path: Path) -> None:
    for n in range(4):
        save(tmp_path / f"{n}.png", speckle(100, 100, n))
    whole = (tmp_path / "1.png").read_bytes()
    (tmp_path / "1.png").write_bytes(whole[: len(whole) // 2])
    (tmp_path / "2.png").write_bytes(b"")
    (tmp_path / "notes.txt").write_text("x", encoding="utf-8")
    (tmp_path / ".hidden.png").write_bytes(b"x")

    with open_frames(tmp_path) as clip:
        frames = list(clip)

    assert [frame.index for frame in frames] == [0, 3]
    assert clip.messages == [
        f"{tmp_path}: files that are no pictures were left aside: notes.txt.",
        f"{tmp_path}: frame 2 was left out: 1.png: the picture is cut off or damaged.",
        f"{tmp_path}: frame 3 was left out: 2.png: the file is no picture, or damaged.",
    ]


def test_a_folder_of_damaged_pictures_is_an_error(tmp_path: Path) -> None:
    (tmp_path / "1.png").write_bytes(b"x")

    with open_frames(tmp_path) as clip, pytest.raises(InputError, match=r"none of its frames can be read .1.png"):
        list(clip)


def test_folders_without_pictures_get_a_sentence(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="the folder holds no pictures"):
        open_frames(tmp_path)
    (tmp_path / "clip.mha").write_bytes(b"x")
    with pytest.raises(InputError, match=r"holds no pictures, but clip.mha; name a clip's file"):
        open_frames(tmp_path)


def test_a_picture_that_was_cut_off_is_an_error(tmp_path: Path) -> None:
    path = save(tmp_path / "frame.png", speckle(100, 100))
    path.write_bytes(path.read_bytes()[:3000])

    with open_frames(path) as clip, pytest.raises(InputError, match=r"frame.png: none of its frames can be read"):
        list(clip)


def test_a_stack_of_pictures_that_is_cut_off_gets_a_sentence(tmp_path: Path) -> None:
    pages = [Image.fromarray(speckle(60, 80, seed=n)) for n in range(6)]
    pages[0].save(tmp_path / "stack.tif", save_all=True, append_images=pages[1:])
    whole = (tmp_path / "stack.tif").read_bytes()
    # Between two pages: Pillow has a TypeError for that.
    (tmp_path / "stack.tif").write_bytes(whole[: len(whole) // 2])
    with pytest.raises(InputError, match="the picture is cut off or damaged; copy or export it again"):
        open_frames(tmp_path / "stack.tif")


def test_an_animation_is_decoded_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    pictures = [Image.fromarray(speckle(seed=n)) for n in range(6)]
    pictures[0].save(tmp_path / "clip.gif", save_all=True, append_images=pictures[1:], duration=40)
    opened = []
    with open_frames(tmp_path / "clip.gif") as clip:
        really = Image.open
        monkeypatch.setattr(Image, "open", lambda *a, **k: opened.append(a) or really(*a, **k))
        frames = list(clip)
    assert len(frames) == 6
    assert len(opened) == 1
    assert all((frame.image == np.asarray(picture)).all() for frame, picture in zip(frames, pictures, strict=True))
