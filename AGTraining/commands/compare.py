"""Whether two models differ, tested on the same cases."""

from __future__ import annotations

import argparse

from AGTraining.arguments import expanded_path
from AGTraining.commands.evaluate import print_table
from AGTraining.errors import InputError

METRICS = ("dsc", "precision", "recall", "s2s_mm", "hd95_mm", "surface_dice", "volume_error_ml", "volume_error_percent")


def add_parser(verbs: argparse._SubParsersAction[argparse.ArgumentParser], common: argparse.ArgumentParser) -> None:
    """Adds the verb and its arguments."""
    parser = verbs.add_parser("compare", parents=[common], help="test whether two models differ")
    parser.description = (
        "Tests two evaluations of the same data set, paired by case: Wilcoxon's signed rank and paired t test, with "
        "Holm's correction over organs and measures. Writes comparison.json, comparison.csv and comparison.html."
    )
    parser.add_argument("first", type=expanded_path, metavar="FIRST", help="folder that 'evaluate' wrote for one model")
    parser.add_argument("second", type=expanded_path, metavar="SECOND", help="that of the other model")
    parser.add_argument("--out", required=True, type=expanded_path, metavar="DIR", help="folder for the results")
    parser.add_argument("--names", nargs=2, metavar=("FIRST", "SECOND"), help="what to call the two")
    parser.add_argument(
        "--metrics", nargs="+", choices=METRICS, metavar="METRIC",
        help=f"of {', '.join(METRICS)} (default: all but the last); fewer tests need less correction",
    )  # fmt: skip
    parser.add_argument("--overwrite", action="store_true", help="replace an earlier comparison")
    parser.set_defaults(verb=run)


def run(parsed: argparse.Namespace) -> int:
    """Tests and writes the results."""
    from AGTraining.evaluation.comparison_report import HEAD, comparison_rows, write_comparison_report
    from AGTraining.evaluation.results import read_evaluation
    from AGTraining.evaluation.significance import COMPARED, compare, write_comparison

    first, second = read_evaluation(parsed.first), read_evaluation(parsed.second)
    if (parsed.out / "comparison.json").exists() and not parsed.overwrite:
        raise InputError(f"{parsed.out}: a comparison is already there; choose another folder, or --overwrite.")
    names = tuple(parsed.names) if parsed.names else None
    comparison = compare(first, second, parsed.metrics or COMPARED, names)
    parsed.out.mkdir(parents=True, exist_ok=True)
    files = write_comparison(comparison, parsed.out)
    report = write_comparison_report(comparison, {organ.name: organ.color for organ in first.organs}, parsed.out)
    print(f"first: {comparison.first}\nsecond: {comparison.second}")
    print_table(list(HEAD), comparison_rows(comparison))
    for message in comparison.messages:
        print(f"note: {message}")
    print("\n".join(str(path) for path in (*files, report)))
    return 0
