from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace

import pytest
import slicer
from AttentionSegmentationLib.WorkerCommand import workerCommand, workerEnvironment
from AttentionSegmentationLib.WorkerError import WorkerError

import AGTraining

PACKAGE_FOLDER = Path(AGTraining.__file__).parents[1]


def printed(code: str, environment: dict[str, str], folder: Path) -> str:
    """What this Python prints in the environment of a worker."""
    return subprocess.run(
        [sys.executable, "-c", code],
        env=environment,
        cwd=folder,
        capture_output=True,
        text=True,
        encoding="utf-8",
        check=True,
    ).stdout.strip()


def test_plain_python_runs_itself():
    command = workerCommand(idleSeconds=7.5)
    assert command.program == sys.executable
    assert command.arguments == ("-m", "AGTraining", "worker", "--idle-seconds", "7.5")
    assert Path(command.workingFolder).is_dir()


def test_slicer_runs_its_own_python(monkeypatch, tmp_path):
    launcher = tmp_path / ("PythonSlicer.exe" if os.name == "nt" else "PythonSlicer")
    launcher.touch(mode=0o755)
    monkeypatch.setattr(slicer, "app", SimpleNamespace(), raising=False)
    monkeypatch.setenv("PATH", str(tmp_path))
    monkeypatch.setattr(sys, "executable", "")
    assert Path(workerCommand().program) == launcher


def test_python_beside_slicer_is_found_where_the_path_lacks_it(monkeypatch, tmp_path):
    folder = tmp_path / "Slicer 5.12" / "bin"
    folder.mkdir(parents=True)
    launcher = folder / ("PythonSlicer.exe" if os.name == "nt" else "PythonSlicer")
    launcher.touch(mode=0o755)
    monkeypatch.setattr(slicer, "app", SimpleNamespace(slicerHome=str(folder.parent)), raising=False)
    monkeypatch.setenv("PATH", str(tmp_path))
    assert Path(workerCommand().program) == launcher


def test_slicer_without_its_python_says_so(monkeypatch, tmp_path):
    monkeypatch.setattr(slicer, "app", SimpleNamespace(slicerHome=str(tmp_path / "Slicer")), raising=False)
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(WorkerError, match="PythonSlicer") as caught:
        workerCommand()
    assert caught.value.code == "start"


def test_variables_of_slicers_launcher_stay(tmp_path):
    inherited = {"PYTHONHOME": "/slicer/lib/Python", "PYTHONNOUSERSITE": "1", "LD_LIBRARY_PATH": "/slicer/lib"}
    environment = workerEnvironment(inherited, tmp_path)
    assert inherited.items() <= environment.items()


@pytest.mark.parametrize(
    "name", ["PYTHONINSPECT", "PYTHONWARNINGS", "PYTHONIOENCODING", "PYTHONSTARTUP", "PYTHONOPTIMIZE"]
)
def test_variables_that_change_python_go(name, tmp_path):
    assert name not in workerEnvironment({name: "x"}, tmp_path)


def test_choice_of_the_user_about_threads_stays(tmp_path):
    assert workerEnvironment({"OMP_WAIT_POLICY": "ACTIVE"}, tmp_path)["OMP_WAIT_POLICY"] == "ACTIVE"
    assert workerEnvironment({}, tmp_path)["OMP_WAIT_POLICY"] == "PASSIVE"


def test_package_is_found_behind_all_other_folders(tmp_path):
    folders = [str(tmp_path / "a"), str(tmp_path / "b")]
    environment = workerEnvironment({"PYTHONPATH": os.pathsep.join(folders)}, tmp_path / "Ärzte")
    assert environment["PYTHONPATH"].split(os.pathsep) == [*folders, str(tmp_path / "Ärzte")]


def test_empty_entries_of_the_path_do_not_become_the_current_folder(tmp_path):
    environment = workerEnvironment({"PYTHONPATH": os.pathsep + "lib" + os.pathsep}, tmp_path)
    assert environment["PYTHONPATH"].split(os.pathsep) == [os.path.abspath("lib"), str(tmp_path)]


def test_folder_of_installed_packages_is_left_to_python(tmp_path):
    assert "PYTHONPATH" not in workerEnvironment({}, tmp_path / "site-packages")


def test_worker_imports_the_same_package_from_any_folder(tmp_path):
    code = "import AGTraining; print(AGTraining.__file__)"
    assert printed(code, workerCommand().environment, tmp_path) == AGTraining.__file__


def test_modules_of_the_working_folder_are_not_imported(tmp_path):
    (tmp_path / "colorsys.py").write_text("raise SystemExit('the wrong one')")
    environment = workerEnvironment({**os.environ, "PYTHONPATH": ""}, PACKAGE_FOLDER)
    assert "wrong" not in printed("import colorsys; print(colorsys.__file__)", environment, tmp_path)


def test_text_is_utf8_whatever_the_system_says(tmp_path):
    environment = workerEnvironment({**os.environ, "LC_ALL": "C", "PYTHONIOENCODING": "ascii"}, PACKAGE_FOLDER)
    assert printed("print('Größe')", environment, tmp_path) == "Größe"
