"""What a command shows on a terminal, and what it keeps off its output."""

from __future__ import annotations

import os
import sys
import traceback
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import TextIO

from AGTraining.errors import sentence

INTERRUPTED = 130


def print_anything() -> None:
    """Lets stdout and stderr print what their encoding does not have, as an escape, instead of failing."""
    for stream in (sys.stdout, sys.stderr):
        # Slicer's own streams have no encoding and print all.
        if hasattr(stream, "reconfigure"):
            stream.reconfigure(errors="backslashreplace")


@contextmanager
def progress_bar(name: str) -> Iterator[Callable[[float, str], None]]:
    """A bar on stderr where that is a terminal, nothing elsewhere."""
    from tqdm import tqdm

    with tqdm(
        total=100, file=sys.stderr, disable=not sys.stderr.isatty(), leave=False, desc=name,
        bar_format="{desc} {percentage:3.0f}%|{bar}| {elapsed} {postfix}",
    ) as bar:  # fmt: skip

        def progress(fraction: float, stage: str) -> None:
            bar.set_postfix_str(stage, refresh=False)
            bar.update(max(0.0, 100.0 * min(fraction, 1.0) - bar.n))

        yield progress


@contextmanager
def stdout_kept_for_json(wanted: bool) -> Iterator[TextIO]:
    """Where JSON is wanted, whatever libraries print on stdout goes to stderr; the JSON goes to what is yielded."""
    if not wanted:
        yield sys.stdout
        return
    sys.stdout.flush()
    kept = os.dup(1)
    os.dup2(2, 1)
    before = sys.stdout
    try:
        with open(kept, "w", encoding="utf-8") as output:
            sys.stdout = sys.stderr
            try:
                yield output
            finally:
                sys.stdout = before
                os.dup2(kept, 1)
    finally:
        sys.stdout = before


def print_error(error: Exception, debug: bool) -> None:
    """One sentence on stderr, behind the traceback where that is wanted."""
    if debug:
        traceback.print_exception(error, file=sys.stderr)
    print(f"error: {sentence(error)}", file=sys.stderr, flush=True)
