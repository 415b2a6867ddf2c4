from __future__ import annotations

import json
import pickle
import re
import struct
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from AGTraining import bundle
from AGTraining.bundle_file import LARGEST_HEADER, read_document
from AGTraining.errors import BundleError
from AGTraining.labels import output_labels

CLASS = {"name": "spleen", "type_code": "78961009", "type_meaning": "Spleen", "color": [157, 108, 162]}
DOCUMENT = {
    "format_version": 1,
    "name": "tiny – größer",
    "network": "AttentionUNet",
    "licence": "Apache-2.0",
    "classes": [CLASS],
}


def write(path: Path, metadata: Any, tensors: dict[str, Any] | None = None, weights: bytes = b"\0" * 8) -> Path:
    """A .safetensors file made by hand."""
    header: dict[str, Any] = (
        {"w": {"dtype": "F16", "shape": [4], "data_offsets": [0, 8]}} if tensors is None else tensors
    )
    if metadata is not None:
        header = {"__metadata__": metadata} | header
    text = json.dumps(header).encode()
    path.write_bytes(struct.pack("<Q", len(text)) + text + weights)
    return path


def model(path: Path, **changes: Any) -> Path:
    return write(path, {"AGTraining": json.dumps(DOCUMENT | changes)})


def test_starter_models_document_is_the_one_that_the_engine_reads(repository: Path) -> None:
    path = repository / "Resources" / "Models" / "abdomen-ct-starter.safetensors"
    document, info = read_document(path), bundle.read_info(path)
    assert bundle.BundleInfo.model_validate(document) == info
    assert output_labels(document["classes"]) == info.output_labels


def test_fields_that_a_description_may_leave_out_are_those_of_the_engine(tmp_path: Path) -> None:
    document = read_document(model(tmp_path / "m.safetensors", spacing_mm=[1, 1, 1], intensity={}))
    info = bundle.BundleInfo.model_validate(DOCUMENT | {"spacing_mm": [1, 1, 1], "intensity": {}})
    assert (document["task"], document["provenance"], document["metrics"]) == (info.task, {}, {})
    assert document["classes"] == [organ.model_dump(mode="json") for organ in info.classes]


def test_needs_nothing_but_the_standard_library(tmp_path: Path, repository: Path) -> None:
    path = model(tmp_path / "m.safetensors")
    code = f"import sys; sys.path.insert(0, {str(repository)!r}); from AGTraining.bundle_file import read_document; "
    code += f"print(read_document({str(path)!r})['licence'])"
    # -S: no site-packages.
    process = subprocess.run([sys.executable, "-I", "-S", "-c", code], capture_output=True, text=True, check=True)
    assert process.stdout.strip() == "Apache-2.0"


@pytest.mark.parametrize("share", [0.0, 0.01, 0.3, 0.9, 0.9999])
def test_truncated_file_is_refused_with_its_name(tmp_path: Path, repository: Path, share: float) -> None:
    content = (repository / "Resources" / "Models" / "abdomen-ct-starter.safetensors").read_bytes()
    path = tmp_path / "cut.safetensors"
    path.write_bytes(content[: int(len(content) * share)])
    with pytest.raises(BundleError, match=r"cut\.safetensors: not a complete \.safetensors model file"):
        read_document(path)


def test_file_with_something_appended_is_refused(tmp_path: Path) -> None:
    path = model(tmp_path / "m.safetensors")
    path.write_bytes(path.read_bytes() + b"more")
    with pytest.raises(BundleError, match="not a complete"):
        read_document(path)


def test_header_longer_than_the_limit_is_not_read(tmp_path: Path) -> None:
    path = tmp_path / "huge.safetensors"
    with path.open("wb") as file:
        file.write(struct.pack("<Q", LARGEST_HEADER + 1) + b"{}")
        file.truncate(LARGEST_HEADER + 100)  # sparse: takes no room
    with pytest.raises(BundleError, match="not a complete"):
        read_document(path)


@pytest.mark.parametrize(
    "tensors",
    [
        {"w": 1},
        {"w": {}},
        {"w": {"data_offsets": [8]}},
        {"w": {"data_offsets": [0, "x"]}},
        {"w": {"data_offsets": [0, 1e400]}},
    ],
    ids=str,
)
def test_header_without_places_of_the_tensors_is_refused(tmp_path: Path, tensors: dict[str, Any]) -> None:
    path = write(tmp_path / "odd.safetensors", {"AGTraining": json.dumps(DOCUMENT)}, tensors)
    with pytest.raises(BundleError, match=r"odd\.safetensors: not a complete"):
        read_document(path)


def test_header_that_is_no_object_is_refused(tmp_path: Path) -> None:
    for text in (b"[]", b"[" * 100_000, b"\xff\xfe\xfd"):
        path = tmp_path / "odd.safetensors"
        path.write_bytes(struct.pack("<Q", len(text)) + text)
        with pytest.raises(BundleError, match="not a complete"):
            read_document(path)


def test_pickled_file_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "model.pt"
    path.write_bytes(pickle.dumps({"weights": list(range(100))}))
    with pytest.raises(BundleError, match=r"model\.pt: .* pickled \.pt and \.pth files are not read"):
        read_document(path)


def test_missing_file_and_folder_are_refused(tmp_path: Path) -> None:
    for path in (tmp_path / "none.safetensors", tmp_path):
        with pytest.raises(BundleError, match=re.escape(f"{path}: no such model file")):
            read_document(path)


def test_file_that_cannot_be_looked_for_is_an_error_with_its_name(tmp_path: Path) -> None:
    path = tmp_path / ("x" * 300 + ".safetensors")
    with pytest.raises(BundleError, match=r"x\.safetensors: the model file cannot be read \(File name too long\)"):
        read_document(path)


@pytest.mark.parametrize("metadata", [None, {"format": "pt"}], ids=str)
def test_safetensors_of_another_program_is_refused(tmp_path: Path, metadata: Any) -> None:
    path = write(tmp_path / "other.safetensors", metadata)
    with pytest.raises(BundleError, match=r"other\.safetensors: .* not a model of AGTraining"):
        read_document(path)


BAD_DOCUMENTS: list[tuple[dict[str, Any], str]] = [
    ({"format_version": 2}, "model format 2; this version reads format 1. Update the extension"),
    ({"format_version": None}, "model format None"),
    ({"task": "poetry"}, "made for the task 'poetry', which this version does not know"),
    ({"name": 3}, "description is not valid .'name' is no text"),
    ({"licence": None}, "description is not valid .'licence' is no text"),
    ({"classes": []}, "description is not valid .'classes' is empty"),
    ({"classes": {}}, "description is not valid .'classes' is no JSON array"),
    ({"classes": [3]}, "an entry of 'classes' is no JSON object"),
    ({"classes": [CLASS | {"type_code": 7}]}, "'type_code' of a class is no text"),
    ({"classes": [CLASS | {"paired": "yes"}]}, "'paired' of spleen is neither true nor false"),
    ({"classes": [CLASS | {"color": [1, 2]}]}, "color of spleen is not three numbers"),
    ({"classes": [CLASS | {"color": [1, 2, 256]}]}, "color of spleen is not three numbers"),
    ({"classes": [CLASS | {"usual_ml": [1]}]}, "'usual_ml' of spleen is not two numbers"),
    ({"metrics": []}, "'metrics' is no JSON object"),
]


@pytest.mark.parametrize(("changes", "message"), BAD_DOCUMENTS, ids=[str(list(c.items())) for c, _ in BAD_DOCUMENTS])
def test_document_that_does_not_fit_is_refused(tmp_path: Path, changes: dict[str, Any], message: str) -> None:
    with pytest.raises(BundleError, match=rf"m\.safetensors: .*{message}"):
        read_document(model(tmp_path / "m.safetensors", **changes))


@pytest.mark.parametrize("text", ["", "[1, 2]", '"text"', "{", "[" * 100_000, 5], ids=lambda text: str(text)[:9])
def test_document_that_is_no_json_object_is_refused(tmp_path: Path, text: Any) -> None:
    path = write(tmp_path / "odd.safetensors", {"AGTraining": text})
    with pytest.raises(BundleError, match=r"odd\.safetensors: the model's description is not valid"):
        read_document(path)


def test_any_flipped_bit_in_a_header_is_read_or_refused_with_a_sentence(tmp_path: Path) -> None:
    content = model(tmp_path / "m.safetensors").read_bytes()
    path, refused = tmp_path / "altered.safetensors", 0
    for place in range(len(content) - 8):
        altered = bytearray(content)
        altered[place] ^= 1 << (place % 8)
        path.write_bytes(altered)
        try:
            read_document(path)
        except BundleError as error:
            refused += "altered.safetensors" in str(error)
    assert refused > 100
