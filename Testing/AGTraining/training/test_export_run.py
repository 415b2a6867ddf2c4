"""The folder of a run, finished or not, as the source of a bundle or another file."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

from AGTraining import bundle
from AGTraining.cli import main
from AGTraining.training.trainer import BEST, LAST, Trainer, bundle_path
from Testing.AGTraining.training.toy import make_config, run_interrupted


@pytest.fixture(scope="module")
def run_folder(data: tuple[Path, Path], tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run that was killed before it made its bundle."""
    folder = tmp_path_factory.mktemp("runs") / "toy"
    Trainer(make_config(data, folder, epochs=1, steps_per_epoch=1, validate_every=1), "cpu").run()
    return folder


def test_run_is_made_a_bundle_of_its_best_checkpoint(run_folder: Path, tmp_path: Path) -> None:
    path = tmp_path / "toy.safetensors"
    assert main(["export", str(run_folder), "--out", str(path)]) == 0
    model = bundle.load(path)
    assert [organ.name for organ in model.info.classes] == ["ball", "cube"]
    weights = torch.load(run_folder / BEST, weights_only=True)["network"]
    assert torch.equal(model.network.state_dict()["heads.0.weight"], weights["heads.0.weight"].half().float())


def test_run_without_a_validation_gives_its_last_checkpoint(run_folder: Path, tmp_path: Path) -> None:
    other = tmp_path / "toy"
    other.mkdir()
    for name in ("config.yaml", LAST):
        (other / name).write_bytes((run_folder / name).read_bytes())
    assert main(["export", str(other), "--out", str(tmp_path / "toy.pt2"), "--size", "8", "8", "8"]) == 0
    (logits,) = torch.export.load(tmp_path / "toy.pt2").module()(torch.zeros(1, 1, 8, 8, 8))
    assert logits.shape == (1, 3, 8, 8, 8)


def test_bundle_of_an_earlier_run_is_not_left_to_one_that_ends_early(data: tuple[Path, Path], tmp_path: Path) -> None:
    config = make_config(data, tmp_path / "toy", epochs=2, steps_per_epoch=1, validate_every=2)
    config.output.mkdir()
    bundle_path(config).write_bytes(b"earlier")
    run_interrupted(config, 1)
    assert not bundle_path(config).exists()

    # Gone on with to the end, and started again when there is nothing left to do.
    Trainer(config, "cpu").run()
    bundle_path(config).write_bytes(b"its own")
    Trainer(config, "cpu").run()
    assert bundle_path(config).read_bytes() == b"its own"
