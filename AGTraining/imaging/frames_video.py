"""Video files as clips, read with PyAV (FFmpeg), which is optional."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np

from AGTraining.errors import InputError, PackageError
from AGTraining.imaging.frame_sequence import Frame, FrameSequence, Missing, gray

VIDEO_SUFFIXES = (
    ".avi", ".mp4", ".m4v", ".mov", ".mkv", ".webm", ".wmv", ".asf", ".mpg", ".mpeg", ".ogv", ".flv", ".ts", ".mts",
)  # fmt: skip
GRAY_FORMATS = {"gray": np.uint8, "gray8": np.uint8, "gray16le": np.uint16, "gray16be": np.uint16}


class VideoSequence(FrameSequence):
    """
    The first video stream of a file, in the order in which its frames are shown; times as the file states them.

    `count` is what the container says, which some leave out (None). Raises PackageError without PyAV, InputError for a
    file that is no video or damaged.
    """

    seekable = False

    def __init__(self, path: Path, stream: Path | None = None) -> None:
        # stream: the file with the video, where it is another one than that which the user named.
        self._stream = path if stream is None else stream
        self._av = _pyav(path)
        try:
            with self._av.open(str(self._stream)) as container:
                if not container.streams.video:
                    raise InputError(f"{path}: it holds no pictures (only sound or data); name a video.")
                stated = container.streams.video[0].frames
        except self._av.error.FFmpegError as error:
            raise InputError(
                f"{path}: the file is no video, or cut off or damaged; copy or export it again."
            ) from error
        super().__init__(path, stated or None)

    def _read_from(self, start: int) -> Iterator[Frame | Missing]:
        index = 0
        with self._av.open(str(self._stream)) as container:
            stream = container.streams.video[0]
            try:
                for picture in container.decode(stream):
                    if index >= start:
                        seconds = None if picture.time is None else float(picture.time)
                        yield Frame(index, _image(picture), seconds)
                    index += 1
            except self._av.error.FFmpegError as error:
                raise self._broken(index, "damaged") from error
        if self.count is not None and index < self.count:
            raise self._broken(index, "cut off")


def _pyav(path: Path) -> Any:
    try:
        import av
    except ImportError as error:
        raise PackageError(
            f"{path}: videos are read with the package PyAV, which is not installed; install it with "
            "'pip install av', or convert the video to a DICOM, NRRD or MHA file."
        ) from error
    return av


def _image(picture: Any) -> np.ndarray:
    if picture.format.name in GRAY_FORMATS:
        return gray(picture.to_ndarray())
    return gray(picture.to_ndarray(format="rgb24"))
