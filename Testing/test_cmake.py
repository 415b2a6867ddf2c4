"""The extension as CMake packages it, configured against a stand-in for Slicer (slicer_cmake_standin)."""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent.parent
STANDIN = ROOT / "Testing" / "slicer_cmake_standin"
MODULE = "AttentionSegmentation"
MODULE_FOLDER = "lib/Slicer-5.12/qt-scripted-modules"
SCHEMA = (
    "https://raw.githubusercontent.com/Slicer/Slicer/main/Schemas/slicer-extension-catalog-entry-schema-v1.0.1.json#"
)

# What the packages and the model folders hold, but an installed extension does not need.
NOT_INSTALLED = {f"{MODULE}/CMakeLists.txt"}


def files_of_the_tree(*folders: str) -> set[str]:
    """The files of the checkout in these folders, with paths below the root; what git ignores is left out."""
    git = shutil.which("git")
    if git is None or not (ROOT / ".git").exists():
        found = (path for folder in folders for path in (ROOT / folder).rglob("*"))
        names = [str(path.relative_to(ROOT).as_posix()) for path in found if "__pycache__" not in path.parts]
    else:
        command = [git, "-c", "safe.directory=*", "ls-files", "-z", "--cached", "--others", "--exclude-standard"]
        listed = subprocess.run([*command, *folders], cwd=ROOT, capture_output=True, check=True).stdout
        names = [os.fsdecode(name) for name in listed.split(b"\0") if name]
    return {name for name in names if (ROOT / name).is_file()}


def expected_files() -> set[str]:
    """What must be installed, with paths below the folder of the scripted modules."""
    package = files_of_the_tree("AGTraining", "Resources/Models", "Resources/requirements.txt")
    module = files_of_the_tree(MODULE) - NOT_INSTALLED
    return package | {name.removeprefix(f"{MODULE}/") for name in module}


def listed_files(variable: str) -> list[str]:
    """The files of a list in the module's CMakeLists.txt."""
    text = (ROOT / MODULE / "CMakeLists.txt").read_text(encoding="utf-8")
    block = re.search(rf"^set\({variable}\n(.+?)^  \)", text, re.MULTILINE | re.DOTALL)
    assert block
    return [line.strip().replace("${MODULE_NAME}", MODULE) for line in block[1].splitlines()]


def run_cmake(*arguments: str | Path, expect: int | None = 0) -> str:
    """Runs CMake in an environment without Python settings; its output."""
    cmake = shutil.which("cmake")
    if cmake is None:
        pytest.skip("CMake is not installed on this machine")
    environment = {name: value for name, value in os.environ.items() if not name.startswith("PYTHON")}
    done = subprocess.run(
        [cmake, *map(str, arguments)], capture_output=True, encoding="utf-8", errors="replace", env=environment
    )
    assert expect is None or done.returncode == expect, done.stdout + done.stderr
    return done.stdout + done.stderr


@pytest.fixture(scope="module")
def build(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The build tree of the extension."""
    folder = tmp_path_factory.mktemp("build of the extension")
    run_cmake("-S", ROOT, "-B", folder, f"-DSlicer_DIR={STANDIN}", f"-DPYTHON_EXECUTABLE={sys.executable}")
    run_cmake("--build", folder)
    return folder


@pytest.fixture(scope="module")
def installed(build: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder that the extension is installed into."""
    folder = tmp_path_factory.mktemp("Slicer extensions")
    run_cmake("--install", build, "--prefix", folder)
    return folder


def description(installed: Path) -> dict[str, str]:
    """What the Extensions Manager shows, by keyword."""
    text = (installed / "share" / "Slicer-5.12" / f"{MODULE}.s4ext").read_text(encoding="utf-8")
    return dict(line.split(" ", 1) for line in text.splitlines())


@pytest.mark.parametrize("variable", ["MODULE_PYTHON_SCRIPTS", "MODULE_PYTHON_RESOURCES"])
def test_every_file_of_the_module_is_listed_once_and_in_order(variable: str) -> None:
    tree = {name.removeprefix(f"{MODULE}/") for name in files_of_the_tree(MODULE) - NOT_INSTALLED}
    expected = {name for name in tree if name.endswith(".py") == (variable == "MODULE_PYTHON_SCRIPTS")}

    assert listed_files(variable) == sorted(expected)


def test_what_is_installed_is_the_tree(installed: Path) -> None:
    folder = installed / MODULE_FOLDER
    found = {path.relative_to(folder).as_posix() for path in folder.rglob("*") if path.is_file()}
    compiled = {name for name in found if name.endswith(".pyc")}

    assert found - compiled == expected_files()
    assert compiled == {f"{name}c" for name in found if name.endswith(".py")}


def test_an_installed_extension_finds_its_packages_and_its_model(installed: Path, tmp_path: Path) -> None:
    # As Slicer does it: the folder of the scripted modules is on the path, and nothing else of the extension.
    code = (
        "import json, sys; sys.path.insert(0, sys.argv[1]); import AttentionSegmentationLib, AGTraining.bundle;"
        "from AttentionSegmentationLib.Segmentation import SegmentationLogic;"
        "files = [AttentionSegmentationLib.__file__, SegmentationLogic.__file__, AGTraining.__file__,"
        "         str(AGTraining.bundle.default_path())];"
        "AGTraining.bundle.read_info(AGTraining.bundle.default_path()); print(json.dumps(files))"
    )
    folder = installed / MODULE_FOLDER

    done = subprocess.run(
        [sys.executable, "-I", "-c", code, folder], cwd=tmp_path, capture_output=True, encoding="utf-8"
    )

    assert done.returncode == 0, done.stderr
    for path in json.loads(done.stdout.splitlines()[-1]):
        assert Path(path).is_relative_to(folder)
        assert Path(path).is_file()


def test_ctest_runs_the_generic_tests_and_the_self_test_of_the_module(build: Path) -> None:
    ctest = shutil.which("ctest")
    if ctest is None:
        pytest.skip("CTest is not installed on this machine")
    listed = subprocess.run([ctest, "--show-only=json-v1"], cwd=build, capture_output=True, check=True).stdout

    names = {test["name"] for test in json.loads(listed)["tests"]}

    assert names == {f"py_nomainwindow_qSlicer{MODULE}ModuleGenericTest", f"py_{MODULE}"}


def test_description_names_organs_and_modality_and_is_complete(installed: Path) -> None:
    metadata = description(installed)

    for word in ("pancreas", "spleen", "kidney", "CT"):
        assert word in metadata["description"]
    assert metadata["depends"] == "PyTorch"
    assert metadata["contributors"]
    assert metadata["homepage"].startswith("https://")


@pytest.mark.parametrize("key", ["iconurl", "screenshoturls"])
def test_pictures_of_the_extensions_manager_are_files_of_the_repository(installed: Path, key: str) -> None:
    entry = index_entry()
    base = f"{entry['scm_url']}/{entry['scm_revision']}/"

    for url in description(installed)[key].split():
        assert url.startswith(base)
        assert url.endswith(".png")
        assert (ROOT / url.removeprefix(base)).is_file()


def index_entry() -> dict[str, object]:
    document = json.loads((ROOT / "Resources" / f"{MODULE}.json").read_text(encoding="utf-8"))
    assert isinstance(document, dict)
    return document


def test_entry_of_the_extensions_index_follows_its_schema() -> None:
    """The rules of schema v1.0.1 (Schemas/ in Slicer's sources) and of the index's own check of new entries."""
    entry = index_entry()
    types = {
        "$schema": str,
        "category": str,
        "scm_url": str,
        "scm_revision": str,
        "scm_type": str,
        "build_dependencies": list,
        "build_subdirectory": str,
        "enabled": bool,
        "tier": int,
    }

    assert {"$schema", "category", "scm_url"} <= entry.keys() <= types.keys()
    assert all(type(value) is types[key] for key, value in entry.items())
    assert entry["$schema"] == SCHEMA
    assert entry["category"] == "Segmentation"
    assert entry["build_dependencies"] == ["PyTorch"]
    assert entry["tier"] in range(1, 6)
    assert re.fullmatch(r"https://[\w.-]+/([\w.-]+/)*Slicer[\w-]+", str(entry["scm_url"]))
    assert b"\r" not in (ROOT / "Resources" / f"{MODULE}.json").read_bytes()


def test_entry_of_the_extensions_index_agrees_with_cmake(installed: Path) -> None:
    project = re.search(r"^project\((\w+)\)", (ROOT / "CMakeLists.txt").read_text(encoding="utf-8"), re.MULTILINE)

    assert project and project[1] == MODULE
    assert description(installed)["depends"].split() == index_entry()["build_dependencies"]


@pytest.mark.parametrize(
    ("call", "message"),
    [
        ("slicerMacroBuildScriptedModule(NAME M SCRIPTS m.py RESOURCES m.ui WITH_TESTS)", "m.ui;WITH_TESTS|WITH_TESTS"),
        ("slicerMacroBuildScriptedModule(NAME M SCRIPTS m.py missing.py RESOURCES m.ui)", "missing.py is listed"),
        ("slicerMacroBuildScriptedModule(SCRIPTS m.py RESOURCES m.ui)", "NAME is mandatory"),
        ("slicer_add_python_unittest(SCRIPT missing.py)", "there is no missing.py"),
        ("ctkMacroCompilePythonScript(SCRIPTS m.py)", "TARGET_NAME is mandatory"),
    ],
)
def test_the_standin_stops_at_a_mistake(tmp_path: Path, call: str, message: str) -> None:
    (tmp_path / "m.py").touch()
    (tmp_path / "m.ui").touch()
    (tmp_path / "CMakeLists.txt").write_text(
        "cmake_minimum_required(VERSION 3.20)\nproject(M LANGUAGES NONE)\nfind_package(Slicer REQUIRED)\n"
        f"include(${{Slicer_USE_FILE}})\n{call}\n"
    )

    output = run_cmake("-S", tmp_path, "-B", tmp_path / "b", f"-DSlicer_DIR={STANDIN}", expect=1)

    assert re.search(message, " ".join(output.split()))


def test_the_standin_refuses_a_syntax_error(tmp_path: Path) -> None:
    (tmp_path / "m.py").write_text("def f(:\n")
    (tmp_path / "m.ui").touch()
    (tmp_path / "CMakeLists.txt").write_text(
        "cmake_minimum_required(VERSION 3.20)\nproject(M LANGUAGES NONE)\nfind_package(Slicer REQUIRED)\n"
        "include(${Slicer_USE_FILE})\nslicerMacroBuildScriptedModule(NAME M SCRIPTS m.py RESOURCES m.ui)\n"
    )
    run_cmake("-S", tmp_path, "-B", tmp_path / "b", f"-DSlicer_DIR={STANDIN}", f"-DPYTHON_EXECUTABLE={sys.executable}")

    assert "SyntaxError" in run_cmake("--build", tmp_path / "b", expect=None)
