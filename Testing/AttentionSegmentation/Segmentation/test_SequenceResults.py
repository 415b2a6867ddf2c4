"""Sequences: every image is segmented on its own grid and shown by the same browser."""

from __future__ import annotations

import numpy as np
import pytest
import slicer
import vtk
from AttentionSegmentationLib.Segmentation import SequenceResults as SequenceResultsFile
from AttentionSegmentationLib.Segmentation.CompanionNodes import attentionNodesOf, tableNodeOf
from AttentionSegmentationLib.Segmentation.ProcessingOptions import ProcessingOptions
from AttentionSegmentationLib.Segmentation.SegmentationEngine import InProcessEngine
from AttentionSegmentationLib.Segmentation.SegmentationLogic import SegmentationLogic
from AttentionSegmentationLib.Segmentation.SequenceFrames import SequenceFrames, isFrameOfSequence
from AttentionSegmentationLib.VolumeConversion import volumeFromNode

from AGTraining.errors import InputError
from AGTraining.imaging.volume import Volume

OBLIQUE = np.eye(4)
OBLIQUE[:3, :3] = np.linalg.qr([[0.9, -0.2, 0.2], [0.3, 0.9, 0.1], [-0.2, -0.1, 0.9]])[0] @ np.diag([0.7, 0.9, 2.5])
FLIPPED = np.array([[0, 0, 3.0, 5], [-0.8, 0, 0, 60], [0, -1.1, 0, 7], [0, 0, 0, 1]])
MATRICES = [OBLIQUE, FLIPPED, np.diag([-1.0, -2.0, 3.0, 1.0])]
SHEAR = np.array([[1.1, 0.2, 0.1, 12], [0, 0.9, -0.3, -4], [0.1, 0, 1.3, 77], [0, 0, 0, 1]])
TURN = np.array([[0, -1, 0, 5], [1, 0, 0, 6], [0, 0, 1, -7], [0, 0, 0, 1.0]])
TIMES = ("0", "2.5", "10")


def ijkToRAS(node):
    matrix = vtk.vtkMatrix4x4()
    node.GetIJKToRASMatrix(matrix)
    return slicer.util.arrayFromVTKMatrix(matrix)


def labelsAt(index):
    """The label map of an image: in each image the organs are somewhere else."""
    labels = np.zeros((6, 7, 8), np.uint8)
    labels[1 + index : 3 + index, 1:3, 1:4] = 1
    labels[1:3, 4:6, 1 + index : 4 + index] = 2
    if index != 1:
        labels[0, 0, 0] = 3
    labels[5, 6, 7] = 4
    return labels


def valueOf(volume):
    return int(volume.array.max()) // 100


@pytest.fixture
def addTransform(scene):
    def add(matrix, name="transform", parent=None):
        node = scene.AddNewNodeByClass("vtkMRMLLinearTransformNode", name)
        node.SetMatrixTransformToParent(slicer.util.vtkMatrixFromArray(np.asarray(matrix, dtype=float)))
        if parent is not None:
            node.SetAndObserveTransformNodeID(parent.GetID())
        return node

    return add


@pytest.fixture
def fourD(scene, addCT):
    """A CT sequence of three images, each on a grid of its own, of which the browser shows the second."""
    volumeNode = addCT(np.zeros((6, 7, 8), np.int16), MATRICES[0], "phase")
    sequence = scene.AddNewNodeByClass("vtkMRMLSequenceNode", "4D CT")
    sequence.SetIndexName("time")
    sequence.SetIndexUnit("s")
    for index, (value, matrix) in enumerate(zip(TIMES, MATRICES, strict=True)):
        array = np.zeros((6, 7, 8), np.int16)
        array[3, 3, 3] = 100 * index + 1
        slicer.util.updateVolumeFromArray(volumeNode, array)
        volumeNode.SetIJKToRASMatrix(slicer.util.vtkMatrixFromArray(matrix))
        sequence.SetDataNodeAtValue(volumeNode, value)
    browser = scene.AddNewNodeByClass("vtkMRMLSequenceBrowserNode", "browser")
    browser.SetAndObserveMasterSequenceNodeID(sequence.GetID())
    browser.AddProxyNode(volumeNode, sequence, False)
    browser.SetSelectedItemNumber(1)
    return volumeNode


@pytest.fixture
def browser(scene, fourD):
    return scene.GetFirstNodeByClass("vtkMRMLSequenceBrowserNode")


@pytest.fixture
def engine(makeResult):
    """Gives each image the organs of `labelsAt`, and an attention map over the middle of the grid."""

    def run(volume, model, options, *, progress, is_cancelled):
        run.volumes.append(volume)
        index = valueOf(volume)
        progress(0.5, "Segmenting")
        attention = {}
        if options.attention != "none":
            coarse = np.diag([2.0, 2.0, 2.0, 1.0])
            coarse[:3, 3] = 0.5
            array = np.full((3, 3, 4), 0.1 * (index + 1), np.float32)
            array[1, 1, 1] = 0.9
            attention = {"level2": Volume(array, volume.ijk_to_world @ coarse, "level2")}
        return makeResult(volume, labelsAt(index), attention=attention, messages=(f"{volume.name}: noted.",))

    run.volumes = []
    return run


@pytest.fixture
def logic(engine):
    return SegmentationLogic(engine=InProcessEngine(segment=engine, loadBundle=lambda path: None))


def exported(scene, segmentationNode, volumeNode):
    """The labels, by the names of the segments, as Slicer's own export puts them on the volume's grid."""
    labels = np.zeros(slicer.util.arrayFromVolume(volumeNode).shape, np.uint8)
    names = {"pancreas": 1, "spleen": 2, "right kidney": 3, "left kidney": 4}
    segmentation = segmentationNode.GetSegmentation()
    for segmentID in segmentation.GetSegmentIDs():
        mask = slicer.util.arrayFromSegmentBinaryLabelmap(segmentationNode, segmentID, volumeNode)
        labels[mask > 0] = names[segmentation.GetSegment(segmentID).GetName()]
    return labels


def state(scene):
    """All nodes, and all items of the subject hierarchy."""
    items = vtk.vtkIdList()
    hierarchy = scene.GetSubjectHierarchyNode()
    hierarchy.GetItemChildren(hierarchy.GetSceneItemID(), items, True)
    nodes = [scene.GetNthNode(n).GetID() for n in range(scene.GetNumberOfNodes())]
    return nodes, [items.GetId(n) for n in range(items.GetNumberOfIds())]


def references(node):
    """The nodes that a node refers to."""
    roles = [node.GetNthNodeReferenceRole(n) for n in range(node.GetNumberOfNodeReferenceRoles())]
    return {(role, node.GetNodeReferenceID(role)) for role in roles if node.GetNodeReferenceID(role)}


def test_each_image_is_segmented_with_its_own_voxels_and_grid(fourD, logic, engine):
    logic.process(fourD, frames="all")
    assert [valueOf(volume) for volume in engine.volumes] == [0, 1, 2]
    for volume, matrix in zip(engine.volumes, MATRICES, strict=True):
        np.testing.assert_allclose(volume.ijk_to_world, np.diag([-1, -1, 1, 1]) @ matrix, atol=1e-9)
    assert [volume.name for volume in engine.volumes] == ["phase image 1", "phase image 2", "phase image 3"]


def test_browser_shows_the_segmentation_of_each_image(scene, fourD, browser, logic):
    result = logic.process(fourD, frames="all")
    assert result.sequenceNode.GetDataNodeClassName() == "vtkMRMLSegmentationNode"
    assert [result.sequenceNode.GetNthIndexValue(n) for n in range(3)] == list(TIMES)
    for index in (2, 0, 1):
        browser.SetSelectedItemNumber(index)
        np.testing.assert_array_equal(exported(scene, result.segmentationNode, fourD), labelsAt(index))


@pytest.mark.parametrize("matrix", [SHEAR, TURN @ np.diag([-1.0, 1, 1, 1])], ids=["sheared", "turned and mirrored"])
def test_images_under_a_transform(scene, fourD, browser, logic, engine, addTransform, matrix):
    transform = addTransform(matrix, parent=addTransform(TURN))
    fourD.SetAndObserveTransformNodeID(transform.GetID())
    result = logic.process(fourD, ProcessingOptions(attention="levels"), frames="all")
    for volume, own in zip(engine.volumes, MATRICES, strict=True):
        np.testing.assert_allclose(volume.ijk_to_world, np.diag([-1, -1, 1, 1]) @ TURN @ matrix @ own, atol=1e-9)
    assert result.segmentationNode.GetParentTransformNode() is transform
    for index in (0, 2):
        browser.SetSelectedItemNumber(index)
        np.testing.assert_array_equal(exported(scene, result.segmentationNode, fourD), labelsAt(index))


def test_transform_that_changes_with_the_images(scene, fourD, browser, logic, engine, addTransform):
    """A registered sequence: the transform is a sequence too, and each image is under that of its own time."""
    transform = addTransform(np.eye(4), "registration")
    sequence = scene.AddNewNodeByClass("vtkMRMLSequenceNode", "registrations")
    sequence.SetIndexName("time")
    sequence.SetIndexUnit("s")
    moves = []
    for value in TIMES:
        move = np.eye(4)
        move[:3, 3] = (10 * float(value), -3, 2)
        moves.append(move)
        transform.SetMatrixTransformToParent(slicer.util.vtkMatrixFromArray(move))
        sequence.SetDataNodeAtValue(transform, value)
    browser.AddProxyNode(transform, sequence, False)
    fourD.SetAndObserveTransformNodeID(transform.GetID())
    result = logic.process(fourD, ProcessingOptions(attention="levels"), frames="all")
    for index in range(3):
        browser.SetSelectedItemNumber(index)
        expected = volumeFromNode(fourD)
        np.testing.assert_allclose(engine.volumes[index].ijk_to_world, expected.ijk_to_world, atol=1e-9)
        overlay = volumeFromNode(result.attentionNodes["level2"])
        inVoxels = np.linalg.solve(expected.ijk_to_world, overlay.ijk_to_world @ [1, 1, 1, 1])
        np.testing.assert_allclose(inVoxels[:3], (2.5, 2.5, 2.5), atol=1e-6)


def test_attention_follows_the_image(fourD, browser, logic):
    result = logic.process(fourD, ProcessingOptions(attention="levels"), frames="all")
    node = result.attentionNodes["level2"]
    for index in (2, 0, 1):
        browser.SetSelectedItemNumber(index)
        assert slicer.util.arrayFromVolume(node).min() == pytest.approx(0.1 * (index + 1))
        inVoxels = np.linalg.solve(ijkToRAS(fourD), ijkToRAS(node) @ [1, 1, 1, 1])
        np.testing.assert_allclose(inVoxels[:3], (2.5, 2.5, 2.5), atol=1e-6)
    assert node.GetDisplayNode().GetApplyThreshold()


def test_table_has_a_row_for_each_organ_of_each_image(fourD, logic):
    table = logic.process(fourD, frames="all").tableNode.GetTable()
    names = [table.GetColumnName(n) for n in range(table.GetNumberOfColumns())]
    assert names == ["Frame", "time (s)", "Organ", "Volume (ml)", "Mean (HU)", "SD (HU)"]
    rows = [[table.GetValue(row, n).ToString() for n in range(3)] for row in range(table.GetNumberOfRows())]
    organs = ["pancreas", "spleen", "right kidney", "left kidney"]
    assert rows == [[str(n), value, organ] for n, value in enumerate(TIMES, 1) for organ in organs]
    pancreas = [table.GetValueByName(4 * n, "Volume (ml)").ToDouble() for n in range(3)]
    expected = [12 * abs(np.linalg.det(matrix[:3, :3])) / 1000 for matrix in MATRICES]
    np.testing.assert_allclose(pancreas, expected, atol=5e-4)


def test_progress_says_which_image(fourD, logic):
    seen = []
    logic.process(fourD, frames="all", progress=lambda fraction, stage: seen.append((round(fraction, 3), stage)))
    assert seen == [(round((n + 0.5) / 3, 3), f"Image {n + 1} of 3: Segmenting") for n in range(3)]


def test_messages_name_their_image_and_the_result_is_the_shown_one(fourD, logic):
    result = logic.process(fourD, frames="all")
    assert result.messages == tuple(f"phase image {n}: noted." for n in (1, 2, 3))
    np.testing.assert_array_equal(result.segmentResult.labels.array, labelsAt(1))


def test_browser_and_sequence_are_left_alone(scene, fourD, browser, logic):
    selected = []
    browser.AddObserver(vtk.vtkCommand.ModifiedEvent, lambda *_: selected.append(browser.GetSelectedItemNumber()))
    sequence = scene.GetFirstNodeByName("4D CT")
    images = [slicer.util.arrayFromVolume(sequence.GetNthDataNode(n)).copy() for n in range(3)]
    logic.process(fourD, frames="all")
    assert set(selected) == {1}
    for index, image in enumerate(images):
        np.testing.assert_array_equal(slicer.util.arrayFromVolume(sequence.GetNthDataNode(index)), image)
        np.testing.assert_allclose(ijkToRAS(sequence.GetNthDataNode(index)), MATRICES[index], atol=1e-9)
    assert browser.GetMasterSequenceNode() is sequence
    assert browser.GetProxyNode(sequence) is fourD


def test_corrections_of_an_image_are_kept_when_browsing(fourD, browser, logic):
    node = logic.process(fourD, frames="all").segmentationNode
    node.GetSegmentation().RemoveSegment("spleen")
    browser.SetSelectedItemNumber(0)
    assert node.GetSegmentation().GetSegment("spleen") is not None
    browser.SetSelectedItemNumber(1)
    assert node.GetSegmentation().GetSegment("spleen") is None


def addLongerMaster(scene, browser, addTransform):
    """Lets the browser step through a sequence that has an image more, at 5 s, than the CT."""
    master = scene.AddNewNodeByClass("vtkMRMLSequenceNode", "positions")
    master.SetIndexName("time")
    master.SetIndexUnit("s")
    for value in (*TIMES[:2], "5", TIMES[2]):
        master.SetDataNodeAtValue(addTransform(np.eye(4)), value)
    browser.SetAndObserveMasterSequenceNodeID(master.GetID())
    browser.AddSynchronizedSequenceNode(scene.GetFirstNodeByName("4D CT").GetID())
    browser.AddProxyNode(scene.GetFirstNodeByName("phase"), scene.GetFirstNodeByName("4D CT"), False)


def test_time_without_an_image_shows_no_result_of_another_time(scene, fourD, browser, logic, addTransform):
    addLongerMaster(scene, browser, addTransform)
    browser.SetSelectedItemNumber(1)
    result = logic.process(fourD, ProcessingOptions(attention="levels"), frames="all")
    assert result.segmentationNode.GetSegmentation().GetNumberOfSegments() > 0
    browser.SetSelectedItemNumber(2)
    assert result.segmentationNode.GetSegmentation().GetNumberOfSegments() == 0
    assert result.attentionNodes["level2"].GetImageData() is None
    browser.SetSelectedItemNumber(3)
    np.testing.assert_array_equal(exported(scene, result.segmentationNode, fourD), labelsAt(2))
    assert result.attentionNodes["level2"].GetImageData() is not None


def test_names_of_the_results_stay_when_browsing(fourD, browser, logic):
    result = logic.process(fourD, ProcessingOptions(attention="levels"), frames="all")
    result.segmentationNode.SetName("my organs")
    for index in (2, 0):
        browser.SetSelectedItemNumber(index)
        assert result.segmentationNode.GetName() == "my organs"
        assert result.attentionNodes["level2"].GetName() == "phase attention level2"


def test_companions_are_remembered_when_browsing(fourD, browser, logic):
    result = logic.process(fourD, ProcessingOptions(attention="levels"), frames="all")
    browser.SetSelectedItemNumber(2)
    assert tableNodeOf(result.segmentationNode) is result.tableNode
    assert attentionNodesOf(result.segmentationNode) == result.attentionNodes


def test_transform_whose_sequence_is_not_played_counts_as_it_is(scene, fourD, browser, logic, engine, addTransform):
    transform = addTransform(SHEAR, "registration")
    sequence = scene.AddNewNodeByClass("vtkMRMLSequenceNode", "registrations")
    for value in TIMES:
        sequence.SetDataNodeAtValue(transform, value)
    browser.AddProxyNode(transform, sequence, False)
    browser.SetPlayback(sequence, False)
    transform.SetMatrixTransformToParent(slicer.util.vtkMatrixFromArray(TURN))
    fourD.SetAndObserveTransformNodeID(transform.GetID())
    logic.process(fourD, frames="all")
    for volume, own in zip(engine.volumes, MATRICES, strict=True):
        np.testing.assert_allclose(volume.ijk_to_world, np.diag([-1, -1, 1, 1]) @ TURN @ own, atol=1e-9)


def test_dicom_instances_are_noted(scene, fourD, logic):
    hierarchy = scene.GetSubjectHierarchyNode()
    item = hierarchy.CreateItem(hierarchy.GetSceneItemID(), fourD)
    hierarchy.SetItemUID(item, "DICOMInstanceUID", "1.2.3")
    node = logic.process(fourD, frames="all").segmentationNode
    assert hierarchy.GetItemAttribute(hierarchy.GetItemByDataNode(node), "DICOM.ReferencedInstanceUIDs") == "1.2.3"


def test_results_lie_beside_the_volume(scene, fourD, logic):
    hierarchy = scene.GetSubjectHierarchyNode()
    study = hierarchy.CreateStudyItem(hierarchy.GetSceneItemID(), "study")
    hierarchy.CreateItem(study, fourD)
    result = logic.process(fourD, ProcessingOptions(attention="levels"), frames="all")
    for node in (result.segmentationNode, result.tableNode):
        assert hierarchy.GetItemParent(hierarchy.GetItemByDataNode(node)) == study
    assert hierarchy.GetItemParent(result.attentionFolderItem) == study
    role = result.segmentationNode.GetReferenceImageGeometryReferenceRole()
    assert result.segmentationNode.GetNodeReference(role) is fourD


@pytest.mark.parametrize(
    "step", ["addTableNode", "addAttentionNode", "setCompanions"], ids=["table", "attention", "at the end"]
)
@pytest.mark.parametrize("replaced", [None, "all", "current"], ids=["new", "replacing a sequence", "replacing one"])
def test_failing_half_way_leaves_scene_and_browser_as_they_were(
    monkeypatch, scene, fourD, browser, logic, addTransform, step, replaced
):
    output, segments = None, None
    if replaced is not None:
        first = logic.process(fourD, ProcessingOptions(attention="levels"), frames=replaced)
        output = first.segmentationNode
        output.GetSegmentation().RemoveSegment("spleen")
        segments = list(output.GetSegmentation().GetSegmentIDs())
        if step == "addTableNode":
            scene.RemoveNode(first.tableNode)
        fourD.SetAndObserveTransformNodeID(addTransform(TURN).GetID())
    before, shown = state(scene), references(browser)
    original = getattr(SequenceResultsFile, step)

    def fail(*arguments):
        if step == "setCompanions":
            original(*arguments)
        raise MemoryError("no room")

    monkeypatch.setattr(SequenceResultsFile, step, fail)
    with pytest.raises(MemoryError):
        logic.process(fourD, ProcessingOptions(attention="levels"), output, frames="all")
    assert state(scene) == before
    assert references(browser) == shown
    assert browser.GetSelectedItemNumber() == 1
    if output is not None:
        assert tableNodeOf(output) is (None if step == "addTableNode" else first.tableNode)
        assert attentionNodesOf(output) == first.attentionNodes
    if replaced is not None:
        assert list(output.GetSegmentation().GetSegmentIDs()) == segments
        assert output.GetParentTransformNode() is None
    if replaced == "all":
        fourD.SetAndObserveTransformNodeID(None)
        browser.SetSelectedItemNumber(0)
        np.testing.assert_array_equal(exported(scene, output, fourD), labelsAt(0))


def test_second_run_replaces_sequence_table_and_attention(scene, fourD, browser, logic):
    first = logic.process(fourD, ProcessingOptions(attention="levels"), frames="all")
    first.segmentationNode.GetSegmentation().RemoveSegment("spleen")
    first.segmentationNode.GetDisplayNode().SetSegmentVisibility("pancreas", False)
    before = len(state(scene)[0]), len(state(scene)[1])
    second = logic.process(fourD, ProcessingOptions(attention="levels"), first.segmentationNode, frames="all")
    assert second.segmentationNode is first.segmentationNode
    assert second.sequenceNode is first.sequenceNode
    assert second.tableNode is first.tableNode
    assert (len(state(scene)[0]), len(state(scene)[1])) == before
    for index in (0, 2, 1):
        browser.SetSelectedItemNumber(index)
        np.testing.assert_array_equal(exported(scene, second.segmentationNode, fourD), labelsAt(index))
    assert not second.segmentationNode.GetDisplayNode().GetSegmentVisibility("pancreas")
    assert list(attentionNodesOf(second.segmentationNode)) == ["level2"]


def test_node_of_a_single_image_can_become_that_of_all(scene, fourD, browser, logic):
    node = logic.process(fourD).segmentationNode
    result = logic.process(fourD, outputSegmentationNode=node, frames="all")
    assert result.segmentationNode is node
    for index in (0, 1, 2):
        browser.SetSelectedItemNumber(index)
        np.testing.assert_array_equal(exported(scene, node, fourD), labelsAt(index))


def test_results_are_replaced_when_the_browser_steps_through_them(scene, fourD, browser, logic):
    first = logic.process(fourD, frames="all")
    browser.SetAndObserveMasterSequenceNodeID(first.sequenceNode.GetID())
    browser.AddProxyNode(fourD, scene.GetFirstNodeByName("4D CT"), False)
    browser.SetSelectedItemNumber(2)
    second = logic.process(fourD, outputSegmentationNode=first.segmentationNode, frames="all")
    assert second.sequenceNode is first.sequenceNode
    assert browser.GetSelectedItemNumber() == 2
    np.testing.assert_array_equal(exported(scene, second.segmentationNode, fourD), labelsAt(2))


def test_one_image_does_not_take_the_place_of_all(fourD, logic, engine):
    first = logic.process(fourD, ProcessingOptions(attention="levels"), frames="all")
    engine.volumes.clear()
    with pytest.raises(InputError, match=r"^phase segmentation: it shows a sequence of segmentations; choose another"):
        logic.process(fourD, outputSegmentationNode=first.segmentationNode)
    assert engine.volumes == []
    assert first.tableNode.GetTable().GetNumberOfRows() == 12


def test_node_of_another_browsers_sequence_is_refused_before_the_work(scene, fourD, logic, engine):
    segmentation = scene.AddNewNodeByClass("vtkMRMLSegmentationNode", "mine")
    sequence = scene.AddNewNodeByClass("vtkMRMLSequenceNode")
    sequence.SetDataNodeAtValue(segmentation, "0")
    other = scene.AddNewNodeByClass("vtkMRMLSequenceBrowserNode", "other browser")
    other.SetAndObserveMasterSequenceNodeID(sequence.GetID())
    other.AddProxyNode(segmentation, sequence, False)
    with pytest.raises(InputError, match=r"^mine: it shows a sequence of 'other browser'"):
        logic.process(fourD, outputSegmentationNode=segmentation, frames="all")
    assert engine.volumes == []


def test_one_image_of_the_sequence_with_a_word_to_the_user(scene, fourD, logic, engine):
    result = logic.process(fourD)
    assert [valueOf(volume) for volume in engine.volumes] == [1]
    assert result.messages[0] == "phase: a sequence of 3 images; only image 2 was segmented."
    assert result.sequenceNode is None
    np.testing.assert_array_equal(exported(scene, result.segmentationNode, fourD), labelsAt(1))


def test_all_of_a_volume_without_a_sequence_is_the_volume(addCT, logic, engine):
    node = addCT(np.full((6, 7, 8), 150, np.int16))
    assert logic.process(node, frames="all").sequenceNode is None
    assert len(engine.volumes) == 1


def test_unknown_frames_are_refused(fourD, logic):
    with pytest.raises(InputError, match="'every' are not known"):
        logic.process(fourD, frames="every")


def test_non_linear_transform_is_refused_before_the_work(scene, fourD, logic, engine):
    warp = scene.AddNewNodeByClass("vtkMRMLTransformNode", "breathing")
    spline = vtk.vtkThinPlateSplineTransform()
    points = vtk.vtkPoints()
    for point in ((0, 0, 0), (50, 0, 0), (0, 50, 0), (0, 0, 50)):
        points.InsertNextPoint(point)
    spline.SetSourceLandmarks(points)
    spline.SetTargetLandmarks(points)
    warp.SetAndObserveTransformToParent(spline)
    fourD.SetAndObserveTransformNodeID(warp.GetID())
    with pytest.raises(InputError, match="'breathing' is not linear"):
        logic.process(fourD, frames="all")
    assert engine.volumes == []


def test_sequence_of_one_image_is_no_sequence(scene, addCT):
    node = addCT()
    sequence = scene.AddNewNodeByClass("vtkMRMLSequenceNode")
    sequence.SetDataNodeAtValue(node, "0")
    browser = scene.AddNewNodeByClass("vtkMRMLSequenceBrowserNode")
    browser.SetAndObserveMasterSequenceNodeID(sequence.GetID())
    browser.AddProxyNode(node, sequence, False)
    assert not isFrameOfSequence(node)


def test_edited_image_is_noticed(fourD):
    frames = SequenceFrames(fourD)
    frames.volume(2)
    frames.requireUnchanged()
    image = frames.imageNode(2)
    slicer.util.arrayFromVolume(image)[0, 0, 0] += 1
    slicer.util.arrayFromVolumeModified(image)
    with pytest.raises(InputError, match=r"^phase image 3: the volume was changed"):
        frames.requireUnchanged()


def test_volume_that_is_taken_out_of_its_sequence_is_noticed(fourD, browser):
    frames = SequenceFrames(fourD)
    browser.RemoveSynchronizedSequenceNode(frames.sequenceNode.GetID())
    for step in (frames.requireUnchanged, lambda: frames.volume(1)):
        with pytest.raises(InputError, match=r"^phase: it was taken out of 'browser' while it was segmented"):
            step()


def test_removed_image_is_noticed(fourD):
    frames = SequenceFrames(fourD)
    frames.sequenceNode.RemoveDataNodeAtValue("10")
    with pytest.raises(InputError, match=r"^phase: the volume was changed"):
        frames.requireUnchanged()
