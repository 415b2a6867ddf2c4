from __future__ import annotations

import json
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from AGTraining.data.dataset import read_dataset
from AGTraining.data.importers.case_folders import import_case_folders
from AGTraining.errors import ConfigurationError

MANIFEST: dict[str, Any] = {
    "label_ids": {"pancreas": 1, "spleen": 2, "liver": 5},
    "target_ids": [1, 2],
    "cases": {
        "first": {"licence": "CC BY 3.0", "complete_targets": ["pancreas", "spleen"]},
        "second": {"licence": "CC0", "complete_targets": ["spleen"]},
        "third": {"licence": "CC0", "complete_targets": []},
    },
}


@pytest.fixture
def cases(tmp_path: Path) -> Path:
    folder = tmp_path / "public" / "ct"
    for name in MANIFEST["cases"]:
        (folder / name).mkdir(parents=True)
        (folder / name / "ct.nii.gz").touch()
        (folder / name / "labels.nii.gz").touch()
    (folder / "manifest.json").write_text(json.dumps(MANIFEST), encoding="utf-8")
    return folder


def test_imported_cases_are_read_as_a_data_set(cases: Path, tmp_path: Path) -> None:
    output = tmp_path / "mine" / "train.json"
    assert import_case_folders(cases, output) == 3
    dataset = read_dataset(output)
    assert dataset.labels == {"background": 0, "pancreas": 1, "spleen": 2, "liver": 5}
    assert [case.image.resolve() for case in dataset.cases] == [
        cases / name / "ct.nii.gz" for name in MANIFEST["cases"]
    ]
    assert [case.name for case in dataset.cases] == ["first_ct", "second_ct", "third_ct"]
    assert dataset.licence == "first: CC BY 3.0; second: CC0; third: CC0"


def test_targets_that_are_not_complete_are_marked(cases: Path, tmp_path: Path) -> None:
    import_case_folders(cases, tmp_path / "train.json")
    found = [set(case.incomplete) for case in read_dataset(tmp_path / "train.json").cases]
    assert found == [set(), {"pancreas"}, {"pancreas", "spleen"}]


def test_paths_hold_when_both_folders_move_together(cases: Path, tmp_path: Path) -> None:
    import_case_folders(cases, tmp_path / "public" / "train.json")
    shutil.move(tmp_path / "public", tmp_path / "elsewhere")
    assert len(read_dataset(tmp_path / "elsewhere" / "train.json").cases) == 3


def test_cases_can_be_left_out_or_chosen(cases: Path, tmp_path: Path) -> None:
    assert import_case_folders(cases, tmp_path / "a.json", exclude=("second",)) == 2
    assert [case.name for case in read_dataset(tmp_path / "a.json").cases] == ["first_ct", "third_ct"]
    assert import_case_folders(cases, tmp_path / "b.json", only=("second",)) == 1
    assert [case.name for case in read_dataset(tmp_path / "b.json").cases] == ["second_ct"]


@pytest.mark.parametrize("argument", ["exclude", "only"])
def test_unknown_case_is_refused_by_name(cases: Path, tmp_path: Path, argument: str) -> None:
    with pytest.raises(ConfigurationError, match=r"manifest\.json: has no case 'fourth'"):
        import_case_folders(cases, tmp_path / "train.json", **{argument: ("first", "fourth")})
    assert not (tmp_path / "train.json").exists()


@pytest.mark.parametrize(
    "text", ["{", "{}", "[]", '{"label_ids": {}, "target_ids": []}', json.dumps(MANIFEST | {"cases": {"a": {}}}), None]
)
def test_folder_without_a_valid_manifest_is_refused(cases: Path, tmp_path: Path, text: str | None) -> None:
    if text is None:
        (cases / "manifest.json").unlink()
    else:
        (cases / "manifest.json").write_text(text, encoding="utf-8")
    with pytest.raises(ConfigurationError, match=r"manifest\.json: no manifest of case folders"):
        import_case_folders(cases, tmp_path / "train.json")


def test_command_line_imports_the_public_scans(shared_data: Path, tmp_path: Path) -> None:
    output = tmp_path / "train.json"
    command = [sys.executable, "-m", "AGTraining.data.importers.case_folders", shared_data / "ct", output]
    done = subprocess.run([*command, "--exclude", "crlm1006"], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    dataset = read_dataset(output)
    incomplete = {case.name.removesuffix("_ct"): set(case.incomplete) for case in dataset.cases}
    assert done.stdout.strip().endswith(f"{len(incomplete)} cases")
    assert "crlm1006" not in incomplete
    assert "pancreas" in incomplete["lits0"] and "pancreas" in incomplete["cptac_pda_00189"]
    assert [dataset.labels[name] for name in ("pancreas", "spleen", "kidney_right", "kidney_left")] == [1, 2, 3, 4]
