"""What a user chooses for a segmentation."""

from collections.abc import Iterable
from dataclasses import dataclass
from numbers import Integral
from pathlib import Path
from typing import Any, Literal

import numpy as np

from AGTraining.errors import InputError
from AGTraining.inference.result import SegmentOptions

_ATTENTION = ("none", "levels", "gates")


@dataclass(frozen=True)
class ProcessingOptions:
    """The choices for a segmentation, in a form that needs no torch.

    modelPath: a bundle; None is the model that comes with the extension. tileSize: model voxels along K, J, I; None is
    automatic. organs: names of the organs to keep; None is all. The others are as in
    `AGTraining.inference.result.SegmentOptions`.
    """

    modelPath: str | Path | None = None
    device: str = "auto"
    attention: Literal["none", "levels", "gates"] = "none"
    tileSize: tuple[int, int, int] | None = None
    mirror: bool = False
    largestComponent: bool = True
    organs: tuple[str, ...] | None = None

    def segmentOptions(self) -> SegmentOptions:
        """These choices as AGTraining takes them; lists and NumPy's numbers become tuples and Python's.

        Raises InputError when one is not what it can be. Whether this computer has the device, and the model the
        organs, is not looked at.
        """
        absoluteModelPath(self.modelPath)
        if not isinstance(self.device, str) or not self.device:
            raise InputError(f"The device {self.device!r} is no name; choose 'auto', 'cpu', 'cuda:0' or 'mps'.")
        if not isinstance(self.attention, str) or self.attention not in _ATTENTION:
            raise InputError(f"The attention {self.attention!r} is not known; choose 'none', 'levels' or 'gates'.")
        return SegmentOptions(
            device=self.device,
            attention=self.attention,
            tile_size=_tileSize(self.tileSize),
            mirror=_boolean("mirror", self.mirror),
            largest_component=_boolean("largestComponent", self.largestComponent),
            organs=_organs(self.organs),
        )


def absoluteModelPath(path: str | Path | None) -> Path | None:
    """A model's path from the root on, the user's home folder written out; None is None.

    Raises InputError for what is no path, and where there is no such home folder.
    """
    if path is None:
        return None
    if not isinstance(path, str | Path) or not str(path) or "\0" in str(path):
        raise InputError(f"The model path {path!r} is no path of a file; None is the model of the extension.")
    try:
        return Path(path).expanduser().absolute()
    except (RuntimeError, OSError) as error:
        raise InputError(f"{path}: no such model file ({error}); choose another or give its full path.") from error


def _boolean(name: str, value: Any) -> bool:
    if not isinstance(value, bool | np.bool_):
        raise InputError(f"{name} is {value!r}; it can be True or False.")
    return bool(value)


def _tileSize(value: Any) -> tuple[int, int, int] | None:
    if value is None:
        return None
    edges = tuple(value) if isinstance(value, Iterable) else ()
    if len(edges) != 3 or not all(isinstance(n, Integral) and not isinstance(n, bool) and n > 0 for n in edges):
        raise InputError(f"The tile size {value!r} is not three positive whole numbers; None is automatic.")
    k, j, i = (int(n) for n in edges)
    return k, j, i


def _organs(value: Any) -> tuple[str, ...] | None:
    if value is None:
        return None
    names = tuple(value) if isinstance(value, Iterable) and not isinstance(value, str | bytes) else None
    if names is None or not all(isinstance(name, str) for name in names):
        raise InputError(f"The organs {value!r} are no list of names, such as ('spleen',); None is all of them.")
    if not names:
        raise InputError("No organ was chosen; choose at least one, or None for all.")
    return names
