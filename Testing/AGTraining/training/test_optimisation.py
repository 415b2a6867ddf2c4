from __future__ import annotations

import functools
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from AGTraining import bundle
from AGTraining.errors import ConfigurationError
from AGTraining.training.checkpoint import read_checkpoint
from AGTraining.training.config import TrainingConfig
from AGTraining.training.optimisation import Precision, build_optimizer, learning_rate, repeatable
from AGTraining.training.run import export_bundle, trained_weights
from AGTraining.training.trainer import Trainer, has_stalled
from Testing.AGTraining.training.toy import make_config

CPU = torch.device("cpu")
ONE_STEP = {"epochs": 1, "steps_per_epoch": 1, "validation": []}


def one_step(config: TrainingConfig) -> dict[str, Tensor]:
    """The weights after a run of one step."""
    trainer = Trainer(config, "cpu")
    trainer.run()
    return {name: value.detach().clone() for name, value in trainer.network.named_parameters()}


@pytest.mark.parametrize(("thinnest", "wrong"), [(1, True), (2, True), (3, False), (None, False)])
def test_bfloat16_is_not_used_on_a_cpu_where_its_gradients_are_wrong(
    thinnest: int | None, wrong: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("AGTraining.training.optimisation.has_native_bfloat16", lambda device: True)

    assert Precision("auto", CPU, thinnest).dtype is (None if wrong else torch.bfloat16)
    if wrong:
        with pytest.raises(ConfigurationError, match="twice as many slices"):
            Precision("bf16", CPU, thinnest)


def test_sgd_takes_momentum_nesterov_and_weight_decay(data: tuple[Path, Path], tmp_path: Path) -> None:
    changes = {"optimizer": "sgd", "learning_rate": 0.1, "momentum": 0.8, "weight_decay": 0.01}
    optimizer = build_optimizer(make_config(data, tmp_path, **changes), nn.Linear(1, 1))
    assert isinstance(optimizer, torch.optim.SGD)
    group = optimizer.param_groups[0]
    assert [group[key] for key in ("lr", "momentum", "nesterov", "weight_decay")] == [0.1, 0.8, True, 0.01]
    plain = build_optimizer(make_config(data, tmp_path, optimizer="sgd", momentum=0), nn.Linear(1, 1))
    assert plain.param_groups[0]["nesterov"] is False


@pytest.mark.parametrize("optimizer", ["adam", "sgd"])
def test_first_step_is_the_optimizer_s_own(data: tuple[Path, Path], tmp_path: Path, optimizer: str) -> None:
    changes = {**ONE_STEP, "optimizer": optimizer, "warmup_steps": 0, "schedule": "constant", "mixed_precision": "off"}
    config = make_config(data, tmp_path, **changes)
    trainer = Trainer(config, "cpu")
    before = trainer.network.heads[0].weight.detach().clone()
    trainer.run()
    weight = trainer.network.heads[0].weight
    gradient = weight.grad
    assert gradient is not None
    # Adam's first step is the sign of the gradient; SGD's with Nesterov is (1 + momentum) times it.
    step = gradient.sign() if optimizer == "adam" else 1.9 * gradient
    torch.testing.assert_close(before - weight.detach(), 0.003 * step, rtol=1e-2, atol=1e-6)


def test_auto_precision_is_bfloat16_where_the_cpu_has_it(monkeypatch: pytest.MonkeyPatch) -> None:
    from AGTraining.training import optimisation

    for native, expected in ((True, torch.bfloat16), (False, None)):
        monkeypatch.setattr(optimisation, "has_native_bfloat16", lambda device, native=native: native)
        assert Precision("auto", CPU).dtype == expected
    assert Precision("off", CPU).dtype is None
    assert Precision("fp16", CPU).dtype == torch.float16


def test_precision_is_that_of_the_forward_pass_and_losses_are_float32(data: tuple[Path, Path], tmp_path: Path) -> None:
    for choice, expected in (("bf16", torch.bfloat16), ("off", torch.float32)):
        seen: list[torch.dtype] = []
        trainer = Trainer(make_config(data, tmp_path / choice, mixed_precision=choice, **ONE_STEP), "cpu")
        trainer.network.register_forward_hook(lambda module, inputs, logits, seen=seen: seen.append(logits.dtype))
        trainer.run()
        assert seen == [expected]
        assert all(parameter.dtype == torch.float32 for parameter in trainer.network.parameters())


def test_fp16_gradients_are_scaled_and_an_overflow_lowers_the_scale_without_a_step() -> None:
    precision = Precision("fp16", CPU)
    weight = nn.Parameter(torch.ones(1))
    optimizer = torch.optim.SGD([weight], lr=0.5)
    precision.backward((weight * 2).sum())
    assert weight.grad is not None and weight.grad.item() == 2 * 65536
    precision.step(optimizer)
    assert weight.item() == 0.0
    precision.backward((weight * float("inf")).sum())
    precision.step(optimizer)
    assert weight.item() == 0.0
    resumed = Precision("fp16", CPU)
    resumed.load_state_dict(precision.state_dict())
    assert resumed.state_dict()["scale"] == 32768


def test_average_of_the_weights_is_validated_and_exported(data: tuple[Path, Path], tmp_path: Path) -> None:
    config = make_config(data, tmp_path, ema=0.75, epochs=1, steps_per_epoch=3, validation=[])
    trainer = Trainer(config, "cpu")
    seen: list[Tensor] = []
    step = trainer.optimizer.step

    def remember(*arguments: Any) -> None:
        step(*arguments)
        seen.append(trainer.network.heads[0].weight.detach().clone())

    trainer.optimizer.step = remember  # type: ignore[method-assign, assignment]
    checkpoint = trainer.run()
    expected = 0.75 * (0.75 * seen[0] + 0.25 * seen[1]) + 0.25 * seen[2]
    torch.testing.assert_close(trainer.trained.heads[0].weight, expected)
    assert not torch.equal(expected, seen[2])
    weights = trained_weights(read_checkpoint(checkpoint))
    torch.testing.assert_close(weights["heads.0.weight"], expected)
    export_bundle(config, checkpoint, tmp_path / "model.safetensors")
    exported = bundle.load(tmp_path / "model.safetensors").network.state_dict()
    # fp16 keeps 11 bits.
    torch.testing.assert_close(exported["heads.0.weight"], expected, rtol=2**-11, atol=2**-24)


def test_gates_stay_as_they_are_in_their_warm_up(data: tuple[Path, Path], tmp_path: Path) -> None:
    before = {}
    for epochs in (1, 2):
        changes = {"gate_warmup_epochs": 1, "epochs": epochs, "schedule": "constant", "validation": []}
        trainer = Trainer(make_config(data, tmp_path / str(epochs), **changes), "cpu")
        before[epochs] = [parameter.detach().clone() for parameter in trainer.network.attention_parameters()]
        others = trainer.network.gates[0].fuse[0].weight.detach().clone()
        trainer.run()
        pairs = zip(before[epochs], trainer.network.attention_parameters(), strict=True)
        assert all(torch.equal(a, b) for a, b in pairs) == (epochs == 1)
        assert not torch.equal(trainer.network.gates[0].fuse[0].weight, others)


@pytest.mark.parametrize("option", [{"channels_last": False}, {"compile": True}], ids=["contiguous", "compiled"])
def test_option_changes_the_speed_and_not_the_result(
    data: tuple[Path, Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch, option: dict[str, Any]
) -> None:
    # TorchDynamo takes the graph as it does for every backend; generated C++ would take the test half a minute.
    monkeypatch.setattr(torch, "compile", functools.partial(torch.compile, backend="eager"))
    changes = {**ONE_STEP, "mixed_precision": "off", "optimizer": "sgd"}
    plain = one_step(make_config(data, tmp_path / "plain", **changes))
    other = one_step(make_config(data, tmp_path / "other", **changes, **option))
    for name, value in plain.items():
        # fp32 sums in another order.
        torch.testing.assert_close(other[name], value, rtol=1e-3, atol=1e-5)


def test_deterministic_algorithms_are_asked_for_and_the_setting_is_put_back() -> None:
    with repeatable(True):
        assert torch.are_deterministic_algorithms_enabled()
        assert torch.is_deterministic_algorithms_warn_only_enabled()
        assert not torch.backends.cudnn.benchmark
    assert not torch.are_deterministic_algorithms_enabled()
    with repeatable(False):
        assert not torch.are_deterministic_algorithms_enabled()


@pytest.mark.parametrize(
    ("scores", "patience", "stalled"),
    [
        ([], 1, False),
        ([0.5], 1, False),
        ([0.5, 0.4], 1, True),
        ([0.5, 0.5], 1, True),
        ([0.5, 0.4, 0.6], 1, False),
        ([0.5, 0.4, 0.3], 3, False),
        ([0.5, 0.4, 0.3, 0.5], 3, True),
        ([0.5, 0.4, 0.3, 0.2], 0, False),
    ],
)
def test_run_has_stalled_when_so_many_validations_were_no_better(
    scores: list[float], patience: int, stalled: bool
) -> None:
    history = [{"loss": 1.0}, *({"scores": {"ball": score + 0.1, "cube": score - 0.1}} for score in scores)]
    assert has_stalled(history, patience) is stalled


def test_early_stop_ends_the_run_and_keeps_the_best(
    data: tuple[Path, Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from AGTraining.training.segmentation import SegmentationTask
    from AGTraining.training.task import Validation

    scores = iter([0.3, 0.6, 0.5, 0.55, 0.9])
    monkeypatch.setattr(SegmentationTask, "validate", lambda self, network: Validation({"ball": next(scores)}))
    changes = {"epochs": 9, "steps_per_epoch": 1, "validate_every": 1, "early_stop": 2}
    best = Trainer(make_config(data, tmp_path, **changes), "cpu").run()
    assert read_checkpoint(tmp_path / "last.pt")["epoch"] == 4
    assert read_checkpoint(best)["epoch"] == 2
    # Started again it has nothing left to do.
    again = Trainer(make_config(data, tmp_path, **changes), "cpu")
    again.run()
    assert again.epoch == 4


def test_rate_steps_down_and_has_one_of_its_own_in_the_first_epochs(data: tuple[Path, Path], tmp_path: Path) -> None:
    """Schlemper et al. 2019: 0.01 for 5 epochs, then 0.1, and a tenth of it after every 100."""
    steps = {"schedule": "step", "decay_epochs": 100, "decay_factor": 0.1, "steps_per_epoch": 3, "epochs": 300}
    changes = {"learning_rate": 0.1, "warmup_steps": 0, "warmup_epochs": 5, "warmup_learning_rate": 0.01}
    config = make_config(data, tmp_path, **steps, **changes)
    rates = [learning_rate(config, 3 * epoch + 2) for epoch in (0, 4, 5, 99, 100, 199, 200, 299)]
    assert rates == pytest.approx([0.01, 0.01, 0.1, 0.1, 0.01, 0.01, 0.001, 0.001])
