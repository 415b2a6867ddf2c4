"""The Makefile, run for real: what it hands over, what it shields, what it says when something is missing."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent.parent


@pytest.fixture
def make_here(tmp_path: Path):
    """Runs make in a folder with a blank in its name that holds the Makefile and the lock alone."""
    make = shutil.which("make")
    if make is None:
        pytest.skip("make is not on this machine")
    folder = tmp_path / "a check out"
    folder.mkdir()
    for name in ("Makefile", "requirements-dev.lock"):
        shutil.copy(ROOT / name, folder)

    def run(*arguments: str, environment: dict[str, str] | None = None) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            [make, *arguments],
            cwd=folder,
            env={"PATH": os.environ["PATH"]} if environment is None else environment,
            capture_output=True,
            encoding="utf-8",
            timeout=60,
        )

    run.folder = folder
    return run


def script(path: Path, text: str) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text, encoding="utf-8")
    path.chmod(0o755)
    return path


@pytest.fixture
def make_installed(make_here):
    """Make in a folder whose environment seems installed: its Python only records its arguments.

    The returned function gives those of the last call, and as `before` those of the call before it.
    """
    record = make_here.folder / "arguments.json"
    recorder = script(
        make_here.folder / "recorder.py",
        "import json, os, sys\n"
        "before = json.load(open('arguments.json'))['arguments'] if os.path.exists('arguments.json') else None\n"
        "record = {'arguments': sys.argv[1:], 'before': before, 'PYTHONPATH': os.environ.get('PYTHONPATH')}\n"
        "json.dump(record, open('arguments.json', 'w'))\n",
    )
    script(make_here.folder / ".venv/bin/python", f'#!/bin/sh\nexec "{sys.executable}" {recorder.name} "$@"\n')
    (make_here.folder / ".venv/.installed").touch()

    def run(*arguments: str, **variables: str) -> dict:
        done = make_here(*arguments, environment={"PATH": os.environ["PATH"], **variables})
        assert done.returncode == 0, done.stderr
        return json.loads(record.read_text(encoding="utf-8"))

    return run


@pytest.mark.parametrize("path", ["scan.nii.gz", "/a folder/scan 1.nrrd", 'it\'s "here".mha', "cost $HOME (1); ls"])
def test_make_segment_hands_paths_over_letter_by_letter(make_installed, path: str) -> None:
    ran = make_installed("segment", f"CT={path}", f"OUT=out of {path}")

    assert ran["arguments"] == ["-m", "AGTraining", "segment", path, "--out", f"out of {path}", "--attention"]


def test_make_takes_paths_from_the_environment_too(make_installed) -> None:
    ran = make_installed("segment", CT="a b.nii.gz", OUT="c $d")

    assert ran["arguments"] == ["-m", "AGTraining", "segment", "a b.nii.gz", "--out", "c $d", "--attention"]


def test_make_segment_without_a_scan_makes_the_sample_and_replaces_its_results(make_installed) -> None:
    ran = make_installed("segment")

    sample = "build/sample/phantom.nii.gz"
    assert ran["before"] == ["-m", "AGTraining", "phantom", "--out", sample]
    assert ran["arguments"] == ["-m", "AGTraining", "segment", sample, "--out", "results", "--attention", "--overwrite"]


def test_make_segment_passes_options_on(make_installed) -> None:
    ran = make_installed("segment", "CT=scan.nii.gz", "OPTIONS=--device cpu")

    assert ran["arguments"][-3:] == ["--attention", "--device", "cpu"]


def test_make_train_trains_on_phantoms_or_as_the_named_file_says(make_installed) -> None:
    quick = "AGTraining/experiments/phantom_quick.yaml"
    assert make_installed("train")["arguments"] == ["-m", "AGTraining", "train", quick]
    assert (ROOT / quick).is_file()

    ran = make_installed("train", "CONFIG=my $run.yaml", "OPTIONS=--device cpu")
    assert ran["arguments"] == ["-m", "AGTraining", "train", "my $run.yaml", "--device", "cpu"]


def test_make_shields_the_environment_from_python_path(make_installed) -> None:
    ran = make_installed("segment", "CT=scan.nii.gz", PYTHONPATH="/somewhere/else")

    assert ran["PYTHONPATH"] is None


def test_make_says_what_to_do_where_no_python_fits(make_here, tmp_path: Path) -> None:
    tools = tmp_path / "tools"
    tools.mkdir()
    for name in ("sh", "echo", "mkdir", "touch"):
        (tools / name).symlink_to(shutil.which(name))
    script(tools / "python3.11", "#!/bin/sh\nexit 127\n")  # as a version manager's stand-in for what is not there

    done = make_here("segment", "CT=scan.nii.gz", environment={"PATH": str(tools)})

    assert done.returncode != 0
    assert "No Python 3.11, 3.12 or 3.13" in done.stderr
    assert "make PYTHON=" in done.stderr


def test_make_does_not_replace_a_named_python_by_another(make_here) -> None:
    done = make_here("segment", "PYTHON=/no/such/python", "CT=scan.nii.gz")

    assert done.returncode != 0
    assert "/no/such/python" in done.stderr
    assert not (make_here.folder / ".venv").exists()


def test_failed_installation_ends_with_a_sentence_and_leaves_no_stamp(make_here) -> None:
    (make_here.folder / "requirements-dev.lock").write_text("no-such-package @ file:///no/such/package.whl\n")

    done = make_here("segment", f"PYTHON={sys.executable}", "CT=scan.nii.gz")

    assert done.returncode != 0
    assert "could not be installed: check the network connection" in done.stderr
    assert (make_here.folder / ".venv/bin/python").exists()
    assert not (make_here.folder / ".venv/.installed").exists()
