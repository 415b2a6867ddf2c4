"""The command line. Verbs import what they need when they run, so that `--help` is instant.

Exit codes: 0 all went well, 1 something failed, 2 wrong usage, 130 interrupted.
"""

from __future__ import annotations

import argparse
import os
import sys
from collections.abc import Callable, Sequence
from importlib import import_module

from AGTraining import __version__
from AGTraining.arguments import spell_out_attention
from AGTraining.terminal import INTERRUPTED, print_anything, print_error

# Files of AGTraining.commands, in the order of --help.
VERBS = (
    "segment",
    "planes",
    "describe",
    "phantom",
    "import_data",
    "import_sononet",
    "check",
    "split",
    "prepare",
    "train",
    "evaluate",
    "evaluate_planes",
    "compare",
    "reproduce",
    "export",
    "worker",
)


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
        print_error(error, parsed.debug)
        if "answer_failure" in parsed:
            parsed.answer_failure(parsed, error)
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
    for name in VERBS:
        import_module(f"AGTraining.commands.{name}").add_parser(verbs, common)
    return parser
