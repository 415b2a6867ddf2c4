from __future__ import annotations

import shutil
import subprocess
import sys

import pytest

CODE = "import AttentionSegmentationLib, AGTraining; print(AGTraining.__file__)"


def run(folder):
    return subprocess.run([sys.executable, "-I", "-c", f"import sys; sys.path.insert(0, {str(folder)!r}); {CODE}"],
                          capture_output=True, text=True)  # fmt: skip


@pytest.fixture
def library(repository, tmp_path):
    """The library's folder alone, as an installer would copy it."""
    return shutil.copytree(repository / "AttentionSegmentation" / "AttentionSegmentationLib",
                           tmp_path / "qt modules" / "AttentionSegmentationLib").parent  # fmt: skip


def makePackage(folder):
    (folder / "AGTraining").mkdir()
    file = folder / "AGTraining" / "__init__.py"
    file.touch()
    return file


def test_source_checkout_has_it_one_folder_higher(library):
    file = makePackage(library.parent)
    assert run(library).stdout.strip() == str(file)


def test_installed_extension_has_it_beside_the_library(library):
    makePackage(library.parent)
    file = makePackage(library)
    assert run(library).stdout.strip() == str(file)


def test_missing_package_is_named_with_the_folders_searched(library):
    process = run(library)
    assert process.returncode == 1
    assert "The Python package AGTraining is neither in" in process.stderr
    assert str(library) in process.stderr
