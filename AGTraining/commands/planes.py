"""Ultrasound clips in, standard planes out."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from AGTraining.arguments import expanded_path
from AGTraining.errors import InputError, code, sentence
from AGTraining.run_document import run_document
from AGTraining.terminal import INTERRUPTED, print_error, progress_bar, stdout_kept_for_json

if TYPE_CHECKING:
    from AGTraining.batch import Case
    from AGTraining.clips import ClipReport
    from AGTraining.inference.planes import PlaneDetector


def add_parser(verbs: argparse._SubParsersAction[argparse.ArgumentParser], common: argparse.ArgumentParser) -> None:
    """Adds the verb and its arguments."""
    parser = verbs.add_parser("planes", parents=[common], help="ultrasound clips in, standard planes out")
    parser.description = (
        "Finds standard planes in fetal ultrasound; each clip gets a folder with a table of its frames, a plot over "
        "time, pictures of the best frame of each plane with box and attention, and a summary."
    )
    parser.add_argument(
        "inputs",
        nargs="+",
        metavar="IN",
        help="DICOM, MHA, NRRD, video or picture file, or a folder of clips or of one clip's pictures",
    )
    parser.add_argument("--out", required=True, type=expanded_path, metavar="DIR", help="folder for the results")
    parser.add_argument(
        "--model", type=expanded_path, metavar="FILE", help="model bundle (default: the bundled starter model)"
    )
    parser.add_argument(
        "--attention", nargs="?", const="levels", default="none", choices=("none", "levels"),
        help="write the attention maps of the best frames too, as a NumPy file",
    )  # fmt: skip
    parser.add_argument("--device", default="auto", help="auto (default), cpu, cuda, cuda:N or mps")
    parser.add_argument("--json", action="store_true", help="print one JSON document on stdout, and nothing else there")
    parser.add_argument("--overwrite", action="store_true", help="replace results of an earlier run")
    parser.set_defaults(verb=run, answer_failure=answer_failure)


def run(parsed: argparse.Namespace) -> int:
    """Analyzes each clip; goes on after one that fails."""
    with stdout_kept_for_json(parsed.json) as output:
        # Paths are named before the heavy imports, so that a wrong one is answered at once.
        if not any(Path(given).expanduser().exists() for given in parsed.inputs):
            raise InputError(f"{', '.join(parsed.inputs)}: no such file or folder; check the path.")
        from AGTraining import bundle
        from AGTraining.clips import CLIP, ClipReport, clips_of
        from AGTraining.inference.case_folder import require_apart, require_writable
        from AGTraining.inference.device import choose_device
        from AGTraining.inference.plane_result import PlaneOptions
        from AGTraining.inference.planes import PlaneDetector

        choose_device(parsed.device)
        model = bundle.load_planes(parsed.model or bundle.default_path("planes"))
        detector = PlaneDetector(model, PlaneOptions(device=parsed.device, attention=True))
        cases, failures = clips_of(parsed.inputs)
        require_apart([case.path for case in cases], parsed.out, [case.name for case in cases])
        require_writable(parsed.out, names=CLIP)
        reports: list[ClipReport] = []
        for given, error in failures.items():
            print_error(error, parsed.debug)
            name = Path(given).name
            reports.append(ClipReport(name, given, parsed.out / name, error=sentence(error), code=code(error)))
        total, interrupted = len(cases) + len(failures), False
        try:
            for number, case in enumerate(cases, 1):
                reports.append(_analyze_one(case, detector, parsed, f"{number}/{len(cases)} "))
                if not parsed.json:
                    _print_report(reports[-1])
        except KeyboardInterrupt:
            interrupted = True
            print(f"Interrupted: {len(reports)} of {total} clips are done.", file=sys.stderr)
        if parsed.json:
            print(run_document("clips", reports, (model.info.name, model.path), interrupted), file=output, flush=True)
        elif total > 1:
            _print_summary(reports, total)
    return INTERRUPTED if interrupted else int(not all(report.is_complete for report in reports))


def _analyze_one(case: Case, detector: PlaneDetector, parsed: argparse.Namespace, prefix: str) -> ClipReport:
    """The report of a clip, also when it fails: a batch goes on."""
    from AGTraining.clips import ClipReport, analyse_case

    try:
        with progress_bar(prefix + case.name) as progress:
            return analyse_case(case, detector, parsed.out, parsed.overwrite, parsed.attention != "none", progress)
    except Exception as error:
        print_error(error, parsed.debug)
        return ClipReport(case.name, str(case.path), parsed.out / case.name, error=sentence(error), code=code(error))


def _print_report(report: ClipReport) -> None:
    if report.error is not None:
        return
    from AGTraining.clips import LOW_CONFIDENCE

    frames = f"{report.count} frame{'' if report.count == 1 else 's'}"
    frames += "" if report.is_complete else ", not the whole"
    print(f"{report.clip}: {report.folder} ({frames}, {sum(report.seconds.values()):.1f} s on {report.device})")
    for name, count in report.frames.items():
        line = f"  {name:<16}{count:6} frame{' ' if count == 1 else 's'}"
        best = report.best.get(name)
        if best is not None:
            time = "" if best.seconds is None else f" ({best.seconds:.2f} s)"
            low = ", low" if best.result.confidence < LOW_CONFIDENCE else ""
            line += f"   best: frame {best.index + 1}{time}, confidence {best.result.confidence:.2f}{low}"
        print(line)
    if not report.best:
        print("  no standard plane was found")
    for message in report.messages:
        print(f"  note: {message}")
    sys.stdout.flush()


def _print_summary(reports: Sequence[ClipReport], count: int) -> None:
    failed = [report for report in reports if report.error is not None]
    print(f"{len(reports) - len(failed)} of {count} clips analyzed" + (f", {len(failed)} failed:" if failed else "."))
    for report in reports:
        if report.error is None and not report.is_complete:
            print(f"  {report.clip}: broke off after {report.count} frames")
    for report in failed:
        print(f"  {report.clip}: {report.error}")


def answer_failure(parsed: argparse.Namespace, error: Exception) -> None:
    """The JSON document of a run that failed before its first clip, where one is wanted."""
    if parsed.json:
        print(run_document("clips", [], error=error))
