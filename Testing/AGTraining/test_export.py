"""Exported files are opened here as their users open them: by ONNX Runtime and torch.export alone."""

from __future__ import annotations

import importlib.util
import json
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from AGTraining import bundle, export
from AGTraining.bundle import Bundle
from AGTraining.cli import main
from AGTraining.errors import ExportError
from AGTraining.networks import AttentionUNet, UNet3D
from AGTraining.networks.unet import LEFT_OUT

onnx = pytest.importorskip("onnx")
onnxruntime = pytest.importorskip("onnxruntime")
pytest.importorskip("onnxscript")

GATES = ("level2.gate1", "level2.gate2")
# As AGTraining.export allows; what is seen are some 1e-6.
TOLERANCE = 1e-4


def model_file(folder: Path, network: UNet3D, **arguments: Any) -> Path:
    """A bundle of three levels with batch norm statistics and gates that an untrained network does not have."""
    random = torch.Generator().manual_seed(0)
    for module in network.modules():
        if isinstance(module, nn.BatchNorm3d):
            module.running_mean.uniform_(-0.5, 0.5, generator=random)
            module.running_var.uniform_(0.5, 2, generator=random)
    for name, parameter in network.named_parameters():
        if name.endswith("psi.weight"):
            nn.init.normal_(parameter, generator=random)
    colors = {"pancreas": (249, 180, 111), "kidney": (185, 102, 83)}
    classes = [
        bundle.OrganClass(name=n, type_code="1", type_meaning=n, color=c, paired=n == "kidney")
        for n, c in colors.items()
    ]
    info = bundle.BundleInfo(
        name="tiny – größer",
        network=type(network).__name__,
        arguments={"num_classes": 3, "features": [2, 3, 4], **arguments},
        spacing_mm=(2, 2, 2),
        intensity=bundle.IntensityRule(mean=20, sd=105),
        classes=classes,
        licence="CC0-1.0",
    )
    bundle.save(folder / "tiny.safetensors", network, info)
    return folder / "tiny.safetensors"


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Bundle:
    torch.manual_seed(0)
    network = AttentionUNet(num_classes=3, features=(2, 3, 4))
    return bundle.load(model_file(tmp_path_factory.mktemp("model"), network))


@pytest.fixture(scope="module")
def onnx_file(model: Bundle, tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, export.Exported]:
    path = tmp_path_factory.mktemp("onnx") / "tiny.onnx"
    return path, export.export(model, path, gates=True)


def an_image(*shape: int) -> Tensor:
    return torch.randn(shape, generator=torch.Generator().manual_seed(sum(shape)))


def close(actual: Any, expected: Tensor) -> None:
    limit = TOLERANCE * max(1.0, float(expected.abs().max()))
    np.testing.assert_allclose(np.asarray(actual), expected.numpy(), rtol=0, atol=limit)


# None of these sizes is one that the file was traced or checked with.
@pytest.mark.parametrize("shape", [(1, 1, 8, 20, 12), (3, 1, 12, 8, 16)])
def test_onnx_takes_any_size_and_gives_logits_and_coefficients(
    model: Bundle, onnx_file: tuple[Path, export.Exported], shape: tuple[int, ...]
) -> None:
    session = onnxruntime.InferenceSession(onnx_file[0], providers=["CPUExecutionProvider"])
    assert [output.name for output in session.get_outputs()] == ["logits", *GATES]
    logits, *coefficients = session.run(None, {"image": an_image(*shape).numpy()})
    expected = model.network(an_image(*shape), attention=True)
    close(logits, expected.logits)
    for name, actual in zip(GATES, coefficients, strict=True):
        close(actual, expected.attention[name])


def test_onnx_names_its_sizes(onnx_file: tuple[Path, export.Exported]) -> None:
    session = onnxruntime.InferenceSession(onnx_file[0], providers=["CPUExecutionProvider"])
    assert session.get_inputs()[0].shape == ["batch", 1, "4*depth_blocks", "4*height_blocks", "4*width_blocks"]
    assert session.get_outputs()[0].shape[:2] == ["batch", 3]


def test_onnx_carries_the_description_and_the_model_card(
    model: Bundle, onnx_file: tuple[Path, export.Exported]
) -> None:
    document = onnx.load(onnx_file[0])
    properties = {item.key: item.value for item in document.metadata_props}
    assert bundle.BundleInfo.model_validate_json(properties["AGTraining"]) == model.info
    assert document.doc_string.startswith("# tiny – größer\n")
    assert document.producer_name == "AGTraining"


def test_report_says_what_was_made_and_checked(onnx_file: tuple[Path, export.Exported]) -> None:
    path, exported = onnx_file
    assert (exported.path, exported.program, exported.size, exported.divisor) == (path, "ONNX", None, 4)
    assert exported.outputs == ("logits", *GATES)
    assert 0 <= exported.difference <= TOLERANCE
    assert exported.checked_by == f"ONNX Runtime {onnxruntime.__version__}"


def test_program_of_torch_export_takes_any_size(model: Bundle, tmp_path: Path) -> None:
    exported = export.export(model, tmp_path / "tiny.pt2")
    description = {export.DOCUMENT_FILE: ""}
    program = torch.export.load(tmp_path / "tiny.pt2", extra_files=description).module()
    for shape in ((1, 1, 8, 20, 12), (3, 1, 12, 8, 16)):
        (logits,) = program(an_image(*shape))
        close(logits, model.network(an_image(*shape)))
    assert json.loads(description[export.DOCUMENT_FILE])["name"] == "tiny – größer"
    assert exported.outputs == ("logits",)


@pytest.mark.parametrize("suffix", [".onnx", ".pt2"])
def test_one_size_alone(model: Bundle, tmp_path: Path, suffix: str) -> None:
    path, image = tmp_path / f"tiny{suffix}", an_image(1, 1, 8, 12, 4)
    assert export.export(model, path, size=(8, 12, 4)).size == (8, 12, 4)
    if suffix == ".onnx":
        session = onnxruntime.InferenceSession(path, providers=["CPUExecutionProvider"])
        assert session.get_inputs()[0].shape == [1, 1, 8, 12, 4]
        close(
            session.run(None, {"image": an_image(1, 1, 8, 12, 4).numpy()})[0], model.network(an_image(1, 1, 8, 12, 4))
        )
    else:
        close(torch.export.load(path).module()(image)[0], model.network(image))


@pytest.mark.parametrize(
    "make",
    [
        lambda: (UNet3D, {"deep_supervision": "separate"}),
        lambda: (AttentionUNet, {"left_out": [1]}),
        lambda: (AttentionUNet, {"sub_gates": 1, "normalisation": "softmax", "residual": True}),
    ],
    ids=["U-Net", "left-out output", "softmax, residual"],
)
def test_other_networks_are_exported_too(
    make: Callable[[], tuple[type[UNet3D], dict[str, Any]]], tmp_path: Path
) -> None:
    kind, arguments = make()
    torch.manual_seed(0)
    network = kind(num_classes=3, features=(2, 3, 4), **arguments)
    loaded = bundle.load(model_file(tmp_path, network, **arguments))
    # The softmax counts positions, whose number must not become a constant of the file.
    size = None if "normalisation" in arguments else (8, 8, 12)
    exported = export.export(loaded, tmp_path / "other.onnx", gates=kind is AttentionUNet, size=size)
    assert len(exported.outputs) == 1 + arguments.get("sub_gates", 2) * (kind is AttentionUNet)
    session = onnxruntime.InferenceSession(tmp_path / "other.onnx", providers=["CPUExecutionProvider"])
    logits = session.run(["logits"], {"image": an_image(1, 1, 8, 8, 12).numpy()})[0]
    close(logits, loaded.network(an_image(1, 1, 8, 8, 12)))
    if arguments.get("left_out"):
        assert (logits[:, 1] == LEFT_OUT).all()


def test_model_itself_stays_as_it_was(model: Bundle, tmp_path: Path) -> None:
    before = {name: value.clone() for name, value in model.network.state_dict().items()}
    export.export(model, tmp_path / "tiny.pt2", size=(8, 8, 8))
    assert all(torch.equal(value, before[name]) for name, value in model.network.state_dict().items())
    assert not model.network.training


@pytest.mark.parametrize("suffix", [".onnx", ".pt2"])
@pytest.mark.parametrize("wrong", [1.01, float("nan")])
def test_file_that_computes_something_else_is_not_kept(
    model: Bundle, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, suffix: str, wrong: float
) -> None:
    path = tmp_path / f"tiny{suffix}"
    path.write_text("an earlier file")
    traced = export._Exportable.graph

    def mistaken(self: export._Exportable, size: Any) -> Any:
        other = export._Exportable(model, self.gates)
        with torch.no_grad():
            next(iter(other.network.parameters())).mul_(wrong)
        return traced(other, size)

    monkeypatch.setattr(export._Exportable, "graph", mistaken)
    with pytest.raises(ExportError, match=rf"tiny\{suffix}: on .* 'logits' differs from PyTorch's .* was not kept"):
        export.export(model, path, size=(8, 8, 8))
    assert path.read_text() == "an earlier file"
    assert os.listdir(tmp_path) == [path.name]


@pytest.mark.parametrize(
    ("missing", "words"),
    [
        (["onnxruntime"], r"\(onnxruntime\): python -m pip install onnxruntime\."),
        (["onnx", "onnxscript"], r"\(onnx, onnxscript\): python -m pip install onnx onnxscript\."),
    ],
)
def test_missing_packages_are_named_with_the_command_that_installs_them(
    model: Bundle, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, missing: list[str], words: str
) -> None:
    found = importlib.util.find_spec
    monkeypatch.setattr(export, "find_spec", lambda name: None if name in missing else found(name))
    with pytest.raises(ExportError, match=f"Export to ONNX needs packages that are not installed {words}"):
        export.export(model, tmp_path / "tiny.onnx")
    assert os.listdir(tmp_path) == []


def test_sizes_that_cannot_be_traced_are_one_sentence(
    model: Bundle, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fails(*arguments: Any, **options: Any) -> None:
        raise RuntimeError("Constraints violated (depth)!\n  more lines")

    monkeypatch.setattr(torch.export, "export", fails)
    with pytest.raises(ExportError, match=r"cannot export it for any size \(Constraints .* lines\); name one"):
        export.export(model, tmp_path / "tiny.onnx")


@pytest.mark.parametrize("size", [(8, 8, 10), (0, 8, 8)])
def test_size_that_the_network_does_not_take_is_refused(
    model: Bundle, tmp_path: Path, size: tuple[int, int, int]
) -> None:
    with pytest.raises(ExportError, match=r"size \(\d, 8, \d+\) cannot be exported; each must be a multiple of 4"):
        export.export(model, tmp_path / "tiny.onnx", size=size)


def test_gates_of_a_network_without_gates_are_refused(tmp_path: Path) -> None:
    plain = bundle.load(model_file(tmp_path, UNet3D(num_classes=3, features=(2, 3, 4))))
    with pytest.raises(ExportError, match=r"tiny\.safetensors: a UNet3D has no gates; leave --gates out"):
        export.export(plain, tmp_path / "tiny.pt2", gates=True)


def test_command_says_what_the_file_takes_and_gives(
    model: Bundle, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = tmp_path / "new folder" / "tiny.onnx"
    assert main(["export", str(model.path), "--out", str(path), "--gates"]) == 0
    output = capsys.readouterr()
    assert output.err == ""
    for text in (
        f"{path}: ONNX, 0.",
        "float32 z-scores (N, 1, D, H, W); D, H, W multiples of 4 from 8 up",
        "logits, level2.gate1, level2.gate2",
        "with ONNX Runtime",
    ):
        assert text in output.out


@pytest.mark.parametrize(
    ("name", "words"),
    [
        ("exists.onnx", "exists already; choose another name, or add --overwrite"),
        ("tiny.h5", "must end in .onnx (ONNX) or .pt2 (a program of torch.export)"),
        ("tiny.safetensors", "only the folder of a training run is made a bundle; a model file is one"),
    ],
)
def test_command_refuses_in_one_sentence(
    model: Bundle, tmp_path: Path, capsys: pytest.CaptureFixture[str], name: str, words: str
) -> None:
    (tmp_path / "exists.onnx").write_text("mine")
    assert main(["export", str(model.path), "--out", str(tmp_path / name)]) == 1
    errors = capsys.readouterr().err
    assert errors.startswith(f"error: {tmp_path / name}: ") and errors.count("\n") == 1 and words in errors
    assert (tmp_path / "exists.onnx").read_text() == "mine"


def test_command_replaces_a_file_when_told_to(model: Bundle, tmp_path: Path) -> None:
    (tmp_path / "tiny.pt2").write_text("old")
    arguments = ["export", str(model.path), "--out", str(tmp_path / "tiny.pt2"), "--size", "8", "8", "8"]
    assert main([*arguments, "--overwrite"]) == 0
    assert (tmp_path / "tiny.pt2").read_bytes()[:2] == b"PK"


def test_folder_that_is_no_run_is_refused(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["export", str(tmp_path), "--out", str(tmp_path / "m.onnx")]) == 1
    assert "is neither a model file nor the folder of a training run" in capsys.readouterr().err
    (tmp_path / "config.yaml").touch()
    assert main(["export", str(tmp_path), "--out", str(tmp_path / "m.onnx")]) == 1
    assert "the run has no checkpoint yet" in capsys.readouterr().err
