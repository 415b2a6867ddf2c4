"""Paths on the command line: what is refused before any work is done, and where files go."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from AGTraining import batch
from AGTraining.cli import main
from AGTraining.imaging.files import read_volume, write_volume
from AGTraining.imaging.volume import Volume
from Testing.AGTraining.imaging.test_dicom import write_series
from Testing.AGTraining.test_cli import save_model

REPOSITORY = Path(__file__).resolve().parents[2]


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return save_model(tmp_path_factory.mktemp("model") / "untrained.safetensors")


@pytest.fixture
def scan(tmp_path: Path) -> Path:
    """A small body of soft tissue in air."""
    array = np.full((20, 40, 48), -1000, np.int16)
    array[:, 5:35, 6:42] = np.random.default_rng(0).normal(40, 60, (20, 30, 36))
    path = tmp_path / "scans" / "p1.nii.gz"
    write_volume(Volume(array, np.diag([4.0, 4.0, 6.0, 1.0])), path)
    return path


@pytest.fixture
def no_reading(monkeypatch: pytest.MonkeyPatch) -> None:
    """A scan that is read was not refused in time."""

    def read(*arguments: object) -> None:
        raise AssertionError("the scan was read")

    monkeypatch.setattr(batch, "read_volume_with_messages", read)


def environment(**changes: str) -> dict[str, str]:
    return {**os.environ, "PYTHONUTF8": "0", **changes}


def run(*arguments: str | Path, **options: Any) -> subprocess.CompletedProcess[bytes]:
    command = [sys.executable, "-m", "AGTraining", *map(str, arguments)]
    return subprocess.run(command, capture_output=True, cwd=REPOSITORY, check=False, **options)


@pytest.mark.parametrize("options", [[], ["--overwrite"]])
def test_input_folder_is_never_the_result_folder(
    tmp_path: Path, model: Path, capsys: pytest.CaptureFixture[str], options: list[str]
) -> None:
    folder = tmp_path / "data" / "p1"
    write_series(folder)
    own = {"p1_ct.nii.gz": b"CT", "p1_labels.nii.gz": b"by hand", "p1_volumes.csv": b"table"}
    for name, content in own.items():
        (folder / name).write_bytes(content)
    before = {path: path.read_bytes() for path in folder.iterdir()}
    assert main(["segment", str(folder), "--out", str(tmp_path / "data"), "--model", str(model), *options]) == 1
    errors = capsys.readouterr().err
    assert "belongs to the input" in errors and "--overwrite" not in errors
    assert {path: path.read_bytes() for path in folder.iterdir()} == before
    assert [path.name for path in (tmp_path / "data").iterdir()] == ["p1"]


def test_results_never_go_into_the_folder_of_another_input(
    tmp_path: Path, scan: Path, model: Path, no_reading: None, capsys: pytest.CaptureFixture[str]
) -> None:
    inner = scan.parent / "p1" / "p1_labels.nii.gz"
    write_volume(read_volume(scan), inner)
    arguments = ["segment", str(scan), str(inner), "--out", str(scan.parent), "--model", str(model), "--overwrite"]
    assert main(arguments) == 1
    assert "belongs to the input" in capsys.readouterr().err


def test_home_folder_is_meant_in_all_options(tmp_path: Path, scan: Path, model: Path) -> None:
    (tmp_path / "model").symlink_to(model)
    home = environment(HOME=str(tmp_path), USERPROFILE=str(tmp_path))
    code = "import sys; from AGTraining.cli import main; sys.exit(main(sys.argv[1:]))"
    command = [sys.executable, "-c", code, "segment", scan, "--out=~/results", "--model=~/model", "--device=cpu"]
    result = subprocess.run(
        [*map(str, command), "--attention", "--json"], capture_output=True, check=False, cwd=tmp_path / "scans",
        env={**home, "PYTHONPATH": str(REPOSITORY)},
    )  # fmt: skip
    assert result.returncode == 0, result.stderr
    (case,) = json.loads(result.stdout)["cases"]
    assert set(map(Path, case["files"].values())) == set((tmp_path / "results" / "p1").iterdir())
    assert len(case["files"]) == 7
    assert [path.name for path in scan.parent.iterdir()] == ["p1.nii.gz"]


def test_home_folder_is_meant_for_phantoms(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.setenv("USERPROFILE", str(tmp_path))
    assert main(["phantom", "--out=~/made", "--spacing", "9", "9", "9"]) == 0
    assert {path.name for path in (tmp_path / "made").iterdir()} == {"ct.nii.gz", "labels.nii.gz"}


def test_home_folder_is_meant_in_training(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from AGTraining.training import run as run_module

    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.setenv("USERPROFILE", str(tmp_path))
    given: list[object] = []

    def remember(path: Path, device: str, out: Path, data: Path, seed: int | None) -> run_module.RunResult:
        given.extend((path, out, data))
        return run_module.RunResult(out, out, "DSC", {})

    monkeypatch.setattr(run_module, "train_from_config", remember)
    assert main(["train", "~/a.yaml", "--out=~/run", "--data=~/scans"]) == 0
    assert given == [tmp_path / "a.yaml", tmp_path / "run", tmp_path / "scans"]


def test_messages_are_printed_whatever_the_encoding(tmp_path: Path, scan: Path, model: Path) -> None:
    """The input's name holds a minus sign and Greek, which cp1252 does not have."""
    shifted = tmp_path / "α−1024.nii.gz"
    volume = read_volume(scan)
    write_volume(volume.with_array((volume.array + 1024).clip(0).astype(np.uint16)), shifted)
    result = run(
        "segment", shifted, "--out", tmp_path / "out", "--model", model, "--device", "cpu",
        env=environment(PYTHONIOENCODING="cp1252"),
    )  # fmt: skip
    assert result.returncode == 0, result.stderr
    output = result.stdout.decode("cp1252")
    assert output.startswith("\\u03b1\\u22121024: ")
    assert "without their offset of -1024" in output
    assert (tmp_path / "out" / "α−1024" / "α−1024.seg.nrrd").is_file()


@pytest.mark.skipif(not Path("/proc/self").exists(), reason="needs a folder in which even root cannot write")
def test_output_folder_that_cannot_be_written_is_said_before_the_first_scan(
    scan: Path, model: Path, no_reading: None, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["segment", str(scan), str(scan), "--out", "/proc", "--model", str(model)]) == 1
    errors = capsys.readouterr().err
    assert errors.startswith("error: /proc: cannot hold the results") and errors.count("\n") == 1


def test_too_long_name_is_said_before_the_scan_is_read(
    tmp_path: Path, model: Path, no_reading: None, capsys: pytest.CaptureFixture[str]
) -> None:
    scan = tmp_path / ("x" * 240 + ".nii.gz")
    scan.write_bytes(b"some voxels")
    assert main(["segment", str(scan), "--out", str(tmp_path / "out"), "--model", str(model)]) == 1
    errors = capsys.readouterr().err
    assert "a shorter name" in errors and errors.count("\n") == 1
    assert list((tmp_path / "out").iterdir()) == []


@pytest.mark.skipif(not hasattr(os, "seteuid") or sys.platform == "win32", reason="needs users without rights")
def test_folder_without_permission_is_one_sentence(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    locked = tmp_path / "locked"
    locked.mkdir()
    (locked / "ct.nii.gz").write_bytes(b"voxels")
    locked.chmod(0)
    user = os.geteuid()
    try:
        if user == 0:
            os.seteuid(65534)
        code = main(["segment", str(locked / "ct.nii.gz"), "--out", str(tmp_path / "out")])
    finally:
        os.seteuid(user)
        locked.chmod(0o700)
    assert code == 1
    errors = capsys.readouterr().err
    assert "Permission denied" in errors and errors.count("\n") == 1
    assert "unforeseen" not in errors


@pytest.mark.parametrize("seed", ["-1", "1.5"])
def test_impossible_seed_is_wrong_usage(tmp_path: Path, capsys: pytest.CaptureFixture[str], seed: str) -> None:
    with pytest.raises(SystemExit) as end:
        main(["phantom", f"--seed={seed}", "--out", str(tmp_path / "made")])
    assert end.value.code == 2
    assert f"argument --seed: {seed}" in capsys.readouterr().err.replace("invalid seed value: ", "").replace("'", "")


@pytest.mark.parametrize("words", [["--attention"], ["--attention", "levels"], ["--attention", "gates"]])
def test_scan_may_follow_attention(tmp_path: Path, scan: Path, model: Path, words: list[str]) -> None:
    out = tmp_path / "out"
    assert main(["segment", *words, str(scan), "--out", str(out), "--model", str(model), "--device", "cpu"]) == 0
    names = {path.name for path in (out / "p1").iterdir()}
    expected = "p1_attention_level2_gate1.nii.gz" if "gates" in words else "p1_attention_level2.nii.gz"
    assert expected in names


def test_unknown_kind_of_attention_maps_says_what_there_is(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit):
        main(["segment", "--attention", "missing.nii.gz", "--out", "x"])
    assert "'missing.nii.gz' is neither levels nor gates, nor a scan that exists" in capsys.readouterr().err
