"""Plane networks as ONNX and as programs of torch.export."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import onnxruntime
import pytest
import torch

from AGTraining import bundle, export
from AGTraining.cli import main
from AGTraining.errors import ExportError
from Testing.AGTraining.planes_model import ARGUMENTS, planes_file


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> bundle.PlanesBundle:
    # The exporter's time grows with the number of layers.
    arguments = ARGUMENTS | {"convs": [1, 1, 1, 1, 1]}
    return bundle.load_planes(
        planes_file(tmp_path_factory.mktemp("planes") / "planes.safetensors", arguments=arguments)
    )


def an_image(*shape: int) -> torch.Tensor:
    return torch.randn(shape, generator=torch.Generator().manual_seed(sum(shape)))


def test_onnx_takes_frames_of_any_size_and_gives_both_gates(model: bundle.PlanesBundle, tmp_path: Path) -> None:
    exported = export.export(model, tmp_path / "planes.onnx", gates=True)
    assert exported.outputs == ("logits", "block3", "block4")
    session = onnxruntime.InferenceSession(tmp_path / "planes.onnx", providers=["CPUExecutionProvider"])
    assert session.get_inputs()[0].shape == ["batch", 1, "16*height_blocks", "16*width_blocks"]
    for shape in ((1, 1, 48, 80), (3, 1, 64, 32)):
        expected = model.network(an_image(*shape), attention=True)
        logits, *coefficients = session.run(None, {"image": an_image(*shape).numpy()})
        np.testing.assert_allclose(logits, expected.logits.numpy(), atol=1e-4)
        for name, actual in zip(("block3", "block4"), coefficients, strict=True):
            np.testing.assert_allclose(actual, expected.attention[name].numpy(), atol=1e-5)


def test_program_of_one_size_by_the_command_line(
    model: bundle.PlanesBundle, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = tmp_path / "planes.pt2"
    assert main(["export", str(model.path), "--out", str(path), "--size", "32", "48"]) == 0
    assert "(1, 1, H, W); H, W = 32, 48" in capsys.readouterr().out
    program = torch.export.load(path).module()
    (logits,) = program(an_image(1, 1, 32, 48))
    torch.testing.assert_close(logits, model.network(an_image(1, 1, 32, 48)), atol=1e-4, rtol=0)


@pytest.mark.parametrize(("size", "message"), [((32, 48, 16), r"give 2 numbers"), ((30, 48), "multiple of 16")])
def test_size_that_does_not_fit_is_refused(
    model: bundle.PlanesBundle, tmp_path: Path, size: tuple[int, ...], message: str
) -> None:
    with pytest.raises(ExportError, match=message):
        export.export(model, tmp_path / "planes.onnx", size=size)
    assert list(tmp_path.iterdir()) == []
