"""A whole scripted module on the stand-in."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import slicer

from Testing.slicer_standin.dialogs import Dialogs

EXAMPLE = Path(__file__).with_name("example") / "Example.py"


@pytest.fixture
def panel(slicerApplication: Any, loadModule: Callable[[Path], Any]) -> Any:
    """The example's panel, in an empty scene, shown."""
    slicer.mrmlScene.Clear(False)
    loadModule(EXAMPLE)
    slicer.util.selectModule("Example")
    return slicer.modules.ExampleWidget


def addVolume(name: str = "CT") -> Any:
    return slicer.util.addVolumeFromArray(np.zeros((2, 3, 4), np.int16), name=name)


def test_widgets_of_the_ui_file_are_attributes(panel: Any) -> None:
    assert panel.ui.applyButton.text == "Apply"
    assert panel.ui.thresholdSlider.value == 0.5
    assert panel.ui.inputSelector.nodeTypes == ("vtkMRMLScalarVolumeNode",)


def test_widget_and_parameter_follow_each_other(panel: Any) -> None:
    panel.ui.thresholdSlider.value = 0.25
    panel.parameters.smooth = False
    panel.ui.deviceBox.currentIndex = 1

    assert panel.parameters.threshold == 0.25
    assert panel.ui.smoothBox.checked is False
    assert panel.parameters.parameterNode.GetParameter("device") == "cpu"


def test_range_of_a_parameter_is_that_of_its_slider(panel: Any) -> None:
    assert (panel.ui.thresholdSlider.minimum, panel.ui.thresholdSlider.maximum) == (0.0, 1.0)
    with pytest.raises(ValueError, match="within range"):
        panel.parameters.threshold = 1.5


def test_scene_reaches_the_selectors(panel: Any) -> None:
    volume = addVolume()
    panel.ui.inputSelector.setCurrentNode(volume)

    assert panel.parameters.inputVolume is volume
    assert panel.ui.applyButton.enabled


def test_removed_node_leaves_selector_and_parameter(panel: Any) -> None:
    panel.ui.inputSelector.setCurrentNode(volume := addVolume())

    slicer.mrmlScene.RemoveNode(volume)

    assert panel.ui.inputSelector.currentNode() is None
    assert panel.parameters.inputVolume is None
    assert not panel.ui.applyButton.enabled


def test_closed_scene_resets_the_panel(panel: Any) -> None:
    panel.ui.inputSelector.setCurrentNode(addVolume())
    panel.ui.thresholdSlider.value = 0.75
    panel.parameters.organs = ["spleen"]

    slicer.mrmlScene.Clear(False)

    assert panel.ui.thresholdSlider.value == 0.5
    assert panel.ui.inputSelector.currentNode() is None
    assert list(panel.parameters.organs) == []


def test_saved_scene_brings_the_panel_back(panel: Any, tmp_path: Path) -> None:
    panel.parameters.organs = ["spleen", "pancreas"]
    panel.ui.thresholdSlider.value = 0.75
    segmentation = slicer.mrmlScene.AddNewNodeByClass("vtkMRMLSegmentationNode", "Organs")
    panel.ui.outputSelector.setCurrentNode(segmentation)
    slicer.mrmlScene.SetURL(str(tmp_path / "scene.mrml"))
    assert slicer.mrmlScene.Commit()

    slicer.mrmlScene.Clear(False)
    slicer.mrmlScene.Connect()

    assert panel.ui.thresholdSlider.value == 0.75
    assert list(panel.parameters.organs) == ["spleen", "pancreas"]
    assert panel.ui.outputSelector.currentNode().GetName() == "Organs"


def test_click_asks_the_question_and_gets_the_answer(panel: Any, dialogs: Dialogs) -> None:
    panel.ui.inputSelector.setCurrentNode(addVolume())
    dialogs.expect("confirm", contains="Replace", answer=True)

    panel.ui.applyButton.click()

    assert panel.calls[-1] == "apply"


def test_unexpected_dialog_is_a_problem(panel: Any, dialogs: Dialogs, slotErrors: list[str]) -> None:
    panel.ui.inputSelector.setCurrentNode(addVolume())

    panel.ui.applyButton.click()

    assert "apply" not in panel.calls
    assert list(dialogs.problems()) == ["unexpected confirm dialog: Replace the segmentation?"]
    assert len(slotErrors) == 1
    dialogs.unexpected.clear()
    slotErrors.clear()


def test_reload_makes_a_new_panel_and_cleans_up_the_old_one(panel: Any) -> None:
    slicer.util.reloadScriptedModule("Example")

    assert slicer.modules.ExampleWidget is not panel
    assert panel.calls == ["enter", "cleanup"]
    assert slicer.util.getModuleWidget("Example") is slicer.modules.ExampleWidget
    assert slicer.modules.ExampleWidget.ui.applyButton.text == "Apply"


def test_self_test_runs(panel: Any) -> None:
    slicer.selfTests["Example"]()

    assert type(slicer.util.getModuleLogic("Example")).__name__ == "ExampleLogic"


def test_screenshot_is_as_wide_as_asked(panel: Any, screenshot: Callable[..., Path], tmp_path: Path) -> None:
    from PySide6 import QtGui

    path = screenshot(panel.parent, tmp_path / "panel.png", width=400)

    assert QtGui.QImage(str(path)).width() == 400
