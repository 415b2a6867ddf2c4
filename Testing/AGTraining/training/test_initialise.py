from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from AGTraining import bundle
from AGTraining.data.prepare import PreparedCase
from AGTraining.data.samples import TrainingSamples
from AGTraining.errors import ConfigurationError
from AGTraining.training.initialise import build_network
from AGTraining.training.run import export_bundle
from AGTraining.training.segmentation import SegmentationTask
from AGTraining.training.trainer import Trainer
from Testing.AGTraining.training.toy import assert_same, make_config

FEATURES = {"features": [2, 3, 4]}
UNET = {"name": "UNet3D", "arguments": FEATURES}
ATTENTION_UNET = {"name": "AttentionUNet", "arguments": {**FEATURES, "sub_gates": 1}}


@pytest.fixture(scope="module")
def unet(data: tuple[Path, Path], tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The bundle of a trained U-Net."""
    folder = tmp_path_factory.mktemp("unet")
    config = make_config(data, folder, network=UNET, epochs=1, validation=[])
    export_bundle(config, Trainer(config, "cpu").run(), folder / "unet.safetensors")
    return folder / "unet.safetensors"


def test_attention_unet_starts_from_a_unet(
    data: tuple[Path, Path], tmp_path: Path, unet: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    changes = {"network": ATTENTION_UNET, "initial_weights": unet, "initial_match": "common"}
    network = build_network(make_config(data, tmp_path, **changes))
    given, own = bundle.load(unet).network.state_dict(), network.state_dict()
    # All of the U-Net, its batch norm statistics too, is in an Attention U-Net.
    assert_same({name: own[name] for name in given}, dict(given))
    new = {name.split(".")[0] for name in own.keys() - given.keys()}
    assert new == {"gates", "gating"}
    weights = dict(network.named_parameters())
    taken = [name for name in weights if name in given]
    numbers = sum(weights[name].numel() for name in taken), sum(value.numel() for value in weights.values())
    message = capsys.readouterr().err
    assert f"unet.safetensors: {len(taken)} of the {len(weights)} weights were taken from it" in message
    assert f"({numbers[0]:,} of {numbers[1]:,} numbers)" in message


def test_weights_of_other_shapes_start_anew(data: tuple[Path, Path], tmp_path: Path, unet: Path) -> None:
    wider = {"name": "UNet3D", "arguments": {"features": [2, 3, 5]}}
    changes = {"network": wider, "initial_weights": unet, "initial_match": "common"}
    own = build_network(make_config(data, tmp_path, **changes)).state_dict()
    given = bundle.load(unet).network.state_dict()
    assert torch.equal(own["encoder.1.0.weight"], given["encoder.1.0.weight"])
    assert own["encoder.2.0.weight"].shape != given["encoder.2.0.weight"].shape


def test_network_without_a_common_weight_is_refused(data: tuple[Path, Path], tmp_path: Path, unet: Path) -> None:
    other = {"name": "UNet3D", "arguments": {"features": [7, 9], "num_classes": 2}}
    changes = {"network": other, "initial_weights": unet, "initial_match": "common"}
    config = make_config(data, tmp_path, **changes, classes=[make_config(data, tmp_path).classes[0].model_dump()])
    with pytest.raises(ConfigurationError, match=r"unet\.safetensors: has no weight in common with this UNet3D"):
        build_network(config)


def test_warm_up_without_gates_is_refused(data: tuple[Path, Path], tmp_path: Path) -> None:
    with pytest.raises(ConfigurationError, match="gate_warmup_epochs: UNet3D has no gates"):
        build_network(make_config(data, tmp_path, network=UNET, gate_warmup_epochs=2))


@pytest.mark.parametrize("deep_supervision", ["fused", "separate"])
def test_output_nodes_that_are_left_out_are_kept_as_they_were(
    data: tuple[Path, Path], tmp_path: Path, deep_supervision: str
) -> None:
    network = {"name": "UNet3D", "arguments": {**FEATURES, "deep_supervision": deep_supervision}}
    trainer = Trainer(make_config(data, tmp_path, network=network, left_out=["cube"], epochs=1), "cpu")
    nodes = trainer.network.heads if deep_supervision == "separate" else [trainer.network.fuse]
    before = [(node.weight.detach().clone(), node.bias.detach().clone()) for node in nodes]
    trainer.run()
    for node, (weight, bias) in zip(nodes, before, strict=True):
        assert torch.equal(node.weight[2], weight[2]) and torch.equal(node.bias[2], bias[2])
        assert not torch.equal(node.weight[1], weight[1])


def test_class_that_is_left_out_is_not_scored_and_never_predicted(data: tuple[Path, Path], tmp_path: Path) -> None:
    trainer = Trainer(make_config(data, tmp_path, left_out=["cube"], epochs=1), "cpu")
    checkpoint = trainer.run()
    assert trainer.history[-1]["scores"].keys() == {"ball"}
    assert isinstance(trainer.task, SegmentationTask)
    # However much the network is for it.
    with torch.no_grad():
        trainer.network.fuse.bias[2] = 1e3
    case = trainer.task.validation[0]
    prediction = trainer.task._predict(trainer.network, case)
    assert prediction.probabilities[1].max() == 0.0
    assert prediction.probabilities[0].max() > 0.0
    export_bundle(trainer.config, checkpoint, tmp_path / "model.safetensors")
    assert bundle.load(tmp_path / "model.safetensors").network.left_out == (2,)


def test_voxels_of_a_class_that_is_left_out_are_background(data: tuple[Path, Path], tmp_path: Path) -> None:
    target = np.full((40, 40, 40), 2, dtype=np.uint8)
    target[:20] = 1
    case = PreparedCase("a", target.astype(np.float16), target, np.array([True, True, True]), 1.0)
    samples = TrainingSamples([case], make_config(data, tmp_path, left_out=["cube"]))
    _, crop, labelled, _ = samples[0]
    assert set(crop.unique().tolist()) == {0, 1}
    assert labelled.tolist() == [True, True, False]


def test_labels_of_a_class_that_is_left_out_need_not_be_there(data: tuple[Path, Path], tmp_path: Path) -> None:
    classes: list[dict[str, Any]] = [item.model_dump() for item in make_config(data, tmp_path).classes]
    classes[1]["labels"] = ["nobody has labelled this"]
    trainer = Trainer(make_config(data, tmp_path, classes=classes, left_out=["cube"]), "cpu")
    assert "classes" in trainer.task.check()
