"""A run's evaluation, which is kept as long as it is of the same model and the same data."""

from __future__ import annotations

import json
import os
import shutil
from pathlib import Path

import pytest
import yaml

from AGTraining.errors import ConfigurationError
from AGTraining.experiments.runs import is_trained, model_path, scored
from AGTraining.training.config import TrainingConfig
from AGTraining.training.run import export_bundle
from AGTraining.training.trainer import Trainer
from Testing.AGTraining.training.toy import make_config, make_dataset


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Data, and a run with its model."""
    folder = tmp_path_factory.mktemp("runs")
    config = configuration(folder)
    make_dataset(folder / "a", 1, 0)
    make_dataset(folder / "b", 1, 50)
    export_bundle(config, Trainer(config, "cpu").run(), model_path(config))
    return folder


@pytest.fixture
def run(made: Path, tmp_path: Path) -> TrainingConfig:
    """A copy of the run, tested."""
    shutil.copytree(made, tmp_path / "copy")
    config = configuration(tmp_path / "copy")
    assert count_tests(config) == 1
    return config


def configuration(folder: Path) -> TrainingConfig:
    data = folder / "a" / "dataset.json", folder / "b" / "dataset.json"
    return make_config(data, folder / "run", epochs=1, steps_per_epoch=1, validate_every=1, report={"cases": 0})


def count_tests(config: TrainingConfig) -> int:
    """How often the model is tested."""
    said: list[str] = []
    scored(config, model_path(config), "cpu", said.append)
    return len(said)


def test_evaluation_of_the_same_model_and_data_is_kept(run: TrainingConfig) -> None:
    os.utime(model_path(run))
    assert count_tests(run) == 0


def test_other_model_with_an_older_file_is_tested(run: TrainingConfig, made: Path) -> None:
    config = make_config(
        (run.training[0].dataset, run.validation[0].dataset),
        run.output.with_name("other"),
        seed=1,
        epochs=1,
        steps_per_epoch=1,
        validate_every=1,
        report={"cases": 0},
    )  # type: ignore[arg-type]
    export_bundle(config, Trainer(config, "cpu").run(), model_path(run))
    os.utime(model_path(run), (0, 0))
    assert count_tests(run) == 1


def test_changed_data_are_tested_on(run: TrainingConfig) -> None:
    data = run.validation[0].dataset
    assert data is not None
    make_dataset(data.parent, 1, 51)
    assert count_tests(run) == 1


def test_evaluation_is_collected_where_the_data_are_not(run: TrainingConfig) -> None:
    data = run.validation[0].dataset
    assert data is not None
    shutil.rmtree(data.parent)
    assert count_tests(run) == 0


def test_classes_that_the_data_lack_are_not_tested(run: TrainingConfig) -> None:
    data = run.validation[0].dataset
    assert data is not None
    document = json.loads(data.read_text(encoding="utf-8"))
    data.write_text(json.dumps({**document, "labels": {"0": "background", "1": "ball"}}), encoding="utf-8")
    result = scored(run, model_path(run), "cpu", lambda line: None)
    assert [organ.name for organ in result.organs] == ["ball"]
    data.write_text(json.dumps({**document, "labels": {"0": "background", "1": "rod"}}), encoding="utf-8")
    with pytest.raises(ConfigurationError, match="has no label of ball, cube"):
        scored(run, model_path(run), "cpu", lambda line: None)


def test_run_counts_as_done_for_the_same_settings_and_data(run: TrainingConfig) -> None:
    assert is_trained(run)
    assert not is_trained(run.model_copy(update={"seed": 5}))
    data = run.training[0].dataset
    assert data is not None
    make_dataset(data.parent, 1, 3)
    assert not is_trained(run)


def test_run_whose_data_are_elsewhere_counts_as_done(run: TrainingConfig) -> None:
    data = run.training[0].dataset
    assert data is not None
    shutil.rmtree(data.parent)
    assert is_trained(run)


def test_run_on_other_phantoms_does_not_count_as_done(run: TrainingConfig) -> None:
    phantoms = [{"phantoms": {"first": 3, "count": 2}}]
    settings = run.model_dump(mode="json") | {"training": phantoms}
    (run.output / "config.yaml").write_text(yaml.safe_dump(settings), encoding="utf-8")
    config = TrainingConfig.model_validate(settings)
    assert is_trained(config)
    config.training[0].phantoms.first = 4  # type: ignore[union-attr]
    assert not is_trained(config)
