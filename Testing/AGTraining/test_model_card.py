from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from AGTraining import bundle
from AGTraining.cli import main
from AGTraining.model_card import model_card, parameter_count
from AGTraining.networks import AttentionUNet

ARGUMENTS = {"num_classes": 3, "features": [2, 3, 4]}


def information(**changes: Any) -> bundle.BundleInfo:
    pancreas = {"name": "pancreas", "type_code": "15776009", "type_meaning": "Pancreas", "color": (249, 180, 111)}
    kidney = {"name": "kidney", "type_code": "64033007", "type_meaning": "Kidney", "color": (185, 102, 83)}
    values = {
        "name": "tiny",
        "network": "AttentionUNet",
        "arguments": ARGUMENTS,
        "spacing_mm": (2, 2, 2.5),
        "intensity": {"low": -150, "high": 250, "mean": 40, "sd": 90.5},
        "classes": [{**pancreas, "usual_ml": (15, 200)}, {**kidney, "paired": True}],
        "licence": "CC BY 4.0",
    }
    return bundle.BundleInfo.model_validate(values | changes)


def section(card: str, title: str) -> str:
    return card.split(f"## {title}\n\n")[1].split("\n\n## ")[0]


def test_every_output_label_has_its_code_and_usual_volume() -> None:
    assert section(model_card(information()), "Classes").splitlines() == [
        "| Label | Organ        | SNOMED CT                       | Usual volume |",
        "|-------|--------------|---------------------------------|--------------|",
        "| 1     | pancreas     | 15776009 Pancreas               | 15–200 ml    |",
        "| 2     | right kidney | 64033007 Kidney, 24028007 Right |              |",
        "| 3     | left kidney  | 64033007 Kidney, 7771000 Left   |              |",
        "",
        "Right and left kidney are one class of the network, told apart by anatomy.",
    ]


def test_parameters_are_counted_in_the_network() -> None:
    network = AttentionUNet()
    assert parameter_count(network) == 6_473_322  # the authors' released network
    assert "6,473,322 parameters (6.47 M)" in section(model_card(information(), network), "Network")
    assert "parameters" not in section(model_card(information()), "Network")


def test_input_is_told_as_a_program_must_make_it() -> None:
    text = section(model_card(information(mirror_axes=("x",))), "Input and output")
    assert "2 × 2 × 2.5 mm" in text
    assert "clipped to -150…250 HU, then z-scores by mean 40 HU and SD 90.5 HU" in text
    assert "Logits: (N, 3, D, H, W); background, pancreas, kidney" in text
    assert "Mirrored images along x" in text


def test_intensities_without_a_mean_are_the_images_own() -> None:
    text = section(model_card(information(intensity={"low": -200, "high": 300})), "Input and output")
    assert "z-scores by the image's own mean and SD" in text


def test_training_lists_data_settings_and_start() -> None:
    provenance = {
        "training": "In one night.",
        "initial_weights": {"name": "u-net", "file": "u-net.safetensors 5 abc", "provenance": {}},
        "data": [
            {"name": "CT-82", "licence": "CC BY 3.0", "cases": [f"case{n}" for n in range(13)]},
            {"name": "phantom", "licence": "", "cases": []},
        ],
        "commit": "",
        "seed": 0,
        "configuration": {"crop": [96, 160, 160], "learning_rate": 1e-4},
    }
    lines = section(model_card(information(provenance=provenance)), "Training").splitlines()
    cases = ", ".join(f"case{n}" for n in range(12))
    assert lines == [
        "In one night.",
        "",
        "- Seed: 0",
        "- Configuration: crop 96 × 160 × 160, learning_rate 0.0001",
        "- Started from: u-net (u-net.safetensors 5 abc)",
        f"- Data: CT-82, 13 cases ({cases}, …); licence CC BY 3.0",
        "- Data: phantom, cases unknown; licence unknown",
    ]


def test_frames_are_counted_and_the_teacher_is_named() -> None:
    frames = {
        "name": "planes",
        "licence": "CC BY 4.0",
        "frames": 40,
        "labelled": 30,
        "patients": 9,
        "labels": {"a": 30},
    }
    provenance = {"teacher": {"name": "sononet", "sha256": "4f0c"}, "data": [frames], "validation_data": [frames]}
    lines = section(model_card(information(provenance=provenance)), "Training").splitlines()
    counted = "planes, 40 frames of 9 patients (30 of them with their labels); licence CC BY 4.0"
    assert lines == ["- Taught by: sononet (SHA-256 4f0c)", f"- Data: {counted}", f"- Validated on: {counted}"]


def test_patients_that_are_not_known_are_not_counted() -> None:
    frames = {"name": "planes", "licence": "", "frames": 40, "labelled": 40, "patients": None}
    lines = section(model_card(information(provenance={"data": [frames]})), "Training")
    assert "- Data: planes, 40 frames of unknown patients; licence unknown" in lines


@pytest.mark.parametrize("data", ["six scans", ["a", "b"]])
def test_data_in_other_words_are_kept(data: Any) -> None:
    text = section(model_card(information(provenance={"data": data, "initial_weights": "ours"})), "Training")
    assert f"Data: {data if isinstance(data, str) else 'a, b'}" in text
    assert "Started from: ours" in text


def test_figures_become_tables() -> None:
    metrics = {
        "measure": "DSC",
        "validation_dsc": {"pancreas": 0.71234, "kidney": 0.9},
        "unseen": {"case1": {"pancreas": 0.5}, "case2": {"pancreas": 0.6, "kidney": 1}},
    }
    assert section(model_card(information(metrics=metrics)), "Measured").splitlines() == [
        "Measure: DSC",
        "",
        "Validation dsc:",
        "",
        "| pancreas | kidney |",
        "|----------|--------|",
        "| 0.7123   | 0.9    |",
        "",
        "Unseen:",
        "",
        "|       | pancreas | kidney |",
        "|-------|----------|--------|",
        "| case1 | 0.5      | –      |",
        "| case2 | 0.6      | 1      |",
    ]


def test_model_of_which_nothing_is_known_says_so() -> None:
    card = model_card(information(provenance={}, metrics={}))
    assert section(card, "Training") == "Nothing is known of how it was trained."
    assert section(card, "Measured").startswith("Nothing was measured")


@pytest.mark.parametrize("metrics", [{"a": {}}, {"a": []}, {"a": {"b": {"c": {"d": 1}}}}, {"a": None}, {"a": "x|y\nz"}])
def test_any_figures_can_be_told(metrics: dict[str, Any]) -> None:
    assert section(model_card(information(metrics=metrics)), "Measured").startswith("A: ")


def test_a_bar_in_a_name_does_not_break_the_table() -> None:
    text = section(model_card(information(metrics={"DSC": {"left|right": 0.5}})), "Measured")
    assert r"| left\|right |" in text


def test_limits_follow_from_the_classes() -> None:
    assert "usual one (pancreas) is reported" in section(model_card(information()), "Limits")
    assert "no basis for a diagnosis" in section(model_card(information()), "Limits")


def test_description_of_a_damaged_model_is_refused(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = tmp_path / "tiny.safetensors"
    bundle.save(path, AttentionUNet(num_classes=3, features=(2, 3, 4)), information())
    assert main(["describe", str(path)]) == 0
    assert capsys.readouterr().out.startswith("# tiny\n\nSegments CT scans: pancreas, right kidney, left kidney.")
    content = bytearray(path.read_bytes())
    content[-1] ^= 1
    path.write_bytes(content)
    assert main(["describe", str(path)]) == 1
    assert "was altered" in capsys.readouterr().err
