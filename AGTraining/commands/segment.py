"""CT in, segmentation out."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Iterator, Sequence
from contextlib import closing
from pathlib import Path
from typing import TYPE_CHECKING

from AGTraining.arguments import attention_maps, expanded_path, positive_voxels
from AGTraining.errors import InputError, code, sentence
from AGTraining.run_document import run_document
from AGTraining.terminal import INTERRUPTED, print_error, progress_bar, stdout_kept_for_json

if TYPE_CHECKING:
    from AGTraining.batch import Case, CaseReport
    from AGTraining.bundle import Bundle
    from AGTraining.inference.result import SegmentOptions


def add_parser(verbs: argparse._SubParsersAction[argparse.ArgumentParser], common: argparse.ArgumentParser) -> None:
    """Adds the verb and its arguments."""
    parser = verbs.add_parser("segment", parents=[common], help="CT in, segmentation out")
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
    parser.add_argument(
        "--scheduler", metavar="ADDRESS",
        help="segment on the workers of this Dask scheduler, such as tcp://host:8786; goes on where a run has ended",
    )  # fmt: skip
    parser.set_defaults(verb=run, answer_failure=answer_failure)


def run(parsed: argparse.Namespace) -> int:
    """Segments each scan; goes on after one that fails."""
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
        if parsed.scheduler is None:
            choose_device(parsed.device)
        model = bundle.load(parsed.model or bundle.default_path())
        require_writable(parsed.out)
        reports: list[CaseReport] = []
        interrupted = False
        try:
            segmented = _on_cluster if parsed.scheduler else _in_this_process
            for report in segmented(cases, model, options, parsed):
                reports.append(report)
                if not parsed.json:
                    _print_report(report)
        except KeyboardInterrupt:
            interrupted = True
            print(f"Interrupted: {len(reports)} of {len(cases)} scans are done.", file=sys.stderr)
        order = {case.name: number for number, case in enumerate(cases)}
        reports.sort(key=lambda report: order[report.case])
        failed = [report for report in reports if report.error is not None]
        if parsed.json:
            print(run_document("cases", reports, (model.info.name, model.path), interrupted), file=output, flush=True)
        elif len(cases) > 1:
            _print_summary(reports, len(cases))
    return INTERRUPTED if interrupted else int(bool(failed))


def _require_any_input(inputs: Sequence[str]) -> None:
    """One missing path among others is that case's failure; when all are missing nothing needs to be loaded."""
    if not any(Path(given).expanduser().exists() for given in inputs):
        raise InputError(f"{', '.join(inputs)}: no such file or folder; check the path.")


def _in_this_process(
    cases: Sequence[Case], model: Bundle, options: SegmentOptions, parsed: argparse.Namespace
) -> Iterator[CaseReport]:
    """The reports of the cases, one after another."""
    for number, case in enumerate(cases, 1):
        yield _segment_one(case, model, options, parsed, f"{number}/{len(cases)} ")


def _on_cluster(
    cases: Sequence[Case], model: Bundle, options: SegmentOptions, parsed: argparse.Namespace
) -> Iterator[CaseReport]:
    """The reports of the cases as the workers finish them."""
    from dataclasses import replace

    from tqdm import tqdm

    from AGTraining.cluster import make_job, segment_on_cluster

    job = make_job(parsed.model, options, parsed.out, parsed.overwrite)
    with (
        tqdm(total=len(cases), unit="scan", file=sys.stderr, disable=not sys.stderr.isatty(), leave=False) as bar,
        closing(segment_on_cluster(parsed.scheduler, cases, job)) as reports,
    ):
        for report in reports:
            bar.update()
            if report.error is not None:
                print(f"error: {report.error}", file=sys.stderr, flush=True)
            folder = parsed.out / report.case
            files = {kind: folder / path.name for kind, path in report.files.items()}
            with bar.external_write_mode():
                yield replace(report, folder=folder, files=files)


def _segment_one(
    case: Case, model: Bundle, options: SegmentOptions, parsed: argparse.Namespace, prefix: str
) -> CaseReport:
    """The report of a case, also when it fails: a batch goes on."""
    from AGTraining.batch import CaseReport, segment_case

    try:
        with progress_bar(prefix + case.name) as progress:
            return segment_case(case, model, options, parsed.out, parsed.overwrite, progress)
    except Exception as error:
        print_error(error, parsed.debug)
        return CaseReport(case.name, str(case.path), parsed.out / case.name, error=sentence(error), code=code(error))


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


def answer_failure(parsed: argparse.Namespace, error: Exception) -> None:
    """The JSON document of a run that failed before its first case, where one is wanted."""
    if parsed.json:
        print(run_document("cases", [], error=error))
