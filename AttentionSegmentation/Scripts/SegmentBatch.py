"""Segments the organs of many CT scans, in Slicer or in plain Python with slicer-core.

    Slicer --no-main-window --python-script SegmentBatch.py -- SCAN [SCAN ...] --out FOLDER
    python SegmentBatch.py SCAN [SCAN ...] --out FOLDER

A scan is a NIfTI, NRRD or MHA file or a folder of DICOM slices. Progress goes to stderr, the summary to stdout.
Exit codes: 0 all scans were segmented, 1 at least one failed, 2 wrong arguments, 130 interrupted.
"""

# Slicer reads this file in the encoding of the system: ASCII only.

import argparse
import importlib.util
import os
import sys
import time
import traceback
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

EXIT_DONE, EXIT_FAILED, EXIT_USAGE, EXIT_INTERRUPTED = 0, 1, 2, 130
SECONDS_BETWEEN_LINES = 10.0


def main(arguments: Sequence[str]) -> int:
    """Runs the batch and returns the exit code, whatever happens: in Slicer an exception would not end the program."""
    for stream in (sys.stdout, sys.stderr):
        # A name that the console cannot print must not end the batch. Slicer's own streams print all.
        if hasattr(stream, "reconfigure"):
            stream.reconfigure(errors="backslashreplace")
    try:
        return segmentAll(parseArguments(arguments))
    except SystemExit as error:  # argparse, after it has printed its message
        return error.code if isinstance(error.code, int) else EXIT_USAGE
    except KeyboardInterrupt:
        print("Interrupted; the scan that was being segmented left no files.", file=sys.stderr)
        return EXIT_INTERRUPTED
    except Exception as error:
        print(sentence(error), file=sys.stderr)
        return EXIT_FAILED


def parseArguments(arguments: Sequence[str]) -> argparse.Namespace:
    """The command line without the program's name. Raises SystemExit as argparse does."""
    makeLibraryImportable()
    from AGTraining.arguments import attention_maps, spell_out_attention

    parser = argparse.ArgumentParser(
        prog="SegmentBatch.py", description="Segment pancreas, spleen and kidneys in CT scans."
    )
    parser.add_argument("scans", nargs="+", metavar="SCAN", help="NIfTI, NRRD or MHA file, or folder of DICOM slices")
    parser.add_argument(
        "--out",
        required=True,
        type=os.path.expanduser,
        metavar="FOLDER",
        help="where the results go; made when missing",
    )
    parser.add_argument(
        "--model", type=os.path.expanduser, metavar="FILE", help="model bundle (default: the one of the extension)"
    )
    parser.add_argument("--device", default="auto", help="auto, cpu, cuda, cuda:N or mps (default: auto)")
    parser.add_argument(
        "--attention",
        nargs="?",
        const="levels",
        default="none",
        type=attention_maps,
        metavar="levels|gates",
        help="write attention maps too: one for each level of the network (default), or for each gate",
    )
    parser.add_argument("--mirror", action="store_true", help="average over mirrored images: slower, a little better")
    parser.add_argument("--overwrite", action="store_true", help="replace results of the same name")
    arguments = list(arguments)
    # Slicer keeps the -- that comes before a script's arguments to itself; plain Python hands it on.
    if arguments[:1] == ["--"]:
        del arguments[0]
    return parser.parse_args(spell_out_attention(arguments))


def makeLibraryImportable() -> None:
    """Makes AttentionSegmentationLib importable, and with it AGTraining. Raises ImportError."""
    moduleFolder = str(Path(__file__).resolve().parents[1])
    if moduleFolder not in sys.path:
        sys.path.append(moduleFolder)
    import AttentionSegmentationLib  # noqa: F401  (it looks for AGTraining)


def segmentAll(options: argparse.Namespace) -> int:
    """Segments the scans one after the other, prints the summary and returns the exit code."""
    if "slicer" not in sys.modules and importlib.util.find_spec("slicer") is None:
        raise ImportError("Outside Slicer the Python package slicer-core is needed: python -m pip install slicer-core")
    from AttentionSegmentationLib.Segmentation.BatchSegmentation import BatchSegmentation
    from AttentionSegmentationLib.Segmentation.ProcessingOptions import ProcessingOptions
    from AttentionSegmentationLib.Segmentation.SegmentationEngine import InProcessEngine
    from AttentionSegmentationLib.SlicerHost import startSlicerHost

    from AGTraining.batch import name_cases
    from AGTraining.inference.case_folder import require_apart, require_writable
    from AGTraining.inference.device import choose_device

    startSlicerHost()
    engine = InProcessEngine()
    # What would fail every scan is said once.
    cases = name_cases(options.scans)
    require_apart([case.path for case in cases], Path(options.out), [case.name for case in cases])
    choose_device(options.device)
    engine.loadBundle(options.model)
    require_writable(Path(options.out))
    processing = ProcessingOptions(
        modelPath=options.model,
        device=options.device,
        attention=options.attention,
        mirror=options.mirror,
    )
    batch = BatchSegmentation(options.out, processing, options.overwrite, engine)
    failures: list[str] = []
    for number, case in enumerate(cases, 1):
        title = f"[{number}/{len(cases)}] {case.name}"
        start = time.monotonic()
        try:
            with progressOf(title) as progress:
                outcome = batch.run(case, progress)
        except Exception as error:
            failures.append(f"{case.name}: {sentence(error)}")
            print(f"{title}: failed", file=sys.stderr, flush=True)
            continue
        print(f"{title}: done in {time.monotonic() - start:.0f} s", file=sys.stderr, flush=True)
        organs = ", ".join(f"{name} {volume:.1f} ml" for name, volume in outcome.volumesMl.items())
        print(f"{case.path} -> {outcome.files[0]}: {organs or 'no organ found'}", flush=True)
        for message in outcome.messages:
            print(f"  {message}", flush=True)
    ending = f", {len(failures)} failed:" if failures else "."
    print(f"{len(cases) - len(failures)} of {len(cases)} scans segmented{ending}", flush=True)
    for failure in failures:
        print(f"  {failure}", flush=True)
    return EXIT_FAILED if failures else EXIT_DONE


def sentence(error: Exception) -> str:
    """The error for the user; one that is not meant for users is printed with its traceback first."""
    if isinstance(error, ModuleNotFoundError):
        return (
            f"The Python package '{error.name}' is needed and not installed; install it with "
            f"slicer.util.pip_install('{error.name}') in Slicer's Python console, or with pip elsewhere."
        )
    # By name: AGTraining itself may be what cannot be imported.
    forUsers = any(kind.__name__ == "AGTrainingError" for kind in type(error).__mro__)
    if forUsers or isinstance(error, (OSError, ImportError)):
        return str(error)
    traceback.print_exception(error)
    return f"{type(error).__name__}: {error}"


@contextmanager
def progressOf(title: str) -> Iterator[Callable[[float, str], None]]:
    """Shows progress on stderr: a bar on a terminal; elsewhere, as in Slicer, a line at the start and now and then."""
    if sys.stderr.isatty():
        from AGTraining.terminal import progress_bar

        with progress_bar(title) as progress:
            yield progress
        return
    lastLine = time.monotonic()
    print(f"{title}: started", file=sys.stderr, flush=True)

    def printLine(fraction: float, stage: str) -> None:
        nonlocal lastLine
        if time.monotonic() - lastLine >= SECONDS_BETWEEN_LINES:
            lastLine = time.monotonic()
            print(f"{title}: {fraction:.0%} {stage}", file=sys.stderr, flush=True)

    yield printLine


def exitProgram(code: int) -> None:
    """Ends Slicer with the exit code, or Python where there is no Slicer."""
    slicer = sys.modules.get("slicer")
    if getattr(slicer, "app", None) is not None:
        slicer.util.exit(code)
    else:
        sys.exit(code)


if __name__ == "__main__":
    exitProgram(main(sys.argv[1:]))
