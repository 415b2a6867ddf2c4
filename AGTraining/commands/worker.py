"""The process that 3D Slicer talks to."""

from __future__ import annotations

import argparse

from AGTraining.arguments import positive_seconds


def add_parser(verbs: argparse._SubParsersAction[argparse.ArgumentParser], common: argparse.ArgumentParser) -> None:
    """Adds the verb and its arguments."""
    # Without help of its own it is not listed: people do not talk to it.
    parser = verbs.add_parser("worker", parents=[common])
    parser.description = (
        "The process that 3D Slicer talks to: one JSON request a line on stdin, one JSON event a line on stdout. It "
        "ends when stdin is closed. AGTraining/worker.py describes requests and events."
    )
    parser.add_argument(
        "--idle-seconds", type=positive_seconds, default=300.0, metavar="S",
        help="end after so many seconds without a request (default 300)",
    )  # fmt: skip
    parser.set_defaults(verb=run)


def run(parsed: argparse.Namespace) -> int:
    """Answers requests until stdin is closed or nothing comes for a while; ends the process itself."""
    from AGTraining import worker

    worker.run(parsed.idle_seconds)
