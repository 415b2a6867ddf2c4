"""DICOM folders: which series is the CT, are all its slices there, and where do they lie.

Slices are ordered and placed by their positions in the patient, never by file name or instance number. A stack
with a gap is refused: everything behind the gap would be in the wrong place, and no voxel is invented to fill it.
"""

from __future__ import annotations

import re
from collections import defaultdict
from collections.abc import Iterable, Sequence
from pathlib import Path

import numpy as np
import SimpleITK as sitk

from AGTraining.errors import InputError
from AGTraining.imaging.dicom_stack import EXPORT, PASS_TAGS, Slice, heights_mm, require_even, single_pass, stack_matrix
from AGTraining.imaging.volume import Volume

CT_STORAGE = b"1.2.840.10008.5.1.4.1.1.2"


class NoImages(InputError):
    """A folder without a single DICOM image."""


def is_dicom(path: Path) -> bool:
    """Whether the file is DICOM by its magic word, or by its suffix for files without preamble."""
    with open(path, "rb") as file:
        start = file.read(132)
    return start[128:] == b"DICM" or path.suffix.lower() in (".dcm", ".ima")


def read_folder(path: Path) -> tuple[Volume, tuple[str, ...]]:
    """The stack with the most axial CT slices in a folder and the folders in it.

    Raises NoImages when there is none, InputError when slices are missing or lie unevenly.
    """
    slices, damaged = _scan(p for p in sorted(path.rglob("*")) if p.is_file())
    if not slices:
        if damaged:
            raise InputError(f"{path}: its DICOM files cannot be read (the first is {damaged[0].name}); {EXPORT}.")
        raise NoImages(f"{path}: the folder holds no DICOM images.")
    return _read_best(path, _stacks(slices), damaged)


def read_series_of(path: Path) -> tuple[Volume, tuple[str, ...]]:
    """The stack that a DICOM file belongs to, from the files beside it. Raises InputError as `read_folder` does."""
    own, _ = _scan([path])
    if not own:
        raise InputError(f"{path}: a DICOM file without a readable image; name a CT slice or the folder of its series.")
    if own[0].multi_frame:
        raise _multi_frame(path)
    slices, damaged = _scan(p for p in sorted(path.parent.iterdir()) if p.is_file())
    stacks = [stack for stack in _stacks(slices) if any(s.key == own[0].key for s in stack)]
    return _read_best(path, stacks, damaged)


def _scan(paths: Iterable[Path]) -> tuple[list[Slice], list[Path]]:
    """Headers of all DICOM images, each slice once, and the CT files that cannot be read."""
    slices: dict[tuple[object, ...], Slice] = {}
    damaged = []
    for path in paths:
        with open(path, "rb") as file:
            start = file.read(1024)
        if start[128:132] != b"DICM" and path.suffix.lower() not in (".dcm", ".ima"):
            continue
        reader = sitk.ImageFileReader()
        reader.SetImageIO("GDCMImageIO")
        reader.SetFileName(str(path))
        try:
            reader.ReadImageInformation()
        except RuntimeError:
            # Plans, reports and the like are no images; a CT that cannot be read is a loss to report.
            if re.search(rb"\x02\x00\x02\x00UI..(" + re.escape(CT_STORAGE) + rb")[\x00.]", start, re.DOTALL):
                damaged.append(path)
            continue
        found = _slice(path, reader)
        if found is not None:
            slices.setdefault(found.key, found)
    return list(slices.values()), damaged


def _slice(path: Path, reader: sitk.ImageFileReader) -> Slice | None:
    """The header, or None for an image without a place in the patient (secondary captures, color images)."""

    def text(tag: str) -> str:
        # GDCM hands over bytes in the file's own character set.
        return reader.GetMetaData(tag).encode("utf-8", "replace").decode("utf-8").strip("\0 ") if tag in keys else ""

    def numbers(tag: str) -> list[float]:
        try:
            return [float(word) for word in text(tag).split("\\")]
        except ValueError:
            return []

    keys = set(reader.GetMetaDataKeys())
    size = tuple(reader.GetSize())
    multi_frame = len(size) > 2 and size[2] > 1
    position, axes, spacing = numbers("0020|0032"), numbers("0020|0037"), numbers("0028|0030")
    if multi_frame:
        direction = np.asarray(reader.GetDirection()).reshape(3, 3)
        position, axes = list(reader.GetOrigin()), [*direction[:, 0], *direction[:, 1]]
        spacing = list(reader.GetSpacing()[1::-1])
    if reader.GetNumberOfComponents() != 1 or (len(position), len(axes), len(spacing)) != (3, 6, 2):
        return None
    thickness = numbers("0018|0050")
    return Slice(
        path=path,
        series=text("0020|000e"),
        description=text("0008|103e") or f"series {text('0020|0011')}",
        instance=text("0008|0018") or str(path),
        computed_tomography=text("0008|0060") == "CT",
        localizer="LOCALIZER" in text("0008|0008").upper(),
        passes=tuple(text(tag) for tag in PASS_TAGS.values()),
        size=size,
        pixel_type=reader.GetPixelIDValue(),
        spacing=(spacing[1], spacing[0]),
        thickness=thickness[0] if thickness else 0.0,
        position=np.array(position),
        row=np.array(axes[:3]),
        column=np.array(axes[3:]),
    )


def _stacks(slices: Sequence[Slice]) -> list[list[Slice]]:
    """Groups of slices that can be one volume, best first: CT, axial, a file for each slice, most slices."""
    stacks: list[list[Slice]] = []
    by_series: dict[str, list[list[Slice]]] = defaultdict(list)
    for item in slices:
        candidates = by_series[item.series]
        stack = next((s for s in candidates if not item.multi_frame and item.stacks_with(s[0])), None)
        if stack is None:
            stack = []
            candidates.append(stack)
            stacks.append(stack)
        stack.append(item)
    return sorted(stacks, key=lambda stack: (stack[0].rank, not stack[0].multi_frame, _count(stack)), reverse=True)


def _count(stack: Sequence[Slice]) -> int:
    return stack[0].size[2] if stack[0].multi_frame else len(stack)


def _read_best(path: Path, stacks: list[list[Slice]], damaged: list[Path]) -> tuple[Volume, tuple[str, ...]]:
    """Reads the first stack; says which one it is, and what was left out."""
    stack, others = stacks[0], stacks[1:]
    if stack[0].multi_frame:
        raise _multi_frame(stack[0].path)
    messages = []
    if others:
        left = "; ".join(f"'{s[0].description}' ({_count(s)})" for s in others[:4]) + ("; …" if len(others) > 4 else "")
        messages.append(
            f"{path}: it holds {len(stacks)} image series; '{stack[0].description}' with {_count(stack)} slices "
            f"was taken, the one with the most axial CT slices (left out: {left})."
        )
    if not stack[0].rank[0]:
        what = "a localizer" if stack[0].localizer else "no CT"
        messages.append(f"{path}: '{stack[0].description}' is {what}; models for CT give no useful result on it.")
    if damaged:
        more = f" and {len(damaged) - 1} more" if len(damaged) > 1 else ""
        messages.append(f"{path}: {damaged[0].name}{more} cannot be read and was left out; {EXPORT}.")
    volume, more_messages = _read_stack(path, stack)
    return Volume(volume.array, volume.ijk_to_world, str(path)), (*messages, *more_messages)


def _read_stack(path: Path, stack: Sequence[Slice]) -> tuple[Volume, tuple[str, ...]]:
    ordered = [stack[n] for n in np.argsort(heights_mm(stack), kind="stable")]
    stack, messages = single_pass(path, ordered)
    if len(stack) < 2:
        raise InputError(f"{path}: its series has a single slice; name the folder with all slices of a CT.")
    messages += require_even(path, stack)
    matrix, tilt = stack_matrix(path, stack)
    reader = sitk.ImageSeriesReader()
    reader.SetFileNames([str(s.path) for s in stack])
    if len({s.pixel_type for s in stack}) > 1:
        # Rescaled differently slice by slice: the first slice's type may not hold the others.
        reader.SetOutputPixelType(sitk.sitkFloat32)
    try:
        image = reader.Execute()
    except RuntimeError as error:
        raise InputError(f"{path}: the pixels of its slices cannot be read; {EXPORT}, uncompressed.") from error
    return Volume(_narrowed(image), matrix, str(path)), (*messages, *tilt)


def _multi_frame(path: Path) -> InputError:
    """GDCM takes the frames in the order of the file and their distance from the first two, or for 1 mm."""
    return InputError(
        f"{path}: a multi-frame (enhanced) DICOM file, whose slice positions cannot be checked here; export it as a "
        "classic series with one file for each slice, or convert it to NIfTI with dcm2niix."
    )


def _narrowed(image: sitk.Image) -> np.ndarray:
    """The voxels, as int16 where GDCM's 32-bit integers fit into it: half the memory, no value changed."""
    view = sitk.GetArrayViewFromImage(image)
    limits = np.iinfo(np.int16)
    if view.dtype in (np.int32, np.uint32, np.int64) and view.min() >= limits.min and view.max() <= limits.max:
        return view.astype(np.int16)
    return np.array(view)
