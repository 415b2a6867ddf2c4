from __future__ import annotations

import json

import jsonschema
import pytest
from AttentionSegmentationLib.ModelCatalogue import ModelCatalogue

DOWNLOAD = {
    "id": "larger",
    "title": "Larger",
    "task": "segmentation",
    "source": "download",
    "file": "larger.safetensors",
    "url": "https://example.org/larger.safetensors",
    "sha256": "0123456789abcdef" * 4,
    "sizeBytes": 25_000_000,
    "licence": "CC BY 4.0",
    "trainingData": "a data set",
    "performance": "DSC 0.9 on another one",
    "description": "A test.",
    "hasAttention": True,
    "classes": [{"name": "spleen", "type_code": "78961009", "type_meaning": "Spleen", "color": [157, 108, 162]}],
}


@pytest.fixture(scope="module")
def validator(repository):
    schema = json.loads((repository / "Resources" / "Models" / "catalogue.schema.json").read_text(encoding="utf-8"))
    jsonschema.Draft202012Validator.check_schema(schema)
    return jsonschema.Draft202012Validator(schema)


def test_catalogue_of_the_extension_is_valid(validator, repository):
    catalogue = json.loads((repository / "Resources" / "Models" / "catalogue.json").read_text(encoding="utf-8"))
    assert [error.message for error in validator.iter_errors(catalogue)] == []
    assert len({entry["id"] for entry in catalogue["models"]}) == len(catalogue["models"])


def test_download_that_is_valid_is_one_that_the_program_takes(validator, tmp_path):
    path = tmp_path / "catalogue.json"
    path.write_text(json.dumps({"models": [DOWNLOAD]}))
    assert validator.is_valid({"models": [DOWNLOAD]})
    assert [model.id for model in ModelCatalogue(path).models()] == ["larger"]
    assert ModelCatalogue(path).problems() == ()


@pytest.mark.parametrize("field", sorted(DOWNLOAD))
def test_no_field_of_a_download_may_be_left_out(validator, field):
    assert not validator.is_valid({"models": [{key: value for key, value in DOWNLOAD.items() if key != field}]})


@pytest.mark.parametrize(
    "changes",
    [
        {"id": "Larger one"},
        {"source": "user"},
        {"file": "../larger.safetensors"},
        {"file": "larger.pt"},
        {"url": "http://example.org/larger.safetensors"},
        {"sha256": "0123"},
        {"sizeBytes": 0},
        {"licence": " "},
        {"extra": 1},
        {"source": "bundled"},
        {"classes": []},
        {"classes": [DOWNLOAD["classes"][0] | {"color": [1, 2, 256]}]},
    ],
    ids=str,
)
def test_wrong_values_are_refused(validator, changes):
    assert not validator.is_valid({"models": [DOWNLOAD | changes]})


def test_planes_need_no_classes(validator):
    entry = {key: value for key, value in DOWNLOAD.items() if key != "classes"} | {"task": "planes"}
    assert validator.is_valid({"models": [entry]})


def test_conversion_is_one_that_the_program_knows_and_of_downloads_only(validator):
    planes = {key: value for key, value in DOWNLOAD.items() if key != "classes"} | {"task": "planes"}
    assert validator.is_valid({"models": [planes | {"convert": "sononet-npz"}]})
    assert not validator.is_valid({"models": [planes | {"convert": "magic"}]})
    fields = ("url", "sha256", "sizeBytes", "hasAttention")
    bundled = {key: value for key, value in planes.items() if key not in fields} | {"source": "bundled"}
    assert validator.is_valid({"models": [bundled]})
    assert not validator.is_valid({"models": [bundled | {"convert": "sononet-npz"}]})
