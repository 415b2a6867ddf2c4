"""What is missing of the Python packages, each with its sentence and what solves it."""

import platform
import re
import sys
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

from AGTraining.errors import AGTrainingError, PackageError

from .DependencyProblem import DependencyProblem, listOf, packages
from .DependencySolver import DependencySolver
from .ExtensionResources import resourcePath
from .GraphicsDriver import nvidiaDriver
from .InstalledPackages import InstalledPackages, TorchState, canonicalName, meetsMinimum
from .PackageInstaller import SHIPPED_PACKAGES, PackageInstaller

TORCH_MINIMUM = "2.6"
# The torchvision that belongs to it: the PyTorch extension installs both, and pip must not fall back to an old one.
TORCHVISION_MINIMUM = "0.21"


class Dependencies:
    """Finds what is missing, and has it installed when the user says so. Nothing is imported to find out.

    requirementsFile: as `Resources/requirements.txt`, the default. graphicsDriver: gives the version of NVIDIA's
    driver, None without such a graphics card.
    """

    def __init__(
        self,
        requirementsFile: Path | None = None,
        installed: InstalledPackages | None = None,
        installer: PackageInstaller | None = None,
        graphicsDriver: Callable[[], str | None] | None = None,
        machine: str | None = None,
    ) -> None:
        self._requirementsFile = requirementsFile
        self._installed = installed or InstalledPackages()
        self._installer = installer or PackageInstaller()
        self._graphicsDriver = graphicsDriver or nvidiaDriver
        self._machine = machine or f"{sys.platform} {platform.machine()}"
        self._driver: tuple[str | None] | None = None

    def problems(self) -> tuple[DependencyProblem, ...]:
        """What is missing now, blocking problems first. Takes some milliseconds."""
        found = (self._torchProblem(self._installed.torch()), self._packagesProblem(self._missing()))
        return tuple(sorted(filter(None, found), key=lambda problem: not problem.blocking))

    def problemFromWorkerError(self, error: AGTrainingError) -> DependencyProblem | None:
        """What an error of the worker with the code "package" says about the packages; None for other errors.

        The worker has tried to import them, which finds more than `problems`.
        """
        if error.code != "package":
            return None
        named = re.search(r"Python package ([\w.-]+)", str(error))
        name = named[1].split(".")[0] if named else ""
        if name in ("torch", "torchvision", "functorch", "torchgen"):
            state = self._installed.torch()
            if state.status == "installed":
                state = replace(state, status="broken", reason="it cannot be loaded")
            return self._torchProblem(state)
        if canonicalName(name) in map(canonicalName, SHIPPED_PACKAGES):
            sentence = f"The Python package {name}, which Slicer brings along, is damaged: install Slicer again."
            return DependencyProblem("packages", sentence, packages=(name,))
        if not name:
            return DependencyProblem("packages", str(error))
        return self._packagesProblem((name,))

    def resolve(
        self,
        *problems: DependencyProblem,
        confirm: Callable[[str], bool] | None = None,
        allowInstall: bool = False,
    ) -> bool:
        """Does what the problems' buttons say, after one question about all of them; False when the user says no.

        confirm: asks a question. It is not asked, and nothing is done, in tests and batch runs: there `allowInstall`
        has to be set, which also takes the place of the question elsewhere. Blocks for minutes.
        Raises PackageError when it cannot be done or fails, RestartNeeded when Slicer has to be restarted first.
        """
        for problem in problems:
            if problem.actionText is None or not self._installer.canInstall():
                raise PackageError(problem.sentence)
        if not allowInstall:
            if confirm is None or self._installer.isUnattended():
                raise PackageError(
                    f"{_names(problems)} must be installed first: tests and batch runs install nothing unless they are "
                    "told to."
                )
            if not confirm(_question(problems)):
                return False
        if self._installer.isBusy():
            raise PackageError("Slicer is installing other Python packages; wait until it has finished and try again.")
        solver = DependencySolver(
            self._installed, self._installer, self._requirements(), TORCH_MINIMUM, TORCHVISION_MINIMUM
        )
        return all([solver.solve(problem) for problem in problems])

    def _torchProblem(self, state: TorchState) -> DependencyProblem | None:
        packages = ("torch",)
        if state.status == "installed" and meetsMinimum(state.version, TORCH_MINIMUM):
            return self._graphicsCardProblem(state)
        if self._machine == "darwin x86_64":
            sentence = (
                f"PyTorch {TORCH_MINIMUM} does not exist for Slicer on Intel Macs: use Slicer's version for Apple "
                "silicon, or a computer with Windows or Linux."
            )
            return DependencyProblem("torchMissing", sentence, packages=packages)
        if state.status == "missing":
            code, sentence = "torchMissing", "PyTorch, which runs the models, is not installed."
        elif state.status == "broken":
            code = "torchBroken"
            sentence = f"PyTorch is only half installed ({state.reason}): it has to be removed and installed again."
        else:
            code = "torchOld"
            sentence = f"PyTorch {state.version} is too old: {TORCH_MINIMUM} or newer is needed."
        if not self._installer.canInstall():
            command = f'{sys.executable} -m pip install "torch>={TORCH_MINIMUM}"'
            return DependencyProblem(code, f"{sentence} Install it with: {command}", packages=packages)
        if not self._installer.hasTorchExtension():
            sentence = f"{sentence} Slicer's extension PyTorch does that and is missing:"
            if self._installer.hasExtensionsManager():
                sentence = f"{sentence} install it with the Extensions Manager and restart Slicer."
                return DependencyProblem("extension", sentence, "Open Extensions Manager", packages)
            # Without a button the way has to be in words.
            sentence = (
                f"{sentence} install it with Slicer's menu View / Extensions Manager and restart Slicer; a Slicer "
                "without that entry was built without extensions, get one from https://download.slicer.org instead."
            )
            return DependencyProblem("extension", sentence, packages=packages)
        action = "Update PyTorch" if code == "torchOld" else "Install PyTorch"
        return DependencyProblem(code, sentence, action, packages)

    def _graphicsCardProblem(self, state: TorchState) -> DependencyProblem | None:
        if state.gpuBuild is not None or self._machine.startswith("darwin"):
            return None
        if self._driver is None:
            self._driver = (self._graphicsDriver(),)
        if self._driver[0] is None:
            return None
        sentence = (
            "This computer has an NVIDIA graphics card, but PyTorch was installed without support for it and is slow."
        )
        installable = self._installer.canInstall() and self._installer.hasTorchExtension()
        action = "Install PyTorch for the graphics card" if installable else None
        return DependencyProblem("torchCpuOnly", sentence, action, ("torch",), blocking=False)

    def _packagesProblem(self, names: tuple[str, ...]) -> DependencyProblem | None:
        if not names:
            return None
        sentence = f"The {packages(names)} {'is' if len(names) == 1 else 'are'} missing, too old or damaged."
        if self._installer.canInstall():
            return DependencyProblem("packages", sentence, f"Install {listOf(names)}", names)
        command = f"{sys.executable} -m pip install -r {self._requirementsPath()}"
        return DependencyProblem("packages", f"{sentence} Install with: {command}", packages=names)

    def _missing(self) -> tuple[str, ...]:
        """The packages of the requirements file that are not there, or too old, or lack their module."""
        return tuple(
            name
            for name, minimum in self._requirements().items()
            if not meetsMinimum(self._installed.version(name) or "0", minimum) or not self._installed.hasModule(name)
        )

    def _requirements(self) -> dict[str, str]:
        """Lower bounds of the versions by name."""
        lines = self._requirementsPath().read_text(encoding="utf-8").splitlines()
        return dict(line.strip().split(">=") for line in lines if line.strip() and not line.startswith("#"))

    def _requirementsPath(self) -> Path:
        return self._requirementsFile or resourcePath("requirements.txt")


def _question(problems: tuple[DependencyProblem, ...]) -> str:
    sentences = " ".join(problem.sentence for problem in problems)
    if all(problem.code == "extension" for problem in problems):
        return f"{sentences}\n\nOpen the Extensions Manager now?"
    size = " PyTorch takes up to 6 GB on the disk." if any("torch" in problem.packages for problem in problems) else ""
    return (
        f"{sentences}\n\nDownload {_names(problems)} from the internet and install into Slicer's Python now? This "
        f"takes some minutes, in which Slicer may not answer.{size}"
    )


def _names(problems: tuple[DependencyProblem, ...]) -> str:
    return listOf(list(dict.fromkeys(name for problem in problems for name in problem.packages)))
