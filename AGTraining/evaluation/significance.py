"""Whether two models differ: tests paired by case, for each organ and measure, corrected for their number.

Wilcoxon's signed rank test asks whether the differences lie around zero, whatever their distribution; the paired t test
(the papers') whether their mean is zero. Both are two-sided. Holm's correction is made for each of the two tests over
all organs and measures: of tables of models that do not differ at all, at most 5 in 100 have a corrected p below 0.05.

A pair counts where both models have a value. A missing organ has no distance, so its case drops out of S2S and HD95 and
flatters the model that missed it: the number of such cases stands in the table.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass, fields
from pathlib import Path

import numpy as np
from scipy import stats

from AGTraining.errors import InputError
from AGTraining.evaluation.results import Evaluation, write_csv, write_json
from AGTraining.evaluation.scores import METRIC, NAN, Metric, OrganScores

# The size of an error is compared, not its sign: too large and too small are no opposites of good and bad.
SIZE_OF_ERROR = {"volume_error_ml", "volume_error_percent"}
COMPARED = ("dsc", "precision", "recall", "s2s_mm", "hd95_mm", "surface_dice", "volume_error_ml")
SAME_REFERENCE = 1e-3


@dataclass(frozen=True)
class PairedTest:
    """An organ and measure of two models, "first" and "second".

    pairs: cases where both have a value; first_undefined, second_undefined: cases without one. difference: mean of
    second − first; low, high: its 95 % confidence interval (t). wilcoxon_p, t_p: of this test alone; *_holm: corrected.
    cohen_d: mean / SD of the differences; rank_biserial: Wilcoxon's (W+ − W−) / (W+ + W−), 1 where every case is larger
    in the second. better: whose mean is the better one ("" when equal). NaN where there are too few pairs.
    """

    organ: str
    metric: str
    pairs: int
    first_undefined: int
    second_undefined: int
    first_mean: float
    second_mean: float
    difference: float
    low: float
    high: float
    wilcoxon_p: float
    wilcoxon_holm: float
    t_p: float
    t_holm: float
    cohen_d: float
    rank_biserial: float
    better: str


@dataclass(frozen=True)
class Comparison:
    """Two models on the same cases. differences: by (organ, metric), second − first of each pair."""

    first: str
    second: str
    cases: int
    tests: tuple[PairedTest, ...]
    differences: dict[tuple[str, str], np.ndarray]
    messages: tuple[str, ...]


def compare(
    first: Evaluation, second: Evaluation, metrics: Sequence[str] = COMPARED, names: tuple[str, str] | None = None
) -> Comparison:
    """Tests all organs that both evaluations have, on the cases that both have.

    metrics: keys of `METRIC`; volume errors are compared by their size. names: of the models, in place of their own.
    Raises InputError when the two have no case or organ in common, or not the same references or tolerance.
    """
    if "surface_dice" in metrics and first.tolerance_mm != second.tolerance_mm:
        raise InputError(
            f"Surface Dice was measured with a tolerance of {first.tolerance_mm:g} mm in the first and "
            f"{second.tolerance_mm:g} mm in the second; evaluate again with the same, or compare without it."
        )
    pairs = _pairs(first, second)
    if not pairs:
        raise InputError("The two evaluations have no organ of one case in common; evaluate both on the same data set.")
    names = names or _names(first, second)
    organs = [organ.name for organ in first.organs if any(a.organ == organ.name for a, _ in pairs)]
    tests, differences = [], {}
    for organ in organs:
        rows = [(a, b) for a, b in pairs if a.organ == organ]
        for key in metrics:
            values = np.array([[_value(row, key) for row in pair] for pair in rows], dtype=np.float64).reshape(-1, 2)
            complete = values[~np.isnan(values).any(axis=1)]
            differences[organ, key] = complete[:, 1] - complete[:, 0]
            tests.append(_test(organ, METRIC[key], values, complete, names))
    wilcoxon, student = holm([test.wilcoxon_p for test in tests]), holm([test.t_p for test in tests])
    corrected = tuple(
        PairedTest(**{**asdict(test), "wilcoxon_holm": float(w), "t_holm": float(t)})
        for test, w, t in zip(tests, wilcoxon, student, strict=True)
    )
    cases = len({a.case for a, _ in pairs})
    return Comparison(*names, cases, corrected, differences, tuple(_messages(first, second, corrected)))


def compared_label(metric: str) -> str:
    """Title and unit of what is compared; bars mark the size of an error."""
    title, unit = METRIC[metric].title, METRIC[metric].unit
    return f"|{title}| ({unit})" if metric in SIZE_OF_ERROR else METRIC[metric].label


def holm(p: Sequence[float]) -> np.ndarray:
    """Holm's step-down corrected p values (Scand. J. Statist. 1979); NaN stays NaN and does not count as a test."""
    values = np.asarray(p, dtype=np.float64)
    corrected = np.full(values.shape, np.nan)
    order = np.argsort(values)[: np.count_nonzero(~np.isnan(values))]
    steps = values[order] * np.arange(order.size, 0, -1)
    corrected[order] = np.minimum(np.maximum.accumulate(steps), 1.0)
    return corrected


def write_comparison(comparison: Comparison, folder: Path) -> tuple[Path, Path]:
    """Writes `comparison.json` and `comparison.csv`; returns their paths. Raises OSError."""
    names = [part.name for part in fields(PairedTest)]
    document = {
        "first": comparison.first,
        "second": comparison.second,
        "cases": comparison.cases,
        "messages": comparison.messages,
        "tests": [asdict(test) for test in comparison.tests],
    }
    rows = ([getattr(test, name) for name in names] for test in comparison.tests)
    return write_json(document, folder / "comparison.json"), write_csv(names, rows, folder / "comparison.csv")


def _test(organ: str, metric: Metric, values: np.ndarray, complete: np.ndarray, names: tuple[str, str]) -> PairedTest:
    """values: (cases, 2); complete: the rows of it without NaN."""
    undefined = np.isnan(values).sum(axis=0)
    means = complete.mean(axis=0) if len(complete) else np.array([NAN, NAN])
    difference = complete[:, 1] - complete[:, 0]
    count, mean = len(difference), float(means[1] - means[0])
    sd = float(difference.std(ddof=1)) if count > 1 else NAN
    low = high = wilcoxon_p = t_p = cohen_d = biserial = NAN
    if count > 1 and not difference.any():
        # Not one case differs, which no test has a statistic for.
        wilcoxon_p, t_p, cohen_d, biserial, low, high = 1.0, 1.0, 0.0, 0.0, 0.0, 0.0
    elif count > 1:
        wilcoxon_p = float(stats.wilcoxon(difference).pvalue)
        ranks = stats.rankdata(np.abs(difference[difference != 0]))
        biserial = float(np.sign(difference[difference != 0]) @ ranks / ranks.sum())
        # Where all differ by the same amount, but for rounding, there is no spread to hold the mean against.
        if sd > 1e-9 * abs(mean):
            t_p = float(stats.ttest_1samp(difference, 0.0).pvalue)
            cohen_d = mean / sd
            half = float(stats.t.ppf(0.975, count - 1)) * sd / count**0.5
            low, high = mean - half, mean + half
    improvement = mean if metric.better == "higher" else -mean
    better = "" if not improvement else names[int(improvement > 0)]
    return PairedTest(
        organ, metric.key, count, int(undefined[0]), int(undefined[1]), float(means[0]), float(means[1]), mean,
        low, high, wilcoxon_p, NAN, t_p, NAN, cohen_d, biserial, better if count else "",
    )  # fmt: skip


def _pairs(first: Evaluation, second: Evaluation) -> list[tuple[OrganScores, OrganScores]]:
    """The rows of one case and organ in both. Raises InputError where their references differ."""
    others = {(row.case, row.organ): row for organ in second.organs for row in second.rows(organ.name)}
    pairs = []
    for organ in first.organs:
        for row in first.rows(organ.name):
            other = others.get((row.case, row.organ))
            if other is None:
                continue
            if abs(row.reference_ml - other.reference_ml) > SAME_REFERENCE * max(row.reference_ml, other.reference_ml):
                raise InputError(
                    f"{row.case}: the reference of the {row.organ} has {row.reference_ml:.2f} ml in the first "
                    f"evaluation and {other.reference_ml:.2f} ml in the second; evaluate both on the same references."
                )
            pairs.append((row, other))
    return pairs


def _value(row: OrganScores, key: str) -> float:
    value = float(getattr(row, key))
    return abs(value) if key in SIZE_OF_ERROR else value


def _names(first: Evaluation, second: Evaluation) -> tuple[str, str]:
    if first.predictor != second.predictor:
        return first.predictor, second.predictor
    return f"{first.predictor} (first)", f"{second.predictor} (second)"


def _messages(first: Evaluation, second: Evaluation, tests: Sequence[PairedTest]) -> list[str]:
    messages = []
    for one, other, word in ((first, second, "first"), (second, first, "second")):
        alone = [case for case in one.cases if case not in other.cases]
        if alone:
            messages.append(f"Left out, because only in the {word} evaluation: {_plural(len(alone), 'case')}.")
    largest, count = max(test.pairs for test in tests), sum(not np.isnan(test.wilcoxon_p) for test in tests)
    smallest = min(1.0, count * 2 / 2**largest)
    if largest > 1 and smallest > 0.05:
        messages.append(
            f"With {largest} pairs and {_plural(count, 'test')} Wilcoxon's corrected p cannot be below {smallest:.2g}: "
            "it needs more cases, or fewer measures (--metrics)."
        )
    return messages


def _plural(count: int, word: str) -> str:
    return f"{count} {word}" if count == 1 else f"{count} {word}s"
