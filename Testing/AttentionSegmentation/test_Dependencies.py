from __future__ import annotations

import shutil
import subprocess
import sys
import tomllib
import types

import pytest
from AttentionSegmentationLib import Dependencies as module
from AttentionSegmentationLib.Dependencies import Dependencies
from AttentionSegmentationLib.DependencySolver import RestartNeeded
from AttentionSegmentationLib.InstalledPackages import InstalledPackages
from AttentionSegmentationLib.PackageInstaller import SHIPPED_PACKAGES, PackageInstaller
from AttentionSegmentationLib.WorkerError import WorkerError

from AGTraining.errors import AGTrainingError, PackageError
from AGTraining.worker_tasks import PACKAGES
from Testing.AttentionSegmentation.sitePackages import addPackage, addTorch

NEEDED = {"psutil": "6.0", "pydantic": "2.9.2", "safetensors": "0.5.3"}


class SiteInstaller(PackageInstaller):
    """Installs into a folder made by hand; says what it did. Its fields are what Slicer would answer."""

    def __init__(self, site):
        super().__init__()
        self.site = site
        self.done = []
        self.slicer = self.torchExtension = self.extensionsManager = True
        self.unattended = self.busy = False
        self.error = None
        self.backends = ["cpu", "cu126"]

    def canInstall(self):
        return self.slicer

    def isUnattended(self):
        return self.unattended

    def isBusy(self):
        return self.busy

    def hasTorchExtension(self):
        return self.torchExtension

    def hasExtensionsManager(self):
        return self.extensionsManager

    def openExtensionsManager(self):
        self.done.append("Extensions Manager")

    def install(self, requirements):
        self._do("install", *requirements)
        for requirement in requirements:
            addPackage(self.site, *requirement.replace("==", ">=").split(">="))

    def reinstall(self, requirements):
        self._do("reinstall", *requirements)

    def installTorch(self, torchRequirement, torchvisionRequirement):
        self._do("install torch", torchRequirement, torchvisionRequirement)
        for information in self.site.glob("torch-*"):
            shutil.rmtree(information)
        addTorch(self.site, "2.8.0", "12.6")

    def uninstallTorch(self):
        self._do("uninstall torch")
        for information in self.site.glob("torch-*"):
            shutil.rmtree(information)
            shutil.rmtree(self.site / "torch", ignore_errors=True)

    def computationBackends(self, torchRequirement):
        return self.backends

    def _do(self, *what):
        self.done.append(what)
        if self.error:
            raise self.error


@pytest.fixture
def site(tmp_path):
    """Where everything but PyTorch is installed."""
    for name, version in NEEDED.items():
        addPackage(tmp_path, name, version)
    return tmp_path


@pytest.fixture
def installer(site):
    return SiteInstaller(site)


@pytest.fixture
def make(site, installer, monkeypatch):
    """A Dependencies on Linux without a graphics card, or as the arguments say; torch is not loaded."""
    monkeypatch.delitem(sys.modules, "torch", raising=False)

    def dependencies(graphicsDriver=lambda: None, machine="linux x86_64"):
        return Dependencies(None, InstalledPackages([site]), installer, graphicsDriver, machine)

    return dependencies


def problem(dependencies):
    [found] = dependencies.problems()
    return found


def yes(question):
    return True


def workerError(text):
    return WorkerError(text, "package")


# ---- what is needed


def test_lower_bounds_are_those_of_the_package(repository):
    project = tomllib.loads((repository / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    lines = (repository / "Resources" / "requirements.txt").read_text(encoding="utf-8").splitlines()
    needed = {line for line in lines if line and not line.startswith("#")}
    assert needed | {f"torch>={module.TORCH_MINIMUM}"} <= set(project["dependencies"])


def test_requirements_and_what_slicer_ships_are_all_that_the_worker_imports(repository):
    lines = (repository / "Resources" / "requirements.txt").read_text(encoding="utf-8").splitlines()
    needed = {line.split(">=")[0] for line in lines if line and not line.startswith("#")}
    assert needed == set(PACKAGES) - set(SHIPPED_PACKAGES) - {"torch"}


def test_inference_runs_without_any_other_package_of_the_project(repository):
    project = tomllib.loads((repository / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    others = {text.split(">=")[0] for text in project["dependencies"]} - set(PACKAGES)
    code = (
        f"import sys; sys.modules.update(dict.fromkeys({sorted(others)!r}))\n"
        "import AGTraining.worker, AGTraining.exchange, AGTraining.inference.segment, AGTraining.inference.device\n"
        "from AGTraining import worker_tasks; worker_tasks.load_packages(); print('loaded')"
    )
    result = subprocess.run([sys.executable, "-c", code], cwd=repository, capture_output=True, text=True)
    assert {"matplotlib", "tqdm"} <= others
    assert result.stdout.strip() == "loaded", result.stderr


def test_this_environment_has_all_that_is_needed():
    assert [found for found in Dependencies().problems() if found.blocking] == []


# ---- what is found


def test_nothing_is_wrong_with_all_installed(make, site):
    addTorch(site, "2.7.1")
    assert make().problems() == ()


def test_missing_torch_is_installed_by_a_button(make):
    found = problem(make())
    assert (found.code, found.actionText, found.packages, found.blocking) == (
        "torchMissing", "Install PyTorch", ("torch",), True,
    )  # fmt: skip
    assert "is not installed" in found.sentence


def test_missing_extension_is_told_with_the_way_to_it(make, installer):
    installer.torchExtension = False
    found = problem(make())
    assert (found.code, found.actionText) == ("extension", "Open Extensions Manager")
    assert "install it with the Extensions Manager and restart Slicer" in found.sentence


def test_without_a_button_for_the_extensions_manager_the_way_is_in_words(make, installer):
    installer.torchExtension = installer.extensionsManager = False
    found = problem(make())
    assert found.actionText is None
    assert "menu View / Extensions Manager and restart Slicer" in found.sentence
    assert "download.slicer.org" in found.sentence


def test_missing_extension_does_not_matter_when_torch_is_there(make, site, installer):
    installer.torchExtension = False
    addTorch(site)
    assert make().problems() == ()


def test_half_installed_torch(make, site):
    addTorch(site)
    (site / "torch" / "version.py").unlink()
    found = problem(make())
    assert (found.code, found.actionText) == ("torchBroken", "Install PyTorch")
    assert "half installed (its files are missing): it has to be removed and installed again" in found.sentence


def test_old_torch(make, site):
    addTorch(site, "2.5.1")
    found = problem(make())
    assert (found.code, found.actionText) == ("torchOld", "Update PyTorch")
    assert "PyTorch 2.5.1 is too old: 2.6 or newer is needed" in found.sentence


def test_cpu_build_beside_a_graphics_card_does_not_block(make, site):
    addTorch(site, "2.7.1")
    found = problem(make(graphicsDriver=lambda: "550.54"))
    assert (found.code, found.blocking) == ("torchCpuOnly", False)
    assert found.actionText == "Install PyTorch for the graphics card"


def test_gpu_build_beside_a_graphics_card_is_right(make, site):
    addTorch(site, "2.7.1", "12.6")
    assert make(graphicsDriver=lambda: "550.54").problems() == ()


def test_graphics_card_is_looked_for_once(make, site):
    asked = []
    addTorch(site)
    dependencies = make(graphicsDriver=lambda: asked.append("driver"))
    dependencies.problems()
    dependencies.problems()
    assert asked == ["driver"]


def test_intel_mac_is_told_that_there_is_no_torch_for_it(make):
    found = problem(make(machine="darwin x86_64"))
    assert found.actionText is None
    assert "does not exist for Slicer on Intel Macs" in found.sentence


def test_missing_old_and_incomplete_packages_are_listed_by_name(make, site):
    addTorch(site)
    shutil.rmtree(site / "psutil-6.0.dist-info")
    shutil.rmtree(site / "safetensors")
    found = problem(make())
    assert (found.code, found.packages) == ("packages", ("psutil", "safetensors"))
    assert found.sentence == "The Python packages psutil and safetensors are missing, too old or damaged."
    assert found.actionText == "Install psutil and safetensors"
    shutil.rmtree(site / "pydantic-2.9.2.dist-info")
    addPackage(site, "pydantic", "1.10.2")
    assert problem(make()).packages == ("psutil", "pydantic", "safetensors")


def test_blocking_problems_come_first(make, site):
    addTorch(site)
    shutil.rmtree(site / "psutil")
    assert [found.code for found in make(graphicsDriver=lambda: "550").problems()] == ["packages", "torchCpuOnly"]


def test_plain_python_is_given_the_commands(make, site, installer):
    installer.slicer = False
    shutil.rmtree(site / "psutil")
    torch, packages = make().problems()
    assert torch.sentence.endswith(f'{sys.executable} -m pip install "torch>=2.6"')
    assert packages.sentence.endswith("requirements.txt")
    assert (torch.actionText, packages.actionText) == (None, None)


# ---- what the worker says


def test_torch_that_the_worker_cannot_load_is_broken(make, site):
    addTorch(site)
    found = make().problemFromWorkerError(
        workerError("The Python package torch cannot be loaded (DLL load failed); x.")
    )
    assert found.code == "torchBroken"
    assert "(it cannot be loaded)" in found.sentence


def test_torch_that_the_worker_misses_is_missing(make):
    found = make().problemFromWorkerError(workerError("The Python package torch is missing; install it and run again."))
    assert found.code == "torchMissing"


def test_package_that_the_worker_cannot_load_is_named(make):
    found = make().problemFromWorkerError(workerError("The Python package pydantic_core cannot be loaded (x); y."))
    assert (found.code, found.packages, found.actionText) == ("packages", ("pydantic_core",), "Install pydantic_core")


def test_damaged_package_of_slicer_itself_is_not_touched(make):
    found = make().problemFromWorkerError(workerError("The Python package scipy cannot be loaded (x); y."))
    assert found.actionText is None
    assert "install Slicer again" in found.sentence


def test_other_errors_of_the_worker_are_not_about_packages(make):
    assert make().problemFromWorkerError(WorkerError("No memory.", "memory")) is None


def test_package_error_without_a_name_keeps_its_sentence(make):
    assert make().problemFromWorkerError(workerError("Something else.")).sentence == "Something else."


# ---- what is done about it


def test_missing_torch_is_installed_in_the_version_that_is_needed(make, installer):
    dependencies = make()
    assert dependencies.resolve(problem(dependencies), confirm=yes)
    assert installer.done == [("install torch", ">=2.6", ">=0.21")]
    assert dependencies.problems() == ()


def test_one_question_names_all_that_is_installed(make, site, installer):
    shutil.rmtree(site / "psutil-6.0.dist-info")
    shutil.rmtree(site / "pydantic-2.9.2.dist-info")
    asked, dependencies = [], make()
    assert dependencies.resolve(*dependencies.problems(), confirm=lambda question: not asked.append(question))
    assert len(asked) == 1
    assert "Download PyTorch, psutil and pydantic from the internet" in asked[0]
    assert installer.done == [("install torch", ">=2.6", ">=0.21"), ("install", "psutil>=5.9", "pydantic>=2.7")]
    assert dependencies.problems() == ()


def test_no_means_that_nothing_is_done(make, installer):
    dependencies = make()
    assert not dependencies.resolve(problem(dependencies), confirm=lambda question: False)
    assert installer.done == []


def test_batch_runs_and_tests_install_nothing_and_ask_nobody(make, installer):
    installer.unattended = True
    dependencies = make()
    with pytest.raises(PackageError, match="PyTorch must be installed first"):
        dependencies.resolve(problem(dependencies), confirm=lambda question: pytest.fail("asked"))
    assert installer.done == []


def test_nothing_is_installed_without_somebody_to_ask(make, installer):
    dependencies = make()
    with pytest.raises(PackageError, match="must be installed first"):
        dependencies.resolve(problem(dependencies))
    assert installer.done == []


def test_batch_run_that_is_told_to_installs(make, installer):
    installer.unattended = True
    dependencies = make()
    assert dependencies.resolve(problem(dependencies), allowInstall=True)
    assert installer.done == [("install torch", ">=2.6", ">=0.21")]


def test_installation_waits_for_another_one(make, installer):
    installer.busy = True
    dependencies = make()
    with pytest.raises(PackageError, match="wait until it has finished"):
        dependencies.resolve(problem(dependencies), confirm=yes)
    assert installer.done == []


def test_problem_without_a_button_is_left_to_the_user(make, installer):
    installer.slicer = False
    dependencies = make()
    with pytest.raises(PackageError, match="pip install"):
        dependencies.resolve(problem(dependencies), allowInstall=True)


def test_missing_extension_opens_the_extensions_manager_and_stays_until_the_restart(make, installer):
    installer.torchExtension = False
    dependencies = make()
    assert not dependencies.resolve(problem(dependencies), confirm=yes)
    assert installer.done == ["Extensions Manager"]


def test_half_installed_torch_is_removed_before_it_is_installed(make, site, installer):
    addTorch(site)
    (site / "torch" / "version.py").unlink()
    dependencies = make()
    assert dependencies.resolve(problem(dependencies), confirm=yes)
    assert [done[0] for done in installer.done] == ["uninstall torch", "install torch"]
    assert dependencies.problems() == ()


def test_half_installed_torch_that_is_loaded_needs_a_restart(make, site, installer, monkeypatch):
    addTorch(site)
    (site / "torch" / "version.py").unlink()
    dependencies = make()
    monkeypatch.setitem(sys.modules, "torch", types.ModuleType("torch"))
    with pytest.raises(RestartNeeded, match="restart Slicer and install PyTorch again"):
        dependencies.resolve(problem(dependencies), confirm=yes)
    assert [done[0] for done in installer.done] == ["uninstall torch"]


def test_rests_that_pip_does_not_know_are_named(make, site, installer):
    (site / "torch").mkdir()
    dependencies = make()
    with pytest.raises(RestartNeeded) as error:
        dependencies.resolve(problem(dependencies), confirm=yes)
    assert f"delete the folder {site / 'torch'}" in str(error.value)


def test_torch_in_use_is_not_replaced(make, site, installer, monkeypatch):
    addTorch(site, "2.5.1")
    dependencies = make()
    monkeypatch.setitem(sys.modules, "torch", types.ModuleType("torch"))
    with pytest.raises(RestartNeeded, match="in use in this session"):
        dependencies.resolve(problem(dependencies), confirm=yes)
    assert installer.done == []


def test_old_torch_stays_until_the_new_one_is_there(make, site, installer):
    addTorch(site, "2.5.1")
    dependencies = make()
    assert dependencies.resolve(problem(dependencies), confirm=yes)
    assert [done[0] for done in installer.done] == ["install torch"]
    assert dependencies.problems() == ()


def test_cpu_build_is_replaced_by_one_for_the_graphics_card(make, site, installer):
    addTorch(site)
    dependencies = make(graphicsDriver=lambda: "550")
    assert dependencies.resolve(problem(dependencies), confirm=yes)
    assert [done[0] for done in installer.done] == ["uninstall torch", "install torch"]
    assert dependencies.problems() == ()


def test_cpu_build_stays_when_the_driver_is_too_old_for_another(make, site, installer):
    addTorch(site)
    installer.backends = ["cpu"]
    dependencies = make(graphicsDriver=lambda: "390")
    with pytest.raises(PackageError, match="update the NVIDIA driver"):
        dependencies.resolve(problem(dependencies), confirm=yes)
    assert installer.done == []


PIP_FAILED = subprocess.CalledProcessError(1, "pip install")


def test_failed_installation_of_torch_is_one_sentence(make, installer):
    installer.error = PIP_FAILED
    dependencies = make()
    with pytest.raises(PackageError, match="PyTorch could not be installed: check the network") as error:
        dependencies.resolve(problem(dependencies), confirm=yes)
    assert error.value.__cause__ is PIP_FAILED


def test_torch_that_was_installed_but_does_not_load_needs_a_restart(make, site, installer, monkeypatch):
    def installTorch(torchRequirement, torchvisionRequirement):
        addTorch(site)
        raise ImportError("DLL load failed")

    monkeypatch.setattr(installer, "installTorch", installTorch)
    dependencies = make()
    with pytest.raises(RestartNeeded, match="cannot be loaded yet: restart Slicer"):
        dependencies.resolve(problem(dependencies), confirm=yes)


def test_failed_installation_of_packages_names_them(make, site, installer):
    addTorch(site)
    shutil.rmtree(site / "psutil-6.0.dist-info")
    installer.error = PIP_FAILED
    dependencies = make()
    with pytest.raises(PackageError, match="The Python package psutil could not be installed: check the network"):
        dependencies.resolve(problem(dependencies), confirm=yes)


def test_installation_that_did_nothing_is_no_success(make, site, installer, monkeypatch):
    addTorch(site)
    shutil.rmtree(site / "psutil-6.0.dist-info")
    monkeypatch.setattr(installer, "install", lambda requirements: None)
    dependencies = make()
    with pytest.raises(AGTrainingError, match="psutil could not be installed"):
        dependencies.resolve(problem(dependencies), confirm=yes)


def test_incomplete_package_is_installed_over_itself(make, site, installer):
    addTorch(site)
    shutil.rmtree(site / "psutil")
    dependencies = make()
    assert dependencies.resolve(problem(dependencies), confirm=yes)
    assert installer.done == [("reinstall", "psutil==6.0")]


def test_part_of_a_package_is_installed_in_the_version_that_belongs_to_it(make, installer):
    import pydantic_core

    dependencies = make()
    found = dependencies.problemFromWorkerError(workerError("The Python package pydantic_core is missing; x."))
    assert dependencies.resolve(found, confirm=yes)
    assert installer.done == [("install", f"pydantic_core=={pydantic_core.__version__}")]


def test_looking_for_problems_and_models_needs_none_of_the_packages(repository):
    code = (
        "import sys; sys.path[:0] = ['AttentionSegmentation', '.']\n"
        "names = ('torch', 'pydantic', 'safetensors', 'psutil', 'tqdm', 'matplotlib', 'scipy')\n"
        "sys.modules.update(dict.fromkeys(names))\n"
        "from AttentionSegmentationLib import Dependencies, ModelCatalogue\n"
        "print(Dependencies.Dependencies(graphicsDriver=lambda: None).problems())\n"
        "print(ModelCatalogue.ModelCatalogue().models()[0].id)"
    )
    result = subprocess.run([sys.executable, "-c", code], cwd=repository, capture_output=True, text=True)
    assert result.stdout.split() == ["()", "abdomen-ct-starter"], result.stderr
