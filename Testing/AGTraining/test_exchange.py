from __future__ import annotations

import errno
import json
import math
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from AGTraining.errors import DiskError, InputError, RequestError
from AGTraining.exchange import load_options, load_result, load_volume, save_result, save_volume
from AGTraining.imaging.volume import Volume
from AGTraining.inference.result import OrganStatistics, SegmentOptions, SegmentResult
from AGTraining.labels import output_labels

OBLIQUE = np.eye(4)
OBLIQUE[:3, :3] = np.linalg.qr([[0.9, -0.2, 0.2], [0.3, 0.9, 0.1], [-0.2, -0.1, 0.9]])[0] @ np.diag([-0.7, 0.9, 2.5])
OBLIQUE[:3, 3] = (-83.2, 41.7, 1 / 3)

KIDNEY: dict[str, Any] = {
    "name": "kidney", "category_code": "123037004", "category_meaning": "Anatomical Structure",
    "type_code": "64033007", "type_meaning": "Kidney", "color": (185, 102, 83), "paired": True, "usual_ml": (60, 320),
}  # fmt: skip


def through_json(document: Any) -> Any:
    return json.loads(json.dumps(document, allow_nan=False))


def a_volume(dtype: str = "<i2") -> Volume:
    return Volume(np.arange(-12, 48).reshape(3, 4, 5).astype(dtype), OBLIQUE, "Müller CT")


def a_result() -> SegmentResult:
    labels = np.zeros((3, 4, 5), np.uint8)
    labels[1, 1:3] = 2
    right, left = output_labels([KIDNEY])
    maps = {
        name: Volume(np.full((2, 2, 2), value, np.float32), np.diag([4, 4, 4, 1]), name)
        for name, value in (("level2.gate1", 0.25), ("level2.gate2", 0.75))
    }
    nan = math.nan
    return SegmentResult(
        a_volume().with_array(labels),
        (OrganStatistics(right, 0, 0.0, nan, nan, nan), OrganStatistics(left, 10, 0.015, 31.5, 2.5, 0.875)),
        maps,
        ("Müller CT: not found: right kidney.",),
        "CPU (2 threads)",
        {"Segmenting": 1.25},
    )


@pytest.mark.parametrize("dtype", ["<i2", ">i2", "u1", "<u2", "<i4", "<f4", "<f8", ">f4", "?"])
@pytest.mark.parametrize("mapped", [False, True])
def test_volume_comes_back_with_its_type_and_geometry(tmp_path: Path, dtype: str, mapped: bool) -> None:
    volume = a_volume(dtype)

    loaded = load_volume(through_json(save_volume(volume, tmp_path, "volume")), tmp_path, mapped)

    assert loaded.array.dtype == volume.array.dtype
    np.testing.assert_array_equal(loaded.array, volume.array)
    np.testing.assert_array_equal(loaded.ijk_to_world, volume.ijk_to_world)
    assert loaded.name == "Müller CT"


def test_views_are_written_as_they_are_seen(tmp_path: Path) -> None:
    array = np.arange(60, dtype=np.int16).reshape(5, 4, 3).T[::-1, :, ::2]

    loaded = load_volume(save_volume(Volume(array, np.eye(4)), tmp_path, "volume"), tmp_path)

    np.testing.assert_array_equal(loaded.array, array)


def test_mapped_volume_cannot_be_changed_and_a_loaded_one_needs_no_file(tmp_path: Path) -> None:
    document = save_volume(a_volume(), tmp_path, "volume")

    mapped, loaded = load_volume(document, tmp_path, mapped=True), load_volume(document, tmp_path)

    assert not mapped.array.flags.writeable
    assert loaded.array.flags.owndata
    assert isinstance(mapped.array.base, np.memmap)


def test_empty_volume_arrives(tmp_path: Path) -> None:
    document = save_volume(Volume(np.zeros((0, 4, 5), np.int16), np.eye(4)), tmp_path, "volume")

    assert load_volume(document, tmp_path, mapped=True).array.shape == (0, 4, 5)


def test_missing_file_is_named(tmp_path: Path) -> None:
    document = save_volume(a_volume(), tmp_path, "volume")
    (tmp_path / "volume.npy").unlink()

    with pytest.raises(InputError, match=r"Müller CT: its file .*volume\.npy is missing"):
        load_volume(document, tmp_path)


@pytest.mark.parametrize(
    "content",
    [b"", b"PK\x03\x04 a zip archive", b"\x93NUMPY\x01\x00\x0a\x00nonsense{\n", None],
    ids=["empty", "no array", "header", "truncated"],
)
def test_damaged_file_is_refused(tmp_path: Path, content: bytes | None) -> None:
    document = save_volume(a_volume(), tmp_path, "volume")
    path = tmp_path / "volume.npy"
    path.write_bytes(path.read_bytes()[:-7] if content is None else content)

    with pytest.raises(InputError, match=r"volume\.npy is damaged"):
        load_volume(document, tmp_path)


def test_pickled_array_is_never_loaded(tmp_path: Path) -> None:
    document = save_volume(a_volume(), tmp_path, "volume")
    np.save(tmp_path / "volume.npy", np.array([[[print]]], dtype=object), allow_pickle=True)

    with pytest.raises(InputError, match="damaged"):
        load_volume(document, tmp_path)


def test_array_of_two_dimensions_is_no_volume(tmp_path: Path) -> None:
    document = save_volume(a_volume(), tmp_path, "volume")
    np.save(tmp_path / "volume.npy", np.zeros((3, 4)))

    with pytest.raises(InputError, match="3-D"):
        load_volume(document, tmp_path)


@pytest.mark.parametrize("file", ["../volume.npy", "/etc/passwd", "a/b.npy", "..\\volume.npy", "", 3, None])
def test_only_files_of_the_folder_are_read(tmp_path: Path, file: Any) -> None:
    (tmp_path / "inner").mkdir()
    document = save_volume(a_volume(), tmp_path, "volume") | {"file": file}

    with pytest.raises(RequestError, match="volume that was handed over is not valid"):
        load_volume(document, tmp_path / "inner")


@pytest.mark.parametrize("matrix", [None, "identity", [[1, 0], [0]], {}])
def test_geometry_that_is_no_matrix_is_refused(tmp_path: Path, matrix: Any) -> None:
    document = save_volume(a_volume(), tmp_path, "volume") | {"ijk_to_world": matrix}

    with pytest.raises((RequestError, InputError), match="not valid|not a finite 4×4 matrix"):
        load_volume(document, tmp_path)


@pytest.mark.parametrize("document", [None, [], "volume", {}])
def test_document_that_is_no_volume_is_refused(tmp_path: Path, document: Any) -> None:
    with pytest.raises(RequestError, match="not valid"):
        load_volume(document, tmp_path)


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="the system has no /dev/full")
@pytest.mark.parametrize("voxels", [8, 300], ids=["small", "larger than buffers"])
def test_full_disk_is_told_and_leaves_nothing(tmp_path: Path, voxels: int) -> None:
    (tmp_path / "volume.npy").symlink_to("/dev/full")

    with pytest.raises(DiskError, match=r"volume\.npy: cannot be written \(No space left on device\)") as caught:
        save_volume(Volume(np.zeros((2, voxels, voxels), np.int16), np.eye(4)), tmp_path, "volume")

    assert isinstance(caught.value.__cause__, OSError)
    assert caught.value.__cause__.errno == errno.ENOSPC
    assert list(tmp_path.iterdir()) == []


def test_folder_that_is_gone_is_told(tmp_path: Path) -> None:
    with pytest.raises(DiskError, match="cannot be written"):
        save_volume(a_volume(), tmp_path / "gone", "volume")


def test_result_comes_back_whole(tmp_path: Path) -> None:
    result = a_result()

    loaded = load_result(through_json(save_result(result, tmp_path)), tmp_path)

    np.testing.assert_array_equal(loaded.labels.array, result.labels.array)
    assert loaded.labels.array.dtype == np.uint8
    assert loaded.labels.same_grid(result.labels, 0.0)
    # NaN differs from itself, but its text does not.
    assert repr(loaded.organs) == repr(result.organs)
    assert (loaded.messages, loaded.device, loaded.seconds) == (result.messages, result.device, result.seconds)
    assert list(loaded.attention) == ["level2.gate1", "level2.gate2"]
    for name, volume in result.attention.items():
        np.testing.assert_array_equal(loaded.attention[name].array, volume.array)
        assert loaded.attention[name].array.dtype == np.float32
        assert loaded.attention[name].same_grid(volume, 0.0)


def test_statistics_of_a_missing_organ_are_not_numbers_again(tmp_path: Path) -> None:
    organ = load_result(through_json(save_result(a_result(), tmp_path)), tmp_path).organs[0]

    assert not organ.found
    assert math.isnan(organ.mean_hu) and math.isnan(organ.sd_hu) and math.isnan(organ.confidence)


def test_statistics_of_numpy_types_travel(tmp_path: Path) -> None:
    label = output_labels([KIDNEY])[0]
    organ = OrganStatistics(label, np.int64(3), np.float32(1.5), np.float64(20), np.float16(2), np.float32(0.5))  # type: ignore[arg-type]

    document = through_json(save_result(SegmentResult(a_result().labels, (organ,)), tmp_path))

    assert load_result(document, tmp_path).organs == (OrganStatistics(label, 3, 1.5, 20.0, 2.0, 0.5),)


def test_writing_a_result_stops_when_cancelled(tmp_path: Path) -> None:
    calls = []

    def check() -> None:
        calls.append(len(list(tmp_path.iterdir())))
        if len(calls) == 3:
            raise InterruptedError

    with pytest.raises(InterruptedError):
        save_result(a_result(), tmp_path, check)

    assert calls == [0, 1, 2]


@pytest.mark.parametrize("name", ["labels", "organs", "attention", "messages", "device", "seconds"])
def test_incomplete_result_is_refused(tmp_path: Path, name: str) -> None:
    document = save_result(a_result(), tmp_path)
    del document[name]

    with pytest.raises(RequestError, match=f"'{name}' is missing"):
        load_result(document, tmp_path)


@pytest.mark.parametrize("field", ["name", "color", "usual_ml", "modifier_code"])
def test_label_without_a_field_is_refused(tmp_path: Path, field: str) -> None:
    document = save_result(a_result(), tmp_path)
    del document["organs"][0]["label"][field]

    with pytest.raises(RequestError, match=field):
        load_result(document, tmp_path)


def test_labels_of_another_type_are_refused(tmp_path: Path) -> None:
    document = save_result(a_result(), tmp_path)
    np.save(tmp_path / "labels.npy", np.zeros((3, 4, 5), np.float32))

    with pytest.raises(RequestError, match="float32"):
        load_result(document, tmp_path)


@pytest.mark.parametrize(
    "options",
    [
        SegmentOptions(),
        SegmentOptions("cuda:1", "gates", (96, 64, 80), True, False, ("left kidney", "spleen")),
    ],
    ids=["default", "all set"],
)
def test_options_come_back(options: SegmentOptions) -> None:
    assert load_options(through_json(asdict(options))) == options


def test_options_that_are_left_out_have_their_default() -> None:
    assert load_options({"mirror": True}) == SegmentOptions(mirror=True)


@pytest.mark.parametrize(
    ("document", "reason"),
    [
        ({"miror": True}, "'miror' is not known"),
        ({"attention": "all"}, "'all' is neither"),
        ({"device": None}, "None is no str"),
        ({"mirror": 1}, "1 is no bool"),
        ({"tile_size": [64, 64]}, "not enough values"),
        ({"tile_size": [64, 64, 0]}, "not positive"),
        ({"tile_size": [64, 64, 64.5]}, "64.5 is no int"),
        ({"organs": "spleen"}, "no list"),
        ({"organs": [1]}, "1 is no str"),
        (3, "not iterable"),
    ],
)
def test_options_of_another_kind_are_refused(document: Any, reason: str) -> None:
    with pytest.raises(RequestError, match=f"set of options that was handed over is not valid .*{reason}"):
        load_options(document)
