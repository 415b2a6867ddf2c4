"""DICOM series as scanners and archives deliver them, written slice by slice with pydicom."""

from __future__ import annotations

import re
import shutil
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pydicom
import pytest
from pydicom.dataset import Dataset, FileDataset, FileMetaDataset
from pydicom.sequence import Sequence as Sequences
from pydicom.uid import (
    CTImageStorage,
    EnhancedCTImageStorage,
    ExplicitVRLittleEndian,
    RTPlanStorage,
    generate_uid,
)

from AGTraining.errors import InputError
from AGTraining.imaging.files import read_volume, read_volume_with_messages

AXIAL = (1.0, 0.0, 0.0, 0.0, 1.0, 0.0)
CORONAL = (1.0, 0.0, 0.0, 0.0, 0.0, -1.0)


def slice_pixels(n: int) -> np.ndarray:
    """Stored values of slice n, (10, 12); in HU they are 1024 less."""
    return (np.arange(120).reshape(10, 12) + 100 * n).astype(np.uint16)


def write_slice(path: Path, pixels: np.ndarray, position: Sequence[float], series: str, **changes: Any) -> Path:
    """One CT slice with 0.7 × 0.8 mm pixels and HU = stored - 1024; `changes` replace or (None) remove elements."""
    meta = FileMetaDataset()
    meta.MediaStorageSOPClassUID = changes.get("SOPClassUID", CTImageStorage)
    meta.MediaStorageSOPInstanceUID = generate_uid()
    meta.TransferSyntaxUID = ExplicitVRLittleEndian
    data = FileDataset(str(path), {}, file_meta=meta, preamble=b"\0" * 128)
    elements: dict[str, Any] = {
        "SOPClassUID": CTImageStorage,
        "SOPInstanceUID": meta.MediaStorageSOPInstanceUID,
        "StudyInstanceUID": "1.2.3",
        "SeriesInstanceUID": series,
        "FrameOfReferenceUID": "1.2.3.4",
        "Modality": "CT",
        "ImageType": ["ORIGINAL", "PRIMARY", "AXIAL"],
        "SeriesDescription": "Abdomen",
        "SeriesNumber": 2,
        "PatientID": "phantom",
        "PatientName": "Phantom",
        "ImagePositionPatient": [float(v) for v in position],
        "ImageOrientationPatient": list(AXIAL),
        "PixelSpacing": [0.8, 0.7],
        "SliceThickness": 5.0,
        "Rows": pixels.shape[0],
        "Columns": pixels.shape[1],
        "SamplesPerPixel": 1,
        "PhotometricInterpretation": "MONOCHROME2",
        "BitsAllocated": 16,
        "BitsStored": 16,
        "HighBit": 15,
        "PixelRepresentation": 0,
        "RescaleSlope": 1,
        "RescaleIntercept": -1024,
        "PixelData": pixels.astype(np.uint16).tobytes(),
    }
    for keyword, value in {**elements, **changes}.items():
        if value is not None:
            setattr(data, keyword, value)
    path.parent.mkdir(parents=True, exist_ok=True)
    data.save_as(path, enforce_file_format=True)
    return path


def write_series(
    folder: Path, heights: Sequence[float] = tuple(range(0, 60, 5)), series: str | None = None, **changes: Any
) -> list[Path]:
    """Axial slices at the given z; slice n of the call holds slice_pixels(n)."""
    series = series or generate_uid()
    return [
        write_slice(folder / f"{series[-6:]}_{n:03}.dcm", slice_pixels(n), (-50, -60, z), series, **changes)
        for n, z in enumerate(heights)
    ]


def test_series_is_read_in_hu_and_in_place(tmp_path: Path) -> None:
    write_series(tmp_path)
    volume, messages = read_volume_with_messages(tmp_path)
    assert messages == ()
    assert volume.array.dtype == np.int16
    assert np.array_equal(volume.array, np.stack([slice_pixels(n) for n in range(12)]).astype(int) - 1024)
    expected = np.diag([0.7, 0.8, 5.0, 1.0])
    expected[:3, 3] = (-50, -60, 0)
    assert np.allclose(volume.ijk_to_world, expected)


def test_slices_are_ordered_by_position_not_by_name(tmp_path: Path) -> None:
    paths = write_series(tmp_path)
    for n, path in zip(np.random.default_rng(1).permutation(12), paths, strict=True):
        path.rename(tmp_path / f"IM{n:04}")
    assert np.array_equal(read_volume(tmp_path).array[:, 0, 0], np.arange(12) * 100 - 1024)


def test_descending_series_keeps_every_voxel_in_place(tmp_path: Path) -> None:
    write_series(tmp_path, heights=[-z for z in range(0, 60, 5)])
    volume = read_volume(tmp_path)
    for n, z in enumerate(range(0, 60, 5)):
        i, j, k = np.rint(np.linalg.inv(volume.ijk_to_world) @ (-50, -60, -z, 1)).astype(int)[:3]
        assert volume.array[k, j, i] == 100 * n - 1024


def test_one_file_stands_for_its_series(tmp_path: Path) -> None:
    paths = write_series(tmp_path)
    write_series(tmp_path, heights=range(0, 100, 5), SeriesDescription="Thorax")
    volume = read_volume(paths[4])
    assert volume.size == (12, 10, 12)
    assert volume.name == str(paths[4])


def test_largest_axial_ct_series_is_taken_and_named(tmp_path: Path) -> None:
    write_series(tmp_path / "a", heights=range(0, 40, 5), SeriesDescription="Abdomen arterial")
    write_series(tmp_path / "b" / "deep", heights=range(0, 60, 5), SeriesDescription="Abdomen portal")
    volume, (message,) = read_volume_with_messages(tmp_path)
    assert volume.size[2] == 12
    assert "2 image series" in message and "'Abdomen portal' with 12 slices" in message
    assert "'Abdomen arterial' (8)" in message


def test_coronal_reformat_does_not_win_over_axial(tmp_path: Path) -> None:
    write_series(tmp_path, heights=range(0, 60, 5))
    series = generate_uid()
    for n in range(40):
        write_slice(
            tmp_path / f"cor{n}.dcm", slice_pixels(n), (-50, n, 100), series, ImageOrientationPatient=list(CORONAL)
        )
    assert read_volume(tmp_path).size[2] == 12


def test_mr_series_does_not_win_over_ct(tmp_path: Path) -> None:
    write_series(tmp_path, heights=range(0, 60, 5))
    write_series(tmp_path, heights=range(0, 300, 5), Modality="MR", SeriesDescription="T1")
    assert "'Abdomen' with 12" in read_volume_with_messages(tmp_path)[1][0]


@pytest.mark.parametrize("same_series", [True, False])
def test_localizer_is_left_out(tmp_path: Path, same_series: bool) -> None:
    series = generate_uid()
    write_series(tmp_path, series=series)
    write_slice(
        tmp_path / "scout.dcm", np.zeros((30, 20)), (-50, 0, 100), series if same_series else generate_uid(),
        ImageType=["ORIGINAL", "PRIMARY", "LOCALIZER"], ImageOrientationPatient=list(CORONAL),
    )  # fmt: skip
    assert read_volume(tmp_path).size == (12, 10, 12)


@pytest.mark.parametrize(("gone", "where"), [(5, "z = 20.0 and 30.0"), (1, "z = 0.0 and 10.0")])
def test_missing_slice_is_refused_with_its_place(tmp_path: Path, gone: int, where: str) -> None:
    write_series(tmp_path)[gone].unlink()
    with pytest.raises(InputError, match=rf"1 slice is missing between {where} mm \(the others lie 5 mm apart\)"):
        read_volume(tmp_path)


def test_several_gaps_are_counted(tmp_path: Path) -> None:
    paths = write_series(tmp_path)
    for n in (3, 4, 8):
        paths[n].unlink()
    with pytest.raises(InputError, match=r"about 3 slices are missing between z = 10.0 and 25.0 mm and elsewhere"):
        read_volume(tmp_path)


def test_rounded_positions_are_no_gaps(tmp_path: Path) -> None:
    heights = [round(1.25 * n, 1) for n in range(40)]
    write_series(tmp_path, heights=heights)
    volume, messages = read_volume_with_messages(tmp_path)
    assert messages == ()
    assert volume.spacing[2] == pytest.approx((heights[-1] - heights[0]) / 39)


def test_slightly_uneven_slices_are_read_with_a_message(tmp_path: Path) -> None:
    write_series(tmp_path, heights=[5 * n + (1.0 if n % 2 else 0.0) for n in range(12)])
    _, (message,) = read_volume_with_messages(tmp_path)
    assert "lie 4 to 6 mm apart" in message


def test_slices_that_change_their_distance_slowly_are_refused(tmp_path: Path) -> None:
    write_series(tmp_path, heights=np.cumsum(np.linspace(3.0, 4.2, 30)).tolist())
    with pytest.raises(InputError, match="evenly spaced slices are needed"):
        read_volume(tmp_path)


@pytest.mark.parametrize(
    ("first", "second"),
    [
        ({"AcquisitionNumber": 1}, {"AcquisitionNumber": 2}),
        ({"AcquisitionTime": "101500"}, {"AcquisitionTime": "101605"}),
    ],
)
def test_phases_in_one_series_are_told_apart(tmp_path: Path, first: dict[str, Any], second: dict[str, Any]) -> None:
    series = generate_uid()
    write_series(tmp_path / "1", heights=range(0, 40, 5), series=series, **first)
    write_series(tmp_path / "2", heights=range(0, 60, 5), series=series, RescaleIntercept=-1000, **second)
    volume, (message,) = read_volume_with_messages(tmp_path)
    assert np.array_equal(volume.array[:, 0, 0], np.arange(12) * 100 - 1000)
    assert "2 times" in message and "12 slices was taken" in message


def test_phases_that_cannot_be_told_apart_are_refused(tmp_path: Path) -> None:
    series = generate_uid()
    write_series(tmp_path / "1", series=series)
    write_series(tmp_path / "2", series=series)
    with pytest.raises(InputError, match="24 slices at 12 positions"):
        read_volume(tmp_path)


def test_copies_of_a_file_count_once(tmp_path: Path) -> None:
    for path in write_series(tmp_path / "one"):
        shutil.copy(path, tmp_path / f"copy of {path.name}")
    assert read_volume(tmp_path).size[2] == 12


def test_slices_of_one_instance_uid_are_told_apart(tmp_path: Path) -> None:
    """Bad anonymizers give all slices the same UID; copies of a file still count once, and phases stay apart."""
    paths = write_series(tmp_path / "one", series="1.2.9", SOPInstanceUID="1.2.3.9", AcquisitionNumber=1)
    write_series(tmp_path / "two", series="1.2.9", SOPInstanceUID="1.2.3.9", AcquisitionNumber=2)
    write_series(tmp_path / "one", heights=range(0, 40, 5), series="1.2.8", SOPInstanceUID="1.2.3.9")
    for path in paths[:3]:
        shutil.copy(path, tmp_path / f"copy of {path.name}")
    volume, messages = read_volume_with_messages(tmp_path)
    assert np.array_equal(volume.array[:, 0, 0], np.arange(12) * 100 - 1024)
    assert any("2 times" in message for message in messages)
    assert read_volume(next((tmp_path / "one").glob("*1.2.8*"))).size[2] == 8


def write_multi_frame(path: Path, heights: Sequence[float]) -> Path:
    """An enhanced CT: one file with a frame at each of the heights."""
    frames = []
    for z in heights:
        frame, plane, place = Dataset(), Dataset(), Dataset()
        place.ImagePositionPatient = [-50.0, -60.0, float(z)]
        measures, orientation = Dataset(), Dataset()
        measures.PixelSpacing, measures.SliceThickness = [0.8, 0.7], 5.0
        orientation.ImageOrientationPatient = list(AXIAL)
        plane.RescaleIntercept, plane.RescaleSlope, plane.RescaleType = -1024, 1, "HU"
        frame.PlanePositionSequence = Sequences([place])
        frame.PixelMeasuresSequence = Sequences([measures])
        frame.PlaneOrientationSequence = Sequences([orientation])
        frame.PixelValueTransformationSequence = Sequences([plane])
        frames.append(frame)
    return write_slice(
        path, np.concatenate([slice_pixels(n) for n in range(len(heights))]), (0, 0, 0), generate_uid(),
        SOPClassUID=EnhancedCTImageStorage, Rows=10, NumberOfFrames=len(heights), ImagePositionPatient=None,
        ImageOrientationPatient=None, PixelSpacing=None, SliceThickness=None, RescaleSlope=None, RescaleIntercept=None,
        SharedFunctionalGroupsSequence=Sequences([Dataset()]), PerFrameFunctionalGroupsSequence=Sequences(frames),
    )  # fmt: skip


@pytest.mark.parametrize("heights", [[0, 5, 10, 15, 20, 35, 40, 45], [20, 0, 35, 5, 10, 15, 30, 25]])
@pytest.mark.parametrize("as_folder", [True, False])
def test_multi_frame_is_refused_because_its_places_are_unknown(
    tmp_path: Path, heights: list[float], as_folder: bool
) -> None:
    path = write_multi_frame(tmp_path / "enhanced.dcm", heights)
    assert pydicom.dcmread(path).pixel_array.shape == (8, 10, 12)
    with pytest.raises(InputError, match=r"enhanced.dcm: a multi-frame .* one file for each slice"):
        read_volume(tmp_path if as_folder else path)


def test_series_of_single_slices_is_taken_before_a_multi_frame_file(tmp_path: Path) -> None:
    write_multi_frame(tmp_path / "enhanced.dcm", range(0, 100, 5))
    write_series(tmp_path)
    volume, (message,) = read_volume_with_messages(tmp_path)
    assert volume.size == (12, 10, 12)
    assert "(20)" in message


def test_gantry_tilt_is_kept_as_shear(tmp_path: Path) -> None:
    angle = np.radians(20.0)
    tilted = (1.0, 0.0, 0.0, 0.0, np.cos(angle), np.sin(angle))
    series = generate_uid()
    for n in range(12):
        write_slice(
            tmp_path / f"{n}.dcm", slice_pixels(n), (-50, -60, 5 * n), series, ImageOrientationPatient=list(tilted)
        )
    volume, (message,) = read_volume_with_messages(tmp_path)
    assert "tilted (gantry) by 20.0°" in message
    for index in [(0, 0, 0), (3, 7, 11)]:
        i, j, k = index
        place = np.array([-50, -60, 5 * k]) + 0.7 * i * np.array(tilted[:3]) + 0.8 * j * np.array(tilted[3:])
        assert (volume.ijk_to_world @ (*index, 1))[:3] == pytest.approx(place, abs=1e-4)


def test_slices_shifted_sideways_are_refused(tmp_path: Path) -> None:
    series = generate_uid()
    for n in range(12):
        write_slice(tmp_path / f"{n}.dcm", slice_pixels(n), (-50 + (30 if n > 6 else 0) * (n < 11), 0, 5 * n), series)
    with pytest.raises(InputError, match="shifted sideways"):
        read_volume(tmp_path)


def test_rescale_that_differs_from_slice_to_slice(tmp_path: Path) -> None:
    series = generate_uid()
    for n in range(6):
        write_slice(
            tmp_path / f"{n}.dcm", slice_pixels(n), (0, 0, 5 * n), series, RescaleSlope=1 if n < 3 else 0.5
        )  # fmt: skip
    expected = [slice_pixels(n) * (1.0 if n < 3 else 0.5) - 1024 for n in range(6)]
    assert np.allclose(read_volume(tmp_path).array, expected)


def test_other_dicom_objects_are_ignored(tmp_path: Path) -> None:
    write_series(tmp_path)
    write_slice(
        tmp_path / "plan.dcm", slice_pixels(0), (0, 0, 0), generate_uid(), SOPClassUID=RTPlanStorage, Modality="RTPLAN",
        PixelData=None, Rows=None, Columns=None,
    )  # fmt: skip
    (tmp_path / "DICOMDIR.txt").write_text("index")
    _, messages = read_volume_with_messages(tmp_path)
    assert messages == ()


def test_dicomdir_stands_for_its_folder(tmp_path: Path) -> None:
    write_series(tmp_path / "IMAGES")
    (tmp_path / "DICOMDIR").write_bytes(b"\0" * 128 + b"DICM")
    assert read_volume(tmp_path / "DICOMDIR").size[2] == 12


def test_damaged_slice_leaves_a_gap_that_is_refused(tmp_path: Path) -> None:
    path = write_series(tmp_path)[5]
    path.write_bytes(path.read_bytes()[:600])
    with pytest.raises(InputError, match=r"missing between z = 20.0 and 30.0"):
        read_volume(tmp_path)


def test_damaged_last_slice_is_named(tmp_path: Path) -> None:
    path = write_series(tmp_path)[-1]
    path.write_bytes(path.read_bytes()[:600])
    volume, (message,) = read_volume_with_messages(tmp_path)
    assert volume.size[2] == 11
    assert path.name in message and "left out" in message


def test_only_damaged_slices_are_refused(tmp_path: Path) -> None:
    for path in write_series(tmp_path):
        path.write_bytes(path.read_bytes()[:600])
    with pytest.raises(InputError, match="cannot be read"):
        read_volume(tmp_path)


def test_single_slice_is_refused(tmp_path: Path) -> None:
    write_series(tmp_path, heights=[0])
    with pytest.raises(InputError, match="a single slice"):
        read_volume(tmp_path)


def test_slice_without_position_is_no_image_to_use(tmp_path: Path) -> None:
    path = write_slice(tmp_path / "capture.dcm", slice_pixels(0), (0, 0, 0), "1.2", ImagePositionPatient=None)
    with pytest.raises(InputError, match="without a readable image"):
        read_volume(path)


def test_blanks_and_umlauts_in_folder_and_description(tmp_path: Path) -> None:
    folder = tmp_path / "Müller, Jürgen"
    write_series(folder, SpecificCharacterSet="ISO_IR 100", SeriesDescription="Oberbauch nüchtern")
    write_series(folder, heights=range(0, 40, 5), SpecificCharacterSet="ISO_IR 100", SeriesDescription="Übersicht")
    volume, (message,) = read_volume_with_messages(folder)
    assert volume.size[2] == 12
    assert re.search("Oberbauch n.+chtern", message)


def test_real_series_is_the_volume_that_pydicom_gives(shared_data: Path) -> None:
    folder = shared_data / "ct_robustness" / "dicom_crlm1004"
    volume, messages = read_volume_with_messages(folder)
    assert messages == ()
    slices = sorted((pydicom.dcmread(p) for p in folder.iterdir()), key=lambda s: float(s.ImagePositionPatient[2]))
    expected = [s.pixel_array * float(s.RescaleSlope) + float(s.RescaleIntercept) for s in slices]
    assert np.array_equal(volume.array, expected)
    assert volume.array.dtype == np.int16
    assert volume.ijk_to_world[:3, 3] == pytest.approx([float(v) for v in slices[0].ImagePositionPatient])
    same = read_volume(shared_data / "ct" / "crlm1004" / "ct.nii.gz")
    # Some conversions flip axes: compare the voxels at the same places of the patient.
    index = np.array([[100, 200, 5, 1], [300, 250, 20, 1], [255, 310, 33, 1]], dtype=float)
    there = np.rint(index @ (np.linalg.inv(same.ijk_to_world) @ volume.ijk_to_world).T).astype(int)
    for (i, j, k, _), (a, b, c, _) in zip(index.astype(int), there, strict=True):
        assert volume.array[k, j, i] == same.array[c, b, a]
