"""A public data set as it was downloaded in, a dataset.json out."""

from __future__ import annotations

import argparse
import sys

from AGTraining.arguments import expanded_path, positive_count


def add_parser(verbs: argparse._SubParsersAction[argparse.ArgumentParser], common: argparse.ArgumentParser) -> None:
    """Adds the verb and its arguments."""
    from AGTraining.data.importers import KINDS

    parser = verbs.add_parser(
        "import", parents=[common], help="describe a public data set for training",
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )  # fmt: skip
    parser.description = "Writes a dataset.json for a data set as it was downloaded. Images are not copied."
    width = max(map(len, KINDS))
    parser.epilog = "kinds:\n" + "\n".join(f"  {name:<{width}}  {kind.text}" for name, kind in KINDS.items())
    parser.add_argument("kind", choices=list(KINDS), metavar="KIND", help="which data set (below)")
    parser.add_argument("folder", type=expanded_path, metavar="DIR", help="where it was downloaded to")
    parser.add_argument("--out", required=True, type=expanded_path, metavar="DIR", help="folder for the description")
    parser.add_argument(
        "--labels", nargs="+", default=(), metavar="NAME",
        help="totalsegmentator: organs to take, as their files are called; folders: names of values, as in pancreas=1",
    )  # fmt: skip
    parser.add_argument("--workers", type=positive_count, default=1, metavar="N", help="processes (default 1)")
    parser.set_defaults(verb=run)


def run(parsed: argparse.Namespace) -> int:
    """Imports; exit code 1 where cases had to be left out."""
    from AGTraining.data.importers import importer
    from AGTraining.data.importers.common import ImportOptions

    options = ImportOptions(tuple(parsed.labels), parsed.workers)
    report = importer(parsed.kind)(parsed.folder, parsed.out, options)
    print(f"{report.dataset}: {report.cases} cases")
    if report.splits is not None:
        print(f"{report.splits}: the data set's own parts")
    for note in report.notes:
        print(f"  note: {note}")
    sys.stdout.flush()
    for problem in report.problems:
        print(f"error: {problem}", file=sys.stderr)
    return int(bool(report.problems))
