"""The bundled model on scans that it was not trained on."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from AGTraining import bundle
from AGTraining.data.phantom import PhantomOptions, make_phantom
from AGTraining.evaluation.metrics import dice
from AGTraining.imaging.files import read_volume
from AGTraining.inference.predict import predict
from AGTraining.inference.segment import SegmentOptions, segment


@pytest.fixture(scope="module")
def starter() -> bundle.Bundle:
    return bundle.load(bundle.default_path())


def test_description_says_what_it_is_and_where_it_comes_from(starter: bundle.Bundle) -> None:
    info = starter.info
    assert info.network == "AttentionUNet"
    assert info.arguments["sub_gates"] == 2
    assert info.spacing_mm == (2.0, 2.0, 2.0)
    assert [label.name for label in info.output_labels] == ["pancreas", "spleen", "right kidney", "left kidney"]
    assert "crlm1006_ct" not in str(info.provenance["data"])
    assert info.provenance["commit"]
    assert info.metrics
    assert starter.path.stat().st_size < 15 * 1024**2


@pytest.mark.slow
def test_organs_of_an_unseen_patient_are_found(starter: bundle.Bundle, shared_data: Path) -> None:
    """The goals that the first model was made for: crlm1006 is in no training set."""
    folder = shared_data / "ct" / "crlm1006"
    truth = read_volume(folder / "labels.nii.gz").array
    result = segment(read_volume(folder / "ct.nii.gz"), starter, SegmentOptions(device="cpu"))
    score = {o.label.name: dice(result.labels.array == o.label.value, truth == o.label.value) for o in result.organs}
    assert score["spleen"] >= 0.80
    assert score["right kidney"] >= 0.80
    assert score["left kidney"] >= 0.80
    assert score["pancreas"] >= 0.35


@pytest.mark.slow
def test_organs_of_an_unseen_phantom_are_found_on_a_flipped_grid(starter: bundle.Bundle) -> None:
    phantom = make_phantom(PhantomOptions(seed=7, spacing=(2.5, 2.5, 4.0), phase="portal venous", orientation="ARS"))
    result = segment(phantom.ct, starter, SegmentOptions(device="cpu"))
    for organ in result.organs:
        value = organ.label.value
        assert dice(result.labels.array == value, phantom.labels.array == value) > 0.6, organ.label.name


@pytest.mark.slow
def test_tiles_give_what_one_piece_gives(starter: bundle.Bundle) -> None:
    phantom = make_phantom(PhantomOptions(seed=8, spacing=(2.0, 2.0, 2.0), field_of_view_mm=(300, 220, 192)))
    x = starter.info.intensity.apply(phantom.ct.array.astype(np.float32))
    whole = predict(x, starter, device="cpu", tile_size=x.shape).probabilities
    tiled = predict(x, starter, device="cpu", tile_size=(96, 96, 112)).probabilities
    assert np.abs(whole - tiled).mean() < 0.005
    for index in range(3):
        assert dice(whole[index] > 0.5, tiled[index] > 0.5) > 0.9
