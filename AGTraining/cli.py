"""The command line. Verbs import what they need when they run, so that `--help` is instant.

Exit codes: 0 all went well, 1 something failed, 2 wrong usage, 130 interrupted.
"""

from __future__ import annotations

import argparse
import json
import os
import sys
import traceback
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from AGTraining import __version__
from AGTraining.arguments import (
    attention_maps,
    expanded_path,
    positive_mm,
    positive_seconds,
    positive_voxels,
    seed,
    spell_out_attention,
)
from AGTraining.errors import AGTrainingError, InputError
from AGTraining.terminal import print_anything, progress_bar, stdout_kept_for_json

if TYPE_CHECKING:
    from AGTraining.batch import Case, CaseReport
    from AGTraining.bundle import Bundle
    from AGTraining.inference.result import SegmentOptions

INTERRUPTED = 130


def main(arguments: Sequence[str] | None = None) -> int:
    """Runs a verb; returns the exit code. Errors that users can mend are printed as one sentence."""
    print_anything()
    parsed = build_parser().parse_args(spell_out_attention(sys.argv[1:] if arguments is None else arguments))
    verb: Callable[[argparse.Namespace], int] = parsed.verb
    try:
        return verb(parsed)
    except KeyboardInterrupt:
        print("Interrupted.", file=sys.stderr)
        return INTERRUPTED
    except BrokenPipeError:
        # The reader of our output left (as `| head` does); nothing more can be said on stdout.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 1
    except Exception as error:
        _print_error(error, parsed.debug)
        if verb is _segment and parsed.json:
            print(_document([], error=error))
        return 1


def build_parser() -> argparse.ArgumentParser:
    """The parser of all verbs."""
    parser = argparse.ArgumentParser(
        prog="python -m AGTraining", description="Attention-gated networks for medical images."
    )
    parser.add_argument("--version", action="version", version=f"AGTraining {__version__}")
    verbs = parser.add_subparsers(title="verbs", metavar="VERB", required=True)
    common = argparse.ArgumentParser(add_help=False)
    common.add_argument("--debug", action="store_true", help="print tracebacks of errors")
    _add_segment(verbs.add_parser("segment", parents=[common], help="CT in, segmentation out"))
    _add_describe(verbs.add_parser("describe", parents=[common], help="print what a model file says of itself"))
    _add_phantom(verbs.add_parser("phantom", parents=[common], help="make a procedural abdomen CT with labels"))
    _add_train(verbs.add_parser("train", parents=[common], help="train a model from a configuration"))
    # Without help of its own it is not listed: people do not talk to it.
    _add_worker(verbs.add_parser("worker", parents=[common]))
    return parser


def _add_segment(parser: argparse.ArgumentParser) -> None:
    parser.description = (
        "Segments CT scans; each gets a folder with label map, .seg.nrrd for Slicer, table and preview."
    )
    parser.add_argument(
        "inputs",
        nargs="+",
        metavar="IN",
        help="NIfTI, NRRD or MHA file, DICOM folder, or one of its files",
    )
    parser.add_argument("--out", required=True, type=expanded_path, metavar="DIR", help="folder for the results")
    parser.add_argument(
        "--model", type=expanded_path, metavar="FILE", help="model bundle (default: the bundled starter model)"
    )
    parser.add_argument(
        "--attention", nargs="?", const="levels", default="none", type=attention_maps, metavar="levels|gates",
        help="write attention maps too: one for each level of the network (default), or for each gate",
    )  # fmt: skip
    parser.add_argument("--device", default="auto", help="auto (default), cpu, cuda, cuda:N or mps")
    parser.add_argument("--mirror", action="store_true", help="average with the mirrored scan: slower, a little better")
    parser.add_argument("--keep-all-components", action="store_true", help="keep islands beside an organ's main part")
    parser.add_argument(
        "--tile", nargs=3, type=positive_voxels, metavar=("K", "J", "I"), help="tile size in voxels of the model's grid"
    )
    parser.add_argument("--json", action="store_true", help="print one JSON document on stdout, and nothing else there")
    parser.add_argument("--overwrite", action="store_true", help="replace results of an earlier run")
    parser.set_defaults(verb=_segment)


def _add_describe(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "bundle", nargs="?", type=expanded_path, metavar="BUNDLE", help="model file (default: the bundled one)"
    )
    parser.add_argument("--json", action="store_true", help="print the metadata as JSON")
    parser.set_defaults(verb=_describe)


def _add_phantom(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--out", required=True, type=expanded_path, metavar="PATH",
        help="folder for ct.nii.gz and labels.nii.gz, or a file name for the CT (labels get _labels after it)",
    )  # fmt: skip
    parser.add_argument("--seed", type=seed, default=0, help="which patient (default 0)")
    parser.add_argument(
        "--spacing", nargs=3, type=positive_mm, metavar=("X", "Y", "Z"), help="voxel spacing in mm along x, y, z"
    )
    parser.set_defaults(verb=_phantom)


def _add_train(parser: argparse.ArgumentParser) -> None:
    parser.description = "Trains a model; a run that was stopped goes on where it was when it is started again."
    parser.add_argument("config", type=expanded_path, metavar="CONFIG.yaml", help="training configuration")
    parser.add_argument("--device", default="auto", help="auto (default), cpu, cuda, cuda:N or mps")
    parser.add_argument("--out", type=expanded_path, metavar="DIR", help="run folder (default: the configuration's)")
    parser.set_defaults(verb=_train)


def _add_worker(parser: argparse.ArgumentParser) -> None:
    parser.description = (
        "The process that 3D Slicer talks to: one JSON request a line on stdin, one JSON event a line on stdout. It "
        "ends when stdin is closed. AGTraining/worker.py describes requests and events."
    )
    parser.add_argument(
        "--idle-seconds", type=positive_seconds, default=300.0, metavar="S",
        help="end after so many seconds without a request (default 300)",
    )  # fmt: skip
    parser.set_defaults(verb=_worker)


def _segment(parsed: argparse.Namespace) -> int:
    with stdout_kept_for_json(parsed.json) as output:
        # Paths are named before the heavy imports, so that a wrong one is answered at once.
        _require_any_input(parsed.inputs)
        from AGTraining import bundle
        from AGTraining.batch import name_cases
        from AGTraining.inference.case_folder import require_apart, require_writable
        from AGTraining.inference.device import choose_device
        from AGTraining.inference.result import SegmentOptions

        options = SegmentOptions(
            device=parsed.device,
            attention=parsed.attention,
            tile_size=tuple(parsed.tile) if parsed.tile else None,
            mirror=parsed.mirror,
            largest_component=not parsed.keep_all_components,
        )
        cases = name_cases(parsed.inputs)
        require_apart([case.path for case in cases], parsed.out, [case.name for case in cases])
        choose_device(parsed.device)
        model = bundle.load(parsed.model or bundle.default_path())
        require_writable(parsed.out)
        reports: list[CaseReport] = []
        interrupted = False
        try:
            for number, case in enumerate(cases, 1):
                report = _segment_one(case, model, options, parsed, f"{number}/{len(cases)} ")
                reports.append(report)
                if not parsed.json:
                    _print_report(report)
        except KeyboardInterrupt:
            interrupted = True
            print(f"Interrupted: {len(reports)} of {len(cases)} scans are done.", file=sys.stderr)
        failed = [report for report in reports if report.error is not None]
        if parsed.json:
            print(_document(reports, model=model, interrupted=interrupted), file=output, flush=True)
        elif len(cases) > 1:
            _print_summary(reports, len(cases))
    return INTERRUPTED if interrupted else int(bool(failed))


def _document(
    reports: Sequence[CaseReport],
    model: Bundle | None = None,
    interrupted: bool = False,
    error: Exception | None = None,
) -> str:
    """The JSON document of a run; `error` and `code` are set when it ended before its first case."""
    document = {
        "version": __version__,
        "model": {"name": model.info.name, "path": str(model.path)} if model is not None else None,
        "cases": [report.as_json() for report in reports],
        "failed": sum(report.error is not None for report in reports),
        "interrupted": interrupted,
        "error": None if error is None else _sentence(error),
        "code": None if error is None else _code(error),
    }
    return json.dumps(document, indent=2, allow_nan=False)


def _require_any_input(inputs: Sequence[str]) -> None:
    """One missing path among others is that case's failure; when all are missing nothing needs to be loaded."""
    if not any(Path(given).expanduser().exists() for given in inputs):
        raise InputError(f"{', '.join(inputs)}: no such file or folder; check the path.")


def _segment_one(
    case: Case, model: Bundle, options: SegmentOptions, parsed: argparse.Namespace, prefix: str
) -> CaseReport:
    """The report of a case, also when it fails: a batch goes on."""
    from AGTraining.batch import CaseReport, segment_case

    try:
        with progress_bar(prefix + case.name) as progress:
            return segment_case(case, model, options, parsed.out, parsed.overwrite, progress)
    except Exception as error:
        _print_error(error, parsed.debug)
        return CaseReport(case.name, str(case.path), parsed.out / case.name, error=_sentence(error), code=_code(error))


def _print_report(report: CaseReport) -> None:
    if report.error is not None:
        return
    print(f"{report.case}: {report.folder} ({sum(report.seconds.values()):.1f} s on {report.device})")
    for organ in report.organs:
        values = (
            f"{organ.volume_ml:8.1f} ml {organ.mean_hu:7.0f} ± {organ.sd_hu:.0f} HU" if organ.found else "   not found"
        )
        print(f"  {organ.label.name:<14}{values}")
    for message in report.messages:
        print(f"  note: {message}")
    sys.stdout.flush()


def _print_summary(reports: Sequence[CaseReport], count: int) -> None:
    failed = [report for report in reports if report.error is not None]
    print(f"{len(reports) - len(failed)} of {count} scans segmented" + (f", {len(failed)} failed:" if failed else "."))
    for report in failed:
        print(f"  {report.case}: {report.error}")


def _describe(parsed: argparse.Namespace) -> int:
    from AGTraining import bundle

    path = parsed.bundle or bundle.default_path()
    info = bundle.read_info(path)
    if parsed.json:
        print(info.model_dump_json(indent=2))
        return 0
    print(f"{info.name} ({path})")
    arguments = ", ".join(f"{key}={value}" for key, value in info.arguments.items())
    intensity = ", ".join(f"{key} {value}" for key, value in info.intensity.model_dump(exclude_none=True).items())
    rows = {
        "task": info.task,
        "network": f"{info.network}({arguments})",
        "spacing": " × ".join(f"{s:g}" for s in info.spacing_mm) + " mm",
        "intensity": intensity,
        "labels": ", ".join(f"{label.value} {label.name}" for label in info.output_labels),
        "licence": info.licence,
        **{f"trained: {key}": _text(value) for key, value in info.provenance.items()},
        **{f"measured: {key}": _text(value) for key, value in info.metrics.items()},
    }
    width = max(len(key) for key in rows)
    for key, value in rows.items():
        print(f"  {key:<{width}}  {value}")
    return 0


def _text(value: Any) -> str:
    return value if isinstance(value, str) else json.dumps(value, ensure_ascii=False)


def _phantom(parsed: argparse.Namespace) -> int:
    from AGTraining.data.phantom import PhantomOptions, make_phantom
    from AGTraining.imaging.files import WRITABLE, image_suffix, write_volume

    ct_path, labels_path = parsed.out / "ct.nii.gz", parsed.out / "labels.nii.gz"
    if parsed.out.name.lower().endswith(WRITABLE):
        suffix = image_suffix(parsed.out)
        ct_path = parsed.out
        labels_path = ct_path.with_name(f"{ct_path.name.removesuffix(suffix)}_labels{suffix}")
    options = PhantomOptions(seed=parsed.seed)
    if parsed.spacing:
        options = replace(options, spacing=tuple(parsed.spacing))
    phantom = make_phantom(options)
    write_volume(phantom.ct, ct_path)
    write_volume(phantom.labels, labels_path)
    print(f"{ct_path}\n{labels_path}")
    return 0


def _train(parsed: argparse.Namespace) -> int:
    from AGTraining.training.trainer import train_from_config

    print(train_from_config(parsed.config, device=parsed.device, out=parsed.out))
    return 0


def _worker(parsed: argparse.Namespace) -> int:
    from AGTraining.worker import run

    run(parsed.idle_seconds)


def _print_error(error: Exception, debug: bool) -> None:
    if debug:
        traceback.print_exception(error, file=sys.stderr)
    print(f"error: {_sentence(error)}", file=sys.stderr, flush=True)


def _code(error: Exception) -> str:
    return error.code if isinstance(error, AGTrainingError) else "internal"


def _sentence(error: Exception) -> str:
    """The error for a user: its own sentence, or the kind of an error that nobody foresaw."""
    if isinstance(error, AGTrainingError):
        return str(error)
    if isinstance(error, MemoryError):
        return "There is not enough memory for this scan; close other programs, or use smaller tiles with --tile."
    if isinstance(error, OSError) and error.filename is not None:
        return f"{error.filename}: cannot be used ({error.strerror}); check the path and its permissions."
    text = " ".join(str(error).split())[:300]
    return f"An unforeseen problem ({type(error).__name__}: {text}); --debug shows where."
