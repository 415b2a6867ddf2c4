from __future__ import annotations

from types import SimpleNamespace

import numpy as np
import pytest
import slicer
from AttentionSegmentationLib.Segmentation import AttentionDisplay
from AttentionSegmentationLib.Segmentation.AttentionNodes import addAttentionNode, defaultThreshold
from AttentionSegmentationLib.VolumeConversion import volumeFromNode

from AGTraining.imaging.volume import Volume

SHEAR = np.array([[1.1, 0.2, 0.1, 12], [0, 0.9, -0.3, -4], [0.1, 0, 1.3, 77], [0, 0, 0, 1]])
FLIPPED = np.array([[0, 0, 4.0, 5], [-3.0, 0, 0, 60], [0, -5.0, 0, 7], [0, 0, 0, 1]])


@pytest.fixture
def views(scene):
    """The composite nodes of three slice views, and their slice nodes."""
    found = []
    for name in ("Red", "Green", "Yellow"):
        nodes = []
        for node in (slicer.vtkMRMLSliceNode(), slicer.vtkMRMLSliceCompositeNode()):
            node.SetLayoutName(name)
            node.SetSingletonTag(name)
            nodes.append(scene.AddNode(node))
        found.append(SimpleNamespace(slice=nodes[0], layers=nodes[1]))
    yield found
    # Closing a scene leaves singletons in it.
    for view in found:
        scene.RemoveNode(view.slice)
        scene.RemoveNode(view.layers)


@pytest.fixture
def addMap(scene, addCT):
    """Adds an attention map whose maximum is at (i, j, k) = (5, 1, 3)."""

    def add(volumeNode=None, name="level2"):
        array = np.random.default_rng(1).random((4, 5, 6)).astype(np.float32) * 0.9
        array[3, 1, 5] = 0.99
        return addAttentionNode(scene, volumeNode or addCT(), name, Volume(array, FLIPPED, name))

    return add


def layers(views):
    return [
        (view.layers.GetBackgroundVolumeID(), view.layers.GetForegroundVolumeID(), view.layers.GetForegroundOpacity())
        for view in views
    ]


def test_overlay_lies_over_its_ct_in_all_views(scene, addCT, addMap, views):
    volumeNode = addCT()
    node = addMap(volumeNode)
    AttentionDisplay.showOverlay(node, 0.4)
    assert layers(views) == [(volumeNode.GetID(), node.GetID(), 0.4)] * 3
    assert AttentionDisplay.isOverlayShown()


def test_hiding_brings_back_what_each_view_showed(addCT, addMap, views):
    node, mine, other = addMap(), addCT(name="PET"), addCT(name="MR")
    views[0].layers.SetForegroundVolumeID(mine.GetID())
    views[0].layers.SetForegroundOpacity(0.7)
    views[1].layers.SetBackgroundVolumeID(other.GetID())
    before = layers(views)[:2]
    AttentionDisplay.showOverlay(node, 0.4)
    AttentionDisplay.showOverlay(addMap(name="level3"), 0.5)
    AttentionDisplay.hideOverlay()
    assert not AttentionDisplay.isOverlayShown()
    assert layers(views)[1] == before[1]
    assert layers(views)[0][1:] == before[0][1:]
    assert views[2].layers.GetForegroundVolumeID() is None


def test_view_that_shows_something_else_meanwhile_is_left_alone(addCT, addMap, views):
    AttentionDisplay.showOverlay(addMap(), 0.4)
    mine = addCT(name="PET")
    views[0].layers.SetForegroundVolumeID(mine.GetID())
    views[0].layers.SetForegroundOpacity(0.9)
    AttentionDisplay.hideOverlay()
    assert layers(views)[0][1:] == (mine.GetID(), 0.9)


def test_volume_that_is_gone_does_not_come_back(scene, addCT, addMap, views):
    mine = addCT(name="PET")
    views[0].layers.SetForegroundVolumeID(mine.GetID())
    AttentionDisplay.showOverlay(addMap(), 0.4)
    scene.RemoveNode(mine)
    AttentionDisplay.hideOverlay()
    assert views[0].layers.GetForegroundVolumeID() is None


def test_view_finds_its_volumes_when_the_scene_is_added_to_another(scene, addCT, addMap, views, tmp_path):
    """In which the IDs of its nodes are taken."""
    node, mine, other = addMap(), addCT(name="PET"), addCT(name="MR")
    views[0].layers.SetForegroundVolumeID(mine.GetID())
    views[0].layers.SetForegroundOpacity(0.7)
    views[0].layers.SetBackgroundVolumeID(other.GetID())
    AttentionDisplay.showOverlay(node, 0.4)
    scene.SetURL(str(tmp_path / "scene.mrml"))
    assert scene.Commit()
    scene.Clear(False)
    for index in range(6):
        addCT(name=f"another {index}")
    assert scene.Import()
    assert AttentionDisplay.isOverlayShown()
    AttentionDisplay.hideOverlay()
    names = [None if nodeID is None else scene.GetNodeByID(nodeID).GetName() for nodeID in layers(views)[0][:2]]
    assert names == ["MR", "PET"]
    assert views[0].layers.GetForegroundOpacity() == 0.7


def test_hiding_without_an_overlay_changes_nothing(addCT, addMap, views):
    addMap()
    views[0].layers.SetForegroundVolumeID(addCT().GetID())
    before = layers(views)
    AttentionDisplay.hideOverlay()
    assert layers(views) == before


def test_threshold_of_several_maps(addMap):
    nodes = [addMap(), addMap(name="level3")]
    AttentionDisplay.setThreshold(nodes, 0.35)
    for node in nodes:
        display = node.GetDisplayNode()
        assert (display.GetLowerThreshold(), display.GetUpperThreshold(), display.GetApplyThreshold()) == (0.35, 1.0, 1)
        assert AttentionDisplay.threshold(node) == 0.35


@pytest.mark.parametrize("transform", [None, SHEAR], ids=["no transform", "sheared"])
def test_jump_goes_to_the_largest_coefficient(scene, addCT, addMap, views, transform):
    volumeNode = addCT()
    if transform is not None:
        transformNode = scene.AddNewNodeByClass("vtkMRMLLinearTransformNode")
        transformNode.SetMatrixTransformToParent(slicer.util.vtkMatrixFromArray(transform))
        volumeNode.SetAndObserveTransformNodeID(transformNode.GetID())
    node = addMap(volumeNode)
    x, y, z = (volumeFromNode(node).ijk_to_world @ (5, 1, 3, 1))[:3]
    place = AttentionDisplay.jumpToMaximum(node)
    np.testing.assert_allclose(place, (-x, -y, z), atol=1e-6)
    for view in views:
        shown = [view.slice.GetSliceToRAS().GetElement(row, 3) for row in range(3)]
        np.testing.assert_allclose(shown, place, atol=1e-6)


def test_map_that_was_removed_is_passed_over(scene, addMap, views):
    node, other = addMap(), addMap(name="level3")
    place = layers(views)
    scene.RemoveNode(node.GetDisplayNode())
    scene.RemoveNode(node)
    AttentionDisplay.setThreshold([node, other], 0.35)
    assert AttentionDisplay.threshold(other) == 0.35
    assert AttentionDisplay.jumpToMaximum(node) is None
    assert layers(views) == place
    assert AttentionDisplay.shownMap({"level2": node}) is None


def test_map_on_top_is_named_also_in_a_single_view(addMap, views):
    maps = {"level2": addMap(), "level3": addMap(name="level3")}
    assert AttentionDisplay.shownMap(maps) is None
    views[1].layers.SetForegroundVolumeID(maps["level3"].GetID())
    assert AttentionDisplay.shownMap(maps) == "level3"


@pytest.fixture
def colorLogic(scene, monkeypatch):
    """The application's color logic, which makes legends."""
    scene.RegisterNodeClass(slicer.vtkMRMLColorLegendDisplayNode())
    logic = slicer.vtkSlicerColorLogic
    monkeypatch.setattr(slicer.modules, "colors", SimpleNamespace(logic=lambda: logic))
    return logic


def test_legend_comes_and_goes_with_the_overlay(addMap, views, colorLogic):
    node = addMap()
    AttentionDisplay.showOverlay(node, 0.5)
    AttentionDisplay.showLegend(node, True)
    legend = colorLogic.GetColorLegendDisplayNode(node)
    assert legend.GetVisibility()
    assert legend.GetTitleText() == "Attention"
    AttentionDisplay.hideOverlay()
    assert not legend.GetVisibility()
    AttentionDisplay.showLegend(node, True)
    assert colorLogic.GetNumberOfColorLegendDisplayNodes(node) == 1


def test_legend_that_was_never_shown_is_not_made_to_hide_it(addMap, colorLogic):
    node = addMap()
    AttentionDisplay.showLegend(node, False)
    assert colorLogic.GetColorLegendDisplayNode(node) is None


def test_without_the_application_there_is_no_legend(addMap):
    node = addMap()
    AttentionDisplay.showLegend(node, True)
    assert node.GetNumberOfDisplayNodes() == 1


def blob(background, peak, share=0.03):
    array = np.random.default_rng(0).normal(background, 0.02, (20, 20, 20))
    array.ravel()[: int(share * array.size)] += peak - background
    return np.clip(array, 0, 1).astype(np.float32)


@pytest.mark.parametrize(("background", "peak"), [(0.02, 0.9), (0.2, 0.8), (0.72, 0.98)])
def test_threshold_shows_what_stands_out_whatever_the_background(background, peak):
    """Gates have ranges of their own; at a fixed 0.5 the last one would cover the whole body."""
    coefficients = blob(background, peak)
    shown = coefficients >= defaultThreshold(coefficients)
    assert shown.ravel()[:240].mean() > 0.95
    assert shown.mean() <= 0.11


def test_threshold_never_shows_more_than_a_tenth():
    coefficients = blob(0.1, 0.9, share=0.4)
    assert (coefficients >= defaultThreshold(coefficients)).mean() <= 0.11


@pytest.mark.parametrize("value", [0.0, 0.97, 1.0])
def test_even_map_has_the_middle_threshold(value):
    assert defaultThreshold(np.full((3, 4, 5), value, np.float32)) == 0.5


def test_coefficients_that_are_not_finite_do_not_count():
    coefficients = np.linspace(0, 1, 1000, dtype=np.float32)
    broken = np.append(coefficients, np.array([np.nan, np.inf, -np.inf], np.float32))
    assert defaultThreshold(broken) == defaultThreshold(coefficients)
    assert defaultThreshold(np.full((3, 4, 5), np.nan, np.float32)) == 0.5
