"""`python -m AGTraining train`, from phantoms to a model and a report."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import pytest
import yaml

from AGTraining import bundle
from AGTraining.cli import main
from AGTraining.data.importers.phantoms import make_phantom_dataset
from AGTraining.training.config import read_config

SPLEEN = {"name": "spleen", "type_code": "1", "type_meaning": "Spleen", "color": [1, 2, 3], "labels": ["spleen"]}


def write(folder: Path, **changes: Any) -> Path:
    document = {
        "name": "tiny",
        "output": "runs/tiny",
        "training": [{"phantoms": {"first": 3, "count": 2, "spacing_mm": 12}}],
        "validation": [{"phantoms": {"first": 9, "count": 1, "spacing_mm": 12}}],
        "classes": [SPLEEN],
        "network": {"arguments": {"features": [2, 3, 4], "sub_gates": 1}},
        "intensity": {"mean": 0, "sd": 100},
        "spacing_mm": [12, 12, 12],
        "crop": [32, 32, 32],
        "epochs": 1,
        "steps_per_epoch": 2,
        "batch_size": 1,
        "workers": 0,
        **changes,
    }
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "tiny.yaml").write_text(yaml.safe_dump(document), encoding="utf-8")
    return folder / "tiny.yaml"


def test_from_phantoms_to_model_and_report(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    config = write(tmp_path)
    assert main(["train", str(config), "--device", "cpu"]) == 0
    run = tmp_path / "runs" / "tiny"
    score, *places = capsys.readouterr().out.splitlines()
    assert re.fullmatch(r"DSC of the best validation [01]\.\d{3} \(.+ [01]\.\d{3}\)", score)
    assert places == [f"report  {run}/report.html", f"model   {run}/tiny.safetensors"]
    assert (run / "report.html").is_file()
    assert bundle.read_info(run / "tiny.safetensors").provenance["data"][0]["name"] == "phantom"
    made = sorted(path.name for path in (tmp_path / "runs" / "phantoms").iterdir())
    assert made == ["3-4-12mm", "9-9-12mm"]
    # What the run folder says of itself is a configuration that can be run.
    written = read_config(run / "config.yaml")
    assert written.training[0].phantoms is not None and written.seed == 0


def test_seed_and_run_folder_of_the_command_line_count(tmp_path: Path) -> None:
    config = write(tmp_path)
    assert main(["train", str(config), "--device", "cpu", "--seed", "7", "--out", str(tmp_path / "other")]) == 0
    written = read_config(tmp_path / "other" / "config.yaml")
    assert (written.seed, written.deterministic) == (7, True)
    assert bundle.read_info(tmp_path / "other" / "tiny.safetensors").provenance["seed"] == 7
    assert not (tmp_path / "runs").exists()


def test_data_may_lie_elsewhere(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    make_phantom_dataset(tmp_path / "scans" / "set", range(2), 12)
    config = write(tmp_path / "configurations", training=[{"dataset": "set/dataset.json"}], validation=[])
    assert main(["train", str(config), "--device", "cpu"]) == 1
    assert "configurations/set/dataset.json: cannot be read" in capsys.readouterr().err
    assert main(["train", str(config), "--device", "cpu", "--data", str(tmp_path / "scans")]) == 0
    assert (tmp_path / "configurations" / "runs" / "tiny" / "tiny.safetensors").is_file()


def test_ready_configuration_for_phantoms_is_valid(repository: Path) -> None:
    config = read_config(repository / "AGTraining" / "experiments" / "phantom_quick.yaml")
    assert config.output == repository / "runs" / "phantom-quick"
    first, second = config.training[0].phantoms, config.validation[0].phantoms
    assert first is not None and second is not None
    seeds = range(first.first, first.first + first.count)
    assert not set(seeds) & set(range(second.first, second.first + second.count))
