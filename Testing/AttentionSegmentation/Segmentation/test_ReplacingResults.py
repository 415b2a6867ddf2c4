"""A second run into the segmentation node of the first: what is replaced, what is kept, what is left alone."""

from __future__ import annotations

import numpy as np
import pytest
import slicer
import vtk
from AttentionSegmentationLib.Segmentation import ResultNodes as ResultNodesFile
from AttentionSegmentationLib.Segmentation.CompanionNodes import attentionNodesOf, tableNodeOf
from AttentionSegmentationLib.Segmentation.ResultNodes import addResultNodes
from AttentionSegmentationLib.Segmentation.SegmentationNodes import hasContent
from AttentionSegmentationLib.VolumeConversion import volumeFromNode

from AGTraining.imaging.volume import Volume

SHEAR = [[1.1, 0.2, 0.1, 12], [0, 0.9, -0.3, -4], [0.1, 0, 1.3, 77], [0, 0, 0, 1]]
SURFACE = "Closed surface"


def maps(*names):
    array = np.random.default_rng(2).random((5, 6, 7)).astype(np.float32)
    return {name: Volume(array, np.diag([4.0, 4.0, 4.0, 1.0])) for name in names}


def sceneContents(scene):
    items = vtk.vtkIdList()
    hierarchy = scene.GetSubjectHierarchyNode()
    hierarchy.GetItemChildren(hierarchy.GetSceneItemID(), items, True)
    nodes = [scene.GetNthNode(index).GetID() for index in range(scene.GetNumberOfNodes())]
    return nodes, [items.GetId(index) for index in range(items.GetNumberOfIds())]


def segmentNames(node):
    segmentation = node.GetSegmentation()
    return [segmentation.GetNthSegment(n).GetName() for n in range(segmentation.GetNumberOfSegments())]


def mask(node, segmentID, volumeNode):
    return slicer.util.arrayFromSegmentBinaryLabelmap(node, segmentID, volumeNode) > 0


@pytest.fixture
def add(makeResult, labelArray):
    """Adds a result; shift moves the organs along K, without the organ of the value `lost`."""

    def run(volumeNode, output=None, shift=0, attention=(), lost=None):
        labels = np.roll(labelArray, shift, axis=0)
        labels[labels == lost] = 0
        result = makeResult(volumeFromNode(volumeNode), labels, attention=maps(*attention))
        return addResultNodes(volumeNode, result, output)

    return run


def test_segments_are_replaced_and_the_node_stays_itself(addCT, add, labelArray):
    volumeNode = addCT()
    node = add(volumeNode).segmentationNode
    nodeID, display = node.GetID(), node.GetDisplayNode()
    node.SetName("my organs")
    node.GetSegmentation().AddEmptySegment("tumor", "tumor")
    display.SetOpacity3D(0.3)
    display.SetSegmentVisibility("spleen", False)
    display.SetSegmentOpacity3D("pancreas", 0.25)
    assert add(volumeNode, node, shift=-1).segmentationNode is node
    assert (node.GetID(), node.GetName(), node.GetDisplayNode()) == (nodeID, "my organs", display)
    assert segmentNames(node) == ["pancreas", "spleen", "right kidney", "left kidney"]
    np.testing.assert_array_equal(mask(node, "spleen", volumeNode), np.roll(labelArray, -1, axis=0) == 2)
    assert display.GetOpacity3D() == 0.3
    assert not display.GetSegmentVisibility("spleen")
    assert display.GetSegmentVisibility("pancreas")
    assert display.GetSegmentOpacity3D("pancreas") == 0.25
    assert display.GetRemoveUnusedDisplayProperties()


def test_surfaces_are_made_again_where_there_were_some(addCT, add):
    volumeNode = addCT()
    node = add(volumeNode).segmentationNode
    assert node.GetSegmentation().CreateRepresentation(SURFACE)
    before = node.GetSegmentation().GetSegment("spleen").GetRepresentation(SURFACE).GetBounds()
    add(volumeNode, node, shift=-2)
    after = node.GetSegmentation().GetSegment("spleen").GetRepresentation(SURFACE).GetBounds()
    assert np.abs(np.subtract(before, after)).max() > 1


def test_no_surface_where_there_was_none(addCT, add):
    volumeNode = addCT()
    node = add(volumeNode).segmentationNode
    add(volumeNode, node)
    assert not node.GetSegmentation().ContainsRepresentation(SURFACE)


def test_node_whose_source_was_a_surface_takes_labelmaps(scene, addCT, add, labelArray):
    volumeNode = addCT()
    node = scene.AddNewNodeByClass("vtkMRMLSegmentationNode", "from models")
    node.GetSegmentation().SetSourceRepresentationName(SURFACE)
    sphere = vtk.vtkSphereSource()
    sphere.Update()
    segment = slicer.vtkSegment()
    segment.AddRepresentation(SURFACE, sphere.GetOutput())
    node.GetSegmentation().AddSegment(segment)
    add(volumeNode, node)
    np.testing.assert_array_equal(mask(node, "pancreas", volumeNode), labelArray == 1)


def test_table_is_filled_anew_and_attention_replaced(scene, addCT, add):
    volumeNode = addCT()
    first = add(volumeNode, attention=("level2", "level3"))
    node = first.segmentationNode
    before = [len(part) for part in sceneContents(scene)]
    second = add(volumeNode, node, attention=("level3", "level4"))
    assert second.tableNode is first.tableNode is tableNodeOf(node)
    assert second.tableNode.GetName() == "CT organ statistics"
    assert attentionNodesOf(node) == second.attentionNodes
    assert list(second.attentionNodes) == ["level3", "level4"]
    assert [len(part) for part in sceneContents(scene)] == before
    assert scene.GetNumberOfNodesByClass("vtkMRMLScalarVolumeDisplayNode") == 1 + 2


def test_attention_that_is_not_asked_for_again_goes_with_its_folder(scene, addCT, add):
    volumeNode = addCT()
    node = add(volumeNode).segmentationNode
    before = sceneContents(scene)
    add(volumeNode, node, attention=("level2",))
    add(volumeNode, node)
    colors = slicer.vtkMRMLColorLogic.GetFileColorNodeID("Inferno.txt")
    nodes, items = sceneContents(scene)
    assert set(nodes) - {colors} == set(before[0]) - {colors}
    assert items == before[1]
    assert attentionNodesOf(node) == {}


def test_folder_that_holds_other_things_stays(scene, addCT, add):
    volumeNode = addCT()
    first = add(volumeNode, attention=("level2",))
    hierarchy = scene.GetSubjectHierarchyNode()
    mine = scene.AddNewNodeByClass("vtkMRMLTextNode", "my note")
    hierarchy.CreateItem(first.attentionFolderItem, mine)
    add(volumeNode, first.segmentationNode)
    assert hierarchy.GetItemParent(hierarchy.GetItemByDataNode(mine)) == first.attentionFolderItem


def test_other_results_are_left_alone(scene, addCT, add):
    volumeNode = addCT()
    other = add(volumeNode, attention=("level2",))
    mine = add(volumeNode, attention=("level2",))
    times = [node.GetMTime() for node in (other.segmentationNode, other.tableNode, *other.attentionNodes.values())]
    add(volumeNode, mine.segmentationNode, attention=("level2",))
    after = [node.GetMTime() for node in (other.segmentationNode, other.tableNode, *other.attentionNodes.values())]
    assert after == times


def test_run_into_a_duplicate_leaves_table_and_attention_of_the_original(scene, addCT, add):
    volumeNode = addCT()
    first = add(volumeNode, attention=("level2",))
    # As "Clone" in the Data module does it, with all references.
    duplicateNode = slicer.vtkMRMLSegmentationNode()
    duplicateNode.Copy(first.segmentationNode)
    duplicateNode = scene.AddNode(duplicateNode)
    assert tableNodeOf(duplicateNode) is None
    assert attentionNodesOf(duplicateNode) == {}
    table = first.tableNode.GetTable()
    second = add(volumeNode, duplicateNode, attention=("level2",))
    assert second.segmentationNode is duplicateNode
    assert second.tableNode is tableNodeOf(duplicateNode) is not first.tableNode
    assert tableNodeOf(first.segmentationNode) is first.tableNode
    assert first.tableNode.GetTable() is table
    assert attentionNodesOf(first.segmentationNode) == first.attentionNodes
    assert scene.IsNodePresent(first.attentionNodes["level2"])
    assert second.attentionNodes["level2"] is not first.attentionNodes["level2"]


def test_removed_table_is_made_anew(scene, addCT, add):
    volumeNode = addCT()
    first = add(volumeNode)
    scene.RemoveNode(first.tableNode)
    second = add(volumeNode, first.segmentationNode)
    assert tableNodeOf(first.segmentationNode) is second.tableNode
    assert second.tableNode.GetTable().GetNumberOfRows() == 4


def test_node_moves_under_the_transform_of_another_ct(scene, addCT, add, labelArray):
    node = add(addCT()).segmentationNode
    transform = scene.AddNewNodeByClass("vtkMRMLLinearTransformNode")
    transform.SetMatrixTransformToParent(slicer.util.vtkMatrixFromArray(np.array(SHEAR, dtype=float)))
    flipped = np.array([[0, 0, 3.0, 5], [-0.8, 0, 0, 60], [0, -1.1, 0, 7], [0, 0, 0, 1]])
    other = addCT(ijkToRAS=flipped, name="other")
    other.SetAndObserveTransformNodeID(transform.GetID())
    add(other, node)
    assert node.GetParentTransformNode() is transform
    assert node.GetNodeReference(node.GetReferenceImageGeometryReferenceRole()) is other
    np.testing.assert_array_equal(mask(node, "left_kidney", other), labelArray == 4)


def test_empty_node_is_filled_and_placed_beside_the_ct(scene, addCT, add):
    hierarchy = scene.GetSubjectHierarchyNode()
    study = hierarchy.CreateStudyItem(hierarchy.GetSceneItemID(), "study")
    volumeNode = addCT()
    hierarchy.CreateItem(study, volumeNode)
    node = scene.AddNewNodeByClass("vtkMRMLSegmentationNode", "Segmentation")
    hierarchy.CreateItem(hierarchy.GetSceneItemID(), node)
    assert not hasContent(node)
    add(volumeNode, node)
    assert hasContent(node)
    assert node.GetName() == "Segmentation"
    assert hierarchy.GetItemParent(hierarchy.GetItemByDataNode(node)) == study


def test_node_with_content_stays_where_the_user_put_it(scene, addCT, add):
    hierarchy = scene.GetSubjectHierarchyNode()
    volumeNode = addCT()
    node = add(volumeNode).segmentationNode
    folder = hierarchy.CreateFolderItem(hierarchy.GetSceneItemID(), "mine")
    hierarchy.SetItemParent(hierarchy.GetItemByDataNode(node), folder)
    add(volumeNode, node)
    assert hierarchy.GetItemParent(hierarchy.GetItemByDataNode(node)) == folder


@pytest.fixture
def addPatient(scene, addCT):
    """Adds a CT in a study of a patient of its own; gives the volume node and the item of the study."""

    def make(name):
        hierarchy = scene.GetSubjectHierarchyNode()
        patient = hierarchy.CreateSubjectItem(hierarchy.GetSceneItemID(), f"patient {name}")
        study = hierarchy.CreateStudyItem(patient, f"study {name}")
        volumeNode = addCT(name=f"CT {name}")
        hierarchy.CreateItem(study, volumeNode)
        return volumeNode, study

    return make


def parentOf(node):
    hierarchy = node.GetScene().GetSubjectHierarchyNode()
    return hierarchy.GetItemParent(hierarchy.GetItemByDataNode(node))


def test_result_of_another_patient_moves_to_that_patient(addPatient, add):
    (ann, _), (bob, study) = addPatient("A"), addPatient("B")
    first = add(ann)
    second = add(bob, first.segmentationNode, attention=("level2",))
    assert parentOf(second.segmentationNode) == parentOf(second.tableNode) == study
    assert second.tableNode is first.tableNode
    assert second.remarks == ("CT A segmentation: moved from another patient or study to 'CT B', which it shows now.",)


def test_result_leaves_a_patient_for_a_ct_of_none(addPatient, addCT, add):
    (ann, _), file = addPatient("A"), addCT(name="from a file")
    result = add(file, add(ann).segmentationNode)
    sceneItem = file.GetScene().GetSubjectHierarchyNode().GetSceneItemID()
    assert parentOf(result.segmentationNode) == parentOf(result.tableNode) == sceneItem


def test_result_that_the_user_put_into_a_study_stays_there_when_the_ct_is_the_same(addPatient, addCT, add):
    (_, study), file = addPatient("A"), addCT(name="from a file")
    node = add(file).segmentationNode
    hierarchy = node.GetScene().GetSubjectHierarchyNode()
    hierarchy.SetItemParent(hierarchy.GetItemByDataNode(node), study)
    result = add(file, node)
    assert parentOf(node) == study
    assert result.remarks == ()


def test_volume_without_a_name_gives_nodes_that_have_one(addCT, add):
    volumeNode = addCT()
    volumeNode.SetName("")
    result = add(volumeNode, attention=("level2",))
    name = volumeNode.GetID()
    nodes = (result.segmentationNode, result.tableNode, result.attentionNodes["level2"])
    assert [node.GetName() for node in nodes] == [
        f"{name} segmentation",
        f"{name} organ statistics",
        f"{name} attention level2",
    ]


def test_no_node_has_no_content():
    assert not hasContent(None)


@pytest.mark.parametrize("step", ["setSegments", "addAttentionNode", "setCompanions"])
@pytest.mark.parametrize("when", ["before", "after"])
@pytest.mark.parametrize("instances", ["1.2.3 1.2.4", ""], ids=["of DICOM", "of a file"])
def test_failing_half_way_leaves_all_as_it_was(monkeypatch, scene, addPatient, add, labelArray, step, when, instances):
    volumeNode, study = addPatient("A")
    other, _ = addPatient("B")
    volumeNode.SetAttribute("DICOM.instanceUIDs", instances)
    other.SetAttribute("DICOM.instanceUIDs", "9.9")
    first = add(volumeNode, attention=("level2",))
    node = first.segmentationNode
    hierarchy = scene.GetSubjectHierarchyNode()
    item = hierarchy.GetItemByDataNode(node)
    dicom = hierarchy.GetItemAttributeNames(item), hierarchy.GetItemAttribute(item, "DICOM.ReferencedInstanceUIDs")
    node.GetDisplayNode().SetSegmentVisibility("spleen", False)
    transform = scene.AddNewNodeByClass("vtkMRMLLinearTransformNode")
    other.SetAndObserveTransformNodeID(transform.GetID())
    row = [first.tableNode.GetCellText(1, column) for column in range(4)]
    before = sceneContents(scene)
    original = getattr(ResultNodesFile, step)

    def fail(*arguments):
        # Only at the second map, so that there is something to undo.
        if when == "after":
            original(*arguments)
        raise MemoryError("no room")

    monkeypatch.setattr(ResultNodesFile, step, fail)
    with pytest.raises(MemoryError):
        add(other, node, shift=-1, attention=("level2",), lost=2)
    assert sceneContents(scene) == before
    assert parentOf(node) == parentOf(first.tableNode) == study
    assert dicom == (
        hierarchy.GetItemAttributeNames(item),
        hierarchy.GetItemAttribute(item, "DICOM.ReferencedInstanceUIDs"),
    )
    assert tableNodeOf(node) is first.tableNode
    assert attentionNodesOf(node) == first.attentionNodes
    assert segmentNames(node) == ["pancreas", "spleen", "right kidney", "left kidney"]
    np.testing.assert_array_equal(mask(node, "spleen", volumeNode), labelArray == 2)
    assert node.GetParentTransformNode() is None
    assert node.GetNodeReference(node.GetReferenceImageGeometryReferenceRole()) is volumeNode
    assert [first.tableNode.GetCellText(1, column) for column in range(4)] == row
    assert not node.GetDisplayNode().GetSegmentVisibility("spleen")


def test_saved_scene_remembers_what_belongs_together(scene, addCT, add, tmp_path):
    node = add(addCT(), attention=("level2", "level2.gate1")).segmentationNode
    references = {
        role: [node.GetNthNodeReferenceID(role, n) for n in range(node.GetNumberOfNodeReferences(role))]
        for role in ("AttentionSegmentation.table", "AttentionSegmentation.attention")
    }
    scene.SetURL(str(tmp_path / "scene.mrml"))
    assert scene.Commit(str(tmp_path / "scene.mrml"))
    text = (tmp_path / "scene.mrml").read_text()
    for role, nodeIDs in references.items():
        assert nodeIDs and f"{role}:{' '.join(nodeIDs)};" in text
    assert "AttentionSegmentation.map:level2.gate1" in text


def test_dicom_export_finds_patient_study_and_instances(scene, addCT, add):
    """What Slicer's DICOM SEG export asks for: the reference volume, its instances, the study, an algorithm's name."""
    hierarchy = scene.GetSubjectHierarchyNode()
    patient = hierarchy.CreateSubjectItem(hierarchy.GetSceneItemID(), "patient")
    study = hierarchy.CreateStudyItem(patient, "study")
    volumeNode = addCT()
    volumeNode.SetAttribute("DICOM.instanceUIDs", "1.2.3 1.2.4")
    hierarchy.CreateItem(study, volumeNode)
    node = add(volumeNode).segmentationNode
    item = hierarchy.GetItemByDataNode(node)
    assert hierarchy.GetItemAncestorAtLevel(item, "Study") == study
    assert hierarchy.GetItemAttribute(item, "DICOM.ReferencedInstanceUIDs") == "1.2.3 1.2.4"
    assert node.GetNodeReference(node.GetReferenceImageGeometryReferenceRole()) is volumeNode
    for name in segmentNames(node):
        segment = node.GetSegmentation().GetSegment(name.replace(" ", "_"))
        found = {}
        for tag in ("DICOM.SegmentAlgorithmType", "DICOM.SegmentAlgorithmName"):
            value = vtk.reference("")
            assert segment.GetTag(tag, value)
            found[tag] = str(value)
        assert list(found.values()) == ["AUTOMATIC", "AttentionSegmentation"]


def test_instances_of_another_ct_are_forgotten(scene, addCT, add):
    hierarchy = scene.GetSubjectHierarchyNode()
    fromDicom = addCT()
    hierarchy.SetItemUID(hierarchy.CreateItem(hierarchy.GetSceneItemID(), fromDicom), "DICOMInstanceUID", "1.2.3")
    node = add(fromDicom).segmentationNode
    item = hierarchy.GetItemByDataNode(node)
    assert hierarchy.GetItemAttribute(item, "DICOM.ReferencedInstanceUIDs") == "1.2.3"
    add(addCT(name="from a file"), node)
    assert hierarchy.GetItemAttribute(item, "DICOM.ReferencedInstanceUIDs") == ""
