"""A model for programs that do not have AGTraining: ONNX, or a program of torch.export.

Both compute what the network computes: from z-scores, (N, 1, D, H, W) of a volume or (N, 1, H, W) of a frame, to
logits, and on request the attention coefficients. A file gets its name only after it was read back, run on images of
several sizes, and found to agree with PyTorch: each output differs by at most 1e-4 of its largest value (of 1 where
that is smaller). All of them compute in float32 and differ in the order of additions, which makes a few millionths; a
wrong weight or upsampling rule makes more than 1e-2.
"""

from __future__ import annotations

import copy
import io
import logging
import os
import re
import warnings
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from AGTraining import __version__, bundle
from AGTraining.bundle import Bundle, PlanesBundle
from AGTraining.errors import ExportError
from AGTraining.model_card import model_card

TOLERANCE = 1e-4
INPUT = "image"
DOCUMENT_FILE = "AGTraining.json"  # within a program of torch.export
AXES = ("depth", "height", "width")

Size = tuple[int, ...]
Model = Bundle | PlanesBundle
Run = Callable[[Tensor], Sequence[Tensor]]


@dataclass(frozen=True)
class Exported:
    """A file that was written and checked.

    program: the kind of file. size: the one input size, (D, H, W) or (H, W), that it takes; None: any multiples of
    `divisor`, from twice that up. axes: the names of the input's axes. outputs: names, in order. difference: the
    greatest one from PyTorch, relative as in the module's words. checked_by: what computed it.
    """

    path: Path
    program: str
    size: Size | None
    divisor: int
    axes: tuple[str, ...]
    outputs: tuple[str, ...]
    difference: float
    checked_by: str


def export(model: Model, path: Path, gates: bool = False, size: Size | None = None) -> Exported:
    """Writes the model as the suffix says, `.onnx` (ONNX) or `.pt2` (a program of torch.export), and checks it.

    gates: whether each gate's coefficients, (N, 1, d, h, w) or (N, 1, h, w), are outputs too. size: the only input
    size; None: any. Whatever was at `path` is replaced at the end, or left as it is. Raises ExportError.
    """
    writer = {".onnx": _export_onnx, ".pt2": _export_program}.get(path.suffix.lower())
    if writer is None:
        raise ExportError(f"{path}: the name must end in .onnx (ONNX) or .pt2 (a program of torch.export).")
    divisor, axes = int(model.network.divisor), axes_of(model)  # type: ignore[arg-type]
    if size is not None and len(size) != len(axes):
        raise ExportError(
            f"{model.path.name}: size {size} cannot be exported; give {len(axes)} numbers ({', '.join(axes)})."
        )
    if size is not None and any(n < divisor or n % divisor for n in size):
        raise ExportError(f"{model.path.name}: size {size} cannot be exported; each must be a multiple of {divisor}.")
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.with_name(f".{path.stem}.{os.getpid()}.part{path.suffix.lower()}")
    try:
        exported = writer(_Exportable(model, gates), temporary, path, size)
        os.replace(temporary, path)
    finally:
        temporary.unlink(missing_ok=True)
    return exported


def axes_of(model: Model) -> tuple[str, ...]:
    """The names of the spatial axes of a model's input."""
    return AXES[1:] if isinstance(model, PlanesBundle) else AXES


class _Exportable(nn.Module):
    """A bundle's network on the CPU as a function from `image` to a tuple of tensors."""

    def __init__(self, model: Model, gates: bool) -> None:
        super().__init__()
        self.info = model.info
        self.network = copy.deepcopy(model.network).cpu()
        self.divisor = int(model.network.divisor)  # type: ignore[arg-type]
        self.axes = axes_of(model)
        self.gates = gates
        with torch.inference_mode():
            probe = self.network(torch.zeros(1, 1, *[2 * self.divisor] * len(self.axes)), attention=True)
        if gates and not probe.attention:
            raise ExportError(f"{model.path.name}: a {model.info.network} has no gates; leave --gates out.")
        self.names = ("logits", *(probe.attention if gates else ()))

    def forward(self, image: Tensor) -> tuple[Tensor, ...]:
        if not self.gates:
            return (self.network(image),)
        output = self.network(image, attention=True)
        return (output.logits, *output.attention.values())

    def graph(self, size: Size | None) -> torch.export.ExportedProgram:
        """The traced network: for one size, or any number of images of any size that divides."""
        if size is not None:
            return torch.export.export(self, (torch.zeros(1, 1, *size),))
        # At least two of everything: torch.export takes a size of one for a constant.
        example = torch.zeros(2, 1, *(self.divisor * n for n in (2, 3, 4)[: len(self.axes)]))
        blocks = (torch.export.Dim(f"{axis}_blocks", min=2, max=1 << 16) for axis in self.axes)
        sizes = {axis: self.divisor * block for axis, block in enumerate(blocks, 2)}
        shapes = {INPUT: {0: torch.export.Dim("batch", min=1, max=1 << 16), **sizes}}
        try:
            return torch.export.export(self, (example,), dynamic_shapes=shapes)
        except Exception as error:
            raise ExportError(
                f"{self.info.name}: PyTorch {torch.__version__} cannot export it for any size "
                f"({' '.join(str(error).split())[:200]}); name one with --size."
            ) from error

    def difference(self, run: Run, size: Size | None, what: str) -> float:
        """The greatest difference of `run` from this module on random z-scores. Raises ExportError for too much."""
        d = self.divisor
        axes = len(self.axes)
        shapes = [(1, *size)] if size else [(1, *[2 * d] * axes), (2, *[4 * d, 2 * d, 3 * d][-axes:])]
        random = torch.Generator().manual_seed(0)
        worst = 0.0
        for batch, *spatial in shapes:
            image = torch.randn(batch, 1, *spatial, generator=random)
            with torch.inference_mode():
                pairs = list(zip(self.names, run(image), self(image), strict=True))
            for name, actual, expected in pairs:
                if actual.shape != expected.shape:
                    raise ExportError(f"{what}: '{name}' has shape {tuple(actual.shape)}, not {tuple(expected.shape)}.")
                error = float((actual - expected).abs().max()) / max(1.0, float(expected.abs().max()))
                # Not "error > TOLERANCE", which NaN is not either.
                if not error <= TOLERANCE:
                    raise ExportError(
                        f"{what}: on {tuple(image.shape)} '{name}' differs from PyTorch's by {error:.2g} of its "
                        f"largest value (at most {TOLERANCE:g} is rounding); the file was not kept."
                    )
                worst = max(worst, error)
        return worst


def _export_onnx(model: _Exportable, temporary: Path, path: Path, size: Size | None) -> Exported:
    _require("ONNX", "onnx", "onnxscript", "onnxruntime")
    import onnx
    import onnxruntime

    with _quiet():
        program = torch.onnx.export(
            model.graph(size), dynamo=True, verbose=False, input_names=[INPUT], output_names=list(model.names)
        )
    assert program is not None
    document = program.model_proto
    _name_sizes(document, model.axes)
    document.producer_name, document.producer_version = "AGTraining", __version__
    document.doc_string = model_card(model.info)
    onnx.helper.set_model_props(document, {bundle.DOCUMENT_KEY: model.info.model_dump_json()})
    onnx.checker.check_model(document, full_check=True)
    onnx.save_model(document, temporary)

    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = torch.get_num_threads()
    session = onnxruntime.InferenceSession(temporary, options, providers=["CPUExecutionProvider"])

    def run(image: Tensor) -> list[Tensor]:
        return [torch.from_numpy(array) for array in session.run(list(model.names), {INPUT: image.numpy()})]

    difference = model.difference(run, size, path.name)
    checker = f"ONNX Runtime {onnxruntime.__version__}"
    return Exported(path, "ONNX", size, model.divisor, model.axes, model.names, difference, checker)


def _export_program(model: _Exportable, temporary: Path, path: Path, size: Size | None) -> Exported:
    content = io.BytesIO()
    torch.export.save(model.graph(size), content, extra_files={DOCUMENT_FILE: model.info.model_dump_json()})
    temporary.write_bytes(content.getvalue())
    difference = model.difference(torch.export.load(temporary).module(), size, path.name)
    checker = f"PyTorch {torch.__version__}, loaded again"
    return Exported(path, "torch.export", size, model.divisor, model.axes, model.names, difference, checker)


def _require(purpose: str, *packages: str) -> None:
    missing = [name for name in packages if find_spec(name) is None]
    if missing:
        raise ExportError(
            f"Export to {purpose} needs packages that are not installed ({', '.join(missing)}): "
            f"python -m pip install {' '.join(missing)}."
        )


@contextmanager
def _quiet() -> Iterator[None]:
    """Without the exporter's own deprecations, and its regrets over packages that have no part in this."""
    before = logging.root.manager.disable
    logging.disable(logging.WARNING)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            yield
    finally:
        logging.disable(before)


def _name_sizes(document: Any, axes: Sequence[str]) -> None:
    """Gives the symbols of sizes (s77, 16*s86 …) names that a reader understands (batch, 16*depth_blocks …)."""
    dimensions = document.graph.input[0].type.tensor_type.shape.dim
    names = {}
    words = ("batch", *(f"{axis}_blocks" for axis in axes))
    for dimension, name in zip([dimensions[0], *dimensions[2:]], words, strict=True):
        if symbol := re.search(r"[a-z]\w*$", dimension.dim_param):
            names[symbol[0]] = name
    for value in (*document.graph.input, *document.graph.output, *document.graph.value_info):
        for dimension in value.type.tensor_type.shape.dim:
            if dimension.dim_param:
                dimension.dim_param = re.sub(
                    r"[a-z]\w*", lambda symbol: names.get(symbol[0], symbol[0]), dimension.dim_param
                )
