from __future__ import annotations

import importlib.metadata
import subprocess
import sys

import pytest
from AttentionSegmentationLib.InstalledPackages import InstalledPackages, canonicalName, meetsMinimum

from Testing.AttentionSegmentation.sitePackages import addPackage, addTorch


@pytest.fixture
def site(tmp_path):
    folder = tmp_path / "site packages ü"
    folder.mkdir()
    return folder


def torchState(site):
    return InstalledPackages([site]).torch()


def test_version_and_module_of_what_is_installed_here():
    packages = InstalledPackages()
    assert packages.version("numpy") == importlib.metadata.version("numpy")
    assert packages.hasModule("numpy")
    assert packages.version("no-such-package") is None
    assert not packages.hasModule("noSuchPackage")


def test_real_torch_is_recognized_without_being_imported(repository):
    code = (
        "import sys; sys.path[:0] = ['AttentionSegmentation', '.']; "
        "import importlib.util as u; "
        "s = u.spec_from_file_location('I', 'AttentionSegmentation/AttentionSegmentationLib/InstalledPackages.py'); "
        "m = u.module_from_spec(s); sys.modules['I'] = m; s.loader.exec_module(m); "
        "t = m.InstalledPackages().torch(); print(t.status, t.version, 'torch' in sys.modules)"
    )
    result = subprocess.run([sys.executable, "-c", code], cwd=repository, capture_output=True, text=True, check=True)
    assert result.stdout.split() == ["installed", importlib.metadata.version("torch"), "False"]


def test_package_that_pip_left_without_its_module_is_none(site):
    addPackage(site, "psutil", "6.0", files={})
    (site / "pydantic").mkdir()
    packages = InstalledPackages([site])
    assert packages.version("psutil") == "6.0"
    assert not packages.hasModule("psutil")
    assert not packages.hasModule("pydantic")


def test_package_that_was_installed_meanwhile_is_found(site):
    packages = InstalledPackages([site])
    assert packages.version("psutil") is None
    addPackage(site, "psutil", "6.0")
    assert packages.version("psutil") == "6.0"
    assert packages.hasModule("psutil")


def test_missing_torch(site):
    assert torchState(site).status == "missing"


@pytest.mark.parametrize(("cuda", "gpuBuild"), [("12.6", "cuda 12.6"), (None, None)])
def test_complete_torch_with_its_build(site, cuda, gpuBuild):
    addTorch(site, "2.7.1", cuda)
    state = torchState(site)
    assert (state.status, state.version, state.gpuBuild) == ("installed", "2.7.1", gpuBuild)
    assert state.folder == site / "torch"


def test_torch_whose_installation_was_broken_off_before_the_list_of_files(site):
    information = addTorch(site)
    for file in information.iterdir():
        file.unlink()
    information.rmdir()
    state = torchState(site)
    assert (state.status, state.reason) == ("broken", "its list of files is missing")


def test_rest_of_an_uninstalled_torch(site):
    (site / "torch" / "lib").mkdir(parents=True)
    state = torchState(site)
    assert (state.status, state.folder) == ("broken", site / "torch")


def test_list_of_files_without_the_files(site):
    addPackage(site, "torch", "2.7.1", files={})
    state = torchState(site)
    assert (state.status, state.version, state.reason) == ("broken", "2.7.1", "its files are missing")


def test_library_that_was_not_unpacked(site):
    addTorch(site)
    (site / "torch" / "lib" / "libc10.so").unlink()
    assert torchState(site).reason == "torch/lib/libc10.so is missing or cut off"


def test_library_that_was_cut_off_by_a_full_disk(site):
    addTorch(site)
    (site / "torch" / "lib" / "libc10.so").write_text("c" * 50)
    assert torchState(site).status == "broken"


def test_two_lists_of_files_in_one_folder_are_a_broken_update(site):
    addTorch(site, "2.5.0")
    addTorch(site, "2.7.1")
    assert torchState(site).reason == "two versions lie in one folder"


def test_torch_of_two_folders_is_the_first_one(site, tmp_path):
    addTorch(site, "2.7.1")
    addTorch(tmp_path / "other", "2.1.0")
    state = InstalledPackages([site, tmp_path / "other"]).torch()
    assert (state.status, state.version) == ("installed", "2.7.1")


@pytest.mark.parametrize(
    ("version", "minimum", "enough"),
    [("2.6.0", "2.6", True), ("2.10.1+cu128", "2.6", True), ("2.5.1", "2.6", False), ("1.13", "2.6", False)],
)
def test_versions_are_compared_by_number(version, minimum, enough):
    assert meetsMinimum(version, minimum) is enough


def test_names_are_compared_as_pip_does():
    assert canonicalName("Typing_Extensions") == canonicalName("typing-extensions")
