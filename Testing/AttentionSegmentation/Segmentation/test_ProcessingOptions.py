"""Choices as scripts give them."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from AttentionSegmentationLib.Segmentation.ProcessingOptions import ProcessingOptions, absoluteModelPath

from AGTraining.errors import InputError


@pytest.mark.parametrize(
    ("choice", "sentence"),
    [
        ({"attention": "all"}, "attention 'all' is not known"),
        ({"attention": ["levels"]}, "attention .* is not known"),
        ({"device": None}, "device None is no name"),
        ({"device": ""}, "device '' is no name"),
        ({"organs": "spleen"}, "organs 'spleen' are no list"),
        ({"organs": 3}, "organs 3 are no list"),
        ({"organs": ("spleen", 3)}, "are no list of names"),
        ({"organs": []}, "No organ was chosen"),
        ({"mirror": 1}, "mirror is 1; it can be True or False"),
        ({"largestComponent": None}, "largestComponent is None"),
        ({"tileSize": 64}, "tile size 64 is not three"),
        ({"tileSize": (64, 64)}, "not three positive whole numbers"),
        ({"tileSize": (64, 64, 0)}, "not three positive whole numbers"),
        ({"tileSize": (True, 64, 64)}, "not three positive whole numbers"),
        ({"tileSize": (64.0, 64, 64)}, "not three positive whole numbers"),
        ({"modelPath": ""}, "'' is no path of a file"),
        ({"modelPath": 3}, "3 is no path of a file"),
        ({"modelPath": "a\0b"}, "is no path of a file"),
        (
            {"modelPath": "~no-such-user/m.safetensors"},
            "^~no-such-user/m.safetensors: no such model file",
        ),
    ],
)
def test_choice_that_cannot_be_is_a_sentence(choice, sentence):
    with pytest.raises(InputError, match=sentence):
        ProcessingOptions(**choice).segmentOptions()


def test_lists_and_numbers_of_numpy_are_taken():
    options = ProcessingOptions(tileSize=np.array([64, 96, 64]), mirror=np.True_, organs=["spleen"]).segmentOptions()
    assert options.tile_size == (64, 96, 64)
    assert {type(edge) for edge in options.tile_size} == {int}
    assert options.mirror is True
    assert options.organs == ("spleen",)


def test_sets_of_organs_are_taken():
    assert set(ProcessingOptions(organs={"spleen", "pancreas"}).segmentOptions().organs) == {"spleen", "pancreas"}


def test_model_path_begins_at_the_root(monkeypatch, tmp_path):
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.setenv("USERPROFILE", str(tmp_path))
    monkeypatch.chdir(tmp_path)
    assert absoluteModelPath("~/m.safetensors") == tmp_path / "m.safetensors"
    assert absoluteModelPath("m.safetensors") == Path.cwd() / "m.safetensors"
    assert absoluteModelPath(None) is None
