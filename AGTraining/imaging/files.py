"""Reading and writing volumes: NIfTI, NRRD, MetaImage (MHA/MHD) and DICOM, all through SimpleITK.

ITK repairs some broken files in silence (zeros for the missing end of a file, 1 mm for a spacing of zero). What it
repairs is refused here, because a wrong volume in ml looks like a right one: see `AGTraining.imaging.headers`.
"""

from __future__ import annotations

import os
import re
import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import numpy as np
import SimpleITK as sitk

from AGTraining.errors import InputError
from AGTraining.imaging import dicom, headers
from AGTraining.imaging.integrity import CUT_OFF, DAMAGED, check_compressed, damaged
from AGTraining.imaging.nifti import NiftiHeader
from AGTraining.imaging.volume import Volume

WRITABLE = (".nii.gz", ".nii", ".nrrd", ".mha", ".mhd")
IMAGE_SUFFIXES = (*WRITABLE, ".nhdr", ".hdr", ".img.gz", ".img")
KINDS = "a NIfTI, NRRD or MHA file, or a folder of DICOM slices"


def image_suffix(path: Path) -> str:
    """The file's image suffix as written (`.nii.gz` counts as one), or its last suffix."""
    for suffix in IMAGE_SUFFIXES:
        if path.name.lower().endswith(suffix):
            return path.name[len(path.name) - len(suffix) :]
    return path.suffix


def read_volume(path: str | Path) -> Volume:
    """The volume in a NIfTI, NRRD or MHA/MHD file, a DICOM folder, or the DICOM series that a file belongs to.

    Voxels keep the type of the file (DICOM: int16 where the values fit); `name` is the path as given.
    Raises InputError for what is missing, damaged, not one 3-D scalar image, or has no valid geometry.
    """
    return read_volume_with_messages(path)[0]


def read_volume_with_messages(path: str | Path) -> tuple[Volume, tuple[str, ...]]:
    """As `read_volume`, and sentences on what the user should know of the file, such as which series was taken."""
    given, path = str(path), Path(path).expanduser()
    try:
        if not path.exists():
            raise InputError(f"{given}: no such file or folder; check the path.")
        with _quiet_itk():
            return _read(path)
    except OSError as error:
        where, why = error.filename or given, error.strerror or error
        raise InputError(f"{where}: cannot be read ({why}); check the file and its permissions.") from error


def _read(path: Path) -> tuple[Volume, tuple[str, ...]]:
    if path.is_dir():
        return _read_folder(path)
    if path.stat().st_size == 0:
        raise InputError(f"{path}: the file is empty; copy or export it again.")
    if path.name.upper() == "DICOMDIR":
        return dicom.read_folder(path.parent)
    if dicom.is_dicom(path):
        return dicom.read_series_of(path)
    return _read_file(path)


def write_volume(volume: Volume, path: str | Path) -> None:
    """Writes a volume, compressed, under a temporary name that is then renamed: a file is there whole or not at all.

    The suffix decides: .nii.gz, .nii, .nrrd, .mha or .mhd. Missing folders are made.
    Raises InputError for another suffix, for a sheared grid, or when the folder cannot be written to.
    """
    path = Path(path)
    if not path.name.lower().endswith(WRITABLE):
        raise InputError(f"{path}: cannot tell which image format is wanted; end the name in {', '.join(WRITABLE)}.")
    array = volume.array
    if array.dtype == bool:
        array = array.astype(np.uint8)
    elif array.dtype == np.float16:
        array = array.astype(np.float32)
    write_image(Volume(array, volume.ijk_to_world, volume.name).to_sitk(), path)


def write_image(image: sitk.Image, path: Path) -> None:
    """Writes a SimpleITK image as `write_volume` does. Raises InputError when the folder cannot be written to."""
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        # A folder of its own, because .mhd comes with a data file whose name stands in the header.
        folder = Path(tempfile.mkdtemp(prefix=".writing-", dir=path.parent))
    except OSError as error:
        raise InputError(f"{path}: cannot be written ({error.strerror}); choose another folder.") from error
    try:
        with _quiet_itk():
            sitk.WriteImage(image, str(folder / path.name), useCompression=not path.name.lower().endswith(".nii"))
        if path.name.lower().endswith((".nii", ".nii.gz")):
            header = NiftiHeader.parse(headers.first_bytes(folder / path.name))
            if header is None or not header.is_whole(folder / path.name):
                raise OSError("it was cut off")
        # The named file last: a header never points to data that are not there yet.
        for part in sorted(folder.iterdir(), key=lambda part: part.name == path.name):
            os.replace(part, path.parent / part.name)
    except (RuntimeError, OSError) as error:
        raise InputError(f"{path}: cannot be written ({_reason(error)}); is the disk full?") from error
    finally:
        shutil.rmtree(folder, ignore_errors=True)


@contextmanager
def _quiet_itk() -> Iterator[None]:
    """No warnings of ITK on stderr: what matters in them becomes a message or an error here."""
    before = sitk.ProcessObject.GetGlobalWarningDisplay()
    sitk.ProcessObject.SetGlobalWarningDisplay(False)
    try:
        yield
    finally:
        sitk.ProcessObject.SetGlobalWarningDisplay(before)


def _read_folder(path: Path) -> tuple[Volume, tuple[str, ...]]:
    try:
        return dicom.read_folder(path)
    except dicom.NoImages as error:
        images = sorted(p for p in path.rglob("*") if p.is_file() and p.name.lower().endswith(IMAGE_SUFFIXES))
        if not images:
            raise InputError(f"{path}: the folder holds no DICOM images; name {KINDS}.") from error
        which = "that file" if len(images) == 1 else "the file that is meant"
        names = ", ".join(str(p.relative_to(path)) for p in images[:3]) + (", …" if len(images) > 3 else "")
        raise InputError(f"{path}: the folder holds no DICOM images, but {names}; name {which} instead.") from error


def _read_file(path: Path) -> tuple[Volume, tuple[str, ...]]:
    header = headers.read_header(path)
    if isinstance(header, NiftiHeader) and header.sheared:
        return _read_sheared_nifti(path, header)
    reader = sitk.ImageFileReader()
    reader.SetFileName(str(path))
    try:
        reader.ReadImageInformation()
        _require_scalar_3d(path, reader)
        image = reader.Execute()
    except RuntimeError as error:
        check_compressed(path)
        if re.search(r"got only|but received", str(error)):
            raise damaged(path, CUT_OFF) from error
        if "data read error" in str(error):
            raise damaged(path, DAMAGED) from error
        raise InputError(f"{path}: cannot be read as an image ({_reason(error)}); name {KINDS}.") from error
    if header is not None:
        header.check_voxels(path, sitk.GetArrayViewFromImage(image))
    volume = Volume.from_sitk(image, str(path))
    return volume, header.messages(path, volume.ijk_to_world) if header is not None else ()


def _require_scalar_3d(path: Path, reader: sitk.ImageFileReader) -> None:
    """Refuses what is not one 3-D scalar image; sets the reader to drop trailing dimensions of one."""
    size, kind = reader.GetSize(), sitk.GetPixelIDValueAsString(reader.GetPixelIDValue())
    if "complex" in kind:
        raise InputError(f"{path}: its voxels are complex numbers; a CT in Hounsfield units is needed.")
    if reader.GetNumberOfComponents() != 1:
        raise InputError(
            f"{path}: it has {reader.GetNumberOfComponents()} values a voxel (a color or vector image); "
            "a CT with one value a voxel is needed."
        )
    text = "×".join(str(n) for n in size)
    if len(size) < 3:
        raise InputError(f"{path}: a 2-D image ({text}); a 3-D volume is needed.")
    if any(n > 1 for n in size[3:]):
        raise InputError(f"{path}: a {len(size)}-D image ({text}); save one of its 3-D volumes and name that instead.")
    if len(size) > 3:
        reader.SetExtractSize([*size[:3], *[0] * (len(size) - 3)])


def _read_sheared_nifti(path: Path, header: NiftiHeader) -> tuple[Volume, tuple[str, ...]]:
    """ITK refuses an sform with shear, so it reads a copy without one, and the sform goes into the volume."""
    with tempfile.TemporaryDirectory() as folder:
        copy = Path(folder, "copy.nii")
        copy.write_bytes(header.without_orientation(path))
        volume, _ = _read_file(copy)
    tilt = "its slices are sheared against each other, as with a tilted gantry; they are kept in place."
    assert header.sform_lps is not None
    return Volume(volume.array, header.sform_lps, str(path)), (f"{path}: {tilt}",)


def _reason(error: BaseException) -> str:
    """ITK's last words without its class names, source lines and addresses."""
    text = str(error)
    if "Unable to determine ImageIO" in text:
        return "of no known image format, or damaged"
    line = [line for line in text.splitlines() if line.strip()][-1].split("ERROR:")[-1]
    line = re.sub(r"\w+\(0x[0-9a-f]+\):", "", line)
    return " ".join(line.split()).rstrip(".")[:160]
