"""Model files that find planes: saved, loaded, described, and not taken for segmentation."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file, save_file

from AGTraining import bundle
from AGTraining.bundle_file import read_document
from AGTraining.cli import main
from AGTraining.errors import BundleError
from AGTraining.model_card import model_card
from AGTraining.networks import PlaneOutput, Sononet
from Testing.AGTraining.planes_model import ARGUMENTS, CLASSES, planes_file, planes_info, planes_network


@pytest.fixture
def saved(tmp_path: Path) -> Path:
    return planes_file(tmp_path / "planes.safetensors")


def rewrite(path: Path, **changes: Any) -> None:
    tensors = load_file(path)
    text = json.dumps(json.loads(bundle.read_info(path).model_dump_json()) | changes)
    save_file(tensors, path, {bundle.DOCUMENT_KEY: text, bundle.CHECKSUM_KEY: bundle._checksum(text, tensors)})


def test_network_and_description_come_back(saved: Path) -> None:
    loaded = bundle.load_planes(saved)
    assert loaded.info == planes_info() == bundle.read_info(saved)
    assert (loaded.info.names, loaded.info.background) == (("Background", "Brain", "Femur"), 0)
    image = torch.randn(1, 1, 32, 48, generator=torch.Generator().manual_seed(0))
    actual, expected = (network(image, attention=True) for network in (loaded.network, planes_network()))
    assert isinstance(actual, PlaneOutput)
    assert torch.equal(actual.logits, expected.logits)
    assert torch.equal(actual.attention["block3"], expected.attention["block3"])
    assert not loaded.network.training


def test_model_of_the_other_task_is_refused_with_a_sentence(saved: Path, repository: Path) -> None:
    with pytest.raises(
        BundleError, match=r"planes\.safetensors: this model finds standard planes in ultrasound; choose"
    ):
        bundle.load(saved)
    with pytest.raises(BundleError, match=r"abdomen-ct-starter\.safetensors: this model segments scans; choose"):
        bundle.load_planes(bundle.default_path())
    assert isinstance(bundle.load_any(saved), bundle.PlanesBundle)
    assert isinstance(bundle.load_any(bundle.default_path()), bundle.Bundle)


def test_document_is_read_without_torch_and_complete(saved: Path) -> None:
    document = read_document(saved)
    assert document["task"] == "planes"
    assert document["classes"] == [plane.model_dump() for plane in CLASSES]
    rewrite(saved, classes=[{"name": "A"}, {"name": "B"}, {"name": "C"}])
    assert read_document(saved)["classes"][1] == {"name": "B", "background": False, "meaning": ""}


BAD: list[tuple[dict[str, Any], str]] = [
    ({"network": "UNet3D"}, "its network UNet3D is none for the task 'planes'"),
    ({"network": "Sononet"}, "weights do not fit the network Sononet"),
    ({"classes": [{"name": "A"}, {"name": "B"}]}, "has 3 outputs, but its description names 2 classes"),
    ({"classes": [{"name": "A"}] * 3}, "the name 'A' occurs twice"),
    ({"classes": [{"name": n, "background": True} for n in "ABC"]}, "more than one is background"),
    ({"classes": [{"name": " "}, {"name": "B"}, {"name": "C"}]}, "description is not valid .*name"),
    ({"frame": {"size": [30, 48]}}, "description is not valid .*multiples of 16"),
    ({"task": "poetry"}, "made for the task 'poetry', which this version does not know"),
    ({"task": ["planes"]}, "made for the task"),
    ({"arguments": ARGUMENTS | {"in_channels": 3}}, "weights do not fit|takes 3 images"),
]


@pytest.mark.parametrize(("changes", "message"), BAD, ids=[str(changes)[:60] for changes, _ in BAD])
def test_document_that_does_not_fit_is_refused(saved: Path, changes: dict[str, Any], message: str) -> None:
    rewrite(saved, **changes)
    with pytest.raises(BundleError, match=rf"planes\.safetensors: .*({message})"):
        bundle.load_any(saved)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"classes": [3]}, "an entry of 'classes' is no JSON object"),
        ({"classes": [{"name": 3}]}, "'name' of a class is no text"),
        ({"classes": [{"name": "A", "meaning": None}]}, "'meaning' of a class is no text"),
        ({"classes": [{"name": "A", "background": 1}]}, "'background' of A is neither true nor false"),
        ({"classes": []}, "'classes' is empty"),
    ],
    ids=str,
)
def test_document_with_wrong_classes_is_not_listed(saved: Path, changes: dict[str, Any], message: str) -> None:
    rewrite(saved, **changes)
    with pytest.raises(BundleError, match=message):
        read_document(saved)


def test_description_of_another_number_of_classes_is_not_saved(tmp_path: Path) -> None:
    wrong = planes_info(classes=CLASSES[:2])
    with pytest.raises(BundleError, match="has 3 outputs, but its description names 2 classes"):
        bundle.save(tmp_path / "wrong.safetensors", planes_network(), wrong)
    assert list(tmp_path.iterdir()) == []


def test_card_tells_planes_crop_and_limits() -> None:
    card = model_card(planes_info(metrics={"accuracy": {"Brain": 0.9, "Femur": 0.8}}), planes_network())
    assert "Finds standard planes in fetal ultrasound: Brain, Femur. For research" in card
    assert "| 0      | Background | no standard plane " in card
    assert "| 1      | Brain      | transverse brain – größer" in card
    assert "cropped to the scan sector, grown to the input's proportions" in card
    assert "- Array: (N, 1, 32, 48)" in card
    assert "- Logits: (N, 3); Background, Brain, Femur" in card
    assert "may be given a plane with high confidence" in card
    assert "Hounsfield" not in card


def test_card_of_a_fixed_crop_says_its_rows_and_columns() -> None:
    frame = {"size": (32, 48), "crop": "fixed", "fixed": (1, 60, 2, 80), "scale": 255, "rounded": True}
    card = model_card(planes_info(frame=frame, classes=[*CLASSES[1:], {"name": "Lips"}]))
    assert "rows 1 to 60 and columns 2 to 80 of it" in card
    assert "mean and SD, times 255" in card
    assert "rounds to whole gray levels" in card
    assert "No class stands for frames without a standard plane" in card


def test_describe_prints_card_and_json(saved: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["describe", str(saved)]) == 0
    assert "# tiny planes" in capsys.readouterr().out
    assert main(["describe", "--json", str(saved)]) == 0
    assert bundle.PlanesInfo.model_validate_json(capsys.readouterr().out) == planes_info()


def test_sononet_has_a_bundle_too(tmp_path: Path) -> None:
    network = planes_network(Sononet, bias=False, convs=(2, 2, 3, 3, 3))
    info = planes_info(network="Sononet", arguments=ARGUMENTS | {"bias": False, "convs": [2, 2, 3, 3, 3]})
    bundle.save(tmp_path / "sononet.safetensors", network, info)
    assert isinstance(bundle.load_planes(tmp_path / "sononet.safetensors").network, Sononet)
