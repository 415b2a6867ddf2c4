"""The networks pass through torch.compile, torch.export and the ONNX exporter, and compute the same there."""

from __future__ import annotations

import warnings
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import Tensor

from AGTraining.networks import AttentionUNet

NAMES = ["level2.gate1", "level2.gate2", "level3.gate1", "level3.gate2"]


@pytest.fixture(scope="module")
def network() -> AttentionUNet:
    torch.manual_seed(0)
    network = AttentionUNet(features=(4, 6, 8, 10)).eval()
    for gate in network.gates:
        for sub_gate in gate.gates:
            torch.nn.init.normal_(sub_gate.psi.weight)
    return network.requires_grad_(False)


@pytest.fixture(scope="module")
def image() -> Tensor:
    return torch.randn(1, 1, 16, 24, 32, generator=torch.Generator().manual_seed(1))


def close(actual: Tensor, expected: Tensor) -> bool:
    """Equal but for the order of additions: some roundings of 1.2e-7."""
    return bool(torch.allclose(actual, expected, rtol=0, atol=1e-5 * max(1.0, float(expected.abs().max()))))


def test_compile_makes_one_graph(network: AttentionUNet, image: Tensor) -> None:
    compiled = torch.compile(network, backend="eager", fullgraph=True)
    output, expected = compiled(image, attention=True), network(image, attention=True)
    assert close(output.logits, expected.logits)
    assert list(output.attention) == NAMES
    assert all(close(output.attention[name], expected.attention[name]) for name in NAMES)


def test_export_with_attention(network: AttentionUNet, image: Tensor) -> None:
    program = torch.export.export(network, (image,), {"attention": True})
    output, expected = program.module()(image, attention=True), network(image, attention=True)
    assert close(output.logits, expected.logits)
    assert list(output.attention) == NAMES
    assert all(close(output.attention[name], expected.attention[name]) for name in NAMES)


def test_export_accepts_any_size_that_divides() -> None:
    torch.manual_seed(0)
    network = AttentionUNet(features=(3, 4, 5), sub_gates=1).eval().requires_grad_(False)
    # At least two blocks an axis: torch.export takes a size of one for a constant.
    depth, height, width = (torch.export.Dim(name, min=2, max=64) for name in ("depth", "height", "width"))
    sizes = {"x": {2: 4 * depth, 3: 4 * height, 4: 4 * width}}
    program = torch.export.export(network, (torch.zeros(1, 1, 16, 24, 32),), dynamic_shapes=sizes)
    for size in ((40, 16, 24), (8, 8, 8)):
        image = torch.randn(1, 1, *size, generator=torch.Generator().manual_seed(2))
        assert close(program.module()(image), network(image))


@pytest.mark.parametrize("attention", [False, True], ids=["logits", "attention"])
def test_onnx(network: AttentionUNet, image: Tensor, attention: bool, tmp_path: Path) -> None:
    pytest.importorskip("onnxscript")
    runtime = pytest.importorskip("onnxruntime")
    path = tmp_path / "network.onnx"
    names = ["logits", *NAMES] if attention else ["logits"]
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # the exporter's own deprecations
        torch.onnx.export(network, (image, attention), path, dynamo=True, verbose=False, output_names=names)
    session = runtime.InferenceSession(path, providers=["CPUExecutionProvider"])
    assert [output.name for output in session.get_outputs()] == names
    results = dict(zip(names, session.run(None, {session.get_inputs()[0].name: image.numpy()}), strict=True))
    output = network(image, attention=True)
    for name, expected in {"logits": output.logits, **output.attention}.items():
        if name in results:
            tolerance = 1e-5 * max(1.0, float(expected.abs().max()))
            np.testing.assert_allclose(results[name], expected.numpy(), rtol=0, atol=tolerance, err_msg=name)
