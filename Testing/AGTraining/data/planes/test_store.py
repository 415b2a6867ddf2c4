"""Frames cut and resized once."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from AGTraining.data.planes.augment import normalised, unchanged
from AGTraining.data.planes.decode import read_frame
from AGTraining.data.planes.labelled import LabelledFrame
from AGTraining.data.planes.phantom import phantom_frame
from AGTraining.data.planes.store import store_frames, stored_size
from AGTraining.errors import ConfigurationError, InputError
from AGTraining.imaging.frame_rule import FrameRule
from Testing.AGTraining.data.planes.frames_on_disk import picture, write_picture

RULE = FrameRule(size=(64, 80), crop="centre", share=0.8)


def frame(path: Path) -> LabelledFrame:
    return LabelledFrame(path, None, path.stem)


def phantom(path: Path) -> LabelledFrame:
    path.parent.mkdir(exist_ok=True)
    Image.fromarray(phantom_frame("Fetal brain", 1, 0)[0]).save(path)
    return frame(path)


@pytest.mark.parametrize("rule", [RULE, FrameRule(size=(64, 80))], ids=["centre", "sector"])
def test_the_middle_of_a_stored_frame_is_what_the_rule_shows(tmp_path: Path, rule: FrameRule) -> None:
    one = phantom(tmp_path / "a.png")

    stored = store_frames([one], rule)

    inputs = normalised(unchanged(torch.from_numpy(stored)[:, None], rule.size), rule.scale)[0, 0].numpy()
    wanted, _ = rule.apply(read_frame(one))
    # Rounding to 8 bits; at the very edge the rule knows nothing of the pixels beyond.
    assert np.abs(inputs - wanted)[1:-1, 1:-1].max() < 0.05
    assert np.abs(inputs - wanted).mean() < 0.02


def test_the_margin_shows_what_lies_around_the_crop_and_black_beyond_the_frame(tmp_path: Path) -> None:
    one = frame(write_picture(tmp_path / "a.png", size=(96, 120)))

    stored = store_frames([one], RULE)[0]

    assert stored.shape == stored_size(RULE) == (84, 104)
    # The crop is 80 % of the frame, of which 12.5 % of the crop lie on each side; the margin is 15 %.
    assert (stored[[0, -1]] == 0).all() and (stored[:, [0, -1]] == 0).all()
    assert (stored[3:-3, 3:-3] > 0).all()


def test_frames_are_found_again_until_one_changes(tmp_path: Path) -> None:
    frames = [frame(write_picture(tmp_path / f"{n}.png", n)) for n in range(3)]
    folder = tmp_path / "prepared"
    first = store_frames(frames, RULE, folder)
    (file,) = folder.iterdir()
    before = file.stat().st_mtime_ns

    assert np.array_equal(store_frames(frames, RULE, folder), first)
    assert file.stat().st_mtime_ns == before
    write_picture(tmp_path / "1.png", 9)
    changed = store_frames(frames, RULE, folder)
    assert np.array_equal(changed[[0, 2]], first[[0, 2]]) and (changed[1] != first[1]).any()


def test_many_frames_stay_on_disk(tmp_path: Path) -> None:
    frames = [frame(write_picture(tmp_path / f"{n}.png", n)) for n in range(2)]

    stored = store_frames(frames, RULE, tmp_path / "prepared", memory_mib=0)

    assert isinstance(stored, np.memmap)
    assert np.array_equal(stored, store_frames(frames, RULE))
    with pytest.raises(ConfigurationError, match="name a folder for them"):
        store_frames(frames, RULE, memory_mib=0)


def test_several_processes_store_the_same(tmp_path: Path) -> None:
    frames = [frame(write_picture(tmp_path / f"{n}.png", n)) for n in range(70)]

    assert np.array_equal(store_frames(frames, RULE, workers=2), store_frames(frames, RULE))


def test_all_frames_that_cannot_be_read_are_named_and_nothing_is_kept(tmp_path: Path) -> None:
    frames = [frame(write_picture(tmp_path / f"{n}.png", n)) for n in range(3)]
    for n in (0, 2):
        (tmp_path / f"{n}.png").write_bytes(b"no picture")

    with pytest.raises(ConfigurationError, match="2 frames cannot be used:") as error:
        store_frames(frames, RULE, tmp_path / "prepared")

    assert "0.png" in str(error.value) and "2.png" in str(error.value)
    assert list((tmp_path / "prepared").iterdir()) == []


def test_no_frames_are_an_empty_store(tmp_path: Path) -> None:
    assert store_frames([], RULE, tmp_path).shape == (0, 84, 104)


def test_colors_become_the_mean_and_16_bits_the_whole_range(tmp_path: Path) -> None:
    gray = picture(0)
    Image.fromarray(np.stack([gray, gray // 2, gray], axis=2)).save(tmp_path / "color.png")
    wide = gray.astype(np.uint16) * 100
    Image.fromarray(wide).save(tmp_path / "wide.png")

    color = read_frame(frame(tmp_path / "color.png"))
    mean = np.stack([gray, gray // 2, gray], axis=2).mean(axis=2)
    assert np.abs(color - mean).max() <= 0.5
    shown = read_frame(frame(tmp_path / "wide.png"))
    assert shown.dtype == np.uint8 and (shown.min(), shown.max()) == (0, 255)


def test_a_missing_file_is_said(tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"gone.png: cannot be read \(it does not exist\)"):
        read_frame(frame(tmp_path / "gone.png"))
