from __future__ import annotations

from itertools import permutations, product

import numpy as np
import pytest
import SimpleITK as sitk
import slicer
import vtk
from AttentionSegmentationLib.NodeFiles import saveNode
from AttentionSegmentationLib.SceneChanges import SceneChanges, allOrNothing
from AttentionSegmentationLib.Segmentation import ResultNodes as ResultNodesFile
from AttentionSegmentationLib.Segmentation.AttentionNodes import defaultThreshold
from AttentionSegmentationLib.Segmentation.ResultNodes import addResultNodes
from AttentionSegmentationLib.VolumeConversion import volumeFromNode

from AGTraining.errors import AGTrainingError, InputError
from AGTraining.imaging.volume import Volume

CONTEXT = "Segmentation category and type - 3D Slicer General Anatomy list~SCT^123037004^Anatomical Structure"
# Name, terminology and color of each segment, as Slicer 5.12's own terminology gives them.
SEGMENTS = [
    ("pancreas", f"{CONTEXT}~SCT^15776009^Pancreas~^^~~^^~^^", (249, 180, 111)),
    ("spleen", f"{CONTEXT}~SCT^78961009^Spleen~^^~~^^~^^", (157, 108, 162)),
    ("right kidney", f"{CONTEXT}~SCT^64033007^Kidney~SCT^24028007^Right~~^^~^^", (185, 102, 83)),
    ("left kidney", f"{CONTEXT}~SCT^64033007^Kidney~SCT^7771000^Left~~^^~^^", (185, 102, 83)),
]

SIGNED_AXES = [(order, signs) for order in permutations(range(3)) for signs in product((1, -1), repeat=3)]


def axisMatrix(order, signs):
    matrix = np.eye(4)
    matrix[:3, :3] = (np.eye(3) * signs * np.array([0.7, 0.9, 2.5]))[list(order)]
    matrix[:3, 3] = (-120.0, 30.5, 77.25)
    return matrix


def ijkToRAS(node):
    matrix = vtk.vtkMatrix4x4()
    node.GetIJKToRASMatrix(matrix)
    return slicer.util.arrayFromVTKMatrix(matrix)


def exportedLabelmap(scene, segmentationNode, volumeNode):
    """What Slicer's own export gives on the CT's grid: values 1, 2, … in the order of the segments."""
    node = scene.AddNewNodeByClass("vtkMRMLLabelMapVolumeNode")
    segments = segmentationNode.GetSegmentation().GetSegmentIDs()
    logic = slicer.modules.segmentations.logic()
    assert logic.ExportSegmentsToLabelmapNode(segmentationNode, segments, node, volumeNode)
    return node


def describeSegments(segmentationNode):
    segmentation = segmentationNode.GetSegmentation()
    found = []
    for index in range(segmentation.GetNumberOfSegments()):
        segment = segmentation.GetNthSegment(index)
        entry = vtk.reference("")
        segment.GetTag(slicer.vtkSegment.GetTerminologyEntryTagName(), entry)
        found.append((segment.GetName(), str(entry), tuple(round(c * 255) for c in segment.GetColor())))
    return found


def addLinearTransform(scene, matrix):
    node = scene.AddNewNodeByClass("vtkMRMLLinearTransformNode", "registration")
    node.SetMatrixTransformToParent(slicer.util.vtkMatrixFromArray(np.asarray(matrix, dtype=float)))
    return node


def sceneContents(scene):
    """All nodes, and all items of the subject hierarchy."""
    items = vtk.vtkIdList()
    hierarchy = scene.GetSubjectHierarchyNode()
    hierarchy.GetItemChildren(hierarchy.GetSceneItemID(), items, True)
    nodes = [scene.GetNthNode(index).GetID() for index in range(scene.GetNumberOfNodes())]
    return nodes, [items.GetId(index) for index in range(items.GetNumberOfIds())]


SHEAR = [[1.1, 0.2, 0.1, 12], [0, 0.9, -0.3, -4], [0.1, 0, 1.3, 77], [0, 0, 0, 1]]


@pytest.fixture
def attention():
    """A map on a grid of its own, in world LPS."""
    matrix = np.diag([4.0, 4.0, 4.0, 1.0])
    matrix[:3, 3] = (-60, -50, 1290)
    array = np.random.default_rng(2).random((5, 6, 7)).astype(np.float32)
    return {"level2": Volume(array, matrix), "level3": Volume(array[:3, :3, :3] * 0.5, matrix)}


def test_segments_have_slicers_names_terminology_and_colors(addCT, makeResult, labelArray):
    volumeNode = addCT()
    result = addResultNodes(volumeNode, makeResult(volumeFromNode(volumeNode), labelArray))
    assert describeSegments(result.segmentationNode) == SEGMENTS


@pytest.mark.parametrize("name", [segment[0] for segment in SEGMENTS])
def test_terminology_is_what_slicers_logic_serializes(bundleInfo, name):
    from AGTraining.inference.terminology import TERMINOLOGY_CONTEXT, terminology_entry

    label = next(label for label in bundleInfo.output_labels if label.name == name)
    modifier = (label.modifier_code, "SCT", label.modifier_meaning) if label.modifier_code else ("", "", "")
    expected = slicer.vtkSlicerTerminologiesModuleLogic.SerializeTerminologyEntry(
        TERMINOLOGY_CONTEXT, label.category_code, "SCT", label.category_meaning,
        label.type_code, "SCT", label.type_meaning, *modifier, *[""] * 7,
    )  # fmt: skip
    assert terminology_entry(label) == expected


@pytest.mark.parametrize(("order", "signs"), SIGNED_AXES)
def test_export_gives_back_the_label_map_in_any_axis_order(scene, addCT, makeResult, labelArray, order, signs):
    volumeNode = addCT(ijkToRAS=axisMatrix(order, signs))
    result = addResultNodes(volumeNode, makeResult(volumeFromNode(volumeNode), labelArray))
    labelmap = exportedLabelmap(scene, result.segmentationNode, volumeNode)
    np.testing.assert_array_equal(slicer.util.arrayFromVolume(labelmap), labelArray)
    np.testing.assert_allclose(ijkToRAS(labelmap), ijkToRAS(volumeNode), atol=1e-9)


@pytest.mark.parametrize("transform", [None, SHEAR], ids=["oblique", "oblique under a shearing transform"])
def test_export_gives_back_the_label_map_of_oblique_grids(scene, addCT, makeResult, labelArray, transform):
    volumeNode = addCT()
    if transform is not None:
        volumeNode.SetAndObserveTransformNodeID(addLinearTransform(scene, transform).GetID())
    result = addResultNodes(volumeNode, makeResult(volumeFromNode(volumeNode), labelArray))
    labelmap = exportedLabelmap(scene, result.segmentationNode, volumeNode)
    np.testing.assert_array_equal(slicer.util.arrayFromVolume(labelmap), labelArray)


def test_labels_at_the_borders_of_the_grid_are_kept(scene, addCT, makeResult):
    labels = np.zeros((12, 17, 23), np.uint8)
    labels[0, 0, 0], labels[-1, -1, -1], labels[0, -1, 0], labels[-1, 0, -1] = 1, 2, 3, 4
    volumeNode = addCT()
    result = addResultNodes(volumeNode, makeResult(volumeFromNode(volumeNode), labels))
    labelmap = exportedLabelmap(scene, result.segmentationNode, volumeNode)
    np.testing.assert_array_equal(slicer.util.arrayFromVolume(labelmap), labels)


def test_extent_that_does_not_start_at_zero(scene, addCT, makeResult, labelArray):
    volumeNode = addCT()
    volumeNode.GetImageData().SetExtent(5, 27, 6, 22, 7, 18)
    result = addResultNodes(volumeNode, makeResult(volumeFromNode(volumeNode), labelArray))
    segmentID = result.segmentationNode.GetSegmentation().GetSegmentIdBySegmentName("spleen")
    kept = slicer.util.arrayFromSegmentInternalBinaryLabelmap(result.segmentationNode, segmentID)
    image = result.segmentationNode.GetBinaryLabelmapInternalRepresentation(segmentID)
    first = np.argwhere(kept == 2)[0][::-1] + np.array(image.GetExtent()[0::2])
    assert first.tolist() == (np.argwhere(labelArray == 2)[0][::-1] + (5, 6, 7)).tolist()


def test_segmentation_shares_one_cropped_labelmap(addCT, makeResult, labelArray):
    """No copy of the grid for each organ."""
    volumeNode = addCT()
    node = addResultNodes(volumeNode, makeResult(volumeFromNode(volumeNode), labelArray)).segmentationNode
    images = {node.GetBinaryLabelmapInternalRepresentation(name) for name in node.GetSegmentation().GetSegmentIDs()}
    assert [image.GetExtent() for image in images] == [(3, 22, 2, 13, 2, 11)]


def test_reference_geometry_and_parent_transform_are_those_of_the_ct(scene, addCT, makeResult, labelArray):
    volumeNode = addCT()
    transform = addLinearTransform(scene, SHEAR)
    volumeNode.SetAndObserveTransformNodeID(transform.GetID())
    node = addResultNodes(volumeNode, makeResult(volumeFromNode(volumeNode), labelArray)).segmentationNode
    role = slicer.vtkMRMLSegmentationNode.GetReferenceImageGeometryReferenceRole()
    assert node.GetNodeReference(role) is volumeNode
    assert node.GetParentTransformNode() is transform
    name = slicer.vtkSegmentationConverter.GetReferenceImageGeometryParameterName()
    geometry = slicer.vtkOrientedImageData()
    slicer.vtkSegmentationConverter.DeserializeImageGeometry(
        node.GetSegmentation().GetConversionParameter(name), geometry, False
    )
    matrix = vtk.vtkMatrix4x4()
    geometry.GetImageToWorldMatrix(matrix)
    np.testing.assert_allclose(slicer.util.arrayFromVTKMatrix(matrix), ijkToRAS(volumeNode), atol=1e-4)
    assert geometry.GetExtent() == (0, 22, 0, 16, 0, 11)


@pytest.mark.parametrize(
    "matrix",
    [axisMatrix((0, 1, 2), (-1, -1, 1)), axisMatrix((0, 1, 2), (1, 1, 1)), axisMatrix((2, 0, 1), (1, -1, -1)), None],
    ids=["LPS", "RAS", "permuted and flipped", "oblique"],
)
def test_file_is_read_back_as_it_was(scene, addCT, makeResult, labelArray, tmp_path, matrix):
    volumeNode = addCT(ijkToRAS=matrix)
    volume = volumeFromNode(volumeNode)
    path = tmp_path / "Größe der Leber.seg.nrrd"
    saveNode(addResultNodes(volumeNode, makeResult(volume, labelArray)).segmentationNode, path)

    scene.Clear(False)
    node = slicer.modules.segmentations.logic().LoadSegmentationFromFile(str(path))
    assert describeSegments(node) == SEGMENTS
    reference = addCT(ijkToRAS=matrix)
    labelmap = exportedLabelmap(scene, node, reference)
    np.testing.assert_array_equal(slicer.util.arrayFromVolume(labelmap), labelArray)

    # Other programs see an ordinary label map with the values of the engine.
    image = Volume.from_sitk(sitk.ReadImage(str(path)))
    np.testing.assert_array_equal(image.array, labelArray)
    assert image.same_grid(volume)


def test_organ_that_was_not_found_has_no_segment(addCT, makeResult, labelArray):
    labelArray[labelArray == 2] = 0
    volumeNode = addCT()
    result = addResultNodes(volumeNode, makeResult(volumeFromNode(volumeNode), labelArray))
    assert [name for name, *_ in describeSegments(result.segmentationNode)] == [
        "pancreas",
        "right kidney",
        "left kidney",
    ]


def test_nothing_found_gives_an_empty_segmentation_that_can_be_saved(addCT, makeResult, tmp_path):
    volumeNode = addCT()
    result = addResultNodes(volumeNode, makeResult(volumeFromNode(volumeNode), np.zeros((12, 17, 23), np.uint8)))
    path = tmp_path / "none.seg.nrrd"
    saveNode(result.segmentationNode, path)
    node = slicer.modules.segmentations.logic().LoadSegmentationFromFile(str(path))
    assert node.GetSegmentation().GetNumberOfSegments() == 0


@pytest.mark.parametrize("transform", [None, SHEAR], ids=["no parent", "parent"])
def test_attention_lies_where_the_engine_put_it(scene, addCT, makeResult, labelArray, attention, transform):
    volumeNode = addCT()
    if transform is not None:
        volumeNode.SetAndObserveTransformNodeID(addLinearTransform(scene, transform).GetID())
    result = addResultNodes(volumeNode, makeResult(volumeFromNode(volumeNode), labelArray, attention=attention))
    node = result.attentionNodes["level2"]
    for index in ((0, 0, 0), (6, 5, 4), (2, 3, 1)):
        world = [0.0, 0.0, 0.0]
        node.TransformPointToWorld((ijkToRAS(node) @ [*index, 1])[:3], world)
        lps = attention["level2"].ijk_to_world @ [*index, 1]
        np.testing.assert_allclose(world, (-lps[0], -lps[1], lps[2]), atol=1e-9)
    np.testing.assert_array_equal(slicer.util.arrayFromVolume(node), attention["level2"].array)


def test_attention_stays_on_the_ct_when_its_transform_changes(scene, addCT, makeResult, labelArray, attention):
    volumeNode = addCT()
    transform = addLinearTransform(scene, SHEAR)
    volumeNode.SetAndObserveTransformNodeID(transform.GetID())
    result = addResultNodes(volumeNode, makeResult(volumeFromNode(volumeNode), labelArray, attention=attention))
    before = volumeFromNode(volumeNode).ijk_to_world, volumeFromNode(result.attentionNodes["level2"]).ijk_to_world
    transform.SetMatrixTransformToParent(slicer.util.vtkMatrixFromArray(np.diag([2.0, 1.0, 0.5, 1.0])))
    after = volumeFromNode(volumeNode).ijk_to_world, volumeFromNode(result.attentionNodes["level2"]).ijk_to_world
    np.testing.assert_allclose(np.linalg.inv(before[0]) @ before[1], np.linalg.inv(after[0]) @ after[1], atol=1e-9)


def test_attention_is_shown_in_perceptual_colors_above_a_threshold(addCT, makeResult, labelArray, attention):
    volumeNode = addCT()
    result = addResultNodes(volumeNode, makeResult(volumeFromNode(volumeNode), labelArray, attention=attention))
    for node in result.attentionNodes.values():
        display = node.GetDisplayNode()
        threshold = defaultThreshold(slicer.util.arrayFromVolume(node))
        assert display.GetColorNode().GetID() == "vtkMRMLColorTableNodeFileInferno.txt"
        assert (display.GetWindowLevelMin(), display.GetWindowLevelMax()) == (0.0, 1.0)
        assert (display.GetLowerThreshold(), display.GetUpperThreshold()) == (threshold, 1.0)
        assert display.GetApplyThreshold()
        assert not display.GetAutoWindowLevel()
        assert slicer.util.arrayFromVolume(node).dtype == np.float32


def test_color_table_is_perceptual(addCT, makeResult, labelArray, attention):
    """Lightness grows all the way; straight lines between eleven colors stay within 4 % of matplotlib's Inferno."""
    from matplotlib import colormaps

    volumeNode = addCT()
    result = addResultNodes(volumeNode, makeResult(volumeFromNode(volumeNode), labelArray, attention=attention))
    table = result.attentionNodes["level2"].GetDisplayNode().GetColorNode().GetLookupTable()
    colors = np.array([table.GetTableValue(index)[:3] for index in range(256)])
    reference = colormaps["inferno"](np.arange(256))[:, :3]
    assert np.abs(colors - reference).max() < 0.04
    lightness = colors @ (0.2126, 0.7152, 0.0722)
    assert np.diff(lightness[::5]).min() > 0  # in steps that 8 bits can tell apart


def test_table_holds_volume_and_intensity_of_each_organ(addCT, makeResult, labelArray):
    labelArray[labelArray == 2] = 0
    volumeNode = addCT()
    values = slicer.util.arrayFromVolume(volumeNode)
    node = addResultNodes(volumeNode, makeResult(volumeFromNode(volumeNode), labelArray)).tableNode
    names = [node.GetColumnName(column) for column in range(node.GetNumberOfColumns())]
    assert names == ["Organ", "Volume (ml)", "Mean (HU)", "SD (HU)"]
    assert [node.GetCellText(row, 0) for row in range(4)] == [name for name, *_ in SEGMENTS]
    table = node.GetTable()
    for row, value in ((0, 1), (2, 3), (3, 4)):
        inside = values[labelArray == value]
        expected = (inside.size * 0.7 * 0.9 * 2.5 / 1000, inside.mean(), inside.std())
        found = [table.GetValue(row, column).ToDouble() for column in (1, 2, 3)]
        np.testing.assert_allclose(found, expected, atol=0.051)
    assert table.GetValue(1, 1).ToDouble() == 0.0
    assert np.isnan(table.GetValue(1, 2).ToDouble())


def test_results_lie_beside_the_ct_and_attention_in_a_folder(scene, addCT, makeResult, labelArray, attention):
    hierarchy = scene.GetSubjectHierarchyNode()
    study = hierarchy.CreateStudyItem(hierarchy.GetSceneItemID(), "study")
    volumeNode = addCT()
    hierarchy.CreateItem(study, volumeNode)
    result = addResultNodes(volumeNode, makeResult(volumeFromNode(volumeNode), labelArray, attention=attention))
    for node in (result.segmentationNode, result.tableNode):
        assert hierarchy.GetItemParent(hierarchy.GetItemByDataNode(node)) == study
    assert hierarchy.GetItemParent(result.attentionFolderItem) == study
    assert hierarchy.GetItemName(result.attentionFolderItem) == "CT attention"
    assert list(result.attentionNodes) == ["level2", "level3"]
    for node in result.attentionNodes.values():
        assert hierarchy.GetItemParent(hierarchy.GetItemByDataNode(node)) == result.attentionFolderItem


def test_no_folder_without_attention(scene, addCT, makeResult, labelArray):
    volumeNode = addCT()
    result = addResultNodes(volumeNode, makeResult(volumeFromNode(volumeNode), labelArray))
    assert result.attentionFolderItem is None
    assert len(sceneContents(scene)[1]) == 2


def test_second_result_has_names_of_its_own(addCT, makeResult, labelArray):
    volumeNode = addCT()
    result = makeResult(volumeFromNode(volumeNode), labelArray)
    names = {addResultNodes(volumeNode, result).segmentationNode.GetName() for _ in range(3)}
    assert len(names) == 3
    assert "CT segmentation" in names


@pytest.mark.parametrize("step", ["addSegmentationNode", "addTableNode", "addAttentionNode"])
@pytest.mark.parametrize("when", ["before", "after"])
def test_failing_half_way_leaves_the_scene_as_it_was(
    monkeypatch, scene, addCT, makeResult, labelArray, attention, step, when
):
    volumeNode = addCT()
    before = sceneContents(scene)
    original = getattr(ResultNodesFile, step)

    def fail(*arguments):
        if when == "after":
            original(*arguments)
        raise MemoryError("no room")

    monkeypatch.setattr(ResultNodesFile, step, fail)
    with pytest.raises(MemoryError):
        addResultNodes(volumeNode, makeResult(volumeFromNode(volumeNode), labelArray, attention=attention))
    assert sceneContents(scene) == before


def test_failing_at_the_second_map_removes_the_first(scene, addCT, makeResult, labelArray, attention):
    volumeNode = addCT()
    before = sceneContents(scene)
    attention["level3"] = None
    with pytest.raises(AttributeError):
        addResultNodes(volumeNode, makeResult(volumeFromNode(volumeNode), labelArray, attention=attention))
    assert sceneContents(scene) == before


def test_failing_after_the_folder_was_made_removes_it(scene, addCT):
    volumeNode = addCT()
    before = sceneContents(scene)
    hierarchy = scene.GetSubjectHierarchyNode()
    with pytest.raises(KeyboardInterrupt), allOrNothing(scene):
        folder = hierarchy.CreateFolderItem(hierarchy.GetSceneItemID(), "attention")
        hierarchy.CreateItem(folder, scene.AddNewNodeByClass("vtkMRMLScalarVolumeNode"))
        raise KeyboardInterrupt
    assert sceneContents(scene) == before
    assert volumeNode.GetScene() is scene


def test_failed_change_that_is_remembered_does_not_keep_the_closed_scenes_hierarchy(scene):
    """An error keeps the frames that it came through; a hierarchy node that they held would outlive its scene."""
    changes = SceneChanges(scene)
    scene.Clear(False)
    assert scene.IsNodePresent(scene.GetSubjectHierarchyNode())
    changes.undo()


def test_volume_that_changed_meanwhile_is_refused(scene, addCT, makeResult, labelArray):
    volumeNode = addCT()
    result = makeResult(volumeFromNode(volumeNode), labelArray)
    slicer.util.updateVolumeFromArray(volumeNode, np.zeros((3, 4, 5), np.int16))
    before = sceneContents(scene)
    with pytest.raises(InputError, match=r"^CT: the volume was changed while it was segmented"):
        addResultNodes(volumeNode, result)
    assert sceneContents(scene) == before


def test_file_that_cannot_be_written_is_an_error_with_its_name(addCT, makeResult, labelArray, tmp_path):
    volumeNode = addCT()
    node = addResultNodes(volumeNode, makeResult(volumeFromNode(volumeNode), labelArray)).segmentationNode
    path = tmp_path / "missing folder" / "x.seg.nrrd"
    with pytest.raises(AGTrainingError, match=r"missing folder/x\.seg\.nrrd: MRML could not write the file"):
        saveNode(node, path)
