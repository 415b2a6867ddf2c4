"""The overlay button and the slice views, which others change too: later runs, other modules, the user."""

from __future__ import annotations

import pytest
import slicer
from AttentionSegmentationLib.Segmentation import AttentionDisplay
from AttentionSegmentationLib.Segmentation.CompanionNodes import attentionNodesOf

from Testing.slicer_standin.proxies import unwrap


def mapTitles(panel):
    return [panel.ui.overlayMapComboBox.itemText(n) for n in range(panel.ui.overlayMapComboBox.count)]


def firstOrgan(panel):
    """The first row of the table."""
    return [panel.ui.resultsTable.item(0, column).text() for column in range(panel.ui.resultsTable.columnCount)]


def leave():
    slicer.util.selectModule("")


def enter():
    slicer.util.selectModule("AttentionSegmentation")


@pytest.mark.parametrize("away", [False, True], ids=["panel open", "another module open"])
def test_result_in_the_same_nodes_is_shown(panel, addResult, labelArray, sliceView, away):
    nodes = addResult("level2")
    panel.ui.overlayButton.click()
    before = firstOrgan(panel)
    if away:
        leave()
    labelArray[2:5, 4:9, 3:5] = 0
    addResult("level3", "level4", output=nodes.segmentationNode, message="body: something else.")
    if away:
        enter()
    assert firstOrgan(panel) != before
    assert panel.ui.resultMessagesLabel.text == "body: something else."
    assert mapTitles(panel) == ["Scale 3", "Scale 4"]
    panel.ui.thresholdSlider.value = 0.9
    now = attentionNodesOf(nodes.segmentationNode)
    assert AttentionDisplay.threshold(now["level3"]) == pytest.approx(0.9)


@pytest.mark.parametrize("replace", [False, True], ids=["new nodes", "same nodes"])
def test_overlay_moves_to_the_maps_of_the_next_result(panel, addResult, sliceView, replace):
    nodes = addResult("level2")
    panel.ui.overlayButton.click()
    nodes = addResult("level2", output=nodes.segmentationNode if replace else None)
    assert sliceView.GetForegroundVolumeID() == nodes.attentionNodes["level2"].GetID()


@pytest.mark.parametrize("between", ["nothing", "left and opened", "away at the end"])
def test_overlay_goes_when_the_next_result_has_no_maps(scene, panel, addResult, sliceView, between):
    addResult("level2")
    panel.ui.overlayButton.click()
    assert AttentionDisplay.isOverlayShown(scene)
    if between != "nothing":
        leave()
    if between == "left and opened":
        enter()
    addResult()
    if between == "away at the end":
        enter()
    assert not AttentionDisplay.isOverlayShown(scene)
    assert not panel.ui.overlayButton.checked
    assert not panel.ui.overlayButton.enabled


def test_overlay_can_be_taken_off_after_another_module(panel, addResult, sliceView):
    addResult("level2")
    panel.ui.overlayButton.click()
    leave()
    enter()
    assert panel.ui.overlayButton.checked
    panel.ui.overlayButton.click()
    assert sliceView.GetForegroundVolumeID() is None


def test_opening_the_panel_leaves_the_views_as_the_user_set_them(panel, addResult, addCT, sliceView):
    addResult("level2")
    panel.ui.overlayButton.click()
    leave()
    other = addCT(name="other")
    sliceView.SetForegroundVolumeID(None)
    sliceView.SetBackgroundVolumeID(other.GetID())
    enter()
    assert sliceView.GetForegroundVolumeID() is None
    assert sliceView.GetBackgroundVolumeID() == other.GetID()
    assert not panel.ui.overlayButton.checked


def test_opening_the_panel_leaves_the_other_views_of_an_overlay_alone(scene, panel, addResult, addCT, sliceView):
    addResult("level2")
    panel.ui.overlayButton.click()
    yellow = slicer.vtkMRMLSliceCompositeNode()
    yellow.SetLayoutName("Yellow")
    yellow = scene.AddNode(yellow)
    leave()
    enter()
    assert yellow.GetForegroundVolumeID() is None
    assert panel.ui.overlayButton.checked


def test_map_that_the_user_put_on_top_is_the_chosen_one(panel, addResult, sliceView):
    nodes = addResult("level2", "level3")
    leave()
    sliceView.SetForegroundVolumeID(nodes.attentionNodes["level3"].GetID())
    sliceView.SetForegroundOpacity(0.9)
    enter()
    assert panel.ui.overlayButton.checked
    assert panel.ui.overlayMapComboBox.currentText == "Scale 3"
    assert sliceView.GetForegroundOpacity() == 0.9


def test_deleted_maps_go_from_the_list(scene, panel, addResult, sliceView):
    """Errors in slots make the test fail."""
    nodes = addResult("level2", "level3").attentionNodes
    scene.RemoveNode(nodes["level2"])
    panel.ui.jumpButton.click()
    assert mapTitles(panel) == ["Scale 3"]
    panel.ui.overlayButton.click()
    assert sliceView.GetForegroundVolumeID() == nodes["level3"].GetID()
    scene.RemoveNode(nodes["level3"])
    panel.ui.thresholdSlider.value = 0.9
    panel.ui.opacitySlider.value = 0.2
    assert mapTitles(panel) == []
    assert not panel.ui.jumpButton.enabled


def test_choosing_a_deleted_map_does_nothing(scene, panel, addResult):
    nodes = addResult("level2", "level3").attentionNodes
    scene.RemoveNode(nodes["level3"])
    panel.ui.overlayMapComboBox.currentIndex = 1
    unwrap(panel.ui.overlayMapComboBox).activated.emit(1)
    assert mapTitles(panel) == ["Scale 2"]
    assert panel.parameters.overlayMap == "level2"


def test_moving_a_slider_leaves_the_rest_of_the_panel_alone(panel, addResult, monkeypatch):
    from AttentionSegmentationLib.ModelCatalogue import ModelCatalogue

    addResult("level2")
    panel.idle()
    label = unwrap(panel.ui.modelDetailsLabel)
    label.setSelection(0, 7)
    selected = label.selectedText()
    assert selected
    looks = []
    monkeypatch.setattr(ModelCatalogue, "isInstalled", lambda self, model: looks.append(model) or True)
    panel.ui.opacitySlider.value = 0.8
    panel.ui.opacitySlider.value = 0.7
    assert looks == []
    panel.idle()
    assert label.selectedText() == selected
