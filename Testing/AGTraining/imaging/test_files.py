"""Files of all kinds on disk, whole and broken. nibabel writes what SimpleITK would not."""

from __future__ import annotations

import gzip
import itertools
import os
import re
import struct
import sys
import tempfile
from pathlib import Path

import nibabel
import numpy as np
import pytest
import SimpleITK as sitk

from AGTraining.errors import InputError
from AGTraining.imaging.files import read_volume, read_volume_with_messages, write_volume
from AGTraining.imaging.volume import Volume

SUFFIXES = (".nii.gz", ".nii", ".nrrd", ".mha", ".mhd")
PIXDIM_Z, QFORM_CODE, SFORM_CODE, SROW_Z_Z = 76 + 12, 252, 254, 280 + 32 + 8


@pytest.fixture
def voxels() -> np.ndarray:
    """Noise, so that compression cannot shorten it to nothing: (12, 20, 16) int16."""
    return np.random.default_rng(0).integers(-1000, 1500, (12, 20, 16)).astype(np.int16)


@pytest.fixture
def volume(voxels: np.ndarray) -> Volume:
    """An oblique, anisotropic grid."""
    return Volume(voxels, oblique(), "volume")


def oblique() -> np.ndarray:
    turn = sitk.Euler3DTransform()
    turn.SetRotation(0.25, -0.4, 0.1)
    matrix = np.eye(4)
    matrix[:3, :3] = np.reshape(turn.GetMatrix(), (3, 3)) * (0.75, 0.8, 3.0)
    matrix[:3, 3] = (-150.0, -90.5, 1210.25)
    return matrix


def orientations() -> list[np.ndarray]:
    """All 48 orders and flips of the axes."""
    matrices = []
    for order in itertools.permutations(range(3)):
        for signs in itertools.product((1, -1), repeat=3):
            matrix = np.eye(4)
            matrix[:3, :3] = np.eye(3)[:, list(order)] * signs * np.array([0.75, 0.8, 3.0])
            matrix[:3, 3] = (-150.0, 20.0, 300.0)
            matrices.append(matrix)
    return matrices


def flip_byte(path: Path) -> None:
    content = bytearray(path.read_bytes())
    content[len(content) // 2] ^= 0xFF
    path.write_bytes(content)


def cut(path: Path) -> None:
    content = path.read_bytes()
    path.write_bytes(content[: len(content) // 2])


def substitute(path: Path, pattern: str, text: str) -> None:
    content = path.read_bytes()
    changed = re.sub(pattern.encode(), text.encode(), content, count=1)
    assert changed != content
    path.write_bytes(changed)


@pytest.mark.parametrize("suffix", SUFFIXES)
def test_volume_survives_disk(volume: Volume, tmp_path: Path, suffix: str) -> None:
    path = tmp_path / f"scan{suffix}"
    write_volume(volume, path)
    back, messages = read_volume_with_messages(path)
    assert messages == ()
    assert np.array_equal(back.array, volume.array)
    assert back.array.dtype == np.int16
    # NIfTI holds its geometry in 32-bit floats.
    assert np.allclose(back.ijk_to_world, volume.ijk_to_world, atol=1e-3)
    assert back.name == str(path)


@pytest.mark.parametrize("suffix", [".nii.gz", ".nrrd"])
def test_all_48_orientations_survive_disk(voxels: np.ndarray, tmp_path: Path, suffix: str) -> None:
    for matrix in orientations():
        written = Volume(voxels, matrix)
        write_volume(written, tmp_path / f"scan{suffix}")
        assert read_volume(tmp_path / f"scan{suffix}").same_grid(written)


def test_nibabel_reads_what_was_written_in_the_same_place(volume: Volume, tmp_path: Path) -> None:
    write_volume(volume, tmp_path / "scan.nii.gz")
    image = nibabel.load(tmp_path / "scan.nii.gz")
    assert np.allclose(np.diag([-1, -1, 1, 1]) @ image.affine, volume.ijk_to_world, atol=1e-3)
    assert np.array_equal(np.asarray(image.dataobj).T, volume.array)


@pytest.mark.parametrize("kind", ["uint8", "int16", "uint16", "int32", "float32", "float64"])
def test_voxel_type_is_kept(voxels: np.ndarray, tmp_path: Path, kind: str) -> None:
    array = np.abs(voxels // 10).astype(kind)
    nibabel.save(nibabel.Nifti1Image(array.T, np.eye(4), dtype=kind), tmp_path / "scan.nii.gz")
    back = read_volume(tmp_path / "scan.nii.gz").array
    assert back.dtype == kind
    assert np.array_equal(back, array)


def test_nifti_scaling_is_applied(voxels: np.ndarray, tmp_path: Path) -> None:
    image = nibabel.Nifti1Image(voxels.T, np.eye(4))
    image.header.set_slope_inter(0.5, -100)
    nibabel.save(image, tmp_path / "scan.nii.gz")
    expected = np.asarray(nibabel.load(tmp_path / "scan.nii.gz").dataobj).T
    assert np.allclose(read_volume(tmp_path / "scan.nii.gz").array, expected, atol=1e-3)


@pytest.mark.parametrize("order", ["<", ">"])
def test_nifti_of_any_byte_order(tmp_path: Path, voxels: np.ndarray, order: str) -> None:
    header = nibabel.Nifti1Header(endianness=order)
    nibabel.save(nibabel.Nifti1Image(voxels.T, np.diag([-0.75, -0.8, 3, 1]), header), tmp_path / "scan.nii.gz")
    back = read_volume(tmp_path / "scan.nii.gz")
    assert np.array_equal(back.array, voxels)
    assert back.spacing == pytest.approx((0.75, 0.8, 3.0))


def test_nifti_2_is_refused_by_name(tmp_path: Path, voxels: np.ndarray) -> None:
    nibabel.save(nibabel.Nifti2Image(voxels.T, np.eye(4)), tmp_path / "scan.nii.gz")
    with pytest.raises(InputError, match="a NIfTI-2 file"):
        read_volume(tmp_path / "scan.nii.gz")


def test_gzip_of_several_members_is_whole(volume: Volume, tmp_path: Path) -> None:
    path = tmp_path / "scan.nii.gz"
    write_volume(volume, path)
    content = gzip.decompress(path.read_bytes())
    path.write_bytes(gzip.compress(content[:3000]) + gzip.compress(content[3000:]))
    assert np.array_equal(read_volume(path).array, volume.array)


def test_blanks_and_umlauts_in_paths(volume: Volume, tmp_path: Path) -> None:
    path = tmp_path / "Jürgen Müller 二" / "CT Übersicht 1.nii.gz"
    write_volume(volume, path)
    assert np.array_equal(read_volume(path).array, volume.array)


@pytest.mark.parametrize("suffix", SUFFIXES)
@pytest.mark.parametrize("compress", [True, False])
def test_cut_off_file_is_refused(volume: Volume, tmp_path: Path, suffix: str, compress: bool) -> None:
    path = tmp_path / f"scan{suffix}"
    sitk.WriteImage(volume.to_sitk(), str(path), useCompression=compress)
    data = next(iter({*tmp_path.iterdir()} - {path}), path)
    cut(data)
    with pytest.raises(InputError, match=rf"{re.escape(data.name)}: the file is cut off before its end; copy"):
        read_volume(path)


@pytest.mark.parametrize("suffix", [".nii.gz", ".nrrd", ".mha", ".mhd"])
def test_damaged_file_is_refused(volume: Volume, tmp_path: Path, suffix: str) -> None:
    path = tmp_path / f"scan{suffix}"
    write_volume(volume, path)
    data = next(iter({*tmp_path.iterdir()} - {path}), path)
    flip_byte(data)
    with pytest.raises(InputError, match=rf"{re.escape(data.name)}: the file is damaged"):
        read_volume(path)


def test_missing_data_file_of_mhd_is_named(volume: Volume, tmp_path: Path) -> None:
    write_volume(volume, tmp_path / "scan.mhd")
    (tmp_path / "scan.zraw").unlink()
    with pytest.raises(InputError, match=r"scan\.mhd: its data file 'scan\.zraw' is missing"):
        read_volume(tmp_path / "scan.mhd")


@pytest.mark.parametrize("content", [b"Dear colleague, here is the scan.\n" * 50, b"\x1f\x8b not really gzip" * 50])
def test_what_is_no_image_is_refused_in_one_sentence(tmp_path: Path, content: bytes) -> None:
    path = tmp_path / "scan.nii.gz"
    path.write_bytes(content)
    with pytest.raises(InputError) as error:
        read_volume(path)
    text = str(error.value)
    assert text.startswith(str(path))
    assert not re.search(r"itk|0x|\n|Exception", text)


def test_empty_file_is_refused(tmp_path: Path) -> None:
    (tmp_path / "scan.nii.gz").touch()
    with pytest.raises(InputError, match="the file is empty"):
        read_volume(tmp_path / "scan.nii.gz")


def test_missing_file_is_refused(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="no such file or folder"):
        read_volume(tmp_path / "scan.nii.gz")


def test_two_dimensions_are_refused(tmp_path: Path) -> None:
    nibabel.save(nibabel.Nifti1Image(np.ones((16, 20), np.int16), np.eye(4)), tmp_path / "slice.nii.gz")
    with pytest.raises(InputError, match=r"slice\.nii\.gz: a 2-D image \(16×20\)"):
        read_volume(tmp_path / "slice.nii.gz")


def test_time_series_is_refused(voxels: np.ndarray, tmp_path: Path) -> None:
    nibabel.save(nibabel.Nifti1Image(np.stack([voxels.T] * 3, -1), np.eye(4)), tmp_path / "series.nii.gz")
    with pytest.raises(InputError, match=r"a 4-D image \(16×20×12×3\)"):
        read_volume(tmp_path / "series.nii.gz")


@pytest.mark.parametrize("name", ["single.nii.gz", "single.mha"])
def test_single_time_point_is_a_volume(voxels: np.ndarray, tmp_path: Path, name: str) -> None:
    if name.endswith(".mha"):
        sitk.WriteImage(sitk.JoinSeries(sitk.GetImageFromArray(voxels)), str(tmp_path / name))
    else:
        nibabel.save(nibabel.Nifti1Image(voxels.T[..., None], np.eye(4)), tmp_path / name)
    assert np.array_equal(read_volume(tmp_path / name).array, voxels)


@pytest.mark.parametrize("name", ["rgb.nii.gz", "rgb.nrrd", "rgb.mha"])
def test_color_image_is_refused(tmp_path: Path, name: str) -> None:
    image = sitk.GetImageFromArray(np.zeros((5, 6, 7, 3), np.uint8), isVector=True)
    sitk.WriteImage(image, str(tmp_path / name))
    with pytest.raises(InputError, match=r"3 values a voxel|-D image"):
        read_volume(tmp_path / name)


def test_complex_voxels_are_refused(tmp_path: Path) -> None:
    nibabel.save(nibabel.Nifti1Image(np.ones((4, 5, 6), np.complex64), np.eye(4)), tmp_path / "k.nii.gz")
    with pytest.raises(InputError, match="complex"):
        read_volume(tmp_path / "k.nii.gz")


@pytest.mark.parametrize("value", [0.0, -3.0, np.nan, np.inf])
@pytest.mark.parametrize("form", ["qform", "sform", "both"])
def test_impossible_spacing_in_nifti_is_refused(volume: Volume, tmp_path: Path, value: float, form: str) -> None:
    path = tmp_path / "scan.nii"
    write_volume(volume, path)
    content = bytearray(path.read_bytes())
    struct.pack_into("<f", content, PIXDIM_Z, value)
    if form != "qform":
        struct.pack_into("<h", content, SFORM_CODE, 1)
        struct.pack_into("<f", content, SROW_Z_Z, value)
    if form != "both":
        struct.pack_into("<h", content, QFORM_CODE if form == "sform" else SFORM_CODE, 0)
    path.write_bytes(content)
    with pytest.raises(InputError, match=r"scan\.nii: its header gives a voxel spacing of 0\.75 × 0\.8 × "):
        read_volume(path)


@pytest.mark.parametrize("value", ["0", "-3", "nan"])
def test_impossible_spacing_in_mha_is_refused(volume: Volume, tmp_path: Path, value: str) -> None:
    path = tmp_path / "scan.mha"
    write_volume(volume, path)
    substitute(path, r"ElementSpacing = [^\n]*", f"ElementSpacing = 0.75 0.8 {value}")
    with pytest.raises(InputError, match="must be positive numbers"):
        read_volume(path)


@pytest.mark.parametrize("value", ["0", "-3"])
def test_impossible_spacing_in_nrrd_is_refused(voxels: np.ndarray, tmp_path: Path, value: str) -> None:
    path = tmp_path / "scan.nrrd"
    write_volume(Volume(voxels, np.eye(4)), path)
    substitute(path, r"space: [^\n]*\n", "")
    substitute(path, r"space origin: [^\n]*\n", "")
    substitute(path, r"space directions: [^\n]*", f"spacings: 1 1 {value}")
    with pytest.raises(InputError, match=f"1 × 1 × {value} mm"):
        read_volume(path)


def test_flipped_nrrd_axis_is_no_negative_spacing(voxels: np.ndarray, tmp_path: Path) -> None:
    path = tmp_path / "scan.nrrd"
    write_volume(Volume(voxels, np.eye(4)), path)
    substitute(path, r"space directions: [^\n]*", "space directions: (1,0,0) (0,1,0) (0,0,-2)")
    assert np.array_equal(read_volume(path).ijk_to_world, np.diag([1.0, 1.0, -2.0, 1.0]))


def test_nrrd_without_spacing_is_read_with_a_message(voxels: np.ndarray, tmp_path: Path) -> None:
    path = tmp_path / "scan.nrrd"
    write_volume(Volume(voxels, np.eye(4)), path)
    for field in ("space", "space origin", "space directions"):
        substitute(path, rf"{field}: [^\n]*\n", "")
    _, messages = read_volume_with_messages(path)
    assert any("1 mm was assumed" in message for message in messages)


def test_nifti_without_orientation_is_read_with_a_message(voxels: np.ndarray, tmp_path: Path) -> None:
    image = nibabel.Nifti1Image(voxels.T, np.diag([1, 2, 3, 1]))
    image.set_sform(None, 0)
    image.set_qform(None, 0)
    nibabel.save(image, tmp_path / "scan.nii.gz")
    _, messages = read_volume_with_messages(tmp_path / "scan.nii.gz")
    assert any("left and right may be swapped" in message for message in messages)


def test_nifti_with_two_places_says_which_was_used(voxels: np.ndarray, tmp_path: Path) -> None:
    image = nibabel.Nifti1Image(voxels.T, np.diag([1, 2, 3, 1]))
    moved = np.diag([1.0, 2.0, 3.0, 1.0])
    moved[2, 3] = 50.0
    image.set_qform(moved, 1)
    image.set_sform(np.diag([1, 2, 3, 1]), 1)
    nibabel.save(image, tmp_path / "scan.nii.gz")
    volume, (message,) = read_volume_with_messages(tmp_path / "scan.nii.gz")
    used = "qform" if volume.ijk_to_world[2, 3] == 50 else "sform"
    assert "50 mm apart" in message
    assert f"the {used} was used" in message


@pytest.mark.parametrize("name", ["tilted.nii", "tilted.nii.gz"])
def test_sheared_nifti_keeps_its_places(voxels: np.ndarray, tmp_path: Path, name: str) -> None:
    affine = np.diag([-0.8, -0.8, 3.0, 1.0])
    affine[1, 2] = 0.9
    image = nibabel.Nifti1Image(voxels.T, affine)
    image.set_qform(None, 0)
    nibabel.save(image, tmp_path / name)
    volume, messages = read_volume_with_messages(tmp_path / name)
    assert np.array_equal(volume.array, voxels)
    assert np.allclose(volume.ijk_to_world, np.diag([-1, -1, 1, 1]) @ affine, atol=1e-5)
    assert any("sheared" in message for message in messages)


def test_folder_with_one_image_names_it(volume: Volume, tmp_path: Path) -> None:
    write_volume(volume, tmp_path / "patient" / "ct.nii.gz")
    with pytest.raises(InputError, match=r"no DICOM images, but patient/ct\.nii\.gz; name that file instead"):
        read_volume(tmp_path)


def test_folder_without_images_is_refused(tmp_path: Path) -> None:
    (tmp_path / "notes.txt").write_text("nothing here")
    with pytest.raises(InputError, match="holds no DICOM images"):
        read_volume(tmp_path)


def test_unknown_suffix_is_not_written(volume: Volume, tmp_path: Path) -> None:
    with pytest.raises(InputError, match="which image format"):
        write_volume(volume, tmp_path / "scan.jpg")
    assert list(tmp_path.iterdir()) == []


def test_sheared_volume_is_not_written(voxels: np.ndarray, tmp_path: Path) -> None:
    matrix = np.eye(4)
    matrix[1, 2] = 0.4
    with pytest.raises(InputError, match="sheared"):
        write_volume(Volume(voxels, matrix), tmp_path / "scan.nii.gz")
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("suffix", SUFFIXES)
def test_writing_leaves_only_the_file(volume: Volume, tmp_path: Path, suffix: str) -> None:
    write_volume(volume, tmp_path / f"scan{suffix}")
    write_volume(volume, tmp_path / f"scan{suffix}")
    names = {path.name for path in tmp_path.iterdir()}
    assert names == {f"scan{suffix}"} | ({"scan.zraw"} if suffix == ".mhd" else set())


def test_failed_write_keeps_the_old_file(volume: Volume, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "scan.nii.gz"
    write_volume(volume, path)
    before = path.read_bytes()

    def full_disk(image: sitk.Image, name: str, **options: object) -> None:
        Path(name).write_bytes(b"half of it")
        raise RuntimeError("ITK ERROR: NiftiImageIO(0x1): could not write, No space left on device")

    monkeypatch.setattr(sitk, "WriteImage", full_disk)
    with pytest.raises(InputError, match="No space left on device"):
        write_volume(volume.with_array(volume.array + 1), path)
    assert path.read_bytes() == before
    assert [p.name for p in tmp_path.iterdir()] == ["scan.nii.gz"]


@pytest.mark.skipif(sys.platform == "win32", reason="Windows has no limits for files")
@pytest.mark.parametrize("suffix", SUFFIXES)
def test_full_disk_is_noticed(volume: Volume, tmp_path: Path, suffix: str) -> None:
    import resource

    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (4000, before[1]))
    try:
        with pytest.raises(InputError, match="is the disk full"):
            write_volume(volume, tmp_path / f"scan{suffix}")
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)
    assert list(tmp_path.iterdir()) == []


@pytest.mark.skipif(not hasattr(os, "seteuid"), reason="needs users without rights")
@pytest.mark.parametrize("name", ["scan.nii.gz", "scan.mha", "scan.dcm"])
def test_file_without_permission_is_refused_in_one_sentence(volume: Volume, name: str) -> None:
    # Not in tmp_path, which nobody but its owner may enter.
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder, name)
        path.write_bytes(b"voxels")
        path.chmod(0)
        Path(folder).chmod(0o755)
        user = os.geteuid()
        try:
            if user == 0:
                os.seteuid(65534)
            with pytest.raises(InputError, match=rf"^{re.escape(str(path))}: cannot be read \(Permission denied\)"):
                read_volume(path)
        finally:
            os.seteuid(user)


@pytest.mark.parametrize("form", ["both", "sform alone", "sheared"])
@pytest.mark.parametrize(("unit", "per_millimeter"), [("meter", 1e-3), ("micron", 1e3)])
def test_nifti_in_other_units_is_in_place(
    voxels: np.ndarray, tmp_path: Path, unit: str, per_millimeter: float, form: str
) -> None:
    expected = np.array([[-0.7, 0, 0, 40], [0, -0.8, 0, 50], [0, 0, 5, 300], [0, 0, 0, 1]])
    if form == "sheared":
        expected[1, 2] = 1.5
    image = nibabel.Nifti1Image(voxels.T, np.diag([per_millimeter] * 3 + [1]) @ expected)
    image.header.set_xyzt_units(unit)
    if form != "both":
        image.set_qform(None, 0)
    nibabel.save(image, tmp_path / "scan.nii.gz")
    volume, messages = read_volume_with_messages(tmp_path / "scan.nii.gz")
    assert np.allclose(volume.ijk_to_world, np.diag([-1, -1, 1, 1]) @ expected, atol=1e-3)
    assert not any("apart" in message for message in messages)


def test_boolean_mask_is_written_as_bytes(tmp_path: Path) -> None:
    mask = np.zeros((4, 5, 6), dtype=bool)
    mask[1, 2, 3] = True
    write_volume(Volume(mask, np.eye(4)), tmp_path / "mask.nii.gz")
    back = read_volume(tmp_path / "mask.nii.gz").array
    assert back.dtype == np.uint8
    assert np.array_equal(back, mask)
