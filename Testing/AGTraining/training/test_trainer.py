from __future__ import annotations

import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import yaml
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator
from torch import Tensor, nn

from AGTraining import bundle
from AGTraining.data.prepare import PreparedCase
from AGTraining.errors import BundleError, ConfigurationError
from AGTraining.training import trainer as trainer_module
from AGTraining.training.checkpoint import read_checkpoint
from AGTraining.training.initialise import build_network
from AGTraining.training.optimisation import learning_rate
from AGTraining.training.run import export_bundle, train_from_config
from AGTraining.training.segmentation import SegmentationTask
from AGTraining.training.task import Validation
from AGTraining.training.trainer import Trainer
from Testing.AGTraining.training.toy import CLASSES, assert_same, make_config, run_interrupted, settings


def validate(trainer: Trainer, *cases: PreparedCase) -> dict[str, float]:
    """The scores of the trainer's network on these cases."""
    assert isinstance(trainer.task, SegmentationTask)
    trainer.task.validation = list(cases)
    return trainer.task.validate(trainer.network).scores


def test_a_network_learns_the_toy(data: tuple[Path, Path], tmp_path: Path) -> None:
    changes = {
        "network": {"name": "UNet3D", "arguments": {"features": [4, 6]}},
        "epochs": 8,
        "steps_per_epoch": 10,
        "learning_rate": 0.02,
        "schedule": "constant",
    }
    trainer = Trainer(make_config(data, tmp_path, **changes), "cpu")
    best = trainer.run()
    losses = [record["loss"] for record in trainer.history]
    scores = [np.mean(list(record["scores"].values())) for record in trainer.history if "scores" in record]
    assert losses[-1] < 0.5 * losses[0]
    assert scores[-1] > scores[0]
    assert max(scores) > 0.85
    assert best == tmp_path / "best.pt"
    assert read_checkpoint(best)["best"] == max(scores)


@pytest.mark.parametrize("deep_supervision", ["fused", "separate"])
def test_every_decoder_level_is_trained(data: tuple[Path, Path], tmp_path: Path, deep_supervision: str) -> None:
    network = {"name": "UNet3D", "arguments": {"features": [2, 3, 4], "deep_supervision": deep_supervision}}
    trainer = Trainer(make_config(data, tmp_path, network=network, epochs=1, steps_per_epoch=1), "cpu")
    trainer.run()
    for head in trainer.network.heads:
        assert head.weight.grad is not None and head.weight.grad.abs().max() > 0


@pytest.mark.parametrize(
    ("workers", "gradient_averaging", "schedule"), [(0, 1, "cosine"), (1, 1, "constant"), (0, 2, "cosine")]
)
def test_resumed_run_is_the_uninterrupted_one_bit_for_bit(
    data: tuple[Path, Path], tmp_path: Path, workers: int, gradient_averaging: int, schedule: str
) -> None:
    changes = {"workers": workers, "gradient_averaging": gradient_averaging, "schedule": schedule}
    whole = make_config(data, tmp_path / "whole", **changes)
    Trainer(whole, "cpu").run()
    parts = make_config(data, tmp_path / "parts", **changes)
    # In the middle of the third epoch.
    run_interrupted(parts, call=7 * gradient_averaging)
    assert read_checkpoint(parts.output / "last.pt")["epoch"] == 2
    Trainer(parts, "cpu").run()
    for name in ("last.pt", "best.pt"):
        assert_same(read_checkpoint(whole.output / name), read_checkpoint(parts.output / name), name)
    assert (whole.output / "history.json").read_text() == (parts.output / "history.json").read_text()


def test_kill_between_the_two_checkpoints_loses_no_best_one(
    data: tuple[Path, Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    config = make_config(data, tmp_path, epochs=3, steps_per_epoch=1, validate_every=1)
    # The second epoch is repeated, with the same score.
    scores = iter([0.3, 0.6, 0.6, 0.5])
    monkeypatch.setattr(SegmentationTask, "validate", lambda self, network: Validation({"ball": next(scores)}))
    writes = []

    def killed_at_the_fourth(path: Path, state: dict[str, Any]) -> None:
        writes.append(path.name)
        if len(writes) == 4:
            raise KeyboardInterrupt
        write(path, state)

    write = trainer_module.write_checkpoint
    monkeypatch.setattr(trainer_module, "write_checkpoint", killed_at_the_fourth)
    with pytest.raises(KeyboardInterrupt):
        Trainer(config, "cpu").run()
    assert sorted(writes) == ["best.pt", "best.pt", "last.pt", "last.pt"]
    best = Trainer(config, "cpu").run()
    assert (read_checkpoint(best)["epoch"], read_checkpoint(best)["best"]) == (2, 0.6)


def test_best_checkpoint_of_an_earlier_run_is_not_taken_for_ones_own(data: tuple[Path, Path], tmp_path: Path) -> None:
    changes = {"epochs": 1, "steps_per_epoch": 1}
    Trainer(make_config(data, tmp_path, **changes), "cpu").run()
    (tmp_path / "last.pt").unlink()
    fresh = Trainer(make_config(data, tmp_path, validation=[], seed=5, **changes), "cpu").run()
    assert fresh == tmp_path / "last.pt"


def test_tensorboard_shows_each_epoch_once_after_a_resume(data: tuple[Path, Path], tmp_path: Path) -> None:
    config = make_config(data, tmp_path)
    run_interrupted(config, call=7)
    trainer = Trainer(config, "cpu")
    trainer.run()
    board = EventAccumulator(str(tmp_path / "tensorboard"))
    board.Reload()
    shown = [(event.step, event.value) for event in board.Scalars("loss")]
    assert shown == [(r["epoch"], pytest.approx(r["loss"], rel=1e-6)) for r in trainer.history]
    assert [event.step for event in board.Scalars("DSC/ball")] == [2, 4]


def test_same_seed_same_weights_other_seed_other_weights(data: tuple[Path, Path], tmp_path: Path) -> None:
    weights = []
    for number, seed in enumerate((3, 3, 4)):
        config = make_config(data, tmp_path / str(number), seed=seed, epochs=1, validation=[])
        np.random.seed(number)
        weights.append(read_checkpoint(Trainer(config, "cpu").run())["network"])
    assert_same(weights[0], weights[1])
    assert not torch.equal(weights[0]["encoder.0.0.weight"], weights[2]["encoder.0.0.weight"])


@pytest.mark.parametrize(
    ("key", "value"),
    [
        ("learning_rate", 0.004),
        ("seed", 8),
        ("batch_size", 2),
        ("gradient_averaging", 3),
        ("cross_entropy", 0.1),
        ("crop", [48, 32, 32]),
        ("augmentation", {"noise": 0.0}),
        ("intensity", {"mean": 1, "sd": 60}),
        ("epochs", 5),
    ],
)
def test_changed_setting_is_refused_on_resume_and_named(
    data: tuple[Path, Path], tmp_path: Path, key: str, value: Any
) -> None:
    run_interrupted(make_config(data, tmp_path), call=4)
    before = (tmp_path / "last.pt").read_bytes()
    with pytest.raises(ConfigurationError, match=rf"last\.pt: belongs to a run with another '{key}'; restore"):
        Trainer(make_config(data, tmp_path, **{key: value}), "cpu").run()
    assert (tmp_path / "last.pt").read_bytes() == before


def test_run_with_a_constant_learning_rate_can_be_made_longer(data: tuple[Path, Path], tmp_path: Path) -> None:
    Trainer(make_config(data, tmp_path / "whole", schedule="constant"), "cpu").run()
    Trainer(make_config(data, tmp_path / "longer", schedule="constant", epochs=2), "cpu").run()
    Trainer(make_config(data, tmp_path / "longer", schedule="constant", epochs=4), "cpu").run()
    states = [read_checkpoint(tmp_path / name / "last.pt") for name in ("whole", "longer")]
    assert_same(*states)


def test_run_and_data_may_be_moved_and_changed_data_are_noticed(data: tuple[Path, Path], tmp_path: Path) -> None:
    for source, name in zip(data, ("training", "validation"), strict=True):
        shutil.copytree(source.parent, tmp_path / "old" / name)
    places = [tmp_path / "old" / name / "dataset.json" for name in ("training", "validation")]
    run_interrupted(make_config((places[0], places[1]), tmp_path / "old" / "run"), call=4)

    shutil.move(tmp_path / "old", tmp_path / "new")
    places = [tmp_path / "new" / name / "dataset.json" for name in ("training", "validation")]
    moved = make_config((places[0], places[1]), tmp_path / "new" / "run")
    run_interrupted(moved, call=4)
    assert read_checkpoint(tmp_path / "new" / "run" / "last.pt")["epoch"] == 2

    shutil.copy(places[0].parent / "0_labels.nii.gz", places[0].parent / "1_labels.nii.gz")
    with pytest.raises(ConfigurationError, match="another 'training data'"):
        Trainer(moved, "cpu").run()


def test_damaged_checkpoint_is_refused_and_left_alone(data: tuple[Path, Path], tmp_path: Path) -> None:
    config = make_config(data, tmp_path, epochs=1, steps_per_epoch=1)
    Trainer(config, "cpu").run()
    content = (tmp_path / "last.pt").read_bytes()[:-5000]
    (tmp_path / "last.pt").write_bytes(content)
    with pytest.raises(ConfigurationError, match=r"last\.pt: the checkpoint cannot be read"):
        Trainer(config, "cpu").run()
    assert (tmp_path / "last.pt").read_bytes() == content


def test_infinite_loss_stops_the_run_before_it_reaches_the_weights(data: tuple[Path, Path], tmp_path: Path) -> None:
    class Infinite(nn.Module):
        def forward(self, logits: Tensor, *_: Any) -> Tensor:
            return logits.sum() * float("inf")

    trainer = Trainer(make_config(data, tmp_path), "cpu")
    trainer.task.criterion = Infinite()
    before = {name: value.clone() for name, value in trainer.network.named_parameters()}
    with pytest.raises(ConfigurationError, match="toy: the loss is not finite in epoch 1; lower learning_rate"):
        trainer.run()
    assert all(torch.equal(value, before[name]) for name, value in trainer.network.named_parameters())
    assert not (tmp_path / "last.pt").exists()


def test_weights_that_diverge_are_never_saved(data: tuple[Path, Path], tmp_path: Path) -> None:
    trainer = Trainer(make_config(data, tmp_path, steps_per_epoch=1), "cpu")
    trainer.network.heads[0].bias.register_hook(lambda gradient: gradient * float("nan"))
    with pytest.raises(ConfigurationError, match="toy: the weights are not finite in epoch 1"):
        trainer.run()
    assert not (tmp_path / "last.pt").exists()


def test_gradient_averaging_is_the_larger_batch(
    data: tuple[Path, Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    # Batch norm is what differs between one batch of four and four batches of one; without it nothing must.
    monkeypatch.setattr(nn.BatchNorm3d, "forward", lambda self, x: x)
    gradients = []
    for batch_size, averaging in ((4, 1), (2, 2), (1, 4)):
        changes = {"batch_size": batch_size, "gradient_averaging": averaging, "mixed_precision": False}
        config = make_config(data, tmp_path / str(averaging), epochs=1, steps_per_epoch=1, validation=[], **changes)
        trainer = Trainer(config, "cpu")
        trainer.run()
        gradients.append(trainer.network.decoder[0][0].weight.grad)
        assert trainer.history[0]["loss"] == pytest.approx(0.6, abs=0.4)
    assert gradients[0].abs().max() > 1e-4
    # fp32 sums in another order: a few units in the sixth digit of the largest gradient.
    tolerance = 1e-5 * gradients[0].abs().max().item()
    torch.testing.assert_close(gradients[1], gradients[0], rtol=1e-4, atol=tolerance)
    torch.testing.assert_close(gradients[2], gradients[0], rtol=1e-4, atol=tolerance)


def test_learning_rate_warms_up_and_falls_along_half_a_cosine(data: tuple[Path, Path], tmp_path: Path) -> None:
    config = make_config(data, tmp_path, learning_rate=1.0, warmup_steps=4, epochs=10, steps_per_epoch=10)
    rates = np.array([learning_rate(config, step) for step in range(100)])
    cosine = 0.01 + 0.99 * (1 + np.cos(np.pi * np.arange(100) / 100)) / 2
    np.testing.assert_allclose(rates[:4], cosine[:4] * [0.2, 0.4, 0.6, 0.8])
    np.testing.assert_allclose(rates[4:], cosine[4:])
    constant = make_config(data, tmp_path, learning_rate=0.5, schedule="constant", warmup_steps=0)
    assert [learning_rate(constant, step) for step in (0, 5, 1000)] == [0.5, 0.5, 0.5]


def test_optimizer_takes_the_scheduled_rate_after_a_resume(data: tuple[Path, Path], tmp_path: Path) -> None:
    config = make_config(data, tmp_path)
    run_interrupted(config, call=7)
    trainer = Trainer(config, "cpu")
    trainer.run()
    expected = [learning_rate(config, 3 * epoch + 2) for epoch in range(4)]
    assert [record["learning_rate"] for record in trainer.history] == expected
    assert len(set(expected)) == 4


def test_validation_leaves_out_organs_without_complete_labels(data: tuple[Path, Path], tmp_path: Path) -> None:
    trainer = Trainer(make_config(data, tmp_path), "cpu")
    target = np.zeros((20, 24, 28), dtype=np.uint8)
    target[5:10, 5:10, 5:10] = 1
    target[12:16, 5:10, 5:10] = 2
    image = np.zeros(target.shape, dtype=np.float16)
    complete = PreparedCase("a", image, target, np.array([True, True, True]), 1.0)
    partial = PreparedCase("b", image, target, np.array([True, True, False]), 1.0)
    without_ball = PreparedCase("c", image, np.where(target == 1, 0, target).astype(np.uint8), complete.labelled, 1.0)
    assert validate(trainer, complete).keys() == {"ball", "cube"}
    assert validate(trainer, partial).keys() == {"ball"}
    assert validate(trainer, without_ball).keys() == {"cube"}


def test_validation_measures_the_network_s_dsc(data: tuple[Path, Path], tmp_path: Path) -> None:
    changes = {"network": {"name": "UNet3D", "arguments": {"features": [1, 1], "deep_supervision": "separate"}}}
    trainer = Trainer(make_config(data, tmp_path, **changes), "cpu")
    # Skip connection, decoder and head hand the image on: class 1 where it is positive.
    with torch.no_grad():
        for name, parameter in trainer.network.named_parameters():
            parameter.zero_()
            if name.endswith(("0.weight", "3.weight")) and parameter.dim() == 5 and "heads" not in name:
                parameter[0, 0, 1, 1, 1] = 1.0
            if name.endswith(("1.weight", "4.weight")) and parameter.dim() == 1:
                parameter.fill_(1.0)
        head = trainer.network.heads[0]
        head.weight[:, 0] = torch.tensor([0.0, 1.0, 0.0])[:, None, None, None]
        head.bias[:] = torch.tensor([0.5, 0.0, -9.0])
    target = np.zeros((20, 24, 28), dtype=np.uint8)
    target[:10, :10, :10] = 1
    image = np.full(target.shape, -1, dtype=np.float16)
    image[:10, :10, 5:15] = 1
    score = validate(trainer, PreparedCase("a", image, target, np.array([True, True, True]), 1.0))
    assert score == {"ball": pytest.approx(0.5)}


def test_data_that_are_trained_and_validated_on_are_refused(data: tuple[Path, Path], tmp_path: Path) -> None:
    with pytest.raises(ConfigurationError, match=r"_ct\.nii\.gz: .* is in the validation and in the training part"):
        Trainer(make_config((data[0], data[0]), tmp_path), "cpu").run()
    assert not (tmp_path / "last.pt").exists()


def test_unknown_label_is_refused_before_training(data: tuple[Path, Path], tmp_path: Path) -> None:
    classes = [CLASSES[0], CLASSES[1] | {"labels": ["cube", "cubes"]}]
    with pytest.raises(ConfigurationError, match="label 'cubes' of class 'cube' is in none of the training data sets"):
        Trainer(make_config(data, tmp_path, classes=classes), "cpu").run()


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"feature": [4, 8]}, "network: .*feature"),
        ({"features": [4]}, "network: features needs at least two levels"),
        ({"features": [4, -8]}, "network: "),
        ({"num_classes": 7}, "network: takes 1 channels and gives 7 classes, but .* 3 classes"),
        ({"features": [4, 4, 4, 4, 4, 4, 4]}, "crop: .* must be multiples of 64"),
    ],
)
def test_wrong_network_arguments_are_refused(
    data: tuple[Path, Path], tmp_path: Path, arguments: dict[str, Any], message: str
) -> None:
    network = {"name": "AttentionUNet", "arguments": arguments}
    with pytest.raises(ConfigurationError, match=message):
        build_network(make_config(data, tmp_path, network=network))


def test_initial_weights_are_where_the_run_starts(data: tuple[Path, Path], tmp_path: Path) -> None:
    config = make_config(data, tmp_path / "first", epochs=1, validation=[])
    export_bundle(config, Trainer(config, "cpu").run(), tmp_path / "first.safetensors")
    start = make_config(data, tmp_path / "second", initial_weights=tmp_path / "first.safetensors", seed=99)
    expected = bundle.load(tmp_path / "first.safetensors").network.state_dict()
    assert_same(dict(Trainer(start, "cpu").network.state_dict()), dict(expected))


def test_initial_weights_of_another_network_are_refused(data: tuple[Path, Path], tmp_path: Path) -> None:
    config = make_config(data, tmp_path / "first", epochs=1, steps_per_epoch=1, validation=[])
    path = tmp_path / "first.safetensors"
    export_bundle(config, Trainer(config, "cpu").run(), path)
    other = {"name": "UNet3D", "arguments": {"features": [2, 3, 4]}}
    with pytest.raises(ConfigurationError, match=r"first\.safetensors: its weights do not fit this UNet3D; .* common"):
        Trainer(make_config(data, tmp_path, network=other, initial_weights=path), "cpu")
    with pytest.raises(BundleError, match=r"none\.safetensors: no such model file"):
        Trainer(make_config(data, tmp_path, initial_weights=tmp_path / "none.safetensors"), "cpu")


def test_configuration_file_becomes_a_bundle_with_the_best_weights_and_its_provenance(
    data: tuple[Path, Path], tmp_path: Path
) -> None:
    document = settings(data, Path("run"), epochs=2, seed=7, provenance="two toys", licence="CC0-1.0")
    (tmp_path / "config.yaml").write_text(yaml.safe_dump(document), encoding="utf-8")
    path = train_from_config(tmp_path / "config.yaml", "cpu").bundle
    assert path == tmp_path / "run" / "toy.safetensors"
    loaded, best = bundle.load(path), read_checkpoint(tmp_path / "run" / "best.pt")
    for name, value in loaded.network.state_dict().items():
        expected = best["network"][name]
        # fp16 keeps 11 bits, and 2^-25 at the least.
        torch.testing.assert_close(value, expected, rtol=2**-11, atol=2**-24)
    info = loaded.info
    assert info.arguments == {"num_classes": 3, "features": [2, 3, 4], "sub_gates": 1}
    assert [label.name for label in info.output_labels] == ["ball", "cube"]
    assert (info.intensity.mean, info.intensity.sd, info.spacing_mm) == (0, 60, (2, 2, 2))
    assert (info.licence, info.mirror_axes) == ("CC0-1.0", ())
    assert info.provenance["training"] == "two toys"
    assert (info.provenance["seed"], info.provenance["epochs"]) == (7, best["epoch"])
    assert info.provenance["data"][0]["name"] == "toy" and info.provenance["data"][0]["licence"] == "CC0"
    assert len(info.provenance["data"][0]["cases"]) == 2
    assert info.metrics["validation_dsc"] == best["history"][-1]["scores"]
    written = yaml.safe_load((tmp_path / "run" / "config.yaml").read_text(encoding="utf-8"))
    assert written["gradient_averaging"] == 1 and written["augmentation"]["affine"] == 0.9


def test_mirrored_training_is_told_to_inference(data: tuple[Path, Path], tmp_path: Path) -> None:
    config = make_config(data, tmp_path, epochs=1, steps_per_epoch=1, augmentation={"axial_flip": 0.5})
    export_bundle(config, Trainer(config, "cpu").run(), tmp_path / "model.safetensors")
    assert bundle.read_info(tmp_path / "model.safetensors").mirror_axes == ("x",)


def test_run_that_starts_anew_shows_nothing_of_the_earlier_one(data: tuple[Path, Path], tmp_path: Path) -> None:
    Trainer(make_config(data, tmp_path, epochs=2, steps_per_epoch=1), "cpu").run()
    (tmp_path / "report.html").write_text("of the earlier run", encoding="utf-8")
    (tmp_path / "notes.txt").write_text("mine", encoding="utf-8")
    assert (tmp_path / "best.pt").exists() and list((tmp_path / "slices").glob("*.npz"))
    (tmp_path / "last.pt").unlink()

    fresh = Trainer(make_config(data, tmp_path, validation=[], epochs=1, steps_per_epoch=1), "cpu")
    fresh.run()

    assert not (tmp_path / "best.pt").exists()
    assert not list((tmp_path / "slices").glob("*.npz"))
    assert not (tmp_path / "report.html").exists()
    assert len(list((tmp_path / "tensorboard").iterdir())) == 1
    assert (tmp_path / "notes.txt").read_text(encoding="utf-8") == "mine"


def test_checkpoints_that_a_killed_run_has_half_written_are_removed(data: tuple[Path, Path], tmp_path: Path) -> None:
    config = make_config(data, tmp_path, epochs=1, steps_per_epoch=1)
    Trainer(config, "cpu").run()
    for name in (".last.pt.4711.part", ".best.pt.12.part"):
        (tmp_path / name).write_bytes(b"half")
    Trainer(config, "cpu").run()
    assert not list(tmp_path.glob("*.part"))
    assert (tmp_path / "last.pt").exists() and (tmp_path / "best.pt").exists()
