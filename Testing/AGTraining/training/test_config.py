from __future__ import annotations

import copy
from pathlib import Path
from typing import Any

import pytest
import yaml

from AGTraining.errors import ConfigurationError
from AGTraining.training.config import TrainingConfig, read_config

MINIMAL: dict[str, Any] = {
    "output": "runs/first",
    "training": [{"dataset": "data/dataset.json"}],
    "classes": [
        {
            "name": "spleen",
            "type_code": "78961009",
            "type_meaning": "Spleen",
            "color": [157, 108, 162],
            "labels": ["spleen"],
        }
    ],
}
SECOND_CLASS = MINIMAL["classes"][0] | {"name": "pancreas", "labels": ["pancreas"]}


def write(folder: Path, document: Any) -> Path:
    path = folder / "config.yaml"
    path.write_text(document if isinstance(document, str) else yaml.safe_dump(document), encoding="utf-8")
    return path


def changed(path: str, value: Any) -> dict[str, Any]:
    """MINIMAL with a value at a dotted path."""
    document: Any = copy.deepcopy(MINIMAL)
    place = document
    *parents, last = path.split(".")
    for part in parents:
        place = place[int(part)] if part.isdigit() else place.setdefault(part, {})
    place[last] = value
    return document


def test_defaults_are_the_papers_training(tmp_path: Path) -> None:
    config = read_config(write(tmp_path, MINIMAL))
    assert (config.optimizer, config.learning_rate, config.batch_size) == ("adam", 1e-4, 2)
    assert config.network.name == "AttentionUNet"
    assert config.cross_entropy == 0.0
    assert config.spacing_mm == (2.0, 2.0, 2.0)


def test_relative_paths_start_at_the_configurations_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    folder = tmp_path / "somewhere"
    folder.mkdir()
    monkeypatch.chdir(tmp_path)
    document = MINIMAL | {"validation": [{"dataset": "../val.json"}], "initial_weights": "start.safetensors"}
    write(folder, document)
    config = read_config("somewhere/config.yaml")
    assert config.output == folder / "runs/first"
    assert config.training[0].dataset == folder / "data/dataset.json"
    assert config.validation[0].dataset.resolve() == tmp_path / "val.json"
    assert config.initial_weights == folder / "start.safetensors"


def test_absolute_paths_are_kept(tmp_path: Path) -> None:
    config = read_config(write(tmp_path, MINIMAL | {"output": "/elsewhere/run"}))
    assert config.output == Path("/elsewhere/run")


def test_validated_configuration_written_as_yaml_reads_back_the_same(tmp_path: Path) -> None:
    document = MINIMAL | {"intensity": {"mean": 20, "sd": 100}, "augmentation": {"axial_flip": 0.5}}
    config = read_config(write(tmp_path, document))
    text = yaml.safe_dump(config.model_dump(mode="json"), sort_keys=False)
    assert "learning_rate: 0.0001" in text and "steps_per_epoch: 50" in text
    again = tmp_path / "again"
    again.mkdir()
    assert read_config(write(again, text)) == config


BAD_VALUES = [
    ("output", None, "output"),
    ("training", [], "training"),
    ("training.0.weight", 0, "training.0.weight"),
    ("training.0.weight", float("nan"), "training.0.weight"),
    ("training.0.wieght", 1, "training.0.wieght"),
    ("classes", [], "classes"),
    ("classes.0.labels", [], "classes.0.labels"),
    ("classes.0.color", [0, 0, 256], "classes.0.color.2"),
    ("classes.0.type_code", None, "classes.0.type_code"),
    ("network.name", "VNet", "network.name"),
    ("network.arguments", [1], "network.arguments"),
    ("spacing_mm", [2, 2], "spacing_mm.2"),
    ("spacing_mm", [2, 0, 2], "spacing_mm.1"),
    ("spacing_mm", [2, float("inf"), 2], "spacing_mm.1"),
    ("intensity.low", float("nan"), "intensity.low"),
    ("intensity", {"low": 300, "high": 200}, "intensity"),
    ("intensity", {"mean": 20}, "intensity"),
    ("intensity", {"mean": 20, "sd": 0}, "intensity"),
    ("augmentation.noise", 1.5, "augmentation.noise"),
    ("augmentation.scale", 1.0, "augmentation.scale"),
    ("augmentation.rotation", 3, "augmentation.rotation"),
    ("optimizer", "lion", "optimizer"),
    ("learning_rate", -1e-4, "learning_rate"),
    ("learning_rate", float("inf"), "learning_rate"),
    ("learning_rate", "fast", "learning_rate"),
    ("schedule", "linear", "schedule"),
    ("batch_size", 0, "batch_size"),
    ("batch_size", 1.5, "batch_size"),
    ("gradient_averaging", 0, "gradient_averaging"),
    ("cross_entropy", -1, "cross_entropy"),
    ("epochs", 0, "epochs"),
    ("steps_per_epoch", 0, "steps_per_epoch"),
    ("validate_every", 0, "validate_every"),
    ("seed", -1, "seed"),
    ("workers", -1, "workers"),
    ("epoch", 3, "epoch"),
    ("training.0.phantoms", {"count": 2}, "training.0"),
    ("training", [{"weight": 1}], "training.0"),
    ("training", [{"phantoms": {"count": 0}}], "training.0.phantoms.count"),
    ("training.0.part", "test", "training.0.part"),
    ("left_out", ["liver"], "configuration"),
    ("left_out", ["spleen"], "configuration"),
    ("initial_match", "some", "initial_match"),
    ("momentum", 1.0, "momentum"),
    ("ema", 1.0, "ema"),
    ("loss", "focal", "loss"),
    ("mixed_precision", "fp8", "mixed_precision"),
    ("report.attention_epochs", [0], "report.attention_epochs.0"),
    ("loader_memory_mib", 0, "loader_memory_mib"),
]


@pytest.mark.parametrize(("path", "value", "key"), BAD_VALUES, ids=[f"{p}={v}" for p, v, _ in BAD_VALUES])
def test_bad_value_is_refused_with_file_and_key(tmp_path: Path, path: str, value: Any, key: str) -> None:
    file = write(tmp_path, changed(path, value))
    with pytest.raises(ConfigurationError) as caught:
        read_config(file)
    assert str(caught.value).startswith(f"{file}: '{key}': ")


@pytest.mark.parametrize(
    ("given", "loss", "weight"),
    [
        ({}, "dice", 0.0),
        ({"cross_entropy": 0.5}, "dice_cross_entropy", 0.5),
        ({"loss": "dice_cross_entropy"}, "dice_cross_entropy", 1.0),
        ({"loss": "cross_entropy"}, "cross_entropy", 1.0),
        ({"loss": "dice", "cross_entropy": 0}, "dice", 0.0),
    ],
)
def test_loss_and_the_weight_of_cross_entropy_follow_from_each_other(
    tmp_path: Path, given: dict[str, Any], loss: str, weight: float
) -> None:
    config = read_config(write(tmp_path, MINIMAL | given))
    assert (config.loss, config.cross_entropy) == (loss, weight)


@pytest.mark.parametrize("given", [{"loss": "dice", "cross_entropy": 1}, {"loss": "cross_entropy", "cross_entropy": 0}])
def test_loss_that_contradicts_the_weight_of_cross_entropy_is_refused(tmp_path: Path, given: dict[str, Any]) -> None:
    with pytest.raises(ConfigurationError, match=f"loss '{given['loss']}' does not go with a weight"):
        read_config(write(tmp_path, MINIMAL | given))


@pytest.mark.parametrize(("text", "meant"), [("off", "off"), ("on", "auto"), ("bf16", "bf16"), ("'off'", "off")])
def test_precision_may_be_given_as_yamls_words_for_yes_and_no(tmp_path: Path, text: str, meant: str) -> None:
    path = write(tmp_path, yaml.safe_dump(MINIMAL) + f"mixed_precision: {text}\n")
    assert read_config(path).mixed_precision == meant


def test_left_out_classes_go_without_weight_decay_which_would_change_them(tmp_path: Path) -> None:
    classes = [MINIMAL["classes"][0], SECOND_CLASS]
    document = MINIMAL | {"classes": classes, "left_out": ["pancreas"]}
    assert [item.name for item in read_config(write(tmp_path, document)).trained_classes] == ["spleen"]
    with pytest.raises(ConfigurationError, match="weight_decay would change the output nodes"):
        read_config(write(tmp_path, document | {"weight_decay": 0.1}))


def test_source_takes_the_part_of_the_split_that_it_is_listed_under(tmp_path: Path) -> None:
    source = {"dataset": "all.json", "split": "splits.json", "fold": 2}
    config = read_config(write(tmp_path, MINIMAL | {"training": [source], "validation": [source]}))
    assert (config.training[0].part, config.validation[0].part) == ("training", "validation")
    assert config.training[0].split == tmp_path / "splits.json"


def test_data_may_start_at_another_folder(tmp_path: Path) -> None:
    source = {"dataset": "set/all.json", "split": "splits.json"}
    config = read_config(write(tmp_path, MINIMAL | {"training": [source]}), data=tmp_path / "data")
    assert config.training[0].dataset == tmp_path / "data/set/all.json"
    assert config.training[0].split == tmp_path / "data/splits.json"
    assert config.output == tmp_path / "runs/first"


@pytest.mark.parametrize("crop", [(96, 160, 100), (16, 32, 32)])
def test_crop_that_the_network_cannot_take_is_refused_with_the_rule(tmp_path: Path, crop: tuple[int, ...]) -> None:
    with pytest.raises(ConfigurationError, match="crop .* multiple of 16 and at least 32"):
        read_config(write(tmp_path, MINIMAL | {"crop": list(crop)}))


@pytest.mark.parametrize(
    ("second", "message"),
    [
        (SECOND_CLASS | {"name": "spleen"}, "class name 'spleen' occurs twice"),
        (SECOND_CLASS | {"labels": ["pancreas", "spleen"]}, "label 'spleen' occurs twice"),
    ],
)
def test_classes_that_share_a_name_or_a_label_are_refused(tmp_path: Path, second: dict[str, Any], message: str) -> None:
    with pytest.raises(ConfigurationError, match=message):
        read_config(write(tmp_path, MINIMAL | {"classes": [MINIMAL["classes"][0], second]}))


def test_yaml_error_names_its_line(tmp_path: Path) -> None:
    file = write(tmp_path, "output: runs\nseed: 1\ntraining: [\nclasses: }\n")
    with pytest.raises(ConfigurationError, match=r"config\.yaml: not valid YAML: .*line 4, column"):
        read_config(file)


@pytest.mark.parametrize("text", ["", "just words", "- a\n- list\n"])
def test_yaml_without_keys_is_refused(tmp_path: Path, text: str) -> None:
    with pytest.raises(ConfigurationError, match=r"config\.yaml: expected keys and values"):
        read_config(write(tmp_path, text))


def test_yaml_that_asks_for_python_objects_is_refused_and_runs_nothing(tmp_path: Path) -> None:
    created = tmp_path / "created"
    with pytest.raises(ConfigurationError, match="not valid YAML"):
        read_config(write(tmp_path, f"output: !!python/object/apply:os.system ['touch {created}']\n"))
    assert not created.exists()


def test_missing_and_binary_files_are_refused_with_their_name(tmp_path: Path) -> None:
    with pytest.raises(ConfigurationError, match=r"none\.yaml: cannot be read \(No such file"):
        read_config(tmp_path / "none.yaml")
    (tmp_path / "binary.yaml").write_bytes(b"\xff\xfe\x00\x01\x80")
    with pytest.raises(ConfigurationError, match=r"binary\.yaml: not valid YAML"):
        read_config(tmp_path / "binary.yaml")


def test_missing_key_is_named(tmp_path: Path) -> None:
    document = {key: value for key, value in MINIMAL.items() if key != "output"}
    with pytest.raises(ConfigurationError, match="'output': Field required"):
        read_config(write(tmp_path, document))


def test_all_that_is_wrong_is_said_at_once_with_its_lines(tmp_path: Path) -> None:
    file = write(tmp_path, yaml.safe_dump(MINIMAL) + "epochs: 0\naugmentation:\n  noise: 2\n")
    lines = file.read_text(encoding="utf-8").splitlines()
    epochs, noise = lines.index("epochs: 0") + 1, lines.index("  noise: 2") + 1
    with pytest.raises(ConfigurationError) as caught:
        read_config(file)
    text = str(caught.value)
    assert "'epochs': " in text and f"(line {epochs})" in text
    assert "'augmentation.noise': " in text and f"(line {noise})" in text


def test_wrong_value_of_an_extended_file_is_said_with_that_file(tmp_path: Path) -> None:
    (tmp_path / "base.yaml").write_text("seed: -1\n" + yaml.safe_dump(MINIMAL), encoding="utf-8")
    with pytest.raises(ConfigurationError, match=r"'seed': .* \(base\.yaml, line 1\)"):
        read_config(write(tmp_path, "extends: base.yaml\nepochs: 3\n"))


def test_key_that_is_given_twice_is_refused_with_its_line(tmp_path: Path) -> None:
    text = "seed: 1\n" + yaml.safe_dump(MINIMAL) + "seed: 2\n"
    line = text.splitlines().index("seed: 2") + 1
    with pytest.raises(ConfigurationError, match=f"'seed' is given twice .*line {line}"):
        read_config(write(tmp_path, text))


def organ(name: str, labels: list[str], meaning: str = "Kidney") -> dict[str, Any]:
    return MINIMAL["classes"][0] | {"name": name, "labels": labels, "type_meaning": meaning}


ONE_SIDED = [
    organ("kidney", ["kidney_left"]),
    organ("kidney_right", ["kidney_right"]),
    organ("Left kidney", ["2"]),
    organ("kidney", ["2"], meaning="Right kidney"),
    organ("kidney", ["KidneyLeft"]),
    organ("kidney", ["kidney_L"]),
    organ("organs", ["kidney_left", "kidney_right", "adrenal_left"]),
]


@pytest.mark.parametrize("item", ONE_SIDED, ids=[f"{c['name']}={'+'.join(c['labels'])}" for c in ONE_SIDED])
def test_mirrored_crops_are_refused_where_a_class_is_one_side_alone(tmp_path: Path, item: dict[str, Any]) -> None:
    document = MINIMAL | {"classes": [item]}
    with pytest.raises(ConfigurationError, match=f"axial_flip: .* class '{item['name']}' tells apart; set it to 0"):
        read_config(write(tmp_path, document | {"augmentation": {"axial_flip": 0.5}}))
    assert read_config(write(tmp_path, document)).augmentation.axial_flip == 0


@pytest.mark.parametrize(
    "labels",
    [["kidney_right", "kidney_left"], ["LeftKidney", "RightKidney"], ["kidney L", "Kidney r"], ["vertebra_L1", "aorta"],
     ["bright_liver"]],
)  # fmt: skip
def test_mirrored_crops_are_allowed_where_classes_have_both_sides_or_none(tmp_path: Path, labels: list[str]) -> None:
    document = MINIMAL | {"classes": [organ("organ", labels)], "augmentation": {"axial_flip": 0.5}}
    assert read_config(write(tmp_path, document)).augmentation.axial_flip == 0.5


def test_setting_for_repeatable_results_does_not_promise_them_on_a_gpu() -> None:
    description = TrainingConfig.model_fields["deterministic"].description or ""
    assert "bit for bit on the CPU alone" in description and "also on a GPU" not in description
