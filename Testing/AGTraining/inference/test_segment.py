from __future__ import annotations

import threading
import time

import numpy as np
import pytest
import torch

from AGTraining.bundle import Bundle
from AGTraining.errors import BundleError, Cancelled, DeviceError, InputError
from AGTraining.imaging.volume import Volume
from AGTraining.inference import predict as predict_module
from AGTraining.inference.segment import SegmentOptions, segment
from AGTraining.networks import UNet3D
from Testing.AGTraining.inference.synthetic import (
    ALL_AXES,
    ORGANS,
    grid_matrix,
    patient,
    threshold_bundle,
    world_centre,
)

RIGHT_HANDED = grid_matrix((0, 1, 2), (1, 1, 1), (4.0, 4.0, 4.0))
CPU = SegmentOptions(device="cpu")


@pytest.fixture(scope="module")
def bundle():
    return threshold_bundle()


def assert_organs_where_they_are(result, tolerance_mm: float) -> None:
    for organ in result.organs:
        centre, radius, _ = ORGANS[organ.label.name]
        found = world_centre(result.labels, organ.label.value)
        assert np.abs(found - centre).max() < tolerance_mm, f"{organ.label.name}: {found} instead of {centre}"
        # The rim of a bright sphere passes through the darker organs' HU, so some of it is lost.
        assert 0.6 < organ.volume_ml / (4 / 3 * np.pi * radius**3 / 1000) < 1.2, organ.label.name


@pytest.mark.parametrize(("axes", "signs"), ALL_AXES)
def test_every_axis_order_and_flip_gives_the_organs_at_their_places(bundle, axes, signs):
    volume = patient(*grid_matrix(axes, signs, (4.0, 5.0, 6.0)))
    result = segment(volume, bundle, CPU)
    assert result.labels.same_grid(volume)
    assert result.labels.array.dtype == np.uint8
    assert_organs_where_they_are(result, tolerance_mm=2.5)


@pytest.mark.parametrize("tilt", [12.0, 30.0, 75.0])
@pytest.mark.parametrize(("axes", "signs"), [ALL_AXES[0], ALL_AXES[13], ALL_AXES[38]])
def test_oblique_anisotropic_grids_give_the_organs_at_their_places(bundle, axes, signs, tilt):
    volume = patient(*grid_matrix(axes, signs, (3.0, 3.5, 6.0), tilt, 1.5))
    assert_organs_where_they_are(segment(volume, bundle, CPU), tolerance_mm=2.5)


def test_sheared_grid_gives_the_organs_at_their_places(bundle):
    matrix, shape = grid_matrix((0, 1, 2), (1, 1, 1), (4.0, 4.0, 4.0))
    shear = np.eye(4)
    shear[1, 2] = np.tan(np.deg2rad(20))
    assert_organs_where_they_are(segment(patient(shear @ matrix, shape), bundle, CPU), tolerance_mm=2.5)


@pytest.mark.parametrize("dtype", [np.int16, np.int32, np.float32, np.float64])
def test_any_scalar_type_gives_the_same_labels(bundle, dtype):
    expected = segment(patient(*RIGHT_HANDED), bundle, CPU).labels.array
    result = segment(patient(*RIGHT_HANDED, dtype=dtype), bundle, CPU)
    assert np.array_equal(result.labels.array, expected)


def test_voxels_of_the_other_byte_order_give_the_same_labels(bundle):
    volume = patient(*RIGHT_HANDED)
    swapped = volume.with_array(volume.array.astype(volume.array.dtype.newbyteorder()))
    expected = segment(volume, bundle, CPU).labels.array
    assert np.array_equal(segment(swapped, bundle, CPU).labels.array, expected)


def test_the_input_is_left_alone(bundle):
    volume = patient(*RIGHT_HANDED, dtype=np.float32)
    volume.array[3, 3, 3] = np.nan
    before = volume.array.copy()
    segment(volume, bundle, CPU)
    assert np.array_equal(volume.array, before, equal_nan=True)


def test_voxels_that_are_not_finite_count_as_air(bundle):
    clean = patient(*RIGHT_HANDED, dtype=np.float32)
    dirty = clean.with_array(clean.array.copy())
    dirty.array[:3, 0, 0] = (np.nan, np.inf, -np.inf)
    result = segment(dirty, bundle, CPU)
    assert np.array_equal(result.labels.array, segment(clean, bundle, CPU).labels.array)
    assert any("finite" in message for message in result.messages)


@pytest.mark.parametrize("side", ["right kidney", "left kidney"])
def test_a_single_kidney_is_called_by_its_side(bundle, side):
    for axes, signs in (ALL_AXES[0], ALL_AXES[6], ALL_AXES[43]):
        volume = patient(*grid_matrix(axes, signs, (4.0, 4.0, 4.0)), organs=("pancreas", "spleen", side))
        result = segment(volume, bundle, CPU)
        found = {organ.label.name for organ in result.organs if organ.found}
        assert found == {"pancreas", "spleen", side}
        assert sum("not found" in message for message in result.messages) == 1


def test_statistics_are_those_of_the_labelled_voxels(bundle):
    volume = patient(*grid_matrix((0, 1, 2), (1, 1, 1), (3.0, 4.0, 5.0)))
    result = segment(volume, bundle, CPU)
    for organ in result.organs:
        inside = volume.array[result.labels.array == organ.label.value].astype(float)
        assert organ.voxels == inside.size
        assert organ.volume_ml == pytest.approx(inside.size * 0.06)
        assert organ.mean_hu == pytest.approx(inside.mean())
        assert organ.sd_hu == pytest.approx(inside.std())
        assert 0.5 < organ.confidence <= 1.0


def test_only_the_wanted_organs_are_kept(bundle):
    result = segment(patient(*RIGHT_HANDED), bundle, SegmentOptions(device="cpu", organs=("left kidney",)))
    assert set(np.unique(result.labels.array)) == {0, 4}
    assert [organ.label.name for organ in result.organs] == ["left kidney"]
    with pytest.raises(InputError, match="No organ was chosen"):
        segment(patient(*RIGHT_HANDED), bundle, SegmentOptions(organs=()))
    with pytest.raises(InputError, match="no organ 'liver'.*left kidney"):
        segment(patient(*RIGHT_HANDED), bundle, SegmentOptions(organs=("liver",)))


def test_smaller_parts_of_an_organ_are_removed_unless_they_are_wanted(bundle):
    volume = patient(*RIGHT_HANDED)
    volume.array[4:7, 20:24, 30:34] = int(ORGANS["spleen"][2])
    spleen = 2
    cleaned = segment(volume, bundle, CPU).labels.array
    everything = segment(volume, bundle, SegmentOptions(device="cpu", largest_component=False)).labels.array
    assert not (cleaned[4:7, 20:24, 30:34] == spleen).any()
    assert (everything[4:7, 20:24, 30:34] == spleen).any()


def test_an_organ_at_the_edge_of_the_scan_is_reported_as_cut_off(bundle):
    matrix, shape = RIGHT_HANDED
    volume = patient(matrix, shape)
    cut = Volume(volume.array[:21], matrix, "short scan")
    messages = segment(cut, bundle, CPU).messages
    assert any("cut off" in message and "spleen" in message for message in messages)
    assert not any("cut off" in message for message in segment(volume, bundle, CPU).messages)


def test_nothing_to_find_gives_empty_labels_and_a_message(bundle):
    result = segment(patient(*RIGHT_HANDED, organs=()), bundle, CPU)
    assert not result.labels.array.any()
    assert any("not found: pancreas, spleen, right kidney, left kidney" in message for message in result.messages)
    assert all(np.isnan(organ.mean_hu) for organ in result.organs)


@pytest.mark.parametrize("normalisation", ["sigmoid", "softmax"])
@pytest.mark.parametrize("tile", [None, (32, 32, 32)])
def test_attention_lies_where_the_gate_looks(normalisation, tile):
    bundle = threshold_bundle(attention_hu=190.0, normalisation=normalisation)
    volume = patient(*grid_matrix((1, 2, 0), (-1, 1, -1), (3.0, 4.0, 5.0), tilt=20.0), organs=("left kidney",))
    result = segment(volume, bundle, SegmentOptions(device="cpu", attention="levels", tile_size=tile))
    assert set(result.attention) == {"level2"}
    attention = result.attention["level2"]
    assert attention.array.dtype == np.float32
    assert attention.array.min() >= 0
    assert attention.array.max() <= 1
    assert np.allclose(attention.spacing, 8.0)
    if normalisation == "softmax" and tile is not None:
        return  # softmax is relative to its tile
    bright = attention.with_array(np.uint8(attention.array > 0.5))
    assert np.abs(world_centre(bright, 1) - ORGANS["left kidney"][0]).max() < 4.0


def test_attention_of_each_gate_has_its_name(bundle):
    result = segment(patient(*RIGHT_HANDED), bundle, SegmentOptions(device="cpu", attention="gates"))
    assert set(result.attention) == {"level2.gate1", "level2.gate2"}
    assert segment(patient(*RIGHT_HANDED), bundle, CPU).attention == {}


def test_mirroring_changes_nothing_for_a_symmetric_network(bundle):
    volume = patient(*RIGHT_HANDED)
    mirrored = segment(volume, bundle, SegmentOptions(device="cpu", mirror=True))
    assert np.mean(mirrored.labels.array != segment(volume, bundle, CPU).labels.array) < 1e-3


def test_progress_rises_to_one_and_names_its_stages(bundle):
    seen: list[tuple[float, str]] = []
    options = SegmentOptions(device="cpu", tile_size=(32, 32, 32))
    segment(patient(*RIGHT_HANDED), bundle, options, progress=lambda *event: seen.append(event))
    fractions = [fraction for fraction, _ in seen]
    assert fractions == sorted(fractions)
    assert (fractions[0], fractions[-1]) == (0.0, 1.0)
    assert any("tile 2 of" in stage for _, stage in seen)


@pytest.mark.parametrize("stage", ["Resampling", "Segmenting", "Restoring", "Measuring"])
def test_cancelling_in_any_stage_raises(bundle, stage):
    now = [""]

    def progress(fraction: float, name: str) -> None:
        now[0] = name

    with pytest.raises(Cancelled):
        segment(patient(*RIGHT_HANDED), bundle, CPU, progress=progress, is_cancelled=lambda: now[0].startswith(stage))


def test_cancelling_works_within_a_tile():
    """The network's parts ask, too: a whole abdomen in one tile takes seconds."""
    bundle = threshold_bundle(spacing=2.0)
    asked: list[float] = []

    def is_cancelled() -> bool:
        asked.append(time.perf_counter())
        return len(asked) > 4

    volume = patient(*RIGHT_HANDED)
    with pytest.raises(Cancelled):
        segment(volume, bundle, CPU, is_cancelled=is_cancelled, progress=lambda *_: None)
    assert len(asked) == 5


def test_too_little_memory_takes_smaller_tiles_and_says_so(bundle, monkeypatch):
    real = predict_module.prepare_for_inference

    def stingy(*arguments):
        prepared = real(*arguments)
        forward = prepared.forward

        def limited(x, attention=False):
            if x[0, 0].numel() > 64 * 64 * 80:
                raise torch.OutOfMemoryError("CUDA out of memory.")
            return forward(x, attention)

        prepared.forward = limited
        return prepared

    volume = patient(*RIGHT_HANDED)
    fine = threshold_bundle(spacing=3.0)
    expected = segment(volume, fine, CPU).labels.array
    monkeypatch.setattr(predict_module, "prepare_for_inference", stingy)
    result = segment(volume, fine, CPU)
    assert any("smaller tiles were used" in message for message in result.messages)
    assert np.mean(result.labels.array != expected) < 1e-3


def test_no_memory_at_all_is_one_clear_sentence(bundle, monkeypatch):
    def none(*arguments):
        raise RuntimeError("[enforce fail] DefaultCPUAllocator: can't allocate memory: you tried to allocate 9 bytes.")

    monkeypatch.setattr(predict_module, "prepare_for_inference", none)
    with pytest.raises(DeviceError, match="Too little memory even for a tile"):
        segment(patient(*RIGHT_HANDED), bundle, CPU)


def broken(monkeypatch, forward):
    """Lets prepared networks give what `forward(logits, device, mixed)` makes of their logits."""
    real = predict_module.prepare_for_inference

    def prepare(network, device, mixed=None, check=None):
        prepared = real(network, "cpu", False, check)
        inner = prepared.forward
        prepared.forward = lambda x, attention=False: forward(inner(x.cpu(), attention), device, mixed)
        return prepared

    monkeypatch.setattr(predict_module, "prepare_for_inference", prepare)
    monkeypatch.setattr(
        predict_module, "inference_dtype", lambda device, mixed=None: torch.float32 if mixed is False else torch.float16
    )


def test_overflow_in_half_precision_is_repeated_in_full(bundle, monkeypatch):
    expected = segment(patient(*RIGHT_HANDED), bundle, CPU).labels.array
    broken(monkeypatch, lambda logits, device, mixed: logits if mixed is False else logits * float("nan"))
    result = segment(patient(*RIGHT_HANDED), bundle, CPU)
    assert any("full precision was used" in message for message in result.messages)
    assert np.mean(result.labels.array != expected) < 1e-3


def test_a_network_that_gives_nan_is_an_error_and_not_an_empty_result(bundle, monkeypatch):
    broken(monkeypatch, lambda logits, device, mixed: logits * float("nan"))
    with pytest.raises(BundleError, match="no finite numbers"):
        segment(patient(*RIGHT_HANDED), bundle, CPU)


@pytest.mark.parametrize("reason", ["no kernel image is available for execution", "CUDNN_STATUS_ALLOC_FAILED"])
def test_a_gpu_that_fails_hands_over_to_the_cpu(bundle, monkeypatch, reason):
    expected = segment(patient(*RIGHT_HANDED), bundle, CPU).labels.array

    def fail(logits, device, mixed):
        if device.type != "cpu":
            raise RuntimeError(reason)
        return logits

    broken(monkeypatch, fail)
    monkeypatch.setattr(predict_module, "choose_device", lambda name: torch.device("mps"))
    monkeypatch.setattr(predict_module, "free_memory_bytes", lambda device: 2**31)
    # A GPU in this state raises its error at every call.
    monkeypatch.setattr(torch.mps, "empty_cache", lambda: fail(None, torch.device("mps"), None))
    monkeypatch.setattr(predict_module._Run, "_forward", forward_on_cpu)
    result = segment(patient(*RIGHT_HANDED), bundle, SegmentOptions())
    assert any("the CPU was used instead" in message for message in result.messages)
    assert result.device.startswith("CPU")
    assert np.mean(result.labels.array != expected) < 1e-3


def forward_on_cpu(run, x):
    """As `_Run._forward`, without moving x to a device that this machine does not have."""
    return torch.softmax(run.network(x), dim=1)[:, 1:], {}


def test_a_network_without_gates_says_that_there_is_no_attention(bundle):
    network = UNet3D(features=(2, 2, 2)).eval()
    plain = Bundle(bundle.info.model_copy(update={"network": "UNet3D"}), network, bundle.device, bundle.path)
    result = segment(patient(*RIGHT_HANDED), plain, SegmentOptions(device="cpu", attention="levels"))
    assert any("no attention gates" in message for message in result.messages)


def test_sides_told_without_a_spine_are_reported(bundle):
    messages = segment(patient(*RIGHT_HANDED), bundle, CPU).messages
    assert any("no spine was seen" in message for message in messages)
    without_kidneys = segment(patient(*RIGHT_HANDED, organs=("spleen",)), bundle, CPU).messages
    assert not any("no spine was seen" in message for message in without_kidneys)


def test_an_unusual_volume_is_reported(bundle):
    spleen = bundle.info.classes[1].model_copy(update={"usual_ml": (300.0, 800.0)})
    info = bundle.info.model_copy(update={"classes": [bundle.info.classes[0], spleen, bundle.info.classes[2]]})
    result = segment(patient(*RIGHT_HANDED), Bundle(info, bundle.network, bundle.device, bundle.path), CPU)
    assert any("unusual volume, check it: spleen" in message for message in result.messages)
    assert not any("unusual volume" in message for message in segment(patient(*RIGHT_HANDED), bundle, CPU).messages)


def test_two_threads_may_segment_at_once(bundle):
    volumes = [patient(*RIGHT_HANDED, organs=organs) for organs in (("spleen",), ("left kidney",))]
    results: dict[int, np.ndarray] = {}
    threads = [
        threading.Thread(target=lambda n=n: results.update({n: segment(volumes[n], bundle, CPU).labels.array}))
        for n in range(2)
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert set(np.unique(results[0])) == {0, 2}
    assert set(np.unique(results[1])) == {0, 4}


def test_absurd_extent_is_refused(bundle):
    with pytest.raises(InputError, match="no patient"):
        segment(
            Volume(np.zeros((60, 60, 60), np.int16) + np.arange(60, dtype=np.int16), np.diag([200, 200, 200, 1.0])),
            bundle,
        )


def test_missing_gpu_is_refused_by_name(bundle):
    with pytest.raises(DeviceError, match="cuda:7"):
        segment(patient(*RIGHT_HANDED), bundle, SegmentOptions(device="cuda:7"))
