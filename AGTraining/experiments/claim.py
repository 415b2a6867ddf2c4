"""The papers' claim in small: Attention U-Net against U-Net on few phantoms, several seeds.

The question is decided by one test that was chosen beforehand: the paired t test over seeds of the mean DSC of the
organs. All other rows show where a difference comes from; their p values stand beside Holm's corrected ones.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from scipy import stats

from AGTraining.evaluation.results import Evaluation, write_csv, write_json
from AGTraining.evaluation.scores import METRIC, NAN
from AGTraining.evaluation.significance import Comparison, compare, holm, write_comparison
from AGTraining.experiments.runs import EXPERIMENTS, Say, averaged, scored, trained_model
from AGTraining.flops import Cost, inference_seconds, network_cost
from AGTraining.inference.device import choose_device
from AGTraining.training.config import TrainingConfig, read_config
from AGTraining.training.initialise import build_network, network_arguments

NAMES = ("U-Net", "Attention U-Net")
CONFIGS = ("phantom_claim_unet.yaml", "phantom_claim_attention_unet.yaml")
MEASURES = ("dsc", "precision", "recall", "s2s_mm")
FOREGROUND = "mean of organs"


@dataclass(frozen=True)
class SeedTest:
    """An organ and measure over the seeds: each seed's mean over the test cases, of both networks.

    Only seeds where both have a value: an organ that was found in no case has no distance. difference: mean of
    Attention U-Net − U-Net; p: paired t test over seeds, p_holm: corrected for all rows.
    """

    organ: str
    metric: str
    unet: tuple[float, ...]
    attention: tuple[float, ...]
    difference: float
    p: float
    p_holm: float


@dataclass(frozen=True)
class Claim:
    """What came out. seeds: those with both networks; by_case: a test over cases, each the mean of its seeds.

    costs, seconds: of U-Net and Attention U-Net, for one crop; the seconds were measured in turns.
    """

    seeds: tuple[int, ...]
    wanted: int
    by_seed: tuple[SeedTest, ...]
    by_case: Comparison | None
    costs: tuple[Cost, ...]
    seconds: tuple[float, ...]


def run_claim(
    runs: Path, seeds: int, device: str, collect: bool, say: Say, configs: Sequence[Path] | None = None
) -> Claim:
    """Runs what is not done of all seeds and networks, one after the other, and compares what is done.

    collect: run nothing. configs: of U-Net and Attention U-Net; default: `phantom_claim_*.yaml`.
    """
    paths = configs or [EXPERIMENTS / name for name in CONFIGS]
    results: dict[int, list[Evaluation]] = {}
    for seed in range(seeds):
        found = []
        for path in paths:
            config = seeded(read_config(path), seed, runs)
            model = trained_model(config, device, collect, say)
            if model is not None:
                found.append(scored(config, model, device, say))
                values = ", ".join(
                    f"{organ.name} {found[-1].summary(organ.name, 'dsc').mean:.3f}" for organ in found[-1].organs
                )
                say(f"{config.output.name}: DSC {values}")
        if len(found) == len(paths):
            results[seed] = found
    pair = [seeded(read_config(path), 0, runs) for path in paths]
    claim = Claim(
        tuple(results),
        seeds,
        _tests(list(results.values())),
        _comparison(list(results.values())),
        tuple(network_cost(item.network.name, network_arguments(item), item.crop) for item in pair),
        _seconds(pair, device),
    )
    _write(claim, runs)
    return claim


def seeded(config: TrainingConfig, seed: int, runs: Path) -> TrainingConfig:
    """The configuration's run with a seed, in a folder of its own, on training phantoms that no other seed has."""
    config = config.model_copy(deep=True)
    config.seed = seed
    config.output = (runs / f"{config.name}-seed{seed}").resolve()
    config.prepared = (runs / "prepared").resolve()
    for source in config.training:
        if source.phantoms is not None:
            source.phantoms.first += seed * source.phantoms.count
    return config


def claim_rows(claim: Claim) -> list[list[str]]:
    """A table: organ, measure, U-Net, Attention U-Net (mean ± SD over seeds), difference, p values."""
    cases = {(test.organ, test.metric): test for test in (claim.by_case.tests if claim.by_case else ())}
    rows = []
    for test in claim.by_seed:
        metric = METRIC[test.metric]
        by_case = cases.get((test.organ, test.metric))
        rows.append(
            [
                test.organ, metric.label, _mean_sd(test.unet, metric.digits), _mean_sd(test.attention, metric.digits),
                _difference(test.difference, metric.digits), _p(test.p), _p(test.p_holm),
                "" if by_case is None else _p(by_case.wilcoxon_p), "" if by_case is None else _p(by_case.wilcoxon_holm),
            ]
        )  # fmt: skip
    return rows


CLAIM_HEAD = (
    "organ", "measure", *NAMES, "difference", "p (t, seeds)", "Holm", "p (Wilcoxon, cases)", "Holm",
)  # fmt: skip


def _tests(results: Sequence[Sequence[Evaluation]]) -> tuple[SeedTest, ...]:
    if not results:
        return ()
    organs = [organ.name for organ in results[0][0].organs]
    tests = []
    for organ in (FOREGROUND, *organs):
        for key in MEASURES:
            values = np.array([[_mean(evaluation, organ, key) for evaluation in pair] for pair in results])
            values = values[~np.isnan(values).any(axis=1)]
            difference = values[:, 1] - values[:, 0]
            p = NAN
            if len(difference) > 1 and np.ptp(difference) > 0:
                p = float(stats.ttest_1samp(difference, 0.0).pvalue)
            mean = float(difference.mean()) if len(difference) else NAN
            tests.append((organ, key, tuple(values[:, 0].tolist()), tuple(values[:, 1].tolist()), mean, p))
    corrected = holm([test[-1] for test in tests])
    return tuple(SeedTest(*test, float(p)) for test, p in zip(tests, corrected, strict=True))


def _mean(evaluation: Evaluation, organ: str, key: str) -> float:
    return evaluation.mean_of_organs(key) if organ == FOREGROUND else evaluation.summary(organ, key).mean


def _comparison(results: Sequence[Sequence[Evaluation]]) -> Comparison | None:
    if not results:
        return None
    first, second = (averaged([pair[number] for pair in results]) for number in (0, 1))
    return compare(first, second, MEASURES, NAMES)


def _seconds(configs: Sequence[TrainingConfig], device: str) -> tuple[float, ...]:
    networks = {name: build_network(config) for name, config in zip(NAMES, configs, strict=True)}
    return tuple(inference_seconds(networks, configs[0].crop, choose_device(device), repeats=5).values())


def _write(claim: Claim, runs: Path) -> None:
    runs.mkdir(parents=True, exist_ok=True)
    write_csv(CLAIM_HEAD, claim_rows(claim), runs / "claim.csv")
    write_json(
        {
            "seeds": list(claim.seeds),
            "by_seed": [test.__dict__ for test in claim.by_seed],
            "parameters": dict(zip(NAMES, (cost.parameters for cost in claim.costs), strict=True)),
            "flops": dict(zip(NAMES, (cost.flops for cost in claim.costs), strict=True)),
            "inference_seconds": dict(zip(NAMES, claim.seconds, strict=True)),
        },
        runs / "claim.json",
    )
    if claim.by_case is not None:
        write_comparison(claim.by_case, runs)


def _mean_sd(values: Sequence[float], digits: int) -> str:
    if not values:
        return "–"
    sd = f" ± {np.std(values, ddof=1):.{digits}f}" if len(values) > 1 else ""
    return f"{np.mean(values):.{digits}f}{sd}"


def _difference(value: float, digits: int) -> str:
    return "–" if np.isnan(value) else f"{value:+.{digits}f}"


def _p(value: float) -> str:
    return "–" if np.isnan(value) else f"{value:.3f}"
