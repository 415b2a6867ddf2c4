"""`comparison.html`: two models side by side, tested."""

from __future__ import annotations

import math
from collections.abc import Mapping
from pathlib import Path

import AGTraining
from AGTraining.evaluation import page
from AGTraining.evaluation.plots import difference_plots
from AGTraining.evaluation.results import write_text
from AGTraining.evaluation.scores import METRIC
from AGTraining.evaluation.significance import Comparison, PairedTest, compared_label

REPORT = "comparison.html"
ALPHA = 0.05


def write_comparison_report(comparison: Comparison, colors: Mapping[str, tuple[int, int, int]], folder: Path) -> Path:
    """Writes the report into the folder; returns its path. colors: RGB of the organs. Raises OSError."""
    first, second = comparison.first, comparison.second
    shares = {organ: (red / 255, green / 255, blue / 255) for organ, (red, green, blue) in colors.items()}
    parts = [
        page.paragraph(
            f"First: {first}. Second: {second}. {comparison.cases} cases in both. AGTraining {AGTraining.__version__}."
        ),
        *map(page.note, comparison.messages),
        page.table(HEAD, comparison_rows(comparison)),
        page.paragraph(
            f"Tests are paired by case and two-sided. {len(comparison.tests)} tests of each kind were corrected "
            f"together (Holm); * marks a corrected p below {ALPHA:g}. d: Cohen's, mean / SD of the differences; r: "
            "rank-biserial correlation. Cases in which one of the two has no value are left out of that row: their "
            "numbers stand behind the pairs, first and second. A model that misses an organ has no distance there, so "
            "look at DSC too."
        ),
        page.heading("Differences: second − first"),
        page.picture(difference_plots(comparison, shares), "Box plots of the differences of each organ"),
    ]
    return write_text(page.document(f"{first} and {second}", parts), folder / REPORT)


HEAD = (
    "organ", "measure", "pairs", "first", "second", "difference (95 % CI)", "Wilcoxon p", "Holm", "t test p", "Holm",
    "d", "r", "better mean",
)  # fmt: skip


def comparison_rows(comparison: Comparison) -> list[list[str]]:
    """A row for each test, in the order of `HEAD`."""
    return [_row(test) for test in comparison.tests]


def _row(test: PairedTest) -> list[str]:
    metric = METRIC[test.metric]
    undefined = test.first_undefined or test.second_undefined
    pairs = f"{test.pairs} (−{test.first_undefined}, −{test.second_undefined})" if undefined else str(test.pairs)
    difference = page.number(test.difference, metric.digits)
    if not math.isnan(test.low):
        difference += f" ({page.number(test.low, metric.digits)} to {page.number(test.high, metric.digits)})"
    return [
        test.organ,
        compared_label(test.metric),
        pairs,
        page.number(test.first_mean, metric.digits),
        page.number(test.second_mean, metric.digits),
        difference,
        _p(test.wilcoxon_p),
        _p(test.wilcoxon_holm, mark=True),
        _p(test.t_p),
        _p(test.t_holm, mark=True),
        page.number(test.cohen_d, 2),
        page.number(test.rank_biserial, 2),
        test.better or "–",
    ]


def _p(value: float, mark: bool = False) -> str:
    text = "<0.0001" if value < 1e-4 else page.number(value, 4)
    return f"{text} *" if mark and value < ALPHA else text
