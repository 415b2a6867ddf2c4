"""TCIA Pancreas-CT in small: DICOM series of phantoms, and label maps with the headers that the real ones have."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from pydicom.uid import generate_uid

from AGTraining.data.check import check_dataset
from AGTraining.data.dataset import read_dataset
from AGTraining.data.importers.common import ImportOptions
from AGTraining.data.importers.pancreas_ct import import_pancreas_ct
from AGTraining.data.importers.placement import header_flips, place
from AGTraining.data.phantom import Phantom, PhantomOptions, make_phantom
from AGTraining.data.phantom_patient import LABELS
from AGTraining.errors import ConfigurationError, InputError
from AGTraining.imaging.files import read_volume, write_volume
from AGTraining.imaging.volume import Volume
from Testing.AGTraining.imaging.test_dicom import write_slice

SPACING = 5.0


@pytest.fixture(scope="module")
def phantoms() -> dict[int, Phantom]:
    return {n: make_phantom(PhantomOptions(seed=n, spacing=(SPACING,) * 3)) for n in (1, 2)}


def pancreas(phantom: Phantom) -> np.ndarray:
    return (phantom.labels.array == LABELS["pancreas"]).astype(np.uint8)


def write_patient(root: Path, number: int, phantom: Phantom) -> None:
    """PANCREAS_0001/<study>/<series>/1-001.dcm …, numbered from the head down as scanners do."""
    name = f"PANCREAS_{number:04d}"
    folder = root / "Pancreas-CT" / name / f"11-24-2015-PANCREAS{number:04d}-Pancreas-18957" / "Pancreas-99667"
    series = generate_uid()
    origin = phantom.ct.ijk_to_world[:3, 3]
    planes = list(enumerate(phantom.ct.array))[::-1]
    for instance, (k, plane) in enumerate(planes, 1):
        write_slice(
            folder / f"1-{instance:03d}.dcm", (plane.astype(np.int32) + 1024).clip(0).astype(np.uint16),
            (*origin[:2], origin[2] + k * SPACING), series, PatientID=name, PixelSpacing=[SPACING, SPACING],
            SliceThickness=SPACING, InstanceNumber=instance,
        )  # fmt: skip


def write_label(root: Path, number: int, array: np.ndarray, matrix: np.ndarray | None = None) -> Path:
    """label0001.nii.gz; matrix: LPS, by default that of a header which says that rows run to the front (RAS)."""
    path = root / "TCIA_pancreas_labels-02-05-2017" / f"label{number:04d}.nii.gz"
    matrix = np.diag([-SPACING, -SPACING, SPACING, 1.0]) if matrix is None else matrix
    write_volume(Volume(np.ascontiguousarray(array), matrix), path)
    return path


@pytest.fixture
def download(tmp_path: Path, phantoms: dict[int, Phantom]) -> Path:
    """Two patients as they are downloaded."""
    root = tmp_path / "download"
    for number, phantom in phantoms.items():
        write_patient(root, number, phantom)
        write_label(root, number, pancreas(phantom))
    return root


def test_label_maps_lie_on_their_series_whatever_their_headers_say(
    download: Path, tmp_path: Path, phantoms: dict[int, Phantom]
) -> None:
    # What Slicer shows, which goes by the header: the organ mirrored from front to back.
    by_header = read_volume(download / "TCIA_pancreas_labels-02-05-2017/label0001.nii.gz")
    assert header_flips(read_volume(download / "Pancreas-CT/PANCREAS_0001"), by_header) is None
    report = import_pancreas_ct(download, tmp_path / "out")
    assert (report.cases, report.problems) == (2, ())
    assert any("2 label maps lie on their series voxel by voxel" in note for note in report.notes)
    dataset = read_dataset(report.dataset)
    assert [case.name for case in dataset.cases] == ["PANCREAS_0001", "PANCREAS_0002"]
    assert (dataset.labels, dataset.name) == ({"background": 0, "pancreas": 1}, "Pancreas-CT")
    for case, phantom in zip(dataset.cases, phantoms.values(), strict=True):
        image, labels = read_volume(case.image), read_volume(case.label)
        np.testing.assert_array_equal(image.array, phantom.ct.array)
        assert image.same_grid(labels)
        np.testing.assert_array_equal(labels.array, pancreas(phantom))
    assert check_dataset(report.dataset).problems == []


def test_series_are_not_copied(download: Path, tmp_path: Path) -> None:
    report = import_pancreas_ct(download, tmp_path / "out")
    assert sorted(path.name for path in (tmp_path / "out").rglob("*") if path.is_file()) == [
        "PANCREAS_0001.nii.gz", "PANCREAS_0002.nii.gz", "dataset.json",
    ]  # fmt: skip
    assert read_dataset(report.dataset).cases[0].image.resolve() == download / "Pancreas-CT/PANCREAS_0001"


@pytest.mark.parametrize(
    ("turn", "words"),
    [
        ((1, -1, 1), "front to back"),
        ((-1, 1, 1), "feet to head"),
        ((-1, -1, 1), "feet to head and front to back"),
    ],
)
def test_label_maps_stored_the_other_way_round_are_turned_over(
    download: Path, tmp_path: Path, phantoms: dict[int, Phantom], turn: tuple[int, int, int], words: str
) -> None:
    for number, phantom in phantoms.items():
        write_label(download, number, pancreas(phantom)[tuple(slice(None, None, step) for step in turn)])
    report = import_pancreas_ct(download, tmp_path / "out", ImportOptions(workers=2))
    assert report.notes == (f"2 label maps were turned over ({words}) to fit their series.",)
    for case, phantom in zip(read_dataset(report.dataset).cases, phantoms.values(), strict=True):
        np.testing.assert_array_equal(read_volume(case.label).array, pancreas(phantom))


def test_three_scans_of_one_patient_count_as_one(tmp_path: Path, phantoms: dict[int, Phantom]) -> None:
    for number in (2, 25):
        write_patient(tmp_path, number, phantoms[2])
        write_label(tmp_path, number, pancreas(phantoms[2]))
    write_label(tmp_path, 70, pancreas(phantoms[2]))
    report = import_pancreas_ct(tmp_path, tmp_path / "out")
    assert report.problems == ()
    assert any("label0070.nii.gz: patient 70 was taken from the data set in 2020" in note for note in report.notes)
    assert [(case.name, case.patient) for case in read_dataset(report.dataset).cases] == [
        ("PANCREAS_0002", "PANCREAS_0002"),
        ("PANCREAS_0025", "PANCREAS_0002"),
    ]


def test_what_has_no_partner_is_named_and_left_out(download: Path, tmp_path: Path) -> None:
    (download / "TCIA_pancreas_labels-02-05-2017/label0002.nii.gz").rename(
        download / "TCIA_pancreas_labels-02-05-2017/label0003.nii.gz"
    )
    report = import_pancreas_ct(download, tmp_path / "out")
    assert report.cases == 1
    assert [text.split(str(download))[1] for text in report.problems] == [
        "/Pancreas-CT/PANCREAS_0002: has no label0002.nii.gz.",
        "/TCIA_pancreas_labels-02-05-2017/label0003.nii.gz: its series PANCREAS_0003 is missing.",
    ]


def test_label_map_of_another_scan_is_named_and_left_out(
    download: Path, tmp_path: Path, phantoms: dict[int, Phantom]
) -> None:
    write_label(download, 2, pancreas(phantoms[2])[:-3])
    report = import_pancreas_ct(download, tmp_path / "out")
    assert report.cases == 1
    assert "label0002.nii.gz: has " in report.problems[0] and "it belongs to another scan" in report.problems[0]


def test_folder_without_the_data_set_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ConfigurationError, match="holds no folder PANCREAS_0001 or the like"):
        import_pancreas_ct(tmp_path, tmp_path / "out")


def test_header_that_describes_the_grid_is_understood(phantoms: dict[int, Phantom]) -> None:
    ct = phantoms[1].ct
    turned = np.diag([1.0, -1.0, 1.0, 1.0])
    turned[1, 3] = ct.array.shape[1] - 1
    stored = Volume(pancreas(phantoms[1])[:, ::-1], ct.ijk_to_world @ turned)
    assert header_flips(ct, stored) == (False, True, False)
    placement = place(ct, stored)
    np.testing.assert_array_equal(placement.labels.array, pancreas(phantoms[1]))
    assert placement.by_header and placement.by_content


def test_header_decides_where_the_image_does_not_tell(phantoms: dict[int, Phantom]) -> None:
    ct = phantoms[1].ct
    even = ct.with_array(np.full_like(ct.array, 40))
    placement = place(even, Volume(pancreas(phantoms[1]), ct.ijk_to_world))
    assert (placement.flips, placement.by_header, placement.by_content) == ((False,) * 3, True, False)


def test_label_map_that_nothing_places_is_refused(phantoms: dict[int, Phantom]) -> None:
    ct = phantoms[1].ct
    even = ct.with_array(np.full_like(ct.array, 40))
    with pytest.raises(InputError, match="cannot be told from the image which way round it lies"):
        place(even, Volume(pancreas(phantoms[1]), np.eye(4), "label0001.nii.gz"))


def test_empty_label_map_is_refused(phantoms: dict[int, Phantom]) -> None:
    ct = phantoms[1].ct
    with pytest.raises(InputError, match=r"label0001\.nii\.gz: no voxel is labelled"):
        place(ct, Volume(np.zeros_like(ct.array), np.eye(4), "label0001.nii.gz"))


@pytest.mark.parametrize("case", ["crlm1004", "crlm1006", "pancct_cb001", "lits0", "chaos_eval", "cptac_pda_00189"])
def test_pancreas_of_a_real_scan_is_placed_by_what_the_scan_shows(shared_data: Path, case: str) -> None:
    image, labels = (read_volume(shared_data / "ct" / case / name) for name in ("ct.nii.gz", "labels.nii.gz"))
    array = (labels.array == LABELS["pancreas"]).astype(np.uint8)
    stored = Volume(np.ascontiguousarray(array[:, ::-1]), np.diag([-1.0, -1.0, 1.0, 1.0]))
    placement = place(image, stored)
    assert (placement.flips, placement.by_content) == ((False, True, False), True)
    np.testing.assert_array_equal(placement.labels.array, array)
