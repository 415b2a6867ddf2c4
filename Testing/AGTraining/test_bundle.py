from __future__ import annotations

import json
import os
import pickle
import re
import stat
import struct
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from safetensors.torch import load_file, save_file
from torch import nn

from AGTraining import bundle
from AGTraining.bundle import BundleInfo, OrganClass
from AGTraining.errors import BundleError
from AGTraining.imaging.intensity import IntensityRule
from AGTraining.networks import AttentionUNet

ARGUMENTS = {"num_classes": 4, "features": [4, 8, 16], "sub_gates": 2}


def organ(name: str, code: str, color: tuple[int, int, int], paired: bool = False) -> OrganClass:
    return OrganClass(name=name, type_code=code, type_meaning=name.capitalize(), color=color, paired=paired)


@pytest.fixture
def info() -> BundleInfo:
    return BundleInfo(
        name="tiny",
        network="AttentionUNet",
        arguments=ARGUMENTS,
        spacing_mm=(2.0, 2.5, 3.0),
        intensity=IntensityRule(low=-150, high=250, mean=40, sd=90),
        classes=[
            organ("pancreas", "15776009", (249, 180, 111)),
            organ("spleen", "78961009", (157, 108, 162)),
            organ("kidney", "64033007", (185, 102, 83), paired=True),
        ],
        mirror_axes=("x",),
        provenance={"training": "phantoms – größer", "seed": 3},
        metrics={"DSC": {"spleen": 0.9}},
        licence="Apache-2.0",
    )


@pytest.fixture
def saved(tmp_path: Path, tiny_network: AttentionUNet, info: BundleInfo) -> Path:
    bundle.save(tmp_path / "tiny.safetensors", tiny_network, info)
    return tmp_path / "tiny.safetensors"


def header_length(content: bytes) -> int:
    return int(struct.unpack("<Q", content[:8])[0])


def rewrite(path: Path, **document_changes: Any) -> None:
    """The bundle with changes of its document and a right checksum, as a newer or careless program would write it."""
    tensors = load_file(path)
    document = json.loads(bundle.read_info(path).model_dump_json()) | document_changes
    text = json.dumps(document)
    save_file(tensors, path, {bundle.DOCUMENT_KEY: text, bundle.CHECKSUM_KEY: bundle._checksum(text, tensors)})


class CreatesAFile:
    """Its pickle runs a shell command when it is loaded."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def __reduce__(self) -> tuple[Any, ...]:
        return os.system, (f"touch '{self.path}'",)


def test_weights_come_back_as_fp16_and_the_information_as_it_was(
    saved: Path, tiny_network: AttentionUNet, info: BundleInfo
) -> None:
    loaded = bundle.load(saved)
    assert loaded.info == info
    assert loaded.path == saved
    weights = loaded.network.state_dict()
    assert weights.keys() == tiny_network.state_dict().keys()
    for name, value in tiny_network.state_dict().items():
        expected = value.half().float() if value.is_floating_point() else value
        assert weights[name].dtype == value.dtype
        assert torch.equal(weights[name], expected), name


def test_without_half_the_weights_are_exact(tmp_path: Path, tiny_network: AttentionUNet, info: BundleInfo) -> None:
    bundle.save(tmp_path / "full.safetensors", tiny_network, info, half=False)
    weights = bundle.load(tmp_path / "full.safetensors").network.state_dict()
    assert all(torch.equal(weights[name], value) for name, value in tiny_network.state_dict().items())


def test_loaded_network_gives_the_saved_ones_logits(
    tmp_path: Path, tiny_network: AttentionUNet, info: BundleInfo
) -> None:
    # Statistics that an untrained network does not have, so that a lost buffer shows.
    for module in tiny_network.modules():
        if isinstance(module, nn.BatchNorm3d):
            module.running_mean.uniform_(-1, 1)
            module.running_var.uniform_(0.5, 2)
    bundle.save(tmp_path / "full.safetensors", tiny_network, info, half=False)
    loaded = bundle.load(tmp_path / "full.safetensors", "cpu")
    image = torch.randn(1, 1, 8, 8, 8, generator=torch.Generator().manual_seed(0))
    with torch.inference_mode():
        assert torch.equal(loaded.network(image), tiny_network(image))
    assert not loaded.network.training
    assert loaded.device == torch.device("cpu")
    assert not any(p.requires_grad for p in loaded.network.parameters())


def test_read_info_needs_no_weights(saved: Path, info: BundleInfo) -> None:
    content = bytearray(saved.read_bytes())
    content[-1] ^= 1
    saved.write_bytes(content)
    assert bundle.read_info(saved) == info
    with pytest.raises(BundleError):
        bundle.load(saved)


def test_paired_organs_give_two_labels_right_before_left(info: BundleInfo) -> None:
    labels = info.output_labels
    assert [(label.value, label.name, label.organ) for label in labels] == [
        (1, "pancreas", "pancreas"),
        (2, "spleen", "spleen"),
        (3, "right kidney", "kidney"),
        (4, "left kidney", "kidney"),
    ]
    assert [label.type_code for label in labels] == ["15776009", "78961009", "64033007", "64033007"]
    assert [(label.modifier_code, label.modifier_meaning) for label in labels] == [
        (None, None),
        (None, None),
        ("24028007", "Right"),
        ("7771000", "Left"),
    ]
    assert labels[3].color == (185, 102, 83)
    assert {label.category_code for label in labels} == {"123037004"}


@pytest.mark.parametrize("share", [0.0, 0.00001, 0.01, 0.3, 0.9, 0.9999])
def test_truncated_file_is_refused_with_its_name(saved: Path, share: float) -> None:
    content = saved.read_bytes()
    saved.write_bytes(content[: int(len(content) * share)])
    for read in (bundle.load, bundle.read_info):
        with pytest.raises(BundleError, match=r"tiny\.safetensors: not a complete \.safetensors model file"):
            read(saved)


def test_file_with_something_appended_is_refused(saved: Path) -> None:
    with saved.open("ab") as file:
        file.write(b"more")
    with pytest.raises(BundleError, match=r"tiny\.safetensors"):
        bundle.load(saved)


def test_any_flipped_bit_in_the_header_is_refused_with_the_files_name(saved: Path) -> None:
    content = saved.read_bytes()
    end = 8 + header_length(content)
    draw = np.random.default_rng(0)
    # All of the length, and many places in the JSON, which holds the document, names, types, shapes and offsets.
    places = [*range(8), *sorted(draw.choice(np.arange(8, end), 250, replace=False))]
    survived = []
    for place in places:
        altered = bytearray(content)
        altered[place] ^= 1 << int(draw.integers(8))
        saved.write_bytes(altered)
        try:
            bundle.load(saved)
            survived.append((place, content[place : place + 1], altered[place : place + 1]))
        except BundleError as error:
            assert "tiny.safetensors" in str(error)
    # The padding behind the JSON may be any blank; nothing else may change unnoticed.
    assert [s for s in survived if content[s[0] : end].strip()] == []


@pytest.mark.parametrize("share", [0.0, 0.5, 1.0])
def test_flipped_bit_in_the_weights_is_refused_as_altered(saved: Path, share: float) -> None:
    content = bytearray(saved.read_bytes())
    first = 8 + header_length(content)
    content[first + round(share * (len(content) - 1 - first))] ^= 4
    saved.write_bytes(content)
    with pytest.raises(BundleError, match=r"tiny\.safetensors: the model file was altered .* copy or download"):
        bundle.load(saved)


@pytest.mark.parametrize("torch_format", [True, False], ids=["torch.save", "pickle"])
def test_pickled_file_is_refused_and_runs_nothing(tmp_path: Path, torch_format: bool) -> None:
    path, created = tmp_path / "model.pt", tmp_path / "created"
    if torch_format:
        torch.save({"network": CreatesAFile(created)}, path)
    else:
        path.write_bytes(pickle.dumps(CreatesAFile(created)))
    for read in (bundle.load, bundle.read_info):
        with pytest.raises(
            BundleError, match=r"model\.pt: not a complete .* pickled \.pt and \.pth files are not read"
        ):
            read(path)
    assert not created.exists()
    # The trap is real: an unsafe reader falls into it.
    if torch_format:
        torch.load(path, weights_only=False)
    else:
        pickle.loads(path.read_bytes())
    assert created.exists()


def test_safetensors_of_another_program_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "other.safetensors"
    save_file({"weight": torch.ones(3)}, path, {"format": "pt"})
    with pytest.raises(BundleError, match=r"other\.safetensors: a \.safetensors file, but not a model of AGTraining"):
        bundle.load(path)


def test_missing_file_and_folder_are_refused(tmp_path: Path) -> None:
    for path in (tmp_path / "none.safetensors", tmp_path):
        with pytest.raises(BundleError, match=re.escape(f"{path}: no such model file")):
            bundle.load(path)


BAD_DOCUMENTS: list[tuple[dict[str, Any], str]] = [
    ({"format_version": 2}, "model format 2; this version reads format 1. Update the extension"),
    ({"format_version": None}, "model format None"),
    ({"network": "VNet"}, "made for the network 'VNet', which this version does not know"),
    ({"network": "UNet3D", "arguments": {"num_classes": 4, "features": [4, 8, 16]}}, "weights do not fit .* UNet3D"),
    ({"arguments": ARGUMENTS | {"features": [4, 8, 17]}}, "weights do not fit the network AttentionUNet"),
    ({"arguments": ARGUMENTS | {"features": [4, -8, 16]}}, "weights do not fit the network AttentionUNet"),
    ({"arguments": ARGUMENTS | {"depth": 3}}, "weights do not fit the network AttentionUNet .*depth"),
    ({"classes": []}, "its network has 4 outputs, but its description names 0 classes"),
    ({"licence": None}, "description is not valid .*licence"),
    ({"spacing_mm": [2, 0, 2]}, "description is not valid .*spacing_mm"),
    ({"spacing_mm": [2, float("nan"), 2]}, "description is not valid .*spacing_mm"),
    ({"intensity": {"low": 5, "high": 1}}, "description is not valid .*intensity"),
    ({"extra": 1}, "description is not valid .*extra"),
]


@pytest.mark.parametrize(("changes", "message"), BAD_DOCUMENTS, ids=[str(list(c.items())) for c, _ in BAD_DOCUMENTS])
def test_document_that_does_not_fit_is_refused(saved: Path, changes: dict[str, Any], message: str) -> None:
    rewrite(saved, **changes)
    with pytest.raises(BundleError, match=rf"tiny\.safetensors: .*{message}"):
        bundle.load(saved)


@pytest.mark.parametrize("text", ["", "[1, 2]", '"text"', "{", "[" * 100_000], ids=lambda text: text[:9])
def test_document_that_is_no_json_object_is_refused(tmp_path: Path, text: str) -> None:
    path = tmp_path / "odd.safetensors"
    save_file({"weight": torch.ones(3)}, path, {bundle.DOCUMENT_KEY: text})
    with pytest.raises(BundleError, match=r"odd\.safetensors: the model's description is not valid"):
        bundle.load(path)


@pytest.mark.parametrize("value", [float("nan"), float("inf"), 1e5])
def test_weights_that_are_not_finite_are_not_saved(
    tmp_path: Path, tiny_network: AttentionUNet, info: BundleInfo, value: float
) -> None:
    with torch.no_grad():
        tiny_network.heads[0].weight[0, 0] = value
    path = tmp_path / "bad.safetensors"
    with pytest.raises(
        BundleError, match=r"bad\.safetensors: weight 'heads\.0\.weight' is not finite in torch\.float16"
    ):
        bundle.save(path, tiny_network, info)
    assert list(tmp_path.iterdir()) == []


def test_description_of_another_network_is_not_saved(
    tmp_path: Path, tiny_network: AttentionUNet, info: BundleInfo
) -> None:
    wrong = info.model_copy(update={"classes": info.classes[:2]})
    with pytest.raises(BundleError, match="network has 4 outputs, but its description names 2 classes"):
        bundle.save(tmp_path / "wrong.safetensors", tiny_network, wrong)
    assert list(tmp_path.iterdir()) == []


def test_failed_save_leaves_the_old_model_and_no_rest(
    saved: Path, tiny_network: AttentionUNet, info: BundleInfo, monkeypatch: pytest.MonkeyPatch
) -> None:
    before = saved.read_bytes()

    def full_disk(self: Path, content: bytes) -> None:
        with self.open("wb") as file:
            file.write(content[:1000])
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(Path, "write_bytes", full_disk)
    with pytest.raises(OSError, match="No space left"):
        bundle.save(saved, tiny_network, info)
    assert saved.read_bytes() == before
    assert os.listdir(saved.parent) == [saved.name]


@pytest.mark.skipif(os.name != "posix", reason="permissions of POSIX")
def test_saved_model_may_be_read_by_whom_the_umask_allows(
    tmp_path: Path, tiny_network: AttentionUNet, info: BundleInfo
) -> None:
    before = os.umask(0o022)
    try:
        bundle.save(tmp_path / "model.safetensors", tiny_network, info)
    finally:
        os.umask(before)
    assert stat.S_IMODE((tmp_path / "model.safetensors").stat().st_mode) == 0o644


def test_missing_starter_model_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(bundle, "__file__", str(tmp_path / "AGTraining" / "bundle.py"))
    with pytest.raises(BundleError, match=r"abdomen-ct-starter\.safetensors was not found .*; name a model file"):
        bundle.default_path()
    models = tmp_path / "Resources" / "Models"
    models.mkdir(parents=True)
    (models / "abdomen-ct-starter.safetensors").touch()
    assert bundle.default_path() == models / "abdomen-ct-starter.safetensors"
