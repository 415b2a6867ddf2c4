"""The pixels of a labelled frame."""

from __future__ import annotations

from collections import OrderedDict
from typing import Any

import numpy as np
from PIL import Image, UnidentifiedImageError

from AGTraining.data.planes import hdf5
from AGTraining.data.planes.labelled import LabelledFrame
from AGTraining.errors import InputError

STILLS = (".png", ".jpg", ".jpeg", ".bmp", ".pgm")
# Clips that stay open: opening one for each of its frames would read its header again and again.
OPEN_CLIPS = 4
_clips: OrderedDict[str, Any] = OrderedDict()


def read_frame(frame: LabelledFrame) -> np.ndarray:
    """The frame, (rows, columns) uint8 gray. Raises InputError with the file's name."""
    if frame.source.suffix.lower() in hdf5.ENDINGS:
        return hdf5.read_image(frame)
    if frame.index is None and (image := _gray_still(frame)) is not None:
        return image
    from AGTraining.imaging.frames import display

    image = _clip(str(frame.source)).read(frame.index or 0).image
    return image if image.dtype == np.uint8 else display(image)


def _gray_still(frame: LabelledFrame) -> np.ndarray | None:
    """An 8-bit gray picture, as nearly all frames of training sets are; None for others, which need more thought."""
    if frame.source.suffix.lower() not in STILLS:
        return None
    try:
        with Image.open(frame.source) as picture:
            return np.asarray(picture) if picture.mode == "L" else None
    except (OSError, UnidentifiedImageError, Image.DecompressionBombError, ValueError, SyntaxError) as error:
        why = "it does not exist" if isinstance(error, FileNotFoundError) else "it is no picture, or damaged"
        raise InputError(f"{frame.source}: cannot be read ({why}); leave it out, or copy it anew.") from error


def _clip(path: str) -> Any:
    from AGTraining.imaging.frames import open_frames

    if path in _clips:
        _clips.move_to_end(path)
        return _clips[path]
    clip = open_frames(path).__enter__()
    _clips[path] = clip
    if len(_clips) > OPEN_CLIPS:
        _, oldest = _clips.popitem(last=False)
        oldest.__exit__(None, None, None)
    return clip
