from __future__ import annotations

import numpy as np
import pytest

from AGTraining.errors import InputError
from AGTraining.imaging.checks import check_volume, volume_warnings
from AGTraining.imaging.volume import Volume


def make_ct(
    shape: tuple[int, int, int] = (40, 50, 60), spacing: tuple[float, float, float] = (2, 2, 3), kind: type = np.int16
) -> Volume:
    """Air around a body of soft tissue with bone in it."""
    array = np.full(shape, -1000, dtype=kind)
    inner = tuple(slice(n // 6, -(n // 6)) for n in shape)
    array[inner] = 50
    array[inner][::5, ::5, ::5] = 900
    return Volume(array, np.diag([*spacing, 1.0]), "scan.nii.gz")


def test_ordinary_ct_gets_no_warning() -> None:
    assert check_volume(make_ct()) == ()


@pytest.mark.parametrize("shape", [(1, 50, 60), (40, 1, 60), (40, 50, 1)])
def test_single_slice_along_any_axis_is_refused(shape: tuple[int, int, int]) -> None:
    volume = Volume(np.random.default_rng(0).normal(size=shape), np.eye(4), "scan.nii.gz")
    with pytest.raises(InputError, match=r"scan\.nii\.gz: a single slice"):
        check_volume(volume)


def test_empty_image_is_refused() -> None:
    with pytest.raises(InputError, match="the image is empty"):
        check_volume(Volume(np.zeros((0, 5, 5)), np.eye(4)))


@pytest.mark.parametrize("kind", [np.int16, np.float32])
def test_constant_image_is_refused_with_its_value(kind: type) -> None:
    with pytest.raises(InputError, match="all its voxels have the value -1000"):
        check_volume(Volume(np.full((30, 30, 30), -1000, dtype=kind), np.eye(4)))


def test_single_other_voxel_between_the_samples_is_found() -> None:
    array = np.full((130, 130, 130), -1000, dtype=np.int16)
    array[1, 1, 1] = 40
    assert check_volume(Volume(array, np.eye(4))) == ()


def test_image_without_a_finite_voxel_is_refused() -> None:
    with pytest.raises(InputError, match="none of its voxels is a finite number"):
        check_volume(Volume(np.full((20, 20, 20), np.nan), np.eye(4)))


@pytest.mark.parametrize(("values", "count"), [((np.nan,), 1), ((np.nan, np.inf, -np.inf), 3)])
def test_non_finite_voxels_are_counted(values: tuple[float, ...], count: int) -> None:
    volume = make_ct(kind=np.float32)
    for n, value in enumerate(values):
        volume.array[n, 3, 3] = value
    (message,) = check_volume(volume)
    assert message.startswith(f"scan.nii.gz: {count} voxel")
    assert "air" in message


def test_voxels_that_are_not_finite_are_looked_for_in_a_sample_only_when_told_so() -> None:
    volume = make_ct((20, 30, 130), kind=np.float32)
    volume.array[2, 3, 4] = np.nan  # every third is in the sample
    assert volume_warnings(volume, count_not_finite=False) == ()
    volume.array[2, 3, 6] = np.inf
    (warning,) = volume_warnings(volume, count_not_finite=False)
    assert warning == ("not finite", "scan.nii.gz: voxels that are no finite numbers count as air.")
    assert volume_warnings(volume)[0].sentence.startswith("scan.nii.gz: 2 voxels")


def test_complex_voxels_are_refused() -> None:
    with pytest.raises(InputError, match="complex"):
        check_volume(Volume(np.ones((5, 5, 5), dtype=np.complex64), np.eye(4)))


def test_mr_like_intensities_give_a_warning() -> None:
    rng = np.random.default_rng(0)
    volume = Volume(rng.gamma(2, 300, size=(40, 40, 40)).astype(np.float32), np.diag([2.0, 2.0, 3.0, 1.0]), "t1.nii")
    (message,) = check_volume(volume)
    assert "Hounsfield" in message and "MR" in message


def test_windowed_image_gives_a_warning() -> None:
    array = np.clip((make_ct().array + 160.0) / 400 * 255, 0, 255).astype(np.uint8)
    (message,) = check_volume(Volume(array, np.diag([2.0, 2.0, 3.0, 1.0])))
    assert "windowed" in message


def test_label_map_gives_a_warning() -> None:
    (message,) = check_volume(make_ct().with_array((make_ct().array > 0).astype(np.uint8)))
    assert "label map" in message


def test_missing_offset_is_recognized() -> None:
    (message,) = check_volume(make_ct().with_array((make_ct().array + 1024).astype(np.uint16)))
    assert "offset of -1024" in message


def test_short_scan_gives_a_warning_with_its_height() -> None:
    (message,) = check_volume(make_ct(shape=(12, 50, 60)))
    assert "only 36 mm" in message


def test_height_is_measured_along_the_patient_not_the_array() -> None:
    volume = make_ct()
    permuted = volume.ijk_to_world[:, [2, 0, 1, 3]]
    turned = Volume(np.ascontiguousarray(volume.array.transpose(1, 2, 0)), permuted, volume.name)
    assert check_volume(turned) == ()


@pytest.mark.parametrize(
    ("spacing", "text"),
    [((1, 1, 15), "slices are 15 mm apart"), ((8, 8, 8), "coarse"), ((0.002, 0.002, 0.005), "small")],
)
def test_unusual_spacing_gives_a_warning(spacing: tuple[float, float, float], text: str) -> None:
    assert any(text in message for message in check_volume(make_ct(spacing=spacing)))


def test_warnings_carry_a_word_for_programs() -> None:
    volume = make_ct((10, 50, 60), spacing=(7, 7, 3), kind=np.float32)
    array = np.interp(volume.array, (-160, 240), (0, 255))
    array[0, 0, 0] = np.nan
    warnings = volume_warnings(volume.with_array(array))
    assert [warning.code for warning in warnings] == ["short", "coarse", "not finite", "intensity"]
    assert tuple(warning.sentence for warning in warnings) == check_volume(volume.with_array(array))


@pytest.mark.parametrize("name", ["chaos_eval", "crlm1004", "crlm1006", "cptac_pda_00189", "totalseg_example"])
def test_real_abdominal_cts_get_no_warning(shared_data: object, name: str) -> None:
    from AGTraining.imaging.files import read_volume

    assert check_volume(read_volume(f"{shared_data}/ct/{name}/ct.nii.gz")) == ()
