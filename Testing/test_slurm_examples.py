"""The examples for SLURM do what they say: here with an srun that starts one task on this machine."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from argparse import ArgumentParser
from pathlib import Path

import pytest
import yaml
from distributed.cli import dask_scheduler, dask_worker
from torch.distributed.run import get_args_parser

from AGTraining.cli import build_parser
from AGTraining.data.phantom import PhantomOptions, make_phantom
from AGTraining.imaging.files import write_volume
from Testing.AGTraining.test_cli import save_model
from Testing.AGTraining.test_cli_train import write as write_config

EXAMPLES = ("train", "segment")
# SLURM's manual of sbatch names these.
SBATCH = {
    "job-name", "nodes", "ntasks", "ntasks-per-node", "gpus-per-node", "gpus-per-task", "cpus-per-task", "mem",
    "mem-per-cpu", "time", "requeue", "output",
}  # fmt: skip


def script(repository: Path, name: str) -> Path:
    return repository / "examples" / "slurm" / f"{name}.sbatch"


def commands(repository: Path, name: str) -> str:
    """The script without comments, each command on one line."""
    text = script(repository, name).read_text(encoding="utf-8")
    return re.sub(r"\\\n\s*", "", re.sub(r"^\s*#.*$", "", text, flags=re.MULTILINE))


def options(line: str) -> set[str]:
    return set(re.findall(r"(?<=\s)(--[a-z-]+)", line))


def known(parser: ArgumentParser) -> set[str]:
    return {option for action in parser._actions for option in action.option_strings}


def verb(name: str) -> set[str]:
    groups = [action.choices for action in build_parser()._actions if action.dest == "verb" or action.choices]
    return known(groups[0][name])


@pytest.mark.parametrize("name", EXAMPLES)
def test_example_is_valid_bash(repository: Path, name: str) -> None:
    result = subprocess.run(
        ["bash", "-n", script(repository, name)], capture_output=True, encoding="utf-8", check=False
    )
    assert (result.returncode, result.stderr) == (0, "")


@pytest.mark.parametrize("name", EXAMPLES)
def test_example_asks_slurm_for_what_it_knows(repository: Path, name: str) -> None:
    asked = re.findall(r"^#SBATCH --([a-z-]+)", script(repository, name).read_text(encoding="utf-8"), re.MULTILINE)
    assert len(asked) > 4 and set(asked) <= SBATCH


def test_options_of_the_training_example_exist(repository: Path) -> None:
    line = next(line for line in commands(repository, "train").splitlines() if "torchrun" in line)
    launcher, own = line.split("torchrun")[1].split("-m AGTraining train")
    # torch.distributed.run spells them with underscores and takes both.
    assert len(options(launcher)) == 6
    assert {option[2:].replace("-", "_") for option in options(launcher)} <= {
        option.lstrip("-").replace("-", "_") for option in known(get_args_parser())
    }
    assert options(own) and options(own) <= verb("train")


def test_options_of_the_batch_example_exist(repository: Path) -> None:
    lines = commands(repository, "segment").splitlines()
    for start, allowed in (
        ("dask scheduler", {option for p in dask_scheduler.main.params for option in (*p.opts, *p.secondary_opts)}),
        ("dask worker", {option for p in dask_worker.main.params for option in (*p.opts, *p.secondary_opts)}),
        ("AGTraining segment", verb("segment")),
    ):
        line = next(line for line in lines if start in line)
        named = options(line.split(start)[1])
        assert named and named <= allowed


@pytest.fixture
def slurm(tmp_path: Path, repository: Path) -> dict[str, str]:
    """The environment of a job with one task, whose srun starts that task here."""
    programs = tmp_path / "programs"
    programs.mkdir()
    (programs / "srun").write_text('#!/bin/bash\nwhile [[ $1 == --* ]]; do shift; done\nexec "$@"\n')
    (programs / "scontrol").write_text("#!/bin/bash\necho localhost\n")
    (programs / "hostname").write_text("#!/bin/bash\necho localhost\n")
    for program in programs.iterdir():
        program.chmod(0o755)
    (tmp_path / "bin").mkdir()
    (tmp_path / "bin" / "activate").write_text(f'PATH="{programs}:{Path(sys.executable).parent}:$PATH"\n')
    return os.environ | {
        "AGTRAINING_VENV": str(tmp_path),
        "PYTHONPATH": str(repository),
        "SLURM_JOB_ID": str(os.getpid()),
        "SLURM_JOB_NODELIST": "localhost",
        "SLURM_NNODES": "1",
        "SLURM_GPUS_ON_NODE": "1",
        "SLURM_CPUS_PER_TASK": "1",
        "SLURM_MEM_PER_CPU": "4000",
        "TMPDIR": str(tmp_path),
    }


@pytest.mark.slow
def test_training_example_trains(repository: Path, slurm: dict[str, str], tmp_path: Path) -> None:
    config = write_config(tmp_path)
    result = subprocess.run(
        ["bash", script(repository, "train"), config],
        env=slurm,
        capture_output=True,
        encoding="utf-8",
        timeout=240,
        check=False,
    )
    assert result.returncode == 0, result.stderr
    assert (tmp_path / "runs" / "tiny" / "tiny.safetensors").is_file()
    assert yaml.safe_load((tmp_path / "runs" / "tiny" / "config.yaml").read_text(encoding="utf-8"))["epochs"] == 1


@pytest.mark.slow
def test_batch_example_segments(repository: Path, slurm: dict[str, str], tmp_path: Path) -> None:
    model = save_model(tmp_path / "model.safetensors")
    scan = tmp_path / "a.nii.gz"
    write_volume(make_phantom(PhantomOptions(seed=1, spacing=(6.0, 6.0, 8.0))).ct, scan)
    command = ["bash", script(repository, "segment"), "results", scan, "missing.nii", "--model", model]
    result = subprocess.run(
        command, env=slurm, cwd=tmp_path, capture_output=True, encoding="utf-8", timeout=240, check=False
    )
    assert result.returncode == 1, result.stderr
    assert f"1 of 2 scans segmented, 1 failed:\n  missing: {tmp_path}/missing.nii: no such file" in result.stdout
    assert (tmp_path / "results" / "a" / "a_labels.nii.gz").is_file()
