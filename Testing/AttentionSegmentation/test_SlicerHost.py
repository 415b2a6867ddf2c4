from __future__ import annotations

import subprocess
import sys
from types import SimpleNamespace

import numpy as np
import slicer
from AttentionSegmentationLib.SlicerHost import isSlicerApplication, startSlicerHost


def test_scene_has_the_nodes_that_display_nodes_refer_to(scene):
    node = slicer.util.addVolumeFromArray(np.zeros((2, 3, 4), np.int16), name="grey")
    assert node.GetDisplayNode().GetColorNode().GetID() == "vtkMRMLColorTableNodeGrey"
    assert scene.GetSubjectHierarchyNode() is not None


def test_slicer_util_reads_segments_through_the_module_logic(scene):
    volume = slicer.util.addVolumeFromArray(np.zeros((4, 5, 6), np.int16))
    node = scene.AddNewNodeByClass("vtkMRMLSegmentationNode")
    node.SetReferenceImageGeometryParameterFromVolumeNode(volume)
    segment = node.GetSegmentation().AddEmptySegment("one")
    mask = np.zeros((4, 5, 6), np.uint8)
    mask[1:3, 2:4, 3:5] = 1
    slicer.util.updateSegmentBinaryLabelmapFromArray(mask, node, segment, volume)
    np.testing.assert_array_equal(slicer.util.arrayFromSegmentBinaryLabelmap(node, segment, volume), mask)


def test_node_classes_of_sequences_and_segmentations_are_registered(scene):
    for name in ("vtkMRMLSequenceBrowserNode", "vtkMRMLSegmentationNode", "vtkMRMLSegmentEditorNode"):
        assert scene.AddNewNodeByClass(name).GetClassName() == name


def test_second_start_keeps_the_scene(scene):
    startSlicerHost()
    assert slicer.mrmlScene is scene


def test_inside_the_application_nothing_is_replaced(monkeypatch):
    applicationScene = object()
    monkeypatch.setattr(slicer, "app", SimpleNamespace(), raising=False)
    monkeypatch.setattr(slicer, "mrmlScene", applicationScene)
    startSlicerHost()
    assert isSlicerApplication()
    assert slicer.mrmlScene is applicationScene


def test_start_and_end_are_silent(repository):
    """No messages of VTK on any stream, and no crash when Python ends with nodes in the scene."""
    code = (
        "from AttentionSegmentationLib.SlicerHost import startSlicerHost; startSlicerHost(); import slicer; "
        "slicer.mrmlScene.AddNewNodeByClass('vtkMRMLSegmentationNode').CreateDefaultDisplayNodes()"
    )
    process = subprocess.run(
        [sys.executable, "-c", code], cwd=repository / "AttentionSegmentation", capture_output=True, text=True
    )
    assert (process.returncode, process.stdout, process.stderr) == (0, "", "")
