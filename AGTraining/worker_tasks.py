"""What the worker can be asked to do. Imports PyTorch only when something is asked for."""

from __future__ import annotations

import errno
import importlib
import platform
import traceback
from collections.abc import Callable, Hashable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

from AGTraining import __version__
from AGTraining.errors import AGTrainingError, Cancelled, PackageError, RequestError

if TYPE_CHECKING:
    from AGTraining.bundle import Bundle

# What inference imports; the large one last, so that a small one that is missing is told at once.
PACKAGES = ("numpy", "scipy", "SimpleITK", "psutil", "pydantic", "safetensors", "torch")
WINDOWS_COMMITMENT_LIMIT = 1455
LOADING, COMPUTING, HANDING_OVER = 0.01, 0.02, 0.98

T = TypeVar("T")
ProgressCallback = Callable[[float, str], None]
CancelCallback = Callable[[], bool]
Task = Callable[[Mapping[str, Any], "ModelKeeper", ProgressCallback, CancelCallback], dict[str, Any]]


class ModelKeeper:
    """Keeps the last model of each kind loaded, as long as its file stays as it is."""

    def __init__(self) -> None:
        self._kept: dict[str, tuple[Hashable, Any]] = {}

    def load(self, path: Path | None) -> Bundle:
        """The model of a file, None for the bundled one. Raises BundleError as `bundle.load`."""
        from AGTraining import bundle

        file = bundle.default_path() if path is None else path
        return self.keep("segmentation", file, None, lambda: bundle.load(file))

    def keep(self, kind: str, path: Path, options: Hashable, load: Callable[[], T]) -> T:
        """What `load` makes of the model file with these options; it is made once while both stay as they are."""
        key = None
        if path.is_file():
            status = path.stat()
            key = (path, status.st_mtime_ns, status.st_size, options)
        kept = self._kept.get(kind)
        if kept is None or key is None or kept[0] != key:
            # The old one goes first: two may not fit.
            self._kept.pop(kind, None)
            del kept
            loaded = load()
            self._kept[kind] = key, loaded
            return loaded
        return kept[1]


def load_packages(is_cancelled: CancelCallback = lambda: False) -> None:
    """Imports all packages that inference needs, which takes seconds the first time.

    Raises PackageError, which names the package, when one is missing or broken, and Cancelled.
    """
    # Packages that were installed after a request failed are found by the next one.
    importlib.invalidate_caches()
    for name in PACKAGES:
        if is_cancelled():
            raise Cancelled
        try:
            module = importlib.import_module(name)
        except MemoryError:
            raise
        except ModuleNotFoundError as error:
            missing = error.name or name
            if "." in missing:
                raise _broken(name, error) from error
            raise PackageError(f"The Python package {missing} is missing; install it and run again.") from error
        except Exception as error:
            if _is_out_of_memory(error):
                raise
            raise _broken(name, error) from error
        # What an interrupted installation leaves is a folder without __init__.py, which Python takes for a package.
        if getattr(module, "__file__", None) is None:
            raise PackageError(f"The Python package {name} is only partly there; remove it and install it again.")


def segment(
    request: Mapping[str, Any], models: ModelKeeper, progress: ProgressCallback, is_cancelled: CancelCallback
) -> dict[str, Any]:
    """Segments the volume in the request's folder; the result's files are written there.

    Raises RequestError for what is not a request of this protocol, and all that `inference.segment` and `exchange` do.
    """
    from AGTraining.exchange import load_options, load_volume, save_result
    from AGTraining.inference.predict import is_out_of_memory
    from AGTraining.inference.segment import segment as run

    def check() -> None:
        if is_cancelled():
            raise Cancelled

    def computing(fraction: float, stage: str) -> None:
        progress(COMPUTING + (HANDING_OVER - COMPUTING) * fraction, stage)

    folder = path_of(request, "folder")
    if folder is None:
        raise RequestError("The request names no folder for its files; update the extension.")
    volume = load_volume(request.get("volume"), folder, mapped=True)  # type: ignore[arg-type]
    options = load_options(request.get("options", {}))
    progress(LOADING, "Loading the model")
    bundle = models.load(path_of(request, "model"))
    try:
        result = run(volume, bundle, options, progress=computing, is_cancelled=is_cancelled)
    except RuntimeError as error:
        if not isinstance(error, AGTrainingError) and is_out_of_memory(error):
            raise MemoryError(str(error)) from error
        raise
    progress(HANDING_OVER, "Handing over the result")
    return save_result(result, folder, check)


def describe(
    request: Mapping[str, Any], models: ModelKeeper, progress: ProgressCallback, is_cancelled: CancelCallback
) -> dict[str, Any]:
    """Versions and devices; with a model also the largest cubic tile that each device has memory for.

    Raises RequestError, and BundleError for a model that cannot be loaded.
    """
    import torch

    from AGTraining import bundle
    from AGTraining.inference.device import list_devices
    from AGTraining.inference.predict import largest_cube
    from AGTraining.networks import UNet3D

    model = path_of(request, "model")
    # Frames of ultrasound are not cut into tiles.
    has_tiles = model is not None and bundle.read_info(model).task == "segmentation"
    network = models.load(model).network if has_tiles else None
    return {
        "version": __version__,
        "python": platform.python_version(),
        "torch": str(torch.__version__),
        "cuda_build": torch.version.cuda or (f"ROCm {torch.version.hip}" if torch.version.hip else None),
        "cuda_available": torch.cuda.is_available(),
        "threads": torch.get_num_threads(),
        "devices": [
            {
                "device": str(memory.device),
                "name": memory.name,
                "total_bytes": memory.total_bytes,
                "free_bytes": memory.free_bytes,
                "largest_tile": largest_cube(network, memory.device) if isinstance(network, UNet3D) else None,
            }
            for memory in list_devices()
        ],
    }


def free_gpus() -> None:
    """Leaves the memory of the GPUs to other programs."""
    from AGTraining.inference.device import free_cached_memory

    free_cached_memory()


SEGMENTATION_TASKS: Mapping[str, Task] = {"segment": segment, "describe": describe}


def error_fields(error: BaseException) -> dict[str, str]:
    """What an `error` event says of an error: code, a sentence for the user, traceback."""
    text = "".join(traceback.format_exception(error))
    return {"code": _code(error), "message": _sentence(error), "traceback": text}


def _code(error: BaseException) -> str:
    if isinstance(error, AGTrainingError):
        return error.code
    if isinstance(error, ImportError):
        return "package"
    if _is_out_of_memory(error):
        return "memory"
    if isinstance(error, OSError) and error.errno == errno.ENOSPC:
        return "disk"
    return "internal"


def _sentence(error: BaseException) -> str:
    code = _code(error)
    if isinstance(error, AGTrainingError):
        return str(error)
    if code == "package":
        return f"A Python package cannot be loaded ({_short(error)}); install it again."
    if code == "memory":
        return "There is not enough memory for this image; close other programs, or choose a smaller tile size."
    if code == "disk":
        return f"The disk is full ({_short(error)}); free space and run again."
    return f"An unforeseen problem ({type(error).__name__}: {_short(error)}); the log shows where."


def _is_out_of_memory(error: BaseException) -> bool:
    """Whether Python or the system ran out of memory; a library that Windows has no room for counts."""
    return (
        isinstance(error, MemoryError)
        or (isinstance(error, OSError) and error.errno == errno.ENOMEM)
        or getattr(error, "winerror", None) == WINDOWS_COMMITMENT_LIMIT
    )


def _broken(name: str, error: Exception) -> PackageError:
    return PackageError(
        f"The Python package {name} cannot be loaded ({_short(error) or type(error).__name__}); remove it and install "
        "it again."
    )


def path_of(request: Mapping[str, Any], name: str) -> Path | None:
    """A path that a request names, None where it names none. Raises RequestError for what is no path."""
    value = request.get(name)
    if value is not None and (not isinstance(value, str) or not value):
        raise RequestError(f"The request's '{name}' is no path: {value!r}; update the extension.")
    return None if value is None else Path(value)


def _short(error: BaseException) -> str:
    return " ".join(str(error).split())[:300]
