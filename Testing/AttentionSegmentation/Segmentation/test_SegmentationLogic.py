from __future__ import annotations

import shutil
import sys

import numpy as np
import pytest
import slicer
import torch
import vtk
from AttentionSegmentationLib.Segmentation.ProcessingOptions import ProcessingOptions
from AttentionSegmentationLib.Segmentation.SegmentationEngine import InProcessEngine
from AttentionSegmentationLib.Segmentation.SegmentationLogic import SegmentationLogic
from AttentionSegmentationLib.VolumeConversion import volumeFromNode

from AGTraining import bundle
from AGTraining.errors import AGTrainingError, BundleError, Cancelled, InputError
from AGTraining.inference.segment import SegmentOptions, segment

SEGMENT_NAMES = ["pancreas", "spleen", "right kidney", "left kidney"]


def inProcess(**arguments):
    return SegmentationLogic(engine=InProcessEngine(**arguments))


@pytest.fixture
def engine(makeResult, labelArray):
    """Takes the engine's place, and gives the organs where the label map says."""

    def run(volume, model, options, *, progress, is_cancelled):
        run.calls.append((volume, model, options))
        return makeResult(volume, labelArray, messages=("CT: something to know.",))

    run.calls = []
    return run


@pytest.fixture
def body(addCT):
    """A CT with a body in it, small enough for the tiny model, on an oblique grid."""
    _k, j, i = np.mgrid[0:24, 0:40, 0:48]
    inside = ((i - 24) / 20) ** 2 + ((j - 20) / 16) ** 2 < 1
    noise = np.random.default_rng(4).normal(40, 60, inside.shape)
    matrix = np.array([[-1.9, 0.2, 0, 45], [-0.2, -1.9, 0, 40], [0, 0, 3.0, -30], [0, 0, 0, 1]])
    return addCT(np.where(inside, noise, -1000).astype(np.int16), matrix, "body")


def nodeNames(scene):
    return [scene.GetNthNode(index).GetName() for index in range(scene.GetNumberOfNodes())]


def segmentNames(node):
    segmentation = node.GetSegmentation()
    return [segmentation.GetNthSegment(n).GetName() for n in range(segmentation.GetNumberOfSegments())]


def test_engine_gets_the_volume_in_world_coordinates(scene, addCT, engine, tinyBundle):
    node = addCT()
    transform = scene.AddNewNodeByClass("vtkMRMLLinearTransformNode")
    transform.SetMatrixTransformToParent(slicer.util.vtkMatrixFromArray(np.diag([1.0, 2.0, 1.0, 1.0])))
    node.SetAndObserveTransformNodeID(transform.GetID())
    inProcess(segment=engine).process(node, ProcessingOptions(modelPath=tinyBundle))
    volume = engine.calls[0][0]
    assert volume.name == "CT"
    np.testing.assert_array_equal(volume.ijk_to_world, volumeFromNode(node).ijk_to_world)


def test_choices_reach_the_engine(addCT, engine, tinyBundle):
    options = ProcessingOptions(
        modelPath=tinyBundle, device="cpu", attention="gates", mirror=True, largestComponent=False, organs=("spleen",)
    )
    inProcess(segment=engine).process(addCT(), options)
    assert engine.calls[0][2] == SegmentOptions(
        device="cpu", attention="gates", mirror=True, largest_component=False, organs=("spleen",)
    )


def test_volume_outside_a_scene_is_refused_before_the_work(engine, tinyBundle):
    node = slicer.vtkMRMLScalarVolumeNode()
    slicer.util.updateVolumeFromArray(node, np.zeros((3, 4, 5), np.int16))
    with pytest.raises(InputError, match=r"^volume: the volume is in no scene"):
        inProcess(segment=engine).process(node, ProcessingOptions(modelPath=tinyBundle))
    assert engine.calls == []


def test_choosing_no_organ_is_refused_before_the_work(addCT, engine, tinyBundle):
    with pytest.raises(InputError, match="No organ was chosen"):
        inProcess(segment=engine).process(addCT(), ProcessingOptions(tinyBundle, organs=()))
    assert engine.calls == []


def test_default_choices_are_the_engines(engine):
    assert ProcessingOptions().segmentOptions() == SegmentOptions()


def test_result_has_nodes_messages_and_the_engines_result(addCT, engine, tinyBundle):
    node = addCT()
    result = inProcess(segment=engine).process(node, ProcessingOptions(modelPath=tinyBundle))
    assert segmentNames(result.segmentationNode) == SEGMENT_NAMES
    assert result.tableNode.GetName() == "CT organ statistics"
    assert result.messages == ("CT: something to know.",)
    assert result.segmentResult.labels.same_grid(volumeFromNode(node))


def test_other_nodes_are_left_alone(scene, addCT, engine, tinyBundle):
    others = [addCT(name="other"), scene.AddNewNodeByClass("vtkMRMLSegmentationNode", "mine"), addCT()]
    times = [node.GetMTime() for node in others]
    image = slicer.util.arrayFromVolume(others[2]).copy()
    inProcess(segment=engine).process(others[2], ProcessingOptions(modelPath=tinyBundle))
    assert [node.GetMTime() for node in others[:2]] == times[:2]
    np.testing.assert_array_equal(slicer.util.arrayFromVolume(others[2]), image)
    assert others[2].GetParentTransformNode() is None


def test_model_is_read_once(addCT, engine, tinyBundle):
    loads = []
    logic = inProcess(segment=engine, loadBundle=lambda path: loads.append(path) or bundle.load(path))
    for _ in range(3):
        logic.process(addCT(), ProcessingOptions(modelPath=tinyBundle))
    assert loads == [tinyBundle]
    assert len({id(model) for _, model, _ in engine.calls}) == 1


def test_changed_model_file_is_read_again(addCT, engine, tinyBundle, tmp_path, bundleInfo):
    path = shutil.copy(tinyBundle, tmp_path / "model.safetensors")
    logic = inProcess(segment=engine)
    logic.process(addCT(), ProcessingOptions(modelPath=path))
    bundle.save(path, bundle.load(path).network, bundleInfo.model_copy(update={"name": "newer"}))
    logic.process(addCT(), ProcessingOptions(modelPath=path))
    assert [model.info.name for _, model, _ in engine.calls] == ["tiny", "newer"]


def test_missing_model_is_named_and_the_scene_untouched(scene, addCT, tmp_path):
    node = addCT()
    before = nodeNames(scene)
    with pytest.raises(BundleError, match=r"none\.safetensors"):
        inProcess().process(node, ProcessingOptions(modelPath=tmp_path / "none.safetensors"))
    assert nodeNames(scene) == before


def test_missing_package_is_named_with_how_to_install_it(monkeypatch, addCT, tinyBundle):
    for name in ("AGTraining.inference.segment", "AGTraining.inference.predict"):
        monkeypatch.delitem(sys.modules, name)
    monkeypatch.setitem(sys.modules, "torch", None)  # Python's own mark for what cannot be imported
    with pytest.raises(AGTrainingError, match=r"'torch' is needed and not installed; .*pip_install\('torch'\)"):
        inProcess().process(addCT(), ProcessingOptions(modelPath=tinyBundle))


def test_volume_is_checked_before_the_model_is_read(scene):
    def load(path):
        raise AssertionError("read the model for nothing")

    node = scene.AddNewNodeByClass("vtkMRMLScalarVolumeNode", "empty one")
    with pytest.raises(InputError, match="empty one"):
        inProcess(loadBundle=load).process(node)


def test_frame_of_a_sequence_is_segmented_and_the_user_told(scene, addCT, engine, tinyBundle):
    frame = addCT(name="phase")
    sequence = scene.AddNewNodeByClass("vtkMRMLSequenceNode", "4D CT")
    for value in ("0", "50"):
        sequence.SetDataNodeAtValue(frame, value)
    browser = scene.AddNewNodeByClass("vtkMRMLSequenceBrowserNode")
    browser.SetAndObserveMasterSequenceNodeID(sequence.GetID())
    browser.AddProxyNode(frame, sequence, False)
    browser.SetSelectedItemNumber(1)
    result = inProcess(segment=engine).process(frame, ProcessingOptions(modelPath=tinyBundle))
    assert result.messages[0] == "phase: a sequence of 2 images; only image 2 was segmented."
    assert segmentNames(result.segmentationNode) == SEGMENT_NAMES


def test_real_engine_end_to_end(scene, body, tinyBundle):
    """The tiny model's labels, whatever they are, arrive in the segmentation; its attention lies over the CT."""
    fractions = []
    options = ProcessingOptions(modelPath=tinyBundle, device="cpu", attention="levels", largestComponent=False)
    result = inProcess().process(body, options, progress=lambda fraction, stage: fractions.append(fraction))

    expected = segment(volumeFromNode(body), bundle.load(tinyBundle), options.segmentOptions())
    assert expected.labels.array.max() > 0
    np.testing.assert_array_equal(result.segmentResult.labels.array, expected.labels.array)
    for organ in expected.organs:
        if organ.found:
            segmentID = result.segmentationNode.GetSegmentation().GetSegmentIdBySegmentName(organ.label.name)
            mask = slicer.util.arrayFromSegmentBinaryLabelmap(result.segmentationNode, segmentID, body)
            np.testing.assert_array_equal(mask > 0, expected.labels.array == organ.label.value)
    assert segmentNames(result.segmentationNode) == [organ.label.name for organ in expected.organs if organ.found]
    missing = [organ.label.name for organ in expected.organs if not organ.found]
    assert all(any(name in message for message in result.messages) for name in missing)

    assert set(result.attentionNodes) == {"level2", "level3", "level4"}
    ct, overlay = [0.0] * 6, [0.0] * 6
    body.GetRASBounds(ct)
    result.attentionNodes["level2"].GetRASBounds(overlay)
    shared = vtk.vtkBoundingBox(ct)
    assert shared.IntersectBox(vtk.vtkBoundingBox(overlay))
    assert fractions == sorted(fractions)
    assert fractions[-1] == pytest.approx(1.0)


def test_organs_that_were_not_found_get_a_message(body, tinyBundle, bundleInfo, tmp_path):
    network = bundle.load(tinyBundle).network
    with torch.no_grad():
        network.fuse.bias[0] += 100  # background everywhere
    bundle.save(tmp_path / "blind.safetensors", network, bundleInfo)
    options = ProcessingOptions(modelPath=tmp_path / "blind.safetensors", device="cpu")
    result = inProcess().process(body, options)
    assert segmentNames(result.segmentationNode) == []
    (message,) = (message for message in result.messages if "not found" in message)
    assert message.startswith("body: ")
    assert all(name in message for name in SEGMENT_NAMES)


def test_cancelled_half_way_leaves_the_scene_as_it_was(scene, body, tinyBundle):
    before = nodeNames(scene)
    fractions = []
    with pytest.raises(Cancelled):
        inProcess().process(
            body,
            ProcessingOptions(modelPath=tinyBundle, device="cpu", attention="levels"),
            progress=lambda fraction, stage: fractions.append(fraction),
            isCancelled=lambda: bool(fractions) and fractions[-1] > 0.3,
        )
    assert 0.3 < fractions[-1] < 1
    assert nodeNames(scene) == before


def test_single_slice_is_refused_with_the_node_name(scene, addCT, tinyBundle):
    node = addCT(np.zeros((1, 32, 32), np.int16), name="scout")
    before = nodeNames(scene)
    with pytest.raises(InputError, match=r"^scout: a single slice"):
        inProcess().process(node, ProcessingOptions(modelPath=tinyBundle))
    assert nodeNames(scene) == before
