"""A model for programs that do not have AGTraining."""

from __future__ import annotations

import argparse
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING

from AGTraining.arguments import expanded_path, positive_voxels
from AGTraining.errors import ExportError

if TYPE_CHECKING:
    from AGTraining.export import Exported

BUNDLE = ".safetensors"


def add_parser(verbs: argparse._SubParsersAction[argparse.ArgumentParser], common: argparse.ArgumentParser) -> None:
    """Adds the verb and its arguments."""
    parser = verbs.add_parser("export", parents=[common], help="write a model as ONNX, torch.export program or bundle")
    parser.description = (
        "Writes a model for other programs, checked against PyTorch. It takes z-scores, (N, 1, D, H, W) on the model's "
        "grid or (N, 1, H, W) of a frame, and gives logits; the model card, which `describe` prints, tells how to make "
        "them."
    )
    parser.add_argument(
        "model", nargs="?", type=expanded_path, metavar="MODEL",
        help="model file, or the folder of a training run for its best checkpoint (default: the bundled model)",
    )  # fmt: skip
    parser.add_argument(
        "--out", required=True, type=expanded_path, metavar="FILE",
        help="its suffix says what: .onnx, .pt2 (torch.export), or for a run's folder .safetensors (a bundle)",
    )  # fmt: skip
    parser.add_argument("--gates", action="store_true", help="give the coefficients of each attention gate too")
    parser.add_argument(
        "--size",
        nargs="+",
        type=positive_voxels,
        metavar="N",
        help="only this input size, D H W for volumes and H W for frames (default: any)",
    )  # fmt: skip
    parser.add_argument("--overwrite", action="store_true", help="replace FILE")
    parser.set_defaults(verb=run)


def run(parsed: argparse.Namespace) -> int:
    """Writes and checks the file; says what it takes and gives."""
    if parsed.out.exists() and (parsed.out.is_dir() or not parsed.overwrite):
        raise ExportError(f"{parsed.out}: exists already; choose another name, or add --overwrite.")
    from AGTraining import bundle
    from AGTraining.export import export

    if parsed.out.suffix.lower() == BUNDLE:
        if parsed.model is None or not parsed.model.is_dir():
            raise ExportError(f"{parsed.out}: only the folder of a training run is made a bundle; a model file is one.")
        _bundle_of_run(parsed.model, parsed.out)
        print(f"{parsed.out}: bundle of {parsed.model}")
        return 0
    with tempfile.TemporaryDirectory() as folder:
        path = parsed.model or bundle.default_path()
        if path.is_dir():
            path = _bundle_of_run(path, Path(folder, f"{path.resolve().name}{BUNDLE}"))
        model = bundle.load_any(path)
        size = tuple(parsed.size) if parsed.size else None
        exported = export(model, parsed.out, gates=parsed.gates, size=size)
    _print(exported)
    return 0


def _bundle_of_run(folder: Path, path: Path) -> Path:
    """Writes a run's best network (its last one, where none was validated) as a bundle."""
    if not (folder / "config.yaml").is_file():
        raise ExportError(f"{folder}: is neither a model file nor the folder of a training run (has no config.yaml).")
    from AGTraining.training.config import read_config
    from AGTraining.training.run import export_bundle
    from AGTraining.training.trainer import BEST, LAST

    checkpoints = [folder / name for name in (BEST, LAST) if (folder / name).is_file()]
    if not checkpoints:
        raise ExportError(f"{folder}: the run has no checkpoint yet; train on.")
    export_bundle(read_config(folder / "config.yaml", any_task=True), checkpoints[0], path)
    return path


def _print(exported: Exported) -> None:
    d = exported.divisor
    letters = ", ".join(axis[0].upper() for axis in exported.axes)
    sizes = f"{letters} multiples of {d} from {2 * d} up"
    if exported.size is not None:
        sizes = f"{letters} = " + ", ".join(map(str, exported.size))
    print(f"{exported.path}: {exported.program}, {exported.path.stat().st_size / 1024**2:.1f} MiB")
    print(f"  input    image, float32 z-scores ({'N' if exported.size is None else 1}, 1, {letters}); {sizes}")
    print(f"  outputs  {', '.join(exported.outputs)}")
    print(
        f"  checked  with {exported.checked_by}: differs from PyTorch by {exported.difference:.1g} of the largest value"
    )
