"""From the values stored in a DICOM file to the grays that a viewer shows."""

from __future__ import annotations

import numpy as np
from pydicom import Dataset
from pydicom.multival import MultiValue

from AGTraining.errors import InputError
from AGTraining.imaging.dicom_pixels import PixelFormat

try:
    from pydicom.pixels import apply_color_lut
except ImportError:
    # pydicom 2, which Slicer 5.10 brings.
    from pydicom.pixel_data_handlers.util import apply_color_lut  # type: ignore[no-redef]


def gray_table(path: str, header: Dataset, form: PixelFormat) -> np.ndarray | None:
    """
    The gray of every value that a pixel with one sample can have, to be indexed by the bits as they are stored.

    Palettes become the mean of their colors (0 to 255). Other values are rescaled, then go through the first window of
    the header to 0 … 255 (PS3.3 C.11.2.1.2); without a window they stay as they are. MONOCHROME1 is inverted.
    uint8 or uint16 where all values are such integers, else float32; None where nothing is to be done.
    Raises InputError for a palette that cannot be read.
    """
    bits = np.arange(1 << form.allocated, dtype=np.int64)
    # Bits above and below those of the picture may hold overlays.
    values = (bits >> max(form.high + 1 - form.stored, 0)) & ((1 << form.stored) - 1)
    if form.signed:
        values = np.where(values >= 1 << (form.stored - 1), values - (1 << form.stored), values)
    if form.photometric == "PALETTE COLOR":
        return _narrowed(_palette(path, header, values))
    grays = values * _number(header, "RescaleSlope", 1.0) + _number(header, "RescaleIntercept", 0.0)
    center, width = _number(header, "WindowCenter"), _number(header, "WindowWidth")
    inverted = form.photometric == "MONOCHROME1" or header.get("PresentationLUTShape") == "INVERSE"
    if width >= 1 and np.isfinite(center) and not _covers(center, width, grays):
        shown = np.clip((grays - (center - 0.5)) / max(width - 1, 1e-6) + 0.5, 0, 1) * 255
        grays = 255 - shown if inverted else shown
    elif inverted:
        grays = grays.max() + grays.min() - grays
    table = _narrowed(grays)
    same = table.dtype.itemsize * 8 == form.allocated and np.array_equal(table, bits)
    return None if same else table


def _covers(center: float, width: float, grays: np.ndarray) -> bool:
    """Whether the window is just the range of all values, so that 8-bit pictures can stay what they are."""
    return abs(center - width / 2 - grays.min()) <= 1 and abs(center + width / 2 - grays.max()) <= 1.5


def _palette(path: str, header: Dataset, values: np.ndarray) -> np.ndarray:
    try:
        colors = apply_color_lut(values, header)
    except Exception as error:
        # Broken tables end in errors of any kind within pydicom.
        raise InputError(f"{path}: its color palette cannot be read; export it as RGB.") from error
    if colors.dtype != np.uint8 and colors.max() > 255:
        # 16-bit tables hold the color in their upper byte; some makers write 8-bit values into them.
        colors = colors >> 8
    return np.asarray(colors[..., :3].mean(axis=-1))


def _number(header: Dataset, name: str, default: float = np.nan) -> float:
    """A number of the header, the first where there are several."""
    value = header.get(name)
    if isinstance(value, MultiValue | list | tuple):
        value = value[0] if len(value) else None
    try:
        return default if value is None else float(value)
    except (TypeError, ValueError):
        return default


def _narrowed(grays: np.ndarray) -> np.ndarray:
    """The same values as uint8, uint16 or float32."""
    whole = np.array_equal(grays, np.rint(grays)) and grays.min() >= 0
    if whole and grays.max() <= 255:
        return grays.astype(np.uint8)
    return grays.astype(np.uint16 if whole and grays.max() <= 65535 else np.float32)
