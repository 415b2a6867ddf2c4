from __future__ import annotations

import numpy as np
import pytest
import slicer
import vtk
from AttentionSegmentationLib.Segmentation.ProcessingOptions import ProcessingOptions
from AttentionSegmentationLib.Segmentation.VolumeChecks import checkBeforeRun, chosenDevice

GB = 10**9
CPU = {"device": "cpu", "name": "CPU (2 threads)", "total_bytes": 16 * GB, "free_bytes": 8 * GB, "largest_tile": 160}
GPU = {"device": "cuda:0", "name": "GPU 0: X", "total_bytes": 8 * GB, "free_bytes": 2 * GB, "largest_tile": 96}
SMALL_GPU = GPU | {"device": "cuda:1", "name": "GPU 1: Y", "free_bytes": GB // 4, "largest_tile": 0}


@pytest.fixture
def body(addCT):
    """A CT with a body in it, 84 mm high."""
    _k, j, i = np.mgrid[0:28, 0:40, 0:48]
    inside = ((i - 24) / 20) ** 2 + ((j - 20) / 16) ** 2 < 1
    noise = np.random.default_rng(4).normal(40, 60, inside.shape)
    return addCT(np.where(inside, noise, -1000).astype(np.int16), np.diag([-1.9, -1.9, 3.0, 1.0]), "body")


def codes(findings):
    return [(finding.code, finding.blocking) for finding in findings]


def only(findings):
    (finding,) = findings
    return finding


def test_nothing_is_said_of_a_good_ct(body):
    assert checkBeforeRun(body, ProcessingOptions(), [CPU, GPU]) == ()


def test_no_volume_blocks():
    finding = only(checkBeforeRun(None, ProcessingOptions()))
    assert (finding.code, finding.blocking) == ("noVolume", True)
    assert "choose the CT" in finding.sentence


@pytest.mark.parametrize("className", ["vtkMRMLSegmentationNode", "vtkMRMLSequenceNode", "vtkMRMLScalarVolumeNode"])
def test_what_is_no_volume_with_voxels_blocks(scene, className):
    node = scene.AddNewNodeByClass(className, "thing")
    finding = only(checkBeforeRun(node, ProcessingOptions()))
    assert (finding.code, finding.blocking) == ("notSegmentable", True)
    assert finding.sentence.startswith("thing: ")


def test_single_slice_blocks(addCT):
    assert codes(checkBeforeRun(addCT(np.zeros((1, 32, 32), np.int16)), ProcessingOptions())) == [
        ("notSegmentable", True)
    ]


def test_non_linear_transform_blocks_and_names_the_way_out(scene, body):
    warp = scene.AddNewNodeByClass("vtkMRMLTransformNode", "breathing")
    spline = vtk.vtkThinPlateSplineTransform()
    points = vtk.vtkPoints()
    for point in ((0, 0, 0), (50, 0, 0), (0, 50, 0), (0, 0, 50)):
        points.InsertNextPoint(point)
    spline.SetSourceLandmarks(points)
    spline.SetTargetLandmarks(points)
    warp.SetAndObserveTransformToParent(spline)
    body.SetAndObserveTransformNodeID(warp.GetID())
    finding = only(checkBeforeRun(body, ProcessingOptions()))
    assert (finding.code, finding.blocking) == ("nonLinearTransform", True)
    assert "harden it" in finding.sentence


@pytest.mark.parametrize(("modality", "expected"), [("CT", []), ("", []), ("ct ", []), ("MR", [("modality", False)])])
def test_modality_other_than_ct_is_warned_of(scene, body, modality, expected):
    hierarchy = scene.GetSubjectHierarchyNode()
    item = hierarchy.CreateItem(hierarchy.GetSceneItemID(), body)
    name = slicer.vtkMRMLSubjectHierarchyConstants.GetDICOMSeriesModalityAttributeName()
    hierarchy.SetItemAttribute(item, name, modality)
    assert codes(checkBeforeRun(body, ProcessingOptions())) == expected


def test_intensities_unlike_hounsfield_units_are_warned_of(body):
    array = slicer.util.arrayFromVolume(body)
    array[:] = np.interp(array, (-160, 240), (0, 255))
    slicer.util.arrayFromVolumeModified(body)
    assert codes(checkBeforeRun(body, ProcessingOptions())) == [("intensity", False)]


@pytest.mark.parametrize("tilt", [0, 90], ids=["axial", "slices stacked from left to right"])
def test_short_scan_is_warned_of_along_the_patients_axis(addCT, body, tilt):
    array = slicer.util.arrayFromVolume(body)
    if tilt:
        # Long along K, which runs from left to right here: what is short is J, from head to feet.
        matrix = np.array([[0, 0, 3.0, 0], [1.9, 0, 0, 0], [0, 1.0, 0, 0], [0, 0, 0, 1]])
        node = addCT(array, matrix, "short")
    else:
        node = addCT(array[:10], np.diag([-1.9, -1.9, 3.0, 1.0]), "short")
    finding = only(checkBeforeRun(node, ProcessingOptions()))
    assert (finding.code, finding.blocking) == ("shortScan", False)
    assert f"covers only {40 if tilt else 30} mm" in finding.sentence


def test_no_organ_blocks(body):
    assert codes(checkBeforeRun(body, ProcessingOptions(organs=()))) == [("options", True)]


def test_missing_model_file_blocks(body, tmp_path):
    finding = only(checkBeforeRun(body, ProcessingOptions(modelPath=tmp_path / "none.safetensors")))
    assert (finding.code, finding.blocking) == ("noModel", True)
    assert "none.safetensors" in finding.sentence


@pytest.mark.parametrize("name", ["x" * 300 + ".safetensors", "~nobody-of-this-name/x.safetensors"])
def test_model_file_that_cannot_be_looked_for_blocks(body, name):
    (finding,) = checkBeforeRun(body, ProcessingOptions(modelPath=name), [CPU])
    assert finding.blocking
    assert name in finding.sentence


def test_choices_of_a_wrong_kind_block(body):
    assert codes(checkBeforeRun(body, ProcessingOptions(tileSize=64), [CPU])) == [("options", True)]


def test_only_a_sample_of_the_voxels_is_read(addCT):
    """So that it takes no time at each change of a choice; the run counts all of them."""
    array = np.full((40, 40, 130), -1000, np.float32)
    array[5:35, 5:35, 20:110] = np.random.default_rng(4).normal(40, 60, (30, 30, 90))
    array[3, 3, 4] = np.nan  # every third is in the sample
    node = addCT(array, np.diag([-1.9, -1.9, 3.0, 1.0]))
    assert checkBeforeRun(node, ProcessingOptions()) == ()
    array[3, 3, 6] = np.nan
    slicer.util.updateVolumeFromArray(node, array)
    assert codes(checkBeforeRun(node, ProcessingOptions())) == [("notFinite", False)]


def test_what_blocks_comes_first(addCT):
    array = np.zeros((20, 30, 30), np.int16)
    array[5:, 5:] = 100
    findings = checkBeforeRun(addCT(array), ProcessingOptions(organs=()))
    assert [finding.blocking for finding in findings] == [True, False, False][: len(findings)]
    assert len(findings) > 1


def test_tile_that_is_too_large_offers_one_that_fits(body):
    finding = only(checkBeforeRun(body, ProcessingOptions(device="cuda:0", tileSize=(128, 128, 128)), [CPU, GPU]))
    assert (finding.code, finding.blocking, finding.suggestion) == ("tileTooLarge", False, (96, 96, 96))
    assert "128 × 128 × 128" in finding.sentence and "2.0 GB" in finding.sentence


@pytest.mark.parametrize("tile", [None, (96, 96, 96), (192, 64, 64)])
def test_tile_that_fits_is_not_mentioned(body, tile):
    assert checkBeforeRun(body, ProcessingOptions(device="cuda:0", tileSize=tile), [CPU, GPU]) == ()


def test_gpu_without_room_for_the_smallest_tile_blocks_and_advises_the_cpu(body):
    finding = only(checkBeforeRun(body, ProcessingOptions(device="cuda:1"), [CPU, SMALL_GPU]))
    assert (finding.code, finding.blocking, finding.suggestion) == ("tooLittleMemory", True, "cpu")
    assert "choose the CPU" in finding.sentence


def test_automatic_choice_falls_back_to_the_cpu_by_itself(body):
    finding = only(checkBeforeRun(body, ProcessingOptions(), [CPU, SMALL_GPU]))
    assert (finding.code, finding.blocking) == ("tooLittleMemory", False)


def test_cpu_without_room_blocks(body):
    finding = only(checkBeforeRun(body, ProcessingOptions(device="cpu"), [CPU | {"largest_tile": 0}]))
    assert (finding.code, finding.blocking) == ("tooLittleMemory", True)
    assert "close other programs" in finding.sentence


def test_device_that_is_gone_blocks(body):
    finding = only(checkBeforeRun(body, ProcessingOptions(device="cuda:7"), [CPU, GPU]))
    assert (finding.code, finding.blocking) == ("noDevice", True)
    assert "cpu, cuda:0" in finding.sentence


def test_memory_is_not_judged_without_a_model(body):
    assert checkBeforeRun(body, ProcessingOptions(tileSize=(512, 512, 512)), [CPU | {"largest_tile": None}]) == ()


@pytest.mark.parametrize(
    ("name", "devices", "chosen"),
    [
        ("auto", [CPU], "cpu"),
        ("auto", [CPU, GPU], "cuda:0"),
        ("auto", [CPU, GPU, GPU | {"device": "cuda:1", "free_bytes": 3 * GB}], "cuda:1"),
        ("auto", [CPU, GPU | {"free_bytes": 0}], "cpu"),
        ("cuda", [CPU, GPU], "cuda:0"),
        ("cpu", [CPU, GPU], "cpu"),
    ],
)
def test_chosen_device_is_the_one_that_the_worker_takes(name, devices, chosen):
    assert chosenDevice(name, devices)["device"] == chosen
