"""Installs Python packages with the means of Slicer 5.10 and newer; called only when the user asked for it."""

import os
import sys
import tempfile
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from importlib.machinery import PathFinder
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

import slicer
import slicer.util

from .SlicerHost import isSlicerApplication

# What Slicer 5.10 to 5.12 ship (SuperBuild/External_python-*.cmake): an installation must leave them as they are,
# since Slicer has them loaded and was built with them. Without pip, setuptools and wheel, which only build packages.
SHIPPED_PACKAGES = (
    "certifi", "cffi", "chardet", "charset-normalizer", "couchdb", "cryptography", "dcmqi", "Deprecated",
    "dicomweb-client", "gitdb", "GitPython", "highdicom", "idna", "numpy", "packaging", "pillow", "pycparser",
    "pydicom", "PyGithub", "PyJWT", "pyjpegls", "PyNaCl", "pyparsing", "python-dateutil", "requests", "retrying",
    "scipy", "SimpleITK", "six", "smmap", "typing_extensions", "urllib3", "vtk", "wrapt",
)  # fmt: skip


class PackageInstaller:
    """What Slicer, its Extensions Manager and its PyTorch extension offer.

    requester: the extension's name in the progress dialog. Methods that install raise what Slicer raises:
    `subprocess.CalledProcessError` when pip fails (its output is in Slicer's log), RuntimeError without PythonSlicer.
    """

    def __init__(self, requester: str = "AttentionSegmentation") -> None:
        self._requester = requester

    def canInstall(self) -> bool:
        """Whether this is the Slicer application; a plain Python is left to its user."""
        return isSlicerApplication()

    def isUnattended(self) -> bool:
        """Whether nobody can answer a question: a test, or Slicer without its main window."""
        return slicer.app.testingEnabled() or slicer.util.mainWindow() is None

    def isBusy(self) -> bool:
        """Whether another installation is under way, which must not be disturbed (Slicer 5.12 tells)."""
        packaging = _packaging()
        return packaging is not None and packaging.isPipInstallInProgress()

    def hasTorchExtension(self) -> bool:
        """Whether the extension PyTorch is installed and loaded."""
        # A module that Slicer loaded itself may lack what importlib.util.find_spec asks for.
        return "PyTorchUtils" in sys.modules or PathFinder.find_spec("PyTorchUtils") is not None

    def hasExtensionsManager(self) -> bool:
        """Whether this Slicer was built with the Extensions Manager."""
        return hasattr(slicer.app, "openExtensionsManagerDialog")

    def openExtensionsManager(self) -> None:
        """Opens the Extensions Manager's window; returns when it is closed."""
        slicer.app.openExtensionsManagerDialog()

    def install(self, requirements: Sequence[str]) -> None:
        """Installs what is missing of these requirements (`name>=1.2`), without changing what Slicer ships."""
        with _constraintsFile() as constraints:
            packaging = _packaging()
            if packaging is None:
                slicer.util.pip_install([*requirements, "-c", str(constraints)])
            else:
                # The user was asked already, with all names in one question.
                packaging.pip_ensure(
                    list(requirements),
                    constraints=constraints,
                    prompt_install=False,
                    prompt_restart=not self.isUnattended(),
                    requester=self._requester,
                    skip_in_testing=False,
                )

    def reinstall(self, requirements: Sequence[str]) -> None:
        """Replaces the files of packages that are installed but damaged; what they depend on stays."""
        slicer.util.pip_install([*requirements, "--force-reinstall", "--no-deps"])

    def installTorch(self, torchRequirement: str, torchvisionRequirement: str) -> None:
        """Installs PyTorch for this computer's graphics card by the PyTorch extension, without asking.

        The requirements are bounds as in `>=2.6`. PyTorch is loaded into Slicer afterwards, as the extension does.
        """
        with _constraintsFile() as constraints, _environment("PIP_CONSTRAINT", constraints.as_uri()):
            self._torchLogic().installTorch(
                askConfirmation=False,
                torchVersionRequirement=torchRequirement,
                torchvisionVersionRequirement=torchvisionRequirement,
            )

    def uninstallTorch(self) -> None:
        """Removes PyTorch and torchvision by the PyTorch extension."""
        self._torchLogic().uninstallTorch()

    def computationBackends(self, torchRequirement: str) -> list[str]:
        """The builds of PyTorch that this computer's driver can run, as in `["cpu", "cu126"]`.

        Installs the small package light-the-torch when the PyTorch extension has not done so yet.
        """
        return list(self._torchLogic().getCompatibleComputationBackends(torchVersionRequirement=torchRequirement))

    def _torchLogic(self):
        import PyTorchUtils

        return PyTorchUtils.PyTorchUtilsLogic()


def _packaging():
    """`slicer.packaging`, which Slicer has since 5.11; None before."""
    try:
        import slicer.packaging as packaging
    except ModuleNotFoundError:
        return None
    return packaging


@contextmanager
def _constraintsFile() -> Iterator[Path]:
    """A file that holds pip to the installed versions of what Slicer ships."""
    pins = []
    for name in SHIPPED_PACKAGES:
        try:
            pins.append(f"{name}=={version(name)}\n")
        except PackageNotFoundError:
            continue
    with tempfile.TemporaryDirectory(prefix="AttentionSegmentation-") as folder:
        path = Path(folder) / "constraints.txt"
        path.write_text("".join(pins), encoding="utf-8")
        yield path


@contextmanager
def _environment(name: str, value: str) -> Iterator[None]:
    """Adds a value to a list in an environment variable; pip splits it at blanks, so paths go in as URIs."""
    before = os.environ.get(name)
    os.environ[name] = f"{before} {value}" if before else value
    try:
        yield
    finally:
        if before is None:
            del os.environ[name]
        else:
            os.environ[name] = before
