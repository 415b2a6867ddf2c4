"""Against functions with the signatures of Slicer 5.10, Slicer 5.12.3 and the PyTorch extension, and the real pip."""

from __future__ import annotations

import importlib.metadata
import os
import subprocess
import sys
import tempfile
import types
from pathlib import Path

import pytest
import slicer
from AttentionSegmentationLib.PackageInstaller import SHIPPED_PACKAGES, PackageInstaller

from Testing.AttentionSegmentation.sitePackages import writeWheel

NUMPY = importlib.metadata.version("numpy")


@pytest.fixture
def slicerApplication(monkeypatch):
    """As much of the application as the installer asks for; `mainWindow` and `testing` may be changed."""
    state = types.SimpleNamespace(mainWindow=object(), testing=False)
    monkeypatch.setattr(slicer, "app", types.SimpleNamespace(testingEnabled=lambda: state.testing), raising=False)
    monkeypatch.setattr(slicer.util, "mainWindow", lambda verbose=True: state.mainWindow)
    return state


@pytest.fixture
def slicer510(monkeypatch, slicerApplication):
    """Slicer 5.10: no slicer.packaging; the arguments that pip was called with."""
    calls = []

    def pip_install(requirements):
        calls.append((requirements, Path(requirements[requirements.index("-c") + 1]).read_text()))

    monkeypatch.setitem(sys.modules, "slicer.packaging", None)
    monkeypatch.setattr(slicer.util, "pip_install", pip_install)
    return calls


@pytest.fixture
def slicer512(monkeypatch, slicerApplication):
    """Slicer 5.12.3: slicer.packaging; the arguments of each call, with the text of the constraints file."""
    calls = []

    def pip_ensure(
        requirements: str | list[str],
        constraints: str | Path | None = None,
        skip_packages: list[str] | None = None,
        prompt_install: bool = True,
        prompt_restart: bool = True,
        requester: str | None = None,
        skip_in_testing: bool = True,
        show_progress: bool = True,
    ) -> list[str] | None:
        calls.append((requirements, Path(constraints).read_text(), prompt_install, prompt_restart, skip_in_testing))

    module = types.ModuleType("slicer.packaging")
    module.pip_ensure = pip_ensure
    module.isPipInstallInProgress = lambda: bool(calls)
    monkeypatch.setitem(sys.modules, "slicer.packaging", module)
    monkeypatch.setattr(slicer, "packaging", module, raising=False)
    return calls


@pytest.fixture
def wheels(tmp_path, monkeypatch):
    """Makes the real pip install from a folder of wheels, none of the internet, into the folder that is returned."""
    pytest.importorskip("pip")
    folder, target = tmp_path / "wheels", tmp_path / "target"
    folder.mkdir()
    writeWheel(folder, "numpy", NUMPY)
    writeWheel(folder, "numpy", "99.0")
    for name, value in {
        "NO_INDEX": "1", "FIND_LINKS": folder.as_uri(), "TARGET": str(target), "DISABLE_PIP_VERSION_CHECK": "1",
    }.items():  # fmt: skip
        monkeypatch.setenv(f"PIP_{name}", value)
    temporary = tmp_path / "temporary ü folder"
    temporary.mkdir()
    monkeypatch.setattr(tempfile, "tempdir", str(temporary))
    return folder


def pip(arguments):
    subprocess.run([sys.executable, "-m", "pip", *arguments], check=True, capture_output=True)


def installedVersions(wheels):
    return {d.name: d.version for d in importlib.metadata.distributions(path=[str(wheels.parent / "target")])}


def test_slicer_510_gets_the_requirements_and_a_file_of_constraints(slicer510):
    PackageInstaller().install(["psutil>=5.9", "pydantic>=2.7"])
    [(arguments, constraints)] = slicer510
    assert arguments[:3] == ["psutil>=5.9", "pydantic>=2.7", "-c"]
    assert f"numpy=={NUMPY}\n" in constraints
    assert not Path(arguments[3]).exists()


def test_slicer_512_is_told_not_to_ask_again(slicer512):
    PackageInstaller().install(["psutil>=5.9"])
    [(requirements, constraints, promptInstall, promptRestart, skipInTesting)] = slicer512
    assert requirements == ["psutil>=5.9"]
    assert f"numpy=={NUMPY}\n" in constraints
    assert (promptInstall, promptRestart, skipInTesting) == (False, True, False)


def test_nobody_is_asked_about_a_restart_without_a_main_window(slicer512, slicerApplication):
    slicerApplication.mainWindow = None
    PackageInstaller().install(["psutil>=5.9"])
    assert slicer512[0][3] is False


@pytest.mark.parametrize(("testing", "mainWindow"), [(True, "window"), (False, None)])
def test_tests_and_runs_without_a_window_are_unattended(slicerApplication, testing, mainWindow):
    assert not PackageInstaller().isUnattended()
    slicerApplication.testing, slicerApplication.mainWindow = testing, mainWindow
    assert PackageInstaller().isUnattended()


def test_another_installation_is_noticed(slicer512):
    assert not PackageInstaller().isBusy()
    PackageInstaller().install(["psutil>=5.9"])
    assert PackageInstaller().isBusy()


def test_slicer_510_does_not_tell_of_other_installations(slicer510):
    assert not PackageInstaller().isBusy()


def test_constraints_name_only_what_is_installed(slicer510):
    PackageInstaller().install(["psutil"])
    lines = slicer510[0][1].splitlines()
    assert {line.split("==")[0] for line in lines} < set(SHIPPED_PACKAGES)
    assert all(importlib.metadata.version(name) == version for name, version in (line.split("==") for line in lines))


def test_pip_takes_an_older_package_rather_than_another_numpy(slicer510, wheels, monkeypatch):
    writeWheel(wheels, "tool", "1.0", ("numpy",))
    writeWheel(wheels, "tool", "2.0", ("numpy>=99",))
    monkeypatch.setattr(slicer.util, "pip_install", lambda requirements: pip(["install", *requirements]))
    PackageInstaller().install(["tool>=1"])
    assert installedVersions(wheels) == {"tool": "1.0", "numpy": NUMPY}


def test_reinstalling_leaves_what_a_package_depends_on(slicer510, wheels, monkeypatch):
    writeWheel(wheels, "tool", "1.0", ("numpy",))
    monkeypatch.setattr(slicer.util, "pip_install", lambda requirements: pip(["install", *requirements]))
    PackageInstaller().reinstall(["tool==1.0"])
    assert installedVersions(wheels) == {"tool": "1.0"}


@pytest.fixture
def torchExtension(monkeypatch):
    """The PyTorch extension's logic, with light-the-torch replaced by pip."""

    class PyTorchUtilsLogic:
        def installTorch(
            self,
            askConfirmation=False,
            forceComputationBackend=None,
            torchVersionRequirement=None,
            torchvisionVersionRequirement=None,
        ):
            calls.append(("install", askConfirmation, forceComputationBackend))
            pip(["install", f"torch{torchVersionRequirement}", f"torchvision{torchvisionVersionRequirement}"])
            return types.ModuleType("torch")

        def uninstallTorch(self, askConfirmation=False, forceComputationBackend=None):
            calls.append(("uninstall",))

        @staticmethod
        def getCompatibleComputationBackends(forceComputationBackend=None, torchVersionRequirement=None):
            return ["cpu", f"cu128 for torch{torchVersionRequirement}"]

    calls = []
    module = types.ModuleType("PyTorchUtils")
    module.PyTorchUtilsLogic = PyTorchUtilsLogic
    monkeypatch.setitem(sys.modules, "PyTorchUtils", module)
    return calls


def test_torch_is_installed_by_its_extension_without_another_numpy(torchExtension, wheels, monkeypatch):
    writeWheel(wheels, "torch", "2.6.0")
    writeWheel(wheels, "torch", "2.5.0")
    writeWheel(wheels, "torchvision", "0.21.0", ("numpy",))
    monkeypatch.delenv("PIP_CONSTRAINT", raising=False)
    PackageInstaller().installTorch(">=2.6", ">=0.21")
    assert torchExtension == [("install", False, None)]
    assert installedVersions(wheels) == {"torch": "2.6.0", "torchvision": "0.21.0", "numpy": NUMPY}
    assert "PIP_CONSTRAINT" not in os.environ


def test_constraints_of_a_hospital_stay_in_force(torchExtension, wheels, tmp_path, monkeypatch):
    for version in ("2.6.0", "2.9.0"):
        writeWheel(wheels, "torch", version)
    writeWheel(wheels, "torchvision", "0.21.0")
    (tmp_path / "site.txt").write_text("torch<2.7\n")
    monkeypatch.setenv("PIP_CONSTRAINT", (tmp_path / "site.txt").as_uri())
    PackageInstaller().installTorch(">=2.6", ">=0.21")
    assert installedVersions(wheels)["torch"] == "2.6.0"
    assert os.environ["PIP_CONSTRAINT"] == (tmp_path / "site.txt").as_uri()


def test_torch_extension_is_found_when_slicer_loaded_it(torchExtension, monkeypatch):
    assert PackageInstaller().hasTorchExtension()
    monkeypatch.delitem(sys.modules, "PyTorchUtils")
    assert not PackageInstaller().hasTorchExtension()


def test_torch_extension_is_found_in_the_folders_of_modules(tmp_path, monkeypatch):
    (tmp_path / "PyTorchUtils.py").touch()
    monkeypatch.syspath_prepend(tmp_path)
    assert PackageInstaller().hasTorchExtension()


def test_builds_that_the_driver_can_run_are_asked_of_the_extension(torchExtension):
    assert PackageInstaller().computationBackends(">=2.6") == ["cpu", "cu128 for torch>=2.6"]


def test_plain_python_is_no_place_to_install_into():
    assert not PackageInstaller().canInstall()
