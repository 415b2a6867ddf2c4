from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import yaml

from AGTraining.errors import ConfigurationError
from AGTraining.training.config import TrainingConfig, read_config
from AGTraining.training.planes_config import PlanesConfig
from Testing.AGTraining.training.toy_planes import CLASSES, plane_settings


def write(folder: Path, **changes: Any) -> Path:
    path = folder / "planes.yaml"
    settings = plane_settings(Path("frames/labels.csv"), Path("run"), **changes)
    path.write_text(yaml.safe_dump(settings, sort_keys=False), encoding="utf-8")
    return path


def read(path: Path, data: Path | None = None) -> PlanesConfig:
    config = read_config(path, data, any_task=True)
    assert isinstance(config, PlanesConfig)
    return config


def test_task_tells_what_a_configuration_is_of(tmp_path: Path) -> None:
    assert [item.name for item in read(write(tmp_path)).classes] == ["background", "brain", "abdomen", "femur"]
    organs = "output: run\ntraining: [{dataset: a.json}]\nclasses: []\n"
    (tmp_path / "organs.yaml").write_text(organs, encoding="utf-8")
    with pytest.raises(ConfigurationError, match=r"organs\.yaml: 'classes': .* at least 1 item"):
        read_config(tmp_path / "organs.yaml", any_task=True)


def test_unknown_task_is_refused_with_its_line(tmp_path: Path) -> None:
    path = write(tmp_path, task="faces")
    with pytest.raises(ConfigurationError, match=r"'task': Input should be 'segmentation' .*line 2\)"):
        read_config(path, any_task=True)


def test_planes_are_refused_where_organs_are_wanted(tmp_path: Path) -> None:
    with pytest.raises(ConfigurationError, match=r"planes\.yaml: trains the detection of planes; this takes"):
        read_config(write(tmp_path))


def test_relative_paths_start_at_their_folders(tmp_path: Path) -> None:
    changes = {
        "training": [{"folder": "classes"}, {"csv": "t.csv", "images": "pictures", "split": {"file": "s.json"}}],
        "teacher": {"bundle": "t.safetensors"},
    }
    config = read(write(tmp_path, **changes), tmp_path / "data")
    first, second = config.training
    assert (first.folder, second.csv) == (tmp_path / "data" / "classes", tmp_path / "data" / "t.csv")
    assert second.images == tmp_path / "data" / "pictures"
    assert second.split is not None and second.split.file == tmp_path / "data" / "s.json"
    assert config.teacher is not None and config.teacher.bundle == tmp_path / "t.safetensors"
    assert config.output == tmp_path / "run"


def test_written_configuration_is_read_again_as_it_was(tmp_path: Path) -> None:
    config = read(write(tmp_path, groups=[{"name": "body", "of": ["abdomen", "femur"], "labels": ["Body"]}]))
    again = tmp_path / "again.yaml"
    again.write_text(yaml.safe_dump(config.model_dump(mode="json"), sort_keys=False), encoding="utf-8")
    assert read(again) == config


def test_defaults_are_the_paper_s() -> None:
    settings = plane_settings(Path("t.csv"), Path("run"))
    for key in ("learning_rate", "batch_size", "frame"):
        del settings[key]
    config = PlanesConfig.model_validate(settings)
    assert (config.optimizer, config.momentum, config.nesterov) == ("sgd", 0.9, True)
    assert (config.learning_rate, config.batch_size, config.frame.size) == (0.1, 64, (208, 272))
    assert config.sampling.background_share == 0.5


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"classes": [CLASSES[0], CLASSES[0]]}, "name 'background' occurs twice"),
        ({"classes": [CLASSES[0], CLASSES[1] | {"labels": ["other"]}]}, "label 'Other' occurs twice; .* 'groups'"),
        ({"classes": [CLASSES[0], CLASSES[1] | {"background": True}]}, "more than one is background"),
        ({"groups": [{"name": "g", "of": ["brain", "kidneys"]}]}, "groups: 'kidneys' of 'g' is none of the classes"),
        ({"network": {"name": "Sononet"}, "fused_from_epoch": 2}, "fused_from_epoch: only the aggregation 'ft'"),
        ({"frozen": "blocks"}, "frozen: random weights would be kept"),
        ({"network": {"name": "UNet3D"}}, "'network.name': Input should be 'Sononet' or 'AGSononet'"),
        ({"schedule": "step"}, "schedule 'step' and 'decay_epochs' go together"),
        ({"decay_epochs": 3}, "schedule 'step' and 'decay_epochs' go together"),
        ({"warmup_epochs": 5}, "warmup_epochs and warmup_learning_rate go together"),
        ({"warmup_epochs": 5, "warmup_learning_rate": 0.1, "warmup_steps": 3}, "either warmup_steps or warmup_epochs"),
        ({"compile": True, "teacher": {"bundle": "t.safetensors", "hint": 1}}, "teacher.hint: a compiled network"),
        ({"sampling": {"unlabelled_share": 0.5}}, "unlabelled_share: only a teacher can say"),
    ],
)
def test_what_does_not_go_together_is_refused(tmp_path: Path, changes: dict[str, Any], message: str) -> None:
    with pytest.raises(ConfigurationError, match=message):
        read(write(tmp_path, **changes))


def test_segmentation_can_step_too() -> None:
    source = {"dataset": "d.json"}
    organ = {"name": "spleen", "type_code": "1", "type_meaning": "Spleen", "color": [1, 2, 3], "labels": ["spleen"]}
    settings = {"output": "run", "training": [source], "classes": [organ], "schedule": "step", "decay_epochs": 250}
    assert TrainingConfig.model_validate(settings | {"decay_factor": 0.5}).decay_epochs == 250
