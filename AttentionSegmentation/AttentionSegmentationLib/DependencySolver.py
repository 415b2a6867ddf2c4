"""Has missing Python packages installed, and says what went wrong when that fails."""

import re
import subprocess
import sys
from collections.abc import Mapping
from importlib.metadata import PackageNotFoundError, requires

from AGTraining.errors import AGTrainingError, PackageError

from .DependencyProblem import DependencyProblem, packages
from .InstalledPackages import InstalledPackages, canonicalName, meetsMinimum
from .PackageInstaller import PackageInstaller

_TRY_AGAIN = "check the network and its proxy, and try again (details are in Slicer's log)."


class RestartNeeded(AGTrainingError):
    """Slicer has to be restarted before going on."""

    code = "restart"


class DependencySolver:
    """Does what the button of a DependencyProblem says, without asking.

    requirements: lower bounds of the versions by name. torchMinimum, torchvisionMinimum: likewise.
    """

    def __init__(
        self,
        installed: InstalledPackages,
        installer: PackageInstaller,
        requirements: Mapping[str, str],
        torchMinimum: str,
        torchvisionMinimum: str,
    ) -> None:
        self._installed = installed
        self._installer = installer
        self._requirements = requirements
        self._torchBounds = (f">={torchMinimum}", f">={torchvisionMinimum}")

    def solve(self, problem: DependencyProblem) -> bool:
        """Whether the problem is solved. Raises PackageError with what failed, RestartNeeded."""
        if problem.code == "extension":
            self._installer.openExtensionsManager()
            # An extension that was installed just now is loaded by the next start.
            return self._installer.hasTorchExtension()
        if problem.code == "packages":
            self._installPackages(problem.packages)
        else:
            self._installTorch(problem.code)
        return True

    def _installPackages(self, names: tuple[str, ...]) -> None:
        wanted, damaged = [], []
        for name in names:
            version, minimum = self._installed.version(name), self._requirements.get(name)
            if minimum and not (version and meetsMinimum(version, minimum)):
                wanted.append(f"{name}>={minimum}")
            elif version:
                damaged.append(f"{name}{self._neededVersion(name) or f'=={version}'}")
            else:
                wanted.append(f"{name}{self._neededVersion(name)}")
        try:
            if wanted:
                self._installer.install(wanted)
            if damaged:
                self._installer.reinstall(damaged)
        except (subprocess.CalledProcessError, RuntimeError, OSError) as error:
            raise PackageError(f"The {packages(names)} could not be installed: {_TRY_AGAIN}") from error
        left = [name for name in names if not self._installed.version(name)]
        if left:
            raise PackageError(f"The {packages(left)} could not be installed: {_TRY_AGAIN}")

    def _neededVersion(self, name: str) -> str:
        """The exact version (`==1.2`) of a package that one of the required packages is bound to, or nothing."""
        for owner in self._requirements:
            try:
                texts = requires(owner) or []
            except PackageNotFoundError:
                continue
            for text in texts:
                found = re.match(r"([\w.-]+)\s*(==[\w.]+)\s*$", text)
                if found and canonicalName(found[1]) == canonicalName(name):
                    return found[2]
        return ""

    def _installTorch(self, code: str) -> None:
        try:
            if code == "torchCpuOnly":
                self._checkDriver()
            if code in ("torchOld", "torchCpuOnly") and "torch" in sys.modules:
                raise RestartNeeded(
                    "PyTorch is in use in this session of Slicer: restart Slicer, and install PyTorch before anything "
                    "else is computed."
                )
            if code in ("torchBroken", "torchCpuOnly"):
                self._removeTorch()
            self._installer.installTorch(*self._torchBounds)
        except AGTrainingError:
            raise
        except Exception as error:  # whatever the PyTorch extension, pip and the loading of PyTorch raise
            self._failTorch(error)
        if self._installed.torch().status != "installed":
            self._failTorch(None)

    def _checkDriver(self) -> None:
        if set(self._installer.computationBackends(self._torchBounds[0])) <= {"cpu"}:
            raise PackageError(
                "The driver of the graphics card is too old for PyTorch: update the NVIDIA driver, restart Slicer and "
                "try again; until then the CPU is used."
            )

    def _removeTorch(self) -> None:
        self._installer.uninstallTorch()
        state = self._installed.torch()
        if state.status != "missing":
            raise RestartNeeded(
                f"PyTorch could not be removed completely: close Slicer, delete the folder {state.folder}, start "
                "Slicer and install PyTorch again."
            )
        if "torch" in sys.modules:
            raise RestartNeeded("What was left of PyTorch is removed: restart Slicer and install PyTorch again.")

    def _failTorch(self, error: Exception | None) -> None:
        if self._installed.torch().status == "installed":
            raise RestartNeeded(
                "PyTorch is installed but cannot be loaded yet: restart Slicer and try again."
            ) from error
        raise PackageError(f"PyTorch could not be installed: {_TRY_AGAIN}") from error
