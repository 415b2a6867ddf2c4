"""Errors whose text is one sentence that a user can act on."""

from __future__ import annotations


class AGTrainingError(Exception):
    """Base of all errors that are shown to users: which file or node, what is wrong, what to do.

    `code` is a stable word for programs (the worker's `error` events carry it).
    """

    code = "error"


class InputError(AGTrainingError, ValueError):
    """An image that cannot be read or cannot be segmented."""

    code = "input"


class BundleError(AGTrainingError, ValueError):
    """A model file that is missing, truncated, altered or made for something else."""

    code = "model"


class ConfigurationError(AGTrainingError, ValueError):
    """A training configuration or data set description that is not valid."""

    code = "configuration"


class DeviceError(AGTrainingError, RuntimeError):
    """A computing device that does not exist or has too little memory."""

    code = "device"


class ExportError(AGTrainingError, RuntimeError):
    """A model that cannot be exported here, or whose exported file would compute something else."""

    code = "export"


class ClusterError(AGTrainingError, RuntimeError):
    """A Dask cluster that cannot be reached or whose workers cannot do the work."""

    code = "cluster"


class PackageError(AGTrainingError, ImportError):
    """A Python package that is missing or cannot be loaded."""

    code = "package"


class DiskError(AGTrainingError):
    """A folder for temporary files that cannot be written: most often its disk is full."""

    code = "disk"


class RequestError(AGTrainingError, ValueError):
    """A request to the worker, or its answer, that is not what the protocol says."""

    code = "request"


class Cancelled(AGTrainingError):
    """The caller asked to stop; nothing was written."""

    code = "cancelled"

    def __init__(self, message: str = "Cancelled on request; nothing was changed.") -> None:
        super().__init__(message)


def code(error: Exception) -> str:
    """The stable word of an error; `internal` for one that nobody foresaw."""
    return error.code if isinstance(error, AGTrainingError) else "internal"


def sentence(error: Exception) -> str:
    """The error for a user: its own sentence, or the kind of an error that nobody foresaw."""
    if isinstance(error, AGTrainingError):
        return str(error)
    if isinstance(error, MemoryError):
        return "There is not enough memory for this scan; close other programs, or use smaller tiles with --tile."
    if isinstance(error, OSError) and error.filename is not None:
        return f"{error.filename}: cannot be used ({error.strerror}); check the path and its permissions."
    text = " ".join(str(error).split())[:300]
    return f"An unforeseen problem ({type(error).__name__}: {text}); --debug shows where."
