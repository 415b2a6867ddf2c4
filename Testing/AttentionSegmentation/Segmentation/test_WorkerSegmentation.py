"""The logic with the real worker: a process of its own, real nodes, a tiny model."""

from __future__ import annotations

import tempfile
import time

import numpy as np
import psutil
import pytest
import slicer
from AttentionSegmentationLib.Segmentation.ProcessingOptions import ProcessingOptions
from AttentionSegmentationLib.Segmentation.SegmentationEngine import InProcessEngine
from AttentionSegmentationLib.Segmentation.SegmentationLogic import SegmentationLogic
from AttentionSegmentationLib.VolumeConversion import volumeFromNode
from AttentionSegmentationLib.WorkerError import WorkerError

from AGTraining.errors import BundleError, Cancelled, DeviceError, InputError

OBLIQUE = np.array([[-1.9, 0.2, 0, 45], [-0.2, -1.9, 0, 40], [0, 0, 3.0, -30], [0, 0, 0, 1]])
FLIPPED = np.array([[0, 0, 3.0, -20], [-1.8, 0, 0, 45], [0, -2.1, 0, 50], [0, 0, 0, 1]])
SHEAR = np.array([[1.1, 0.2, 0.1, 12], [0, 0.9, -0.3, -4], [0.1, 0, 1.3, 77], [0, 0, 0, 1]])


@pytest.fixture(scope="module")
def logic():
    """One logic for all tests: importing PyTorch takes seconds."""
    made = SegmentationLogic()
    yield made
    made.shutdown()


@pytest.fixture
def options(tinyBundle):
    return ProcessingOptions(modelPath=tinyBundle, device="cpu", attention="levels", largestComponent=False)


@pytest.fixture
def addBody(addCT):
    """A CT with a body in it, small enough for the tiny model."""

    def add(matrix=OBLIQUE, repeat=1, name="body"):
        _k, j, i = np.mgrid[0:24, 0:40, 0:48]
        inside = ((i - 24) / 20) ** 2 + ((j - 20) / 16) ** 2 < 1
        noise = np.random.default_rng(4).normal(40, 60, inside.shape)
        array = np.tile(np.where(inside, noise, -1000).astype(np.int16), (repeat, repeat, repeat))
        return addCT(array, matrix, name)

    return add


@pytest.fixture
def folders(monkeypatch, tmp_path):
    """What is in the folder for temporary files, whose name has blanks and umlauts."""
    parent = tmp_path / "Temporäre Dateien"
    parent.mkdir()
    monkeypatch.setattr(tempfile, "tempdir", str(parent))
    return lambda: list(parent.iterdir())


@pytest.fixture
def addTransform(scene):
    def add(matrix):
        node = scene.AddNewNodeByClass("vtkMRMLLinearTransformNode")
        node.SetMatrixTransformToParent(slicer.util.vtkMatrixFromArray(matrix))
        return node

    return add


def nodeIDs(scene):
    return [scene.GetNthNode(index).GetID() for index in range(scene.GetNumberOfNodes())]


def workerProcess(logic):
    return psutil.Process(int(logic.log.rpartition(", process ")[2].partition(")")[0]))


def startedJob(logic, node, options, until="Segmenting", **arguments):
    """A job that has come to a stage."""
    stages, ends = [], []
    job = logic.process(
        node,
        options,
        waitForCompletion=False,
        progress=lambda fraction, stage: stages.append(stage),
        onFinished=lambda result: ends.append("finished"),
        onError=lambda error: ends.append(error),
        onCancelled=lambda: ends.append("cancelled"),
        **arguments,
    )
    deadline = time.monotonic() + 60
    while not any(stage.startswith(until) for stage in stages):
        assert not ends and time.monotonic() < deadline, (ends, stages)
        logic.engine.wait(0.02)
    return job, ends


def waitFor(logic, job, seconds=10):
    deadline = time.monotonic() + seconds
    while job.isRunning and time.monotonic() < deadline:
        logic.engine.wait(0.02)
    assert not job.isRunning


@pytest.mark.parametrize("matrix", [OBLIQUE, FLIPPED], ids=["oblique", "permuted and flipped"])
@pytest.mark.parametrize("transform", [None, SHEAR], ids=["no transform", "sheared"])
def test_worker_gives_what_this_process_gives(
    logic, options, folders, addBody, addTransform, tinyBundle, matrix, transform
):
    node = addBody(matrix)
    if transform is not None:
        node.SetAndObserveTransformNodeID(addTransform(transform).GetID())
    result = logic.process(node, options)
    expected = SegmentationLogic(engine=InProcessEngine()).process(node, options)
    assert expected.segmentResult.labels.array.max() > 0
    np.testing.assert_array_equal(result.segmentResult.labels.array, expected.segmentResult.labels.array)
    np.testing.assert_array_equal(result.segmentResult.labels.ijk_to_world, volumeFromNode(node).ijk_to_world)
    for segmentID in expected.segmentationNode.GetSegmentation().GetSegmentIDs():
        masks = [
            slicer.util.arrayFromSegmentBinaryLabelmap(nodes.segmentationNode, segmentID, node)
            for nodes in (result, expected)
        ]
        np.testing.assert_array_equal(*masks)
    for name, map_ in expected.attentionNodes.items():
        found = volumeFromNode(result.attentionNodes[name])
        np.testing.assert_allclose(found.ijk_to_world, volumeFromNode(map_).ijk_to_world, atol=1e-9)
        np.testing.assert_allclose(found.array, volumeFromNode(map_).array, atol=1e-5)
    assert result.messages == expected.messages
    assert folders() == []


def test_sequence_through_the_worker(scene, logic, options, folders, addBody):
    node = addBody()
    sequence = scene.AddNewNodeByClass("vtkMRMLSequenceNode", "4D CT")
    for value, matrix in (("0", OBLIQUE), ("1", FLIPPED)):
        node.SetIJKToRASMatrix(slicer.util.vtkMatrixFromArray(matrix))
        sequence.SetDataNodeAtValue(node, value)
    browser = scene.AddNewNodeByClass("vtkMRMLSequenceBrowserNode")
    browser.SetAndObserveMasterSequenceNodeID(sequence.GetID())
    browser.AddProxyNode(node, sequence, False)
    stages = []
    result = logic.process(node, options, frames="all", progress=lambda fraction, stage: stages.append(stage))
    assert {stage.partition(":")[0] for stage in stages} == {"Image 1 of 2", "Image 2 of 2"}
    inProcess = SegmentationLogic(engine=InProcessEngine())
    for item in (1, 0):
        browser.SetSelectedItemNumber(item)
        labels = inProcess.process(node, options).segmentResult.labels.array
        for index, name in enumerate(("pancreas", "spleen", "right_kidney", "left_kidney"), 1):
            if (labels == index).any():
                mask = slicer.util.arrayFromSegmentBinaryLabelmap(result.segmentationNode, name, node)
                np.testing.assert_array_equal(mask > 0, labels == index)
    assert folders() == []


def test_cancelled_half_way_within_a_second(scene, logic, options, folders, addBody):
    node = addBody(repeat=4)
    before = nodeIDs(scene)
    job, ends = startedJob(logic, node, options)
    start = time.monotonic()
    job.cancel()
    waitFor(logic, job)
    assert time.monotonic() - start < 1.5
    assert ends == ["cancelled"]
    assert nodeIDs(scene) == before
    assert folders() == []


def test_waiting_script_can_cancel(scene, logic, options, folders, addBody):
    seen = []
    with pytest.raises(Cancelled):
        logic.process(
            addBody(repeat=4),
            options,
            progress=lambda fraction, stage: seen.append(stage),
            isCancelled=lambda: bool(seen) and seen[-1].startswith("Segmenting"),
        )
    assert folders() == []


def test_run_may_follow_an_abandoned_one_at_once(scene, logic, options, folders, addBody):
    job, ends = startedJob(logic, addBody(repeat=4), options)
    job.abandon()
    result = logic.process(addBody(name="small"), options)
    assert result.segmentationNode.GetName() == "small segmentation"
    assert ends == [] and folders() == []


def test_killed_worker_is_one_sentence_and_the_next_run_works(scene, logic, options, folders, addBody):
    node = addBody(repeat=4)
    before = nodeIDs(scene)
    job, ends = startedJob(logic, node, options)
    workerProcess(logic).kill()
    waitFor(logic, job)
    (error,) = ends
    assert isinstance(error, WorkerError) and error.code == "died"
    assert nodeIDs(scene) == before and folders() == []
    result = logic.process(addBody(name="small"), options)
    assert result.segmentationNode.GetName() == "small segmentation"


def test_closed_scene_stops_the_computation(scene, logic, options, folders, addBody):
    job, ends = startedJob(logic, addBody(repeat=4), options)
    scene.Clear(False)
    waitFor(logic, job)
    assert ends == ["cancelled"]
    assert scene.GetNumberOfNodesByClass("vtkMRMLSegmentationNode") == 0
    assert folders() == []


def test_removed_volume_stops_the_computation(scene, logic, options, folders, addBody):
    node = addBody(repeat=4)
    job, ends = startedJob(logic, node, options)
    scene.RemoveNode(node)
    waitFor(logic, job)
    (error,) = ends
    assert isinstance(error, InputError) and str(error).startswith("body: the volume was removed")
    assert folders() == []


@pytest.mark.parametrize(
    ("change", "kind", "sentence"),
    [
        ({"modelPath": "/nowhere/none.safetensors"}, BundleError, "/nowhere/none.safetensors: no such model file"),
        ({"device": "abacus"}, DeviceError, "Device 'abacus' is not known"),
        ({"organs": ("appendix",)}, InputError, "has no organ 'appendix'"),
    ],
    ids=["missing model", "unknown device", "unknown organ"],
)
def test_errors_of_the_worker_have_class_and_sentence(
    scene, logic, tinyBundle, folders, addBody, change, kind, sentence
):
    node = addBody()
    before = nodeIDs(scene)
    with pytest.raises(kind, match=sentence):
        logic.process(node, ProcessingOptions(**{"modelPath": tinyBundle, "device": "cpu"} | change))
    assert nodeIDs(scene) == before
    assert folders() == []


def test_devices_are_described_for_the_panel(logic, tinyBundle):
    answers = []
    logic.describe(answers.append, answers.append, tinyBundle)
    deadline = time.monotonic() + 60
    while not answers and time.monotonic() < deadline:
        logic.engine.client.wait(0.1)
    cpu = next(device for device in answers[0]["devices"] if device["device"] == "cpu")
    assert cpu["free_bytes"] > 0 and cpu["largest_tile"] >= 64


def test_log_reaches_its_listeners(logic, options, folders, addBody):
    lines = []
    logic.addLogListener(lines.append)
    logic.shutdown()
    logic.process(addBody(), options)
    logic.removeLogListener(lines.append)
    assert any("ready" in line for line in lines)
    assert lines[-1] in logic.log


def test_shutdown_leaves_no_process(logic, options, folders, addBody):
    logic.process(addBody(), options)
    process = workerProcess(logic)
    logic.shutdown()
    process.wait(5)
    assert not process.is_running()
