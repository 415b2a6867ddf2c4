"""
Ultrasound clips from files, one frame at a time: the door to all formats.

Multi-frame DICOM, MetaImage and NRRD sequences (also those of Slicer and of the Plus toolkit), folders of pictures,
single pictures, video (with the optional package PyAV).
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from pathlib import Path

from AGTraining.errors import InputError
from AGTraining.imaging.dicom import is_dicom
from AGTraining.imaging.frame_sequence import Frame, FrameError, FrameSequence, display, gray
from AGTraining.imaging.frames_metaimage import read_metaimage
from AGTraining.imaging.frames_nrrd import read_nrrd
from AGTraining.imaging.frames_pictures import PictureFile, PictureFolder, is_picture, natural_order
from AGTraining.imaging.frames_raster import RasterSequence
from AGTraining.imaging.frames_video import VIDEO_SUFFIXES, VideoSequence

__all__ = ["Frame", "FrameError", "FrameSequence", "display", "find_clips", "gray", "open_frames"]

RASTER_SUFFIXES = (".mha", ".mhd", ".nrrd", ".nhdr")
DICOM_SUFFIXES = (".dcm", ".ima")
VOLUME_SUFFIXES = (".nii", ".nii.gz", ".hdr", ".img")
KINDS = "a DICOM, MHA, NRRD, video or picture file, or a folder of pictures"


def open_frames(path: str | Path) -> FrameSequence:
    """
    The clip in a file or folder, told by its content where names do not say enough; close it or use `with`.

    Only the header is read here. Raises InputError with a sentence for what is missing, empty, damaged or no clip of
    2-D pictures, and PackageError for video without PyAV.
    """
    given, path = str(path), Path(path).expanduser()
    try:
        if not path.exists():
            raise InputError(f"{given}: no such file or folder; check the path.")
        return _format(path)(path)
    except OSError as error:
        where, why = error.filename or given, error.strerror or error
        raise InputError(f"{where}: cannot be read ({why}); check the file and its permissions.") from error


def find_clips(paths: Iterable[str | Path]) -> list[Path]:
    """
    The clips that are meant by files and folders on a command line, each once, in order.

    A file is a clip. A folder stands for all clips in it and in its folders, in the natural order of their names:
    pictures that lie together in one folder are one clip, every other file that can hold frames is one of its own.
    Raises InputError for a path that does not exist, for a folder without clips, and for what cannot be read.
    """
    clips: dict[Path, None] = {}
    for path in (Path(p).expanduser() for p in paths):
        try:
            if not path.exists():
                raise InputError(f"{path}: no such file or folder; check the path.")
            found = list(_clips_in(path)) if path.is_dir() else [path]
        except OSError as error:
            where, why = error.filename or path, error.strerror or error
            raise InputError(f"{where}: cannot be read ({why}); check its permissions, or name its clips.") from error
        if not found:
            raise InputError(f"{path}: the folder holds no clips; name {KINDS}.")
        clips.update(dict.fromkeys(found))
    return list(clips)


def _format(path: Path) -> Callable[[Path], FrameSequence]:
    if path.is_dir():
        return PictureFolder
    if path.stat().st_size == 0:
        raise InputError(f"{path}: the file is empty; copy or export it again.")
    name, suffix = path.name.lower(), path.suffix.lower()
    if path.name.upper() == "DICOMDIR":
        raise InputError(f"{path}: a DICOMDIR lists files of a disk; name one of them, or their folder.")
    with open(path, "rb") as file:
        start = file.read(16)
    if start.startswith(b"NRRD"):
        return lambda p: RasterSequence(p, read_nrrd(p))
    if suffix in (".mha", ".mhd"):
        return lambda p: RasterSequence(p, read_metaimage(p))
    if suffix in (".nrrd", ".nhdr"):
        raise InputError(f"{path}: the file is no NRRD file, or damaged; copy or export it again.")
    if is_dicom(path):
        # Imported late: pydicom takes a quarter of a second, and most starts of the program do not need it.
        from AGTraining.imaging.frames_dicom import open_dicom

        return open_dicom
    if is_picture(path):
        return PictureFile
    if suffix in VIDEO_SUFFIXES:
        return VideoSequence
    if name.endswith(VOLUME_SUFFIXES):
        raise InputError(f"{path}: a volume file, not a clip of frames; name {KINDS}.")
    raise InputError(f"{path}: of no known format; name {KINDS}.")


def _clips_in(folder: Path) -> Iterable[Path]:
    entries = sorted((p for p in folder.iterdir() if not p.name.startswith(".")), key=natural_order)
    if any(p.is_file() and is_picture(p) for p in entries):
        yield folder
    for path in entries:
        if path.is_dir():
            yield from _clips_in(path)
        elif _is_clip(path):
            yield path


def _is_clip(path: Path) -> bool:
    if path.suffix.lower() in (*RASTER_SUFFIXES, *DICOM_SUFFIXES, *VIDEO_SUFFIXES):
        return True
    # Scanners give DICOM files no suffix at all.
    return path.name.upper() != "DICOMDIR" and not is_picture(path) and path.is_file() and is_dicom(path)
