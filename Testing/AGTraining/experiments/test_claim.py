"""The papers' claim in small: seeds and networks are paired, done once, and compared."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import yaml
from scipy import stats

from AGTraining.evaluation.results import read_evaluation
from AGTraining.experiments import claim
from AGTraining.experiments.claim import CONFIGS, FOREGROUND, claim_rows, run_claim, seeded
from AGTraining.experiments.runs import EXPERIMENTS
from AGTraining.training.config import read_config


@pytest.fixture(scope="module")
def configs(tmp_path_factory: pytest.TempPathFactory) -> list[Path]:
    """Both networks, as small as they get."""
    folder = tmp_path_factory.mktemp("claim")
    paths = []
    for name in CONFIGS:
        config = read_config(EXPERIMENTS / name)
        document: dict[str, Any] = config.model_dump(mode="json", exclude={"prepared", "report"})
        arguments = {**config.network.arguments, "features": [2, 3, 4]}
        document |= {
            "network": {"name": config.network.name, "arguments": arguments},
            "training": [{"phantoms": {"first": 0, "count": 1, "spacing_mm": 12}}],
            "validation": [{"phantoms": {"first": 900, "count": 2, "spacing_mm": 12}}],
            "spacing_mm": [12, 12, 12],
            "crop": [32, 32, 32],
            "batch_size": 1,
            "epochs": 1,
            "validate_every": 1,
            "steps_per_epoch": 1,
            "mixed_precision": "off",
            "report": {"cases": 0},
        }
        paths.append(folder / name)
        paths[-1].write_text(yaml.safe_dump(document), encoding="utf-8")
    return paths


def test_networks_differ_in_their_gates_alone() -> None:
    first, second = (read_config(EXPERIMENTS / name) for name in CONFIGS)

    apart = {"name", "output", "network"}
    assert first.model_dump(exclude=apart) == second.model_dump(exclude=apart)
    assert first.network.arguments["features"] == second.network.arguments["features"]
    assert first.validate_every == first.epochs


def test_each_seed_has_training_phantoms_of_its_own_that_are_not_tested_on(tmp_path: Path) -> None:
    config = read_config(EXPERIMENTS / CONFIGS[0])
    seen: set[int] = set()
    for seed in range(5):
        phantoms = seeded(config, seed, tmp_path).training[0].phantoms
        assert phantoms is not None
        mine = set(range(phantoms.first, phantoms.first + phantoms.count))
        assert len(mine) == 4 and not seen & mine
        seen |= mine
    test = config.validation[0].phantoms
    assert test is not None and test.count == 10
    assert max(seen) < test.first


def test_claim_is_run_once_and_then_collected(
    configs: list[Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    said: list[str] = []
    nothing = run_claim(tmp_path, 2, "cpu", True, said.append, configs)
    assert nothing.seeds == () and nothing.by_case is None and claim_rows(nothing) == [] and not said

    done = run_claim(tmp_path, 2, "cpu", False, said.append, configs)

    assert done.seeds == (0, 1)
    assert sum("trains" in line for line in said) == 4
    monkeypatch.setattr(claim, "trained_model", _forbid_training(claim.trained_model))
    again = run_claim(tmp_path, 2, "cpu", False, said.append, configs)
    # As text, in which NaN equals NaN.
    assert str(again.by_seed) == str(done.by_seed)

    # The table says what the evaluations on disk say.
    scores = np.array(
        [
            [
                read_evaluation(tmp_path / f"phantom-claim-{name}-seed{seed}" / "evaluation").mean_of_organs("dsc")
                for name in ("unet", "attention-unet")
            ]
            for seed in (0, 1)
        ]
    )
    test = next(test for test in done.by_seed if (test.organ, test.metric) == (FOREGROUND, "dsc"))
    assert pytest.approx(scores) == np.array([test.unet, test.attention]).T
    assert test.difference == pytest.approx((scores[:, 1] - scores[:, 0]).mean())
    assert test.p == pytest.approx(stats.ttest_rel(scores[:, 1], scores[:, 0]).pvalue)
    assert done.by_case is not None and done.by_case.cases == 2
    assert claim_rows(done)[0][:2] == [FOREGROUND, "DSC"]
    assert (tmp_path / "claim.csv").is_file() and (tmp_path / "claim.json").is_file()


def _forbid_training(original: Any) -> Any:
    def collect_only(config: Any, device: str, collect: bool, say: Any) -> Any:
        model = original(config, device, True, say)
        assert model is not None, "a run that was done is trained again"
        return model

    return collect_only
