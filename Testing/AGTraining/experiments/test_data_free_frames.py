"""Frames out of a network, as files."""

import json
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from AGTraining import bundle
from AGTraining.bundle import PlaneClass, PlanesInfo
from AGTraining.errors import ConfigurationError
from AGTraining.experiments.data_free_frames import main, make_frames
from AGTraining.imaging.frame_rule import FrameRule
from AGTraining.networks.sononet import Sononet
from AGTraining.training.inversion import InversionSettings

QUICK = InversionSettings(stages=((2, 2),), jitter=1)


@pytest.fixture
def model(tmp_path: Path) -> bundle.PlanesBundle:
    torch.manual_seed(0)
    info = PlanesInfo(
        name="tiny",
        network="Sononet",
        arguments={"num_classes": 3, "features": 2},
        frame=FrameRule(size=(32, 48)),
        classes=[PlaneClass(name="Femur"), PlaneClass(name="Lips"), PlaneClass(name="Background", background=True)],
        licence="CC0",
    )
    bundle.save(tmp_path / "tiny.safetensors", Sononet(num_classes=3, features=2), info)
    return bundle.load_planes(tmp_path / "tiny.safetensors")


def test_each_class_has_a_folder_of_pictures_of_the_network_s_size(model, tmp_path):
    sure = make_frames(model, tmp_path / "out", ["Femur", "Lips"], count=2, settings=QUICK)
    assert sorted(sure) == ["Femur/0000.png", "Femur/0001.png", "Lips/0000.png", "Lips/0001.png"]
    picture = np.array(Image.open(tmp_path / "out/Lips/0001.png"))
    assert picture.shape == (32, 48) and picture.dtype == np.uint8 and picture.std() > 0
    assert json.loads((tmp_path / "out/frames.json").read_text(encoding="utf-8")) == sure


def test_what_was_ended_goes_on_with_the_same_frames(model, tmp_path):
    make_frames(model, tmp_path / "whole", ["Femur"], count=4, batch=2, settings=QUICK)
    make_frames(model, tmp_path / "parts", ["Femur"], count=2, batch=2, settings=QUICK)
    first = (tmp_path / "parts/Femur/0000.png").stat().st_mtime_ns
    make_frames(model, tmp_path / "parts", ["Femur"], count=4, batch=2, settings=QUICK)
    assert (tmp_path / "parts/Femur/0000.png").stat().st_mtime_ns == first
    whole, parts = ((tmp_path / name / "Femur/0003.png").read_bytes() for name in ("whole", "parts"))
    assert whole == parts


def test_a_class_that_the_model_does_not_have_is_named(model, tmp_path):
    with pytest.raises(ConfigurationError, match="has no class 'Tibia'; it has Femur, Lips, Background"):
        make_frames(model, tmp_path / "out", ["Tibia"], count=1)


def test_the_command_says_why_it_failed(tmp_path, capsys):
    assert main([str(tmp_path / "missing.safetensors"), str(tmp_path / "out")]) == 1
    assert "missing.safetensors: no such model file" in capsys.readouterr().err
