"""Runs of planes on the trainer that segmentation has too."""

from __future__ import annotations

import random
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import yaml
from PIL import Image
from torch import Tensor

from AGTraining import bundle
from AGTraining.data.fingerprint import content_hash
from AGTraining.errors import ConfigurationError
from AGTraining.training.checkpoint import read_checkpoint
from AGTraining.training.plane_data import read_parts
from AGTraining.training.planes import PlanesTask, different_classes
from AGTraining.training.planes_config import PlanesConfig
from AGTraining.training.run import export_bundle, train_from_config
from AGTraining.training.trainer import Trainer
from Testing.AGTraining.training.toy import Interrupt, assert_same
from Testing.AGTraining.training.toy_planes import CLASSES, make_plane_config, plane_settings, save_planes

SONONET = {"name": "Sononet", "arguments": {"features": 2}}
SGD = {"optimizer": "sgd", "ema": 0.5, "fused_from_epoch": 2}


def run_interrupted(config: PlanesConfig, call: int) -> None:
    """Trains until the loss is asked for the `call`-th time, and leaves other random numbers behind."""
    trainer = Trainer(config, "cpu")
    task = trainer.task
    assert isinstance(task, PlanesTask)
    task.criterion = Interrupt(task.criterion, call)
    with pytest.raises(KeyboardInterrupt):
        trainer.run()
    torch.manual_seed(12345)
    np.random.seed(12345)
    random.seed(12345)


def weights(trainer: Trainer, prefix: str = "") -> dict[str, Tensor]:
    return {name: value.clone() for name, value in trainer.network.state_dict().items() if name.startswith(prefix)}


def test_a_network_learns_the_phantoms(frames: Path, tmp_path: Path) -> None:
    changes = {
        "network": {"name": "AGSononet", "arguments": {"features": 4, "convs": [1, 1, 1, 1, 1]}},
        "frame": {"size": [64, 80], "crop": "centre"},
        "optimizer": "adam",
        "learning_rate": 0.005,
        "sampling": {"background_share": None},
        "batch_size": 8,
        "epochs": 6,
        "steps_per_epoch": 15,
        "augmentation": {"rotate_degrees": 5, "scale": 0.1, "speckle": 0},
    }
    trainer = Trainer(make_plane_config(frames, tmp_path, **changes), "cpu")
    best = trainer.run()
    losses = [record["loss"] for record in trainer.history]
    assert losses[-1] < 0.5 * losses[0]
    record = max((r for r in trainer.history if "scores" in r), key=lambda r: np.mean(list(r["scores"].values())))
    # Of four classes; two patients that were never seen.
    assert record["details"]["accuracy"] > 0.6
    assert read_checkpoint(best)["best"] == pytest.approx(np.mean(list(record["scores"].values())))


@pytest.mark.parametrize(
    ("changes", "call"),
    [
        # In the middle of the epochs of each scale alone, and in those of the fused layer.
        ({**SGD, "schedule": "step", "decay_epochs": 1}, 4),
        ({**SGD, "workers": 1}, 7),
        ({"optimizer": "adam", "schedule": "cosine", "gradient_averaging": 2, "network": SONONET}, 14),
    ],
)
def test_resumed_run_is_the_uninterrupted_one_bit_for_bit(
    frames: Path, tmp_path: Path, changes: dict[str, Any], call: int
) -> None:
    whole = make_plane_config(frames, tmp_path / "whole", checkpoint_steps=1, **changes)
    Trainer(whole, "cpu").run()
    parts = make_plane_config(frames, tmp_path / "parts", checkpoint_steps=1, **changes)
    # The fused phase asks once a batch, the one before it three times, for its scales.
    run_interrupted(parts, call)
    state = read_checkpoint(parts.output / "last.pt")
    assert 0 < 3 * state["epoch"] + state["step"] < 12
    Trainer(parts, "cpu").run()
    for name in ("last.pt", "best.pt"):
        assert_same(read_checkpoint(whole.output / name), read_checkpoint(parts.output / name), name)
    assert (whole.output / "history.json").read_text() == (parts.output / "history.json").read_text()


def test_run_in_steps_can_be_made_longer(frames: Path, tmp_path: Path) -> None:
    changes = {"schedule": "step", "decay_epochs": 1, "decay_factor": 0.5, "validation": []}
    Trainer(make_plane_config(frames, tmp_path / "whole", **changes), "cpu").run()
    Trainer(make_plane_config(frames, tmp_path / "longer", epochs=2, **changes), "cpu").run()
    trainer = Trainer(make_plane_config(frames, tmp_path / "longer", **changes), "cpu")
    trainer.run()
    assert [record["learning_rate"] for record in trainer.history] == [0.05, 0.025, 0.0125, 0.00625]
    assert_same(*(read_checkpoint(tmp_path / name / "last.pt") for name in ("whole", "longer")))


def test_fusing_layer_rests_until_its_epoch_and_is_then_trained(frames: Path, tmp_path: Path) -> None:
    changes = {"fused_from_epoch": 2, "validation": [], "weight_decay": 0.01}
    trainer = Trainer(make_plane_config(frames, tmp_path, epochs=2, **changes), "cpu")
    before = weights(trainer)
    trainer.run()
    after = weights(trainer)
    fused = [name for name in before if name.startswith("classifier.")]
    assert fused
    assert all(torch.equal(before[name], after[name]) for name in fused)
    assert not torch.equal(before["classifiers.0.weight"], after["classifiers.0.weight"])
    longer = Trainer(make_plane_config(frames, tmp_path, epochs=3, **changes), "cpu")
    longer.run()
    assert not any(torch.equal(weights(longer)[name], after[name]) for name in fused)


@pytest.mark.parametrize(
    ("aggregation", "fused_from_epoch", "calls"),
    [("concat", 0, 1), ("mean", 0, 3), ("deep_sup", 0, 4), ("ft", 0, 1), ("ft", 1, 3)],
)
def test_what_the_loss_is_of_depends_on_the_aggregation(
    frames: Path, tmp_path: Path, aggregation: str, fused_from_epoch: int, calls: int
) -> None:
    network = {"name": "AGSononet", "arguments": {"features": 2, "aggregation": aggregation}}
    changes = {"epochs": 1, "steps_per_epoch": 1, "validation": [], "fused_from_epoch": fused_from_epoch}
    trainer = Trainer(make_plane_config(frames, tmp_path, network=network, **changes), "cpu")
    counter = Interrupt(trainer.task.criterion, 100)
    trainer.task.criterion = counter
    trainer.run()
    assert 100 - counter.remaining == calls
    gradients = {name: p.grad for name, p in trainer.network.named_parameters()}
    # Biases before batch norm, and of ψ before its minimum is subtracted, change nothing.
    idle = ("0.bias", "psi.bias")
    moved = {name for name, gradient in gradients.items() if gradient is not None and bool(gradient.any())}
    resting = [name for name in gradients if name not in moved and not name.endswith(idle)]
    assert resting == (["classifier.weight", "classifier.bias"] if fused_from_epoch else [])


def test_gradient_averaging_is_the_larger_batch(frames: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    # Batch norm is what differs between one batch of four and four batches of one; without it nothing must.
    monkeypatch.setattr(torch.nn.BatchNorm2d, "forward", lambda self, x: x)
    found = []
    for batch_size, averaging in ((4, 1), (2, 2), (1, 4)):
        changes = {"batch_size": batch_size, "gradient_averaging": averaging, "mixed_precision": False}
        config = make_plane_config(
            frames, tmp_path / str(averaging), epochs=1, steps_per_epoch=1, validation=[], **changes
        )
        trainer = Trainer(config, "cpu")
        trainer.run()
        found.append(trainer.network.blocks[0][0].weight.grad)
    # fp32 sums in another order: a few units in the sixth digit of the largest gradient.
    tolerance = 1e-5 * found[0].abs().max().item()
    assert tolerance > 1e-9
    torch.testing.assert_close(found[1], found[0], rtol=1e-4, atol=tolerance)
    torch.testing.assert_close(found[2], found[0], rtol=1e-4, atol=tolerance)


def test_early_stop_ends_the_run(frames: Path, tmp_path: Path) -> None:
    changes = {"validate_every": 1, "early_stop": 2, "learning_rate": 1e-12, "epochs": 9, "steps_per_epoch": 1}
    # Nothing is learned, and statistics do not move: no validation is better than the first.
    trainer = Trainer(make_plane_config(frames, tmp_path, network=SONONET, **changes), "cpu")
    for module in trainer.network.modules():
        if isinstance(module, torch.nn.BatchNorm2d):
            module.momentum = 0.0
    trainer.run()
    assert len(trainer.history) == 3


def test_averaged_weights_are_validated_and_kept(frames: Path, tmp_path: Path) -> None:
    config = make_plane_config(frames, tmp_path, ema=0.9, epochs=2, validate_every=1)
    trainer = Trainer(config, "cpu")
    best = trainer.run()
    export_bundle(config, best, tmp_path / "model.safetensors")
    state = read_checkpoint(best)
    kept = bundle.load_planes(tmp_path / "model.safetensors").network.state_dict()
    averaged = state["average"]["module.blocks.0.0.weight"]
    assert not torch.allclose(averaged, state["network"]["blocks.0.0.weight"], rtol=1e-3)
    # fp16 keeps 11 bits.
    torch.testing.assert_close(kept["blocks.0.0.weight"], averaged, rtol=2**-11, atol=2**-24)
    task = trainer.task
    assert isinstance(task, PlanesTask)
    again = bundle.load_planes(tmp_path / "model.safetensors").network
    assert task.validate(again).scores == pytest.approx(state["history"][-1]["scores"], abs=0.3)


def test_scores_are_those_of_the_network_s_answers(frames: Path, tmp_path: Path) -> None:
    trainer = Trainer(make_plane_config(frames, tmp_path), "cpu")
    task = trainer.task
    assert isinstance(task, PlanesTask)
    task.check()
    task.prepare()

    class Answers(torch.nn.Module):
        """Brain for all brains and one femur, background for the rest."""

        def forward(self, inputs: Tensor) -> Tensor:
            logits = torch.zeros(len(inputs), 4)
            logits[:, 0] = 1.0
            said = [n for n, target in enumerate(task._targets) if target == 1]
            said.append(int(np.flatnonzero(task._targets == 3)[0]))
            logits[said, 1] = 5.0
            return logits

    found = task.validate(Answers())
    # Two frames of each class: brain 2 of 3, background 2 of 5.
    assert found.scores == pytest.approx({"background": 4 / 7, "brain": 4 / 5, "abdomen": 0, "femur": 0})
    assert found.details["accuracy"] == 0.5
    assert found.details["confusion"] == [[2, 0, 0, 0], [0, 2, 0, 0], [2, 0, 0, 0], [1, 1, 0, 0]]


def test_label_of_several_classes_is_right_with_any_of_them(frames: Path, tmp_path: Path) -> None:
    classes = [CLASSES[0], {"name": "brain", "labels": ["Fetal brain"]}, {"name": "abdomen"}, {"name": "femur"}]
    groups = [{"name": "body", "of": ["abdomen", "femur"], "labels": ["Fetal abdomen", "Fetal femur"]}]
    trainer = Trainer(make_plane_config(frames, tmp_path, classes=classes, groups=groups), "cpu")
    task = trainer.task
    assert isinstance(task, PlanesTask)
    task.check()
    task.prepare()

    class Femur(torch.nn.Module):
        def forward(self, inputs: Tensor) -> Tensor:
            return torch.tensor([[0.0, 0.0, 0.0, 1.0]]).expand(len(inputs), 4)

    found = task.validate(Femur())
    assert found.details["confusion"] == [[0, 0, 0, 2], [0, 0, 0, 2], [0, 0, 0, 0], [0, 0, 0, 4]]
    assert "abdomen" not in found.scores


def test_sononet_s_weights_start_an_ag_sononet_and_its_blocks_can_stay(frames: Path, tmp_path: Path) -> None:
    given = save_planes(tmp_path / "given.safetensors", CLASSES)
    changes = {"initial_weights": given, "initial_match": "common", "frozen": "blocks", "validation": []}
    trainer = Trainer(make_plane_config(frames, tmp_path / "run", epochs=1, **changes), "cpu")
    before = weights(trainer)
    expected = bundle.load_planes(given).network.state_dict()
    trainer.run()
    after = weights(trainer)
    blocks = [name for name in before if name.startswith("blocks.")]
    # Batch norm's statistics too.
    assert any(name.endswith("running_var") for name in blocks)
    for name in blocks:
        assert torch.equal(before[name], after[name]) and torch.equal(before[name], expected[name])
    for name in ("gates.block3.theta.weight", "gates.block4.psi.weight", "classifiers.2.weight", "classifier.weight"):
        assert not torch.equal(before[name], after[name]), name


def test_blocks_that_would_stay_random_are_not_frozen(frames: Path, tmp_path: Path) -> None:
    given = save_planes(tmp_path / "given.safetensors", CLASSES, convs=[1, 1, 1, 1, 1], bias=False)
    changes = {"initial_weights": given, "initial_match": "common", "frozen": "blocks"}
    with pytest.raises(ConfigurationError, match=r"frozen: .*given\.safetensors has no 'blocks\.0\.0\.bias'.*\(5 such"):
        Trainer(make_plane_config(frames, tmp_path / "run", **changes), "cpu")


def test_gates_rest_in_their_warm_up(frames: Path, tmp_path: Path) -> None:
    trainer = Trainer(make_plane_config(frames, tmp_path, epochs=1, gate_warmup_epochs=1, validation=[]), "cpu")
    before = weights(trainer, "gates.")
    trainer.run()
    assert_same(before, weights(trainer, "gates."))
    with pytest.raises(ConfigurationError, match="Sononet has no gates to warm up"):
        Trainer(make_plane_config(frames, tmp_path, network=SONONET, gate_warmup_epochs=1), "cpu")


def test_teacher_is_learned_from_without_labels(frames: Path, tmp_path: Path) -> None:
    torch.manual_seed(0)
    given = save_planes(tmp_path / "teacher.safetensors", CLASSES, bias=False)
    table = str(frames)
    changes = {
        "training": [{"csv": table, "official": "train", "labelled": False}],
        "teacher": {"bundle": str(given), "temperature": 1.0},
        "sampling": {"unlabelled_share": 1.0},
        "network": {"name": "Sononet", "arguments": {"features": 4, "convs": [1, 1, 1, 1, 1]}},
        "optimizer": "adam",
        "learning_rate": 0.01,
        "batch_size": 8,
        "epochs": 6,
        "steps_per_epoch": 10,
    }
    trainer = Trainer(make_plane_config(frames, tmp_path / "run", **changes), "cpu")
    trainer.run()
    losses = [record["loss"] for record in trainer.history]
    assert losses[-1] < 0.6 * losses[0]
    info = bundle.read_info(export(trainer, tmp_path / "student.safetensors"))
    assert info.provenance["teacher"]["sha256"] == content_hash(given)
    assert info.provenance["teacher"]["name"] == "given"


def export(trainer: Trainer, path: Path) -> Path:
    config = trainer.config
    export_bundle(config, config.output / "last.pt", path)
    return path


def test_numbers_beyond_half_precision_are_kept_whole(frames: Path, tmp_path: Path) -> None:
    trainer = Trainer(make_plane_config(frames, tmp_path / "run", epochs=1, validation=[]), "cpu")
    trainer.run()
    norm = next(module for module in trainer.network.modules() if isinstance(module, torch.nn.BatchNorm2d))
    norm.running_var.fill_(1e6)
    trainer._save("last.pt")
    kept = bundle.load_planes(export(trainer, tmp_path / "whole.safetensors")).network
    norm = next(module for module in kept.modules() if isinstance(module, torch.nn.BatchNorm2d))
    assert float(norm.running_var[0]) == 1e6


def test_teacher_may_be_moved_but_not_changed(frames: Path, tmp_path: Path) -> None:
    given = save_planes(tmp_path / "teacher.safetensors", CLASSES)

    def config(path: Path, **teacher: float) -> PlanesConfig:
        changes: dict[str, Any] = {"teacher": {"bundle": str(path), **teacher}, "checkpoint_steps": 1, "epochs": 2}
        return make_plane_config(frames, tmp_path / "run", **changes)

    run_interrupted(config(given), call=2)
    moved = given.rename(tmp_path / "moved.safetensors")
    run_interrupted(config(moved), call=1)
    assert read_checkpoint(tmp_path / "run" / "last.pt")["step"] == 0
    with pytest.raises(ConfigurationError, match=r"last\.pt: belongs to a run with another 'settings of teacher'"):
        Trainer(config(moved, temperature=3), "cpu").run()
    save_planes(moved, CLASSES)
    with pytest.raises(ConfigurationError, match=r"last\.pt: belongs to a run with another 'content of teacher'"):
        Trainer(config(moved), "cpu").run()


def test_teacher_can_neither_come_nor_go(frames: Path, tmp_path: Path) -> None:
    teacher = {"bundle": str(save_planes(tmp_path / "teacher.safetensors", CLASSES))}
    for name, first, then in (("goes", teacher, None), ("comes", None, teacher)):
        changes: dict[str, Any] = {"checkpoint_steps": 1, "epochs": 2}
        run_interrupted(make_plane_config(frames, tmp_path / name, teacher=first, **changes), call=2)
        with pytest.raises(ConfigurationError, match=r"last\.pt: belongs to a run with another 'settings of teacher'"):
            Trainer(make_plane_config(frames, tmp_path / name, teacher=then, **changes), "cpu").run()


def test_changed_frames_are_noticed_on_resume(frames: Path, tmp_path: Path) -> None:
    shutil.copytree(frames.parent, tmp_path / "frames")
    table = tmp_path / "frames" / frames.name
    run_interrupted(make_plane_config(table, tmp_path / "run", checkpoint_steps=1), call=2)
    picture = np.array(Image.open(tmp_path / "frames" / "Patient00000_Fetalbrain_0.png"))
    Image.fromarray(255 - picture).save(tmp_path / "frames" / "Patient00000_Fetalbrain_0.png")
    with pytest.raises(ConfigurationError, match=r"last\.pt: belongs to a run with another 'training data'"):
        Trainer(make_plane_config(table, tmp_path / "run", checkpoint_steps=1), "cpu").run()


def test_patient_in_both_parts_is_refused_before_training(frames: Path, tmp_path: Path) -> None:
    changes = {"validation": [{"csv": str(frames), "official": "train"}]}
    with pytest.raises(ConfigurationError, match="problems with the frames:\n.*patient '0' is in the training part"):
        Trainer(make_plane_config(frames, tmp_path, **changes), "cpu").run()
    assert not (tmp_path / "last.pt").exists()


def test_frames_without_a_label_that_are_not_drawn_are_told(
    frames: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    sources = [{"csv": str(frames), "official": "train", "labelled": labelled} for labelled in (True, False)]
    read_parts(make_plane_config(frames, tmp_path, training=sources), warn=True)
    assert "24 training frames without a label are not drawn: sampling.unlabelled_share is 0." in caplog.text


def test_class_without_frames_is_refused(frames: Path, tmp_path: Path) -> None:
    classes = [*CLASSES, {"name": "kidneys"}]
    with pytest.raises(ConfigurationError, match="Class 'kidneys' has no frame to train on"):
        Trainer(make_plane_config(frames, tmp_path, classes=classes), "cpu").run()


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"feature": 4}, "network: .*feature"),
        ({"convs": [1, 2]}, "network: convs must be 5 numbers"),
        ({"num_classes": 7}, "network: takes 1 channels and gives 7 classes, but .* 4 classes"),
    ],
)
def test_wrong_network_arguments_are_refused(
    frames: Path, tmp_path: Path, arguments: dict[str, Any], message: str
) -> None:
    with pytest.raises(ConfigurationError, match=message):
        Trainer(make_plane_config(frames, tmp_path, network={"name": "AGSononet", "arguments": arguments}), "cpu")


def test_configuration_file_becomes_a_bundle_with_its_provenance(frames: Path, tmp_path: Path) -> None:
    document = plane_settings(
        frames, Path("run"), epochs=2, validate_every=1, seed=7, provenance="toys", licence="CC0-1.0"
    )
    document["classes"][1]["meaning"] = "Brain"
    (tmp_path / "planes.yaml").write_text(yaml.safe_dump(document), encoding="utf-8")
    result = train_from_config(tmp_path / "planes.yaml", "cpu")
    best = read_checkpoint(tmp_path / "run" / "best.pt")
    assert (result.measure, result.scores) == ("F1", best["history"][-1]["scores"])
    info = bundle.load_planes(result.bundle).info
    assert info.names == ("background", "brain", "abdomen", "femur") and info.background == 0
    assert info.classes[1].meaning == "Brain"
    assert info.frame.size == (32, 48) and info.frame.crop == "centre"
    assert (info.licence, info.provenance["training"], info.provenance["seed"]) == ("CC0-1.0", "toys", 7)
    (data,) = info.provenance["data"]
    assert (data["frames"], data["patients"], data["labels"]["Fetal brain"]) == (24, 6, 6)
    assert info.provenance["validation_data"][0]["patients"] == 2
    assert info.metrics["validation_accuracy"] == best["history"][-1]["details"]["accuracy"]
    assert info.metrics["validation_f1"] == result.scores


def test_frames_that_are_shown_are_of_different_classes() -> None:
    targets = np.array([0, 0, 0, 1, 1, -1, 2])
    assert different_classes(targets, 5).tolist() == [0, 3, 6, 1, 4]
    assert different_classes(targets, 99).tolist() == [0, 3, 6, 1, 4, 2]


@pytest.mark.parametrize("channels", [(1, 8), (8, 16), (64, 64)])
@pytest.mark.parametrize("size", [(1, 1), (2, 2), (2, 17), (13, 17), (104, 136)])
def test_gradients_in_bfloat16_are_those_in_float32(channels: tuple[int, int], size: tuple[int, int]) -> None:
    """PyTorch's 3-D convolutions have wrong ones at some sizes; those of a plane network must not."""
    torch.manual_seed(0)
    convolution = torch.nn.Conv2d(*channels, 3, padding=1).to(memory_format=torch.channels_last)
    x = torch.randn(2, channels[0], *size).contiguous(memory_format=torch.channels_last).requires_grad_()
    upstream = torch.randn(2, channels[1], *size)
    found = []
    for bfloat16 in (False, True):
        with torch.autocast("cpu", torch.bfloat16, enabled=bfloat16):
            y = convolution(x)
        found.append(torch.autograd.grad(y, (convolution.weight, x), upstream.to(y.dtype)))
    for exact, rounded in zip(*found, strict=True):
        # bfloat16 keeps 8 bits: each product is off by up to 1 %, sums by less.
        assert (exact - rounded).norm() < 0.01 * exact.norm()
