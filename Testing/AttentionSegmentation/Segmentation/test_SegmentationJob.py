"""A segmentation that is under way while the scene goes on: with an engine that the test holds back."""

from __future__ import annotations

import gc
import logging
import weakref

import numpy as np
import pytest
import slicer
import vtk
from AttentionSegmentationLib.Segmentation import SegmentationLogic as SegmentationLogicFile
from AttentionSegmentationLib.Segmentation.ProcessingOptions import ProcessingOptions
from AttentionSegmentationLib.Segmentation.SegmentationLogic import SegmentationLogic
from AttentionSegmentationLib.VolumeConversion import volumeFromNode
from AttentionSegmentationLib.WorkerError import WorkerError

from AGTraining.errors import AGTrainingError, Cancelled, DeviceError, InputError


class HeldEngine:
    """Computes nothing: the test says when a run ends, and how. `confirm` confirms a cancellation."""

    def __init__(self, makeResult, labels):
        self.makeResult, self.labels = makeResult, labels
        self.volume = self.options = self.callbacks = None
        self.cancelled = 0
        self.whileWaiting = []

    def start(self, volume, options, callbacks):
        self.volume, self.options, self.callbacks = volume, options, callbacks

    def cancel(self):
        self.cancelled += 1

    def wait(self, seconds=None):
        if self.whileWaiting:
            self.whileWaiting.pop(0)()

    def shutdown(self):
        self.confirm()

    def progress(self, fraction, stage):
        self.callbacks.onProgress(fraction, stage)

    def finish(self, **fields):
        self._end("onResult")(self.makeResult(self.volume, self.labels[: self.volume.array.shape[0]], **fields))

    def fail(self, error):
        self._end("onError")(error)

    def confirm(self):
        if self.callbacks is not None:
            self._end("onCancelled")()

    def _end(self, name):
        callbacks, self.callbacks = self.callbacks, None
        return getattr(callbacks, name)


@pytest.fixture
def engine(makeResult, labelArray):
    return HeldEngine(makeResult, labelArray)


@pytest.fixture
def logic(engine):
    return SegmentationLogic(engine=engine)


@pytest.fixture
def start(logic):
    """Starts a job; what it calls back is noted in `ends`."""

    def run(volumeNode, output=None, **arguments):
        return logic.process(
            volumeNode,
            ProcessingOptions(),
            output,
            waitForCompletion=False,
            onFinished=lambda result: run.ends.append(("finished", result)),
            onError=lambda error: run.ends.append(("error", error)),
            onCancelled=lambda: run.ends.append(("cancelled", None)),
            **arguments,
        )

    run.ends = []
    return run


def nodeIDs(scene):
    return [scene.GetNthNode(index).GetID() for index in range(scene.GetNumberOfNodes())]


def test_job_goes_on_until_the_result_is_in_the_scene(scene, addCT, start, engine):
    node = addCT()
    job = start(node)
    assert job.isRunning and job.volumeNode is node and job.result is None
    engine.finish()
    assert not job.isRunning
    assert [kind for kind, _ in start.ends] == ["finished"]
    assert start.ends[0][1] is job.result
    assert job.result.segmentationNode.GetScene() is scene


def test_progress_is_handed_on(addCT, start, engine):
    seen = []
    start(addCT(), progress=lambda fraction, stage: seen.append((fraction, stage)))
    engine.progress(0.25, "Segmenting")
    engine.finish()
    assert seen == [(0.25, "Segmenting")]


def test_error_of_the_engine_is_called_back_and_the_scene_untouched(scene, addCT, start, engine):
    node = addCT()
    before = nodeIDs(scene)
    job = start(node)
    error = DeviceError("No memory.")
    engine.fail(error)
    assert start.ends == [("error", error)]
    assert job.error is error and not job.isRunning
    assert nodeIDs(scene) == before


def test_cancelled_job_ends_when_the_engine_has(scene, addCT, start, engine):
    node = addCT()
    before = nodeIDs(scene)
    job = start(node)
    job.cancel()
    job.cancel()
    assert engine.cancelled == 1 and job.isRunning
    engine.confirm()
    assert start.ends == [("cancelled", None)]
    assert nodeIDs(scene) == before


def test_result_that_comes_after_the_cancellation_is_dropped(scene, addCT, start, engine):
    node = addCT()
    before = nodeIDs(scene)
    start(node).cancel()
    engine.finish()
    assert start.ends == [("cancelled", None)]
    assert nodeIDs(scene) == before


def test_question_whether_to_cancel_is_asked_by_the_engine(addCT, start, engine):
    answers = [False, True]
    start(addCT(), isCancelled=lambda: answers.pop(0))
    assert [engine.callbacks.isCancelled(), engine.callbacks.isCancelled()] == [False, True]


def test_question_that_fails_ends_the_job(addCT, start, engine):
    def fail():
        raise ZeroDivisionError("odd")

    job = start(addCT(), isCancelled=fail)
    engine.finish()
    ((kind, error),) = start.ends
    assert kind == "error" and "ZeroDivisionError: odd" in str(error)
    assert not job.isRunning


def test_removed_volume_ends_the_job_with_a_sentence(scene, addCT, start, engine):
    node = addCT()
    start(node)
    scene.RemoveNode(node)
    assert engine.cancelled == 1
    before = nodeIDs(scene)
    engine.confirm()
    ((kind, error),) = start.ends
    assert kind == "error" and isinstance(error, InputError)
    assert str(error) == "CT: the volume was removed while it was segmented; nothing was added."
    assert nodeIDs(scene) == before


def test_other_nodes_may_go(scene, addCT, start, engine):
    other = addCT(name="other")
    start(addCT())
    scene.RemoveNode(other)
    engine.finish()
    assert [kind for kind, _ in start.ends] == ["finished"]


def test_closed_scene_ends_the_job_as_cancelled(scene, addCT, start, engine):
    start(addCT())
    scene.Clear(False)
    assert engine.cancelled == 1
    engine.finish()
    assert start.ends == [("cancelled", None)]
    assert scene.GetNumberOfNodesByClass("vtkMRMLSegmentationNode") == 0


@pytest.mark.parametrize("end", ["finish", "confirm"])
def test_ended_job_is_held_by_nobody(addCT, start, engine, end):
    """Neither by the logic nor by observers of the scene: its result holds whole label maps."""
    job = weakref.ref(start(addCT()))
    gc.collect()
    assert job().isRunning
    getattr(engine, end)()
    start.ends.clear()
    gc.collect()
    assert job() is None


def edit(node):
    slicer.util.arrayFromVolume(node)[0, 0, 0] += 1
    slicer.util.arrayFromVolumeModified(node)


def resize(node):
    slicer.util.updateVolumeFromArray(node, np.zeros((3, 4, 5), np.int16))


def move(node):
    node.SetOrigin(1, 2, 3)


def putUnderTransform(node):
    transform = node.GetScene().AddNewNodeByClass("vtkMRMLLinearTransformNode")
    transform.SetMatrixTransformToParent(slicer.util.vtkMatrixFromArray(np.diag([1.0, 1.0, 2.0, 1.0])))
    node.SetAndObserveTransformNodeID(transform.GetID())


@pytest.mark.parametrize("change", [edit, resize, move, putUnderTransform])
def test_changed_volume_ends_the_job_with_a_sentence(scene, addCT, start, engine, change):
    node = addCT()
    start(node)
    change(node)
    before = nodeIDs(scene)
    engine.finish()
    ((kind, error),) = start.ends
    assert kind == "error"
    assert str(error) == "CT: the volume was changed while it was segmented; segment it again."
    assert nodeIDs(scene) == before


def test_hardened_transform_is_no_change(scene, addCT, start, engine):
    """The volume is where it was, only on a grid that says so itself."""
    node = addCT()
    putUnderTransform(node)
    start(node)
    node.HardenTransform()
    engine.finish()
    assert [kind for kind, _ in start.ends] == ["finished"]


def test_new_name_and_display_are_no_change(addCT, start, engine):
    node = addCT()
    start(node)
    node.SetName("renamed")
    node.CreateDefaultDisplayNodes()
    node.GetDisplayNode().SetWindow(123)
    engine.finish()
    assert start.ends[0][1].segmentationNode.GetName() == "renamed segmentation"


def addSequence(scene, node):
    sequence = scene.AddNewNodeByClass("vtkMRMLSequenceNode", "4D CT")
    for value in range(3):
        slicer.util.arrayFromVolume(node)[:] = 100 * value
        slicer.util.arrayFromVolume(node)[0, 0, 0] = -1000
        sequence.SetDataNodeAtValue(node, str(value))
    browser = scene.AddNewNodeByClass("vtkMRMLSequenceBrowserNode", "browser")
    browser.SetAndObserveMasterSequenceNodeID(sequence.GetID())
    browser.AddProxyNode(node, sequence, False)
    return browser


def test_browsing_away_and_back_is_no_change(scene, addCT, start, engine):
    node = addCT()
    browser = addSequence(scene, node)
    browser.SetSelectedItemNumber(1)
    start(node)
    for item in (2, 0, 1):
        browser.SetSelectedItemNumber(item)
    engine.finish()
    assert [kind for kind, _ in start.ends] == ["finished"]


def test_browsing_to_another_image_is_a_change(scene, addCT, start, engine):
    node = addCT()
    browser = addSequence(scene, node)
    start(node)
    browser.SetSelectedItemNumber(2)
    engine.finish()
    assert "was changed while it was segmented" in str(start.ends[0][1])


def test_images_of_a_sequence_follow_each_other(scene, addCT, start, engine):
    node = addCT()
    addSequence(scene, node)
    start(node, frames="all")
    for index in range(3):
        assert engine.volume.array.max() == 100 * index
        assert start.ends == []
        engine.finish()
    assert [kind for kind, _ in start.ends] == ["finished"]


def test_browsing_meanwhile_does_not_matter_to_all_images(scene, addCT, start, engine):
    node = addCT()
    browser = addSequence(scene, node)
    start(node, frames="all")
    for item in (2, 0, 1):
        browser.SetSelectedItemNumber(item)
        engine.finish()
    assert [kind for kind, _ in start.ends] == ["finished"]
    assert browser.GetSelectedItemNumber() == 1


@pytest.mark.parametrize("name", ["4D CT", "browser"])
def test_removed_sequence_or_browser_ends_the_job(scene, addCT, start, engine, name):
    node = addCT()
    addSequence(scene, node)
    start(node, frames="all")
    engine.finish()
    scene.RemoveNode(scene.GetFirstNodeByName(name))
    engine.confirm()
    ((kind, error),) = start.ends
    assert kind == "error" and f"'{name}' was removed while it was segmented" in str(error)


def test_image_with_an_error_ends_the_sequence(scene, addCT, start, engine):
    node = addCT()
    addSequence(scene, node)
    before = nodeIDs(scene)
    start(node, frames="all")
    engine.finish()
    engine.fail(InputError("bad"))
    assert str(start.ends[0][1]) == "bad"
    assert nodeIDs(scene) == before


def test_output_that_is_removed_meanwhile_becomes_a_new_one(scene, addCT, start, engine):
    output = scene.AddNewNodeByClass("vtkMRMLSegmentationNode", "chosen")
    start(addCT(), output)
    scene.RemoveNode(output)
    engine.finish()
    result = start.ends[0][1]
    assert result.segmentationNode is not output
    assert result.messages == ("chosen: removed meanwhile, so the result is a new segmentation.",)


def test_output_of_another_kind_is_refused(addCT, start):
    with pytest.raises(InputError, match=r"^CT_1: this is a Volume; choose a segmentation"):
        start(addCT(), addCT(name="CT_1"))


def test_second_job_is_refused_while_one_is_under_way(addCT, start, engine):
    start(addCT())
    with pytest.raises(WorkerError, match="CT is being segmented; wait for it or cancel it first") as caught:
        start(addCT(name="other"))
    assert caught.value.code == "busy"
    engine.finish()
    assert start(addCT()).isRunning


def test_next_job_may_be_started_when_one_ends(addCT, logic, engine):
    node = addCT()
    started = []

    def again(_result):
        started.append(logic.process(node, waitForCompletion=False))

    logic.process(node, waitForCompletion=False, onFinished=again)
    engine.finish()
    assert started[0].isRunning


def test_unexpected_error_gets_a_sentence_and_its_traceback_into_the_log(
    monkeypatch, caplog, scene, addCT, start, engine
):
    def fail(*arguments):
        raise KeyError("surprise")

    monkeypatch.setattr(SegmentationLogicFile, "addResultNodes", fail)
    start(addCT())
    with caplog.at_level(logging.ERROR):
        engine.finish()
    ((kind, error),) = start.ends
    assert kind == "error" and isinstance(error, AGTrainingError) and error.code == "internal"
    assert "KeyError" in str(error) and isinstance(error.__cause__, KeyError)
    assert "Traceback" in caplog.text


def test_waiting_returns_the_result_on_the_same_path(addCT, logic, engine):
    engine.whileWaiting = [lambda: engine.progress(0.5, "Segmenting"), engine.finish]
    seen = []
    result = logic.process(addCT(), progress=lambda fraction, stage: seen.append(stage))
    assert result.segmentationNode.GetName() == "CT segmentation"
    assert seen == ["Segmenting"]


def test_waiting_raises_the_error(addCT, logic, engine):
    engine.whileWaiting = [lambda: engine.fail(DeviceError("No memory."))]
    with pytest.raises(DeviceError, match="No memory"):
        logic.process(addCT())


def test_waiting_raises_cancelled_when_the_scene_is_closed(scene, addCT, logic, engine):
    engine.whileWaiting = [lambda: scene.Clear(False), engine.confirm]
    with pytest.raises(Cancelled, match="The scene was closed"):
        logic.process(addCT())


def test_interrupted_wait_cancels_and_leaves_nothing(scene, addCT, logic, engine):
    def interrupt():
        raise KeyboardInterrupt

    engine.whileWaiting = [interrupt, engine.confirm]
    node = addCT()
    before = nodeIDs(scene)
    with pytest.raises(KeyboardInterrupt):
        logic.process(node)
    assert engine.cancelled == 1
    assert not logic.isRunning
    assert nodeIDs(scene) == before


def test_shutdown_cancels_what_is_under_way(addCT, start, logic):
    start(addCT())
    logic.shutdown()
    assert start.ends == [("cancelled", None)]
    assert not logic.isRunning


def test_what_is_wrong_at_the_start_is_raised(scene, start, logic):
    node = scene.AddNewNodeByClass("vtkMRMLScalarVolumeNode", "empty one")
    with pytest.raises(InputError, match="empty one"):
        start(node)
    assert start.ends == [] and not logic.isRunning


def test_tile_size_that_is_none_is_refused(addCT, logic):
    with pytest.raises(InputError, match=r"tile size \(0, 64, 64\)"):
        logic.process(addCT(), ProcessingOptions(tileSize=(0, 64, 64)))


class ModuleLogicStandIn:
    """As much of slicer.ScriptedLoadableModule.ScriptedLoadableModuleLogic as its __init__ is."""

    def __init__(self, parent=None):
        super().__init__()
        self.moduleName = type(self).__name__.removesuffix("Logic")


class SomeLogic(SegmentationLogic, ModuleLogicStandIn):
    pass


def test_logic_can_be_a_scripted_modules_logic(engine):
    assert SomeLogic().moduleName == "Some"
    assert SomeLogic(engine=engine).engine is engine


def test_result_is_on_the_volumes_own_grid(addCT, start, engine):
    """Geometry of the result is that of the volume, whatever the world looks like."""
    node = addCT()
    putUnderTransform(node)
    start(node)
    np.testing.assert_array_equal(engine.volume.ijk_to_world, volumeFromNode(node).ijk_to_world)
    engine.finish()
    result = start.ends[0][1]
    matrix = vtk.vtkMatrix4x4()
    node.GetIJKToRASMatrix(matrix)
    image = slicer.vtkOrientedImageData()
    result.segmentationNode.GetBinaryLabelmapRepresentation("spleen", image)
    toWorld = vtk.vtkMatrix4x4()
    image.GetImageToWorldMatrix(toWorld)
    np.testing.assert_allclose(
        slicer.util.arrayFromVTKMatrix(toWorld), slicer.util.arrayFromVTKMatrix(matrix), atol=1e-9
    )
