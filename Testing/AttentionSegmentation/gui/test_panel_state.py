"""What the panel shows of the scene, and that nothing of it is left when it goes."""

from __future__ import annotations

import gc
import subprocess
import sys
import textwrap
import weakref

import numpy as np
import pytest
import slicer
import vtk

from Testing.slicer_standin.proxies import unwrap

from .conftest import MODULE_FILE, workers


def checkBoxes(panel):
    layout = panel.ui.organsContainer.layout()
    return {layout.itemAt(n).widget().text: layout.itemAt(n).widget() for n in range(layout.count())}


def choose(comboBox, index):
    """What a user does with the mouse."""
    comboBox.currentIndex = index
    unwrap(comboBox).activated.emit(index)


def test_module_loads_without_the_packages_of_the_science_and_starts_nothing(tmp_path):
    """In a Python of its own: this one has torch loaded already."""
    script = f"""
        import sys
        missing = ["torch", "pydantic", "safetensors", "psutil", "tqdm", "matplotlib"]
        sys.path[:0] = [{str(MODULE_FILE.parents[1])!r}, {str(MODULE_FILE.parent)!r}]
        from pathlib import Path
        import slicer
        from AttentionSegmentationLib.SlicerHost import startSlicerHost
        startSlicerHost()
        from Testing.slicer_standin.install import installed
        sys.modules.update(dict.fromkeys(missing))
        with installed(Path({str(tmp_path)!r})) as app:
            module = app._qt.modules.load(Path({str(MODULE_FILE)!r}))
            print(module.title, module.categories)
            module.widgetRepresentation()
            panel = slicer.modules.AttentionSegmentationWidget
            print(panel.logic.engine.client.state)
            panel.ui.runButton.click()
            print(panel.ui.runButton.enabled, panel.ui.runButton.text)
    """
    result = subprocess.run(
        [sys.executable, "-c", textwrap.dedent(script)],
        capture_output=True,
        text=True,
        env={"QT_QPA_PLATFORM": "offscreen", "PATH": ""},
        timeout=60,
        check=False,
    )
    assert result.stdout.splitlines() == ["Attention Segmentation ['Segmentation']", "stopped", "False Segment"], (
        result.stderr
    )


def test_opening_the_panel_starts_no_process(panel):
    panel.idle()
    assert workers() == []
    assert panel.widget.logic.engine.client.state == "stopped"


def test_first_volume_is_chosen(scene, addBody, panel):
    volume = addBody()
    slicer.util.selectModule("")
    slicer.util.selectModule("AttentionSegmentation")
    assert panel.ui.inputSelector.currentNode() is volume


def test_button_says_what_is_missing(panel, addBody):
    panel.idle()
    assert not panel.ui.runButton.enabled
    assert "input volume" in panel.ui.runButton.toolTip
    assert not panel.ui.findingsLabel.visible
    panel.parameters.inputVolume = addBody()
    panel.idle()
    assert panel.ui.runButton.enabled
    for checkBox in checkBoxes(panel).values():
        checkBox.click()
    panel.idle()
    assert not panel.ui.runButton.enabled
    assert panel.ui.runButton.toolTip == "Tick at least one organ."


def test_organs_are_those_of_the_model_and_only_ticked_ones_are_segmented(panel, addBody):
    boxes = checkBoxes(panel)
    assert list(boxes) == ["Pancreas", "Spleen", "Right kidney", "Left kidney"]
    assert all(box.checked for box in boxes.values())
    boxes["Spleen"].click()
    assert list(panel.parameters.omittedOrgans) == ["spleen"]
    panel.parameters.inputVolume = addBody()
    panel.run()
    rows = [panel.ui.resultsTable.item(row, 0).text() for row in range(panel.ui.resultsTable.rowCount)]
    assert rows == ["pancreas", "right kidney", "left kidney"]


def test_warning_lets_go_on(panel, addCT):
    """A volume of gray values from 0 to 255 is no CT, but the user may know better."""
    array = np.random.default_rng(0).integers(0, 255, (40, 64, 64)).astype(np.int16)
    panel.parameters.inputVolume = addCT(array, np.diag([-3.0, -3.0, 5.0, 1.0]), "gray")
    panel.idle()
    assert "gray" in panel.ui.findingsLabel.text
    assert panel.ui.runButton.enabled


def test_non_linear_transform_blocks_with_its_sentence(scene, panel, addBody):
    volume = addBody()
    transform = scene.AddNewNodeByClass("vtkMRMLTransformNode", "warp")
    transform.SetAndObserveTransformToParent(vtk.vtkThinPlateSplineTransform())
    volume.SetAndObserveTransformNodeID(transform.GetID())
    panel.parameters.inputVolume = volume
    panel.idle()
    assert not panel.ui.runButton.enabled
    assert "warp" in panel.ui.runButton.toolTip
    assert "warp" in panel.ui.findingsLabel.text


def test_suggested_tile_size_is_one_click_away(panel, addBody):
    panel.parameters.inputVolume = addBody()
    panel.parameters.tileSize = 256
    gigabyte = 10**9
    device = {"device": "cpu", "name": "CPU", "total_bytes": gigabyte, "free_bytes": gigabyte // 4, "largest_tile": 96}
    panel.widget.panel._onDevices({"devices": [device]})
    assert panel.ui.deviceComboBox.itemText(1) == "CPU (0.2 of 1.0 GB free)"
    assert 'href="tileSize:96"' in panel.ui.findingsLabel.text
    unwrap(panel.ui.findingsLabel).linkActivated.emit("tileSize:96")
    panel.idle()
    assert panel.parameters.tileSize == 96
    assert panel.ui.tileSizeComboBox.currentText == "96 × 96 × 96"
    assert not panel.ui.findingsLabel.visible


def test_devices_are_asked_for_when_advanced_is_opened(panel, addBody):
    assert [panel.ui.deviceComboBox.itemText(n) for n in range(panel.ui.deviceComboBox.count)] == ["Automatic", "CPU"]
    panel.ui.advancedCollapsibleButton.collapsed = False
    panel.process(lambda: "free" in panel.ui.deviceComboBox.itemText(panel.ui.deviceComboBox.count - 1))
    assert panel.ui.deviceComboBox.currentIndex == panel.ui.deviceComboBox.count - 1  # the chosen CPU


def test_click_while_the_devices_are_asked_for_is_not_lost(panel, addBody):
    panel.parameters.inputVolume = addBody()
    panel.idle()
    panel.ui.advancedCollapsibleButton.collapsed = False
    assert panel.run().GetName() == "body segmentation"


def test_frames_appear_only_for_a_sequence(scene, panel, addBody):
    volume = addBody()
    panel.parameters.inputVolume = volume
    panel.idle()
    assert not panel.ui.framesComboBox.visible
    sequence = scene.AddNewNodeByClass("vtkMRMLSequenceNode", "4D CT")
    for value in ("0", "50"):
        sequence.SetDataNodeAtValue(volume, value)
    browser = scene.AddNewNodeByClass("vtkMRMLSequenceBrowserNode")
    browser.SetAndObserveMasterSequenceNodeID(sequence.GetID())
    panel.parameters.inputVolume = browser.GetProxyNode(sequence) or volume
    browser.AddProxyNode(volume, sequence, False)
    panel.parameters.inputVolume = None
    panel.parameters.inputVolume = volume
    panel.idle()
    assert panel.ui.framesComboBox.visible
    choose(panel.ui.framesComboBox, 1)
    assert panel.parameters.frames == "all"
    panel.run()
    assert panel.ui.resultsTable.rowCount == 8
    assert panel.ui.resultsTable.horizontalHeaderItem(0).text() == "Frame"


def test_attention_choices_reach_the_run(scene, panel, addBody):
    panel.parameters.inputVolume = addBody()
    assert not panel.ui.overlayButton.enabled
    assert "Compute attention maps" in panel.ui.overlayButton.toolTip
    panel.ui.attentionCheckBox.click()
    panel.ui.subGatesCheckBox.click()
    panel.run()
    assert panel.ui.overlayMapComboBox.count == 6
    assert panel.ui.overlayMapComboBox.itemText(0) == "Scale 2, sub-gate 1"


def test_overlay_follows_button_and_sliders(scene, panel, addResult, sliceView):
    addResult("level2", "level3.gate2")
    volume = panel.parameters.inputVolume
    sliceView.SetBackgroundVolumeID(volume.GetID())
    panel.ui.overlayButton.click()
    node = scene.GetNodeByID(sliceView.GetForegroundVolumeID())
    assert node.GetName() == "body attention level2"
    panel.ui.opacitySlider.value = 0.8
    assert sliceView.GetForegroundOpacity() == pytest.approx(0.8)
    panel.ui.thresholdSlider.value = 0.35
    assert node.GetDisplayNode().GetLowerThreshold() == pytest.approx(0.35)
    choose(panel.ui.overlayMapComboBox, 1)
    other = scene.GetNodeByID(sliceView.GetForegroundVolumeID())
    assert other.GetName() == "body attention level3.gate2"
    assert panel.ui.thresholdSlider.value == pytest.approx(other.GetDisplayNode().GetLowerThreshold(), abs=0.01)
    assert node.GetDisplayNode().GetLowerThreshold() == pytest.approx(0.35)
    panel.ui.overlayButton.click()
    assert sliceView.GetForegroundVolumeID() is None
    assert sliceView.GetBackgroundVolumeID() == volume.GetID()


def test_jump_moves_the_slices_to_the_maximum(scene, panel, addResult):
    sliceNode = slicer.vtkMRMLSliceNode()
    sliceNode.SetLayoutName("Red")
    sliceNode = scene.AddNode(sliceNode)
    node = addResult("level2").attentionNodes["level2"]
    k, j, i = np.unravel_index(slicer.util.arrayFromVolume(node).argmax(), (12, 17, 23))
    matrix = vtk.vtkMatrix4x4()
    node.GetIJKToRASMatrix(matrix)
    panel.ui.jumpButton.click()
    assert sliceNode.GetSliceToRAS().GetElement(2, 3) == pytest.approx(matrix.MultiplyPoint((i, j, k, 1.0))[2])


def test_segment_editor_opens_with_segmentation_and_volume(scene, panel, addResult, monkeypatch):
    opened = []
    monkeypatch.setattr(slicer.util, "selectModule", opened.append)
    segmentation = addResult().segmentationNode
    panel.ui.segmentEditorButton.click()
    assert opened == ["SegmentEditor"]
    editorNode = scene.GetSingletonNode("SegmentEditor", "vtkMRMLSegmentEditorNode")
    assert editorNode.GetSegmentationNode() is segmentation
    assert editorNode.GetSourceVolumeNode() is panel.parameters.inputVolume
    monkeypatch.undo()


def test_log_can_be_copied_and_cleared(panel, addBody, slicerApplication):
    panel.parameters.inputVolume = addBody()
    panel.run()
    assert "worker" in panel.ui.logTextEdit.plainText
    panel.ui.copyLogButton.click()
    assert slicerApplication.clipboard().text() == panel.ui.logTextEdit.plainText
    panel.ui.clearLogButton.click()
    assert panel.ui.logTextEdit.plainText == ""


def test_saved_scene_brings_the_panel_back(scene, panel, addResult, tmp_path):
    addResult("level2", "level3", "level4")
    panel.ui.attentionCheckBox.click()
    panel.ui.mirrorCheckBox.click()
    checkBoxes(panel)["Left kidney"].click()
    panel.parameters.tileSize = 128
    messages = panel.ui.resultMessagesLabel.text
    for index in range(scene.GetNumberOfNodesByClass("vtkMRMLStorableNode")):
        node = scene.GetNthNodeByClass(index, "vtkMRMLStorableNode")
        if node.GetSaveWithScene() and node.GetName():
            node.AddDefaultStorageNode()
            if node.GetStorageNode() is not None:
                storage = node.GetStorageNode()
                name = node.GetName().replace(" ", "_")
                storage.SetFileName(str(tmp_path / f"{name}.{storage.GetDefaultWriteFileExtension()}"))
                storage.WriteData(node)
    scene.SetRootDirectory(str(tmp_path))
    scene.SetURL(str(tmp_path / "scene.mrml"))
    assert scene.Commit()

    scene.Clear(False)
    panel.idle()
    assert panel.ui.resultsTable.rowCount == 0
    assert not panel.ui.mirrorCheckBox.checked
    assert all(box.checked for box in checkBoxes(panel).values())

    scene.SetURL(str(tmp_path / "scene.mrml"))
    assert scene.Connect()
    panel.idle()
    assert panel.ui.inputSelector.currentNode().GetName() == "body"
    assert panel.ui.attentionCheckBox.checked
    assert panel.ui.mirrorCheckBox.checked
    assert not checkBoxes(panel)["Left kidney"].checked
    assert panel.ui.tileSizeComboBox.currentText == "128 × 128 × 128"
    assert panel.ui.modelComboBox.currentText == "tiny"
    assert panel.ui.resultsTable.rowCount == 4
    assert panel.ui.resultMessagesLabel.text == messages == "body: something to know."
    assert panel.ui.overlayMapComboBox.count == 3
    assert panel.ui.runButton.enabled


def test_model_of_a_scene_that_is_not_here_is_named(panel, addBody):
    panel.parameters.inputVolume = addBody()
    panel.parameters.modelId = "user:/elsewhere/mine.safetensors"
    panel.idle()
    assert not panel.ui.runButton.enabled
    assert "/elsewhere/mine.safetensors" in panel.ui.runButton.toolTip


def test_model_details_and_added_model_in_the_next_session(panel, tinyBundle):
    assert "Apache-2.0" in panel.ui.modelDetailsLabel.text
    slicer.util.reloadScriptedModule("AttentionSegmentation")
    panel.idle()
    titles = [panel.ui.modelComboBox.itemText(n) for n in range(panel.ui.modelComboBox.count)]
    assert titles[-1] == "tiny"
    assert panel.ui.modelComboBox.currentText == "tiny"
    assert panel.ui.removeModelButton.visible
    panel.ui.removeModelButton.click()
    assert panel.ui.modelComboBox.currentIndex == 0
    assert "DSC" in panel.ui.modelDetailsLabel.text
    assert tinyBundle.is_file()


def test_file_that_is_no_model_is_refused_with_a_sentence(panel, tmp_path, interactive, dialogs):
    path = tmp_path / "notes.safetensors"
    path.write_text("not a model")
    dialogs.expect("file", answer=str(path))
    panel.ui.addModelButton.click()
    assert "notes.safetensors" in panel.ui.errorLabel.text
    assert panel.ui.modelComboBox.currentText == "tiny"


def test_reloading_leaves_nothing_of_the_old_panel(scene, panel, addBody):
    panel.parameters.inputVolume = addBody()
    panel.idle()
    old = weakref.ref(panel.widget.panel)
    oldWidget = weakref.ref(panel.widget)
    oldSelector = panel.ui.inputSelector
    slicer.util.reloadScriptedModule("AttentionSegmentation")
    assert oldSelector.mrmlScene() is None
    del oldSelector
    panel.idle()
    gc.collect()
    # Observers, connections and listeners hold on to what they call.
    assert old() is None
    assert oldWidget() is None
    assert panel.ui.inputSelector.currentNode().GetName() == "body"


def test_leaving_the_module_stops_following_the_choices(panel, addBody):
    volume = addBody()
    slicer.util.selectModule("")
    panel.parameters.inputVolume = volume
    assert panel.ui.inputSelector.currentNode() is None
    slicer.util.selectModule("AttentionSegmentation")
    assert panel.ui.inputSelector.currentNode() is volume
