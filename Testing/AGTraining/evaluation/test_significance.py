"""Paired tests against textbook numbers and enumeration, and what is refused."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import replace
from itertools import product

import numpy as np
import pytest
from scipy import stats

from AGTraining.errors import InputError
from AGTraining.evaluation.significance import Comparison, PairedTest, compare, holm
from Testing.AGTraining.evaluation.study import make_evaluation

NAN = float("nan")
# Darwin's maize (Fisher 1935): heights of crossed and self-fertilised plants in inches; t = 2.148 with 14 degrees.
CROSSED = [23.5, 12, 21, 22, 19.125, 21.5, 22.125, 20.375, 18.25, 21.625, 23.25, 21, 22.125, 23, 12]
SELFED = [17.375, 20.375, 20, 20, 18.375, 18.625, 18.625, 15.25, 16.5, 18, 16.25, 18, 12.75, 15.5, 18]


def compare_values(first: Sequence[float], second: Sequence[float], metric: str = "dsc") -> PairedTest:
    (test,) = comparison({"spleen": first}, {"spleen": second}, metric).tests
    return test


def comparison(
    first: dict[str, Sequence[float]], second: dict[str, Sequence[float]], metric: str = "dsc"
) -> Comparison:
    return compare(make_evaluation(first, metric), make_evaluation(second, metric, "other net"), [metric])


def test_paired_t_test_of_fishers_example() -> None:
    test = compare_values(SELFED, CROSSED)
    # Fisher gives P = 4.970 % and a mean difference of 20.93 eighths of an inch.
    assert test.t_p == pytest.approx(0.0497, abs=5e-5)
    assert test.difference * 8 == pytest.approx(20.93, abs=0.005)
    assert test.cohen_d == pytest.approx(2.148 / math.sqrt(15), abs=5e-4)
    # 2.617 ± 2.1448 · 1.2182
    assert (test.low, test.high) == (pytest.approx(0.004, abs=1e-3), pytest.approx(5.230, abs=1e-3))


def test_wilcoxon_p_is_the_share_of_all_sign_patterns() -> None:
    differences = np.array([0.3, -0.1, 0.45, 0.2, 0.62, -0.05, 0.7])
    ranks = stats.rankdata(np.abs(differences))
    observed = abs(np.sign(differences) @ ranks)
    patterns = np.array([abs(np.array(signs) @ ranks) for signs in product((-1, 1), repeat=7)])
    test = compare_values([0.0] * 7, differences)
    assert test.wilcoxon_p == pytest.approx(np.mean(patterns >= observed), rel=1e-12)
    assert test.rank_biserial == pytest.approx((28 - 2 * 3) / 28)


def test_rank_biserial_is_1_when_the_second_is_always_larger() -> None:
    assert compare_values([0.1, 0.2, 0.3], [0.2, 0.4, 0.6]).rank_biserial == 1
    assert compare_values([0.2, 0.4, 0.6], [0.1, 0.2, 0.3]).rank_biserial == -1


def test_holm_of_a_textbook_example() -> None:
    # Sorted 0.005, 0.01, 0.03, 0.04 times 4, 3, 2, 1, never falling.
    assert holm([0.01, 0.04, 0.03, 0.005]) == pytest.approx([0.03, 0.06, 0.06, 0.02])


def test_holm_stays_at_1_and_leaves_out_what_was_not_tested() -> None:
    corrected = holm([0.9, NAN, 0.6])
    assert corrected[[0, 2]] == pytest.approx([1, 1])
    assert math.isnan(corrected[1])


def test_correction_is_over_organs_and_measures() -> None:
    draw = np.random.default_rng(0)
    first, second = ({organ: list(draw.random(20)) for organ in ("spleen", "pancreas")} for _ in range(2))
    second["spleen"] = [value + 0.4 for value in first["spleen"][:-1]] + [first["spleen"][-1] + 0.5]
    result = compare(make_evaluation(first), make_evaluation(second), ["dsc", "s2s_mm"])
    spleen = result.tests[0]
    # Two of four tests have values (S2S has none): the smaller p of two is doubled.
    assert spleen.t_holm == pytest.approx(2 * spleen.t_p)
    assert spleen.wilcoxon_holm == pytest.approx(2 * spleen.wilcoxon_p)
    assert math.isnan(result.tests[1].t_holm)


def test_pairs_without_a_value_are_left_out_and_counted() -> None:
    test = compare_values([0.5, NAN, 0.6, NAN], [0.6, 0.9, NAN, NAN], "s2s_mm")
    assert (test.pairs, test.first_undefined, test.second_undefined) == (1, 2, 2)
    assert test.first_mean == 0.5
    assert math.isnan(test.t_p) and math.isnan(test.wilcoxon_p)


def test_pairs_are_by_case_whatever_their_order() -> None:
    first, second = (
        make_evaluation({"spleen": [0.1, 0.5, 0.9]}),
        make_evaluation({"spleen": [0.2, 0.7, 1.0]}, predictor="b"),
    )
    turned = replace(second, scores=second.scores[::-1])
    assert compare(first, turned, ["dsc"]).tests == compare(first, second, ["dsc"]).tests


def test_no_difference_at_all_is_p_1() -> None:
    test = compare_values([0.5, 0.6, 0.7], [0.5, 0.6, 0.7])
    assert (test.wilcoxon_p, test.t_p, test.cohen_d, test.better) == (1, 1, 0, "")


def test_the_same_difference_everywhere_has_no_t() -> None:
    test = compare_values([0.1, 0.2, 0.3, 0.4], [0.2, 0.3, 0.4, 0.5])
    assert math.isnan(test.t_p) and math.isnan(test.cohen_d)
    assert test.wilcoxon_p == pytest.approx(2 / 2**4)


@pytest.mark.parametrize(("metric", "better"), [("dsc", "other net"), ("s2s_mm", "net"), ("volume_error_ml", "net")])
def test_better_is_whose_mean_is(metric: str, better: str) -> None:
    assert compare_values([1.0, 2.0, 3.0], [2.0, 2.5, 3.1], metric).better == better


def test_volume_errors_are_compared_by_size() -> None:
    test = compare_values([-30.0, 30.0, -30.0], [10.0, 10.0, 12.0], "volume_error_ml")
    assert test.first_mean == 30
    assert test.better == "other net"


def test_false_alarms_over_a_whole_table_are_rare() -> None:
    # Without any difference, at most 5 % of tables may have a corrected p below 0.05; of 200 tables that is 10, and
    # 18 or more would have a chance of 1 %.
    draw = np.random.default_rng(1)
    alarms = 0
    for _ in range(200):
        p = [stats.ttest_1samp(row, 0).pvalue for row in draw.normal(size=(12, 10))]
        alarms += bool((holm(p) < 0.05).any())
    assert 0 < alarms < 18


def test_other_references_are_refused() -> None:
    first, second = make_evaluation({"spleen": [0.5]}), make_evaluation({"spleen": [0.5]}, predictor="b")
    changed = replace(second, scores=(replace(second.scores[0], reference_ml=101.0),))
    with pytest.raises(InputError, match=r"0: the reference of the spleen has 100.00 ml in the first .* 101.00 ml"):
        compare(first, changed, ["dsc"])


def test_other_tolerance_is_refused_only_where_it_matters() -> None:
    first, second = make_evaluation({"a": [0.5, 0.6]}), make_evaluation({"a": [0.5, 0.7]}, "dsc", "b", tolerance_mm=3)
    with pytest.raises(InputError, match="tolerance of 2 mm in the first and 3 mm in the second"):
        compare(first, second)
    assert compare(first, second, ["dsc"]).tests[0].pairs == 2


def test_nothing_in_common_is_refused() -> None:
    with pytest.raises(InputError, match="no organ of one case in common"):
        comparison({"spleen": [0.5]}, {"pancreas": [0.5]})


def test_too_few_cases_for_wilcoxon_is_said() -> None:
    result = comparison({"spleen": [0.5, 0.6, 0.7]}, {"spleen": [0.6, 0.8, 0.9]})
    assert result.messages == (
        "With 3 pairs and 1 test Wilcoxon's corrected p cannot be below 0.25: it needs more cases, or fewer measures "
        "(--metrics).",
    )


def test_cases_of_one_evaluation_alone_are_counted() -> None:
    draw = np.random.default_rng(0)
    result = comparison({"spleen": list(draw.random(8))}, {"spleen": list(draw.random(7))})
    assert result.cases == 7
    assert result.messages == ("Left out, because only in the first evaluation: 1 case.",)


def test_models_of_one_name_can_be_told_apart() -> None:
    result = compare(make_evaluation({"a": [0.1, 0.2]}), make_evaluation({"a": [0.2, 0.4]}), ["dsc"])
    assert (result.first, result.second) == ("net (first)", "net (second)")
