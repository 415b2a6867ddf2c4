"""The module's panel at the edges of its life, and what it takes for a CT."""

from __future__ import annotations

import sys
from unittest import mock

import pytest
import slicer


@pytest.fixture
def module(panel):
    """The module's Python file, loaded."""
    return sys.modules["AttentionSegmentation"]


def test_attention_map_is_not_taken_for_the_ct(scene, module, panel, addResult):
    addResult("level2")
    scene.RemoveNode(panel.parameters.inputVolume)
    assert module.firstVolumeNode() is None
    slicer.util.selectModule("")
    slicer.util.selectModule("AttentionSegmentation")
    assert panel.ui.inputSelector.currentNode() is None


@pytest.mark.parametrize("kind", ["vtkMRMLVectorVolumeNode", "vtkMRMLLabelMapVolumeNode"])
def test_first_volume_is_a_scalar_one(scene, module, panel, addBody, kind):
    scene.AddNewNodeByClass(kind)
    volume = addBody()
    assert module.firstVolumeNode() is volume


def test_attention_map_that_is_chosen_is_refused(panel, addResult):
    panel.parameters.inputVolume = addResult("level2").attentionNodes["level2"]
    panel.idle()
    assert not panel.ui.runButton.enabled
    assert "body attention level2: this is an attention map" in panel.ui.findingsLabel.text
    assert panel.ui.runButton.toolTip in panel.ui.findingsLabel.text.replace("&#x27;", "'")


def test_events_after_cleanup_do_nothing(panel):
    widget = panel.widget
    widget.cleanup()
    widget.exit()
    widget.enter()
    widget.onSceneStartClose(None, None)
    widget.onSceneEndClose(None, None)
    widget.onSceneEndImport(None, None)
    widget.onAboutToQuit()
    assert widget.panel is None


def test_module_can_be_left_when_its_setup_failed(panel, module, monkeypatch):
    import qt
    from AttentionSegmentationLib.Segmentation import SegmentationLogic

    def fail(self, **arguments):
        raise RuntimeError("no logic")

    monkeypatch.setattr(SegmentationLogic.SegmentationLogic, "__init__", fail)
    parent = slicer.qMRMLWidget()
    parent.setLayout(qt.QVBoxLayout())
    widget = module.AttentionSegmentationWidget(parent)
    with pytest.raises(RuntimeError, match="no logic"):
        widget.setup()
    widget.enter()
    widget.onSceneEndClose(None, None)
    widget.exit()
    widget.onAboutToQuit()
    widget.cleanup()
    assert widget.uiWidget is None


def test_panel_in_a_window_of_its_own_follows_the_scene(panel, module, addBody):
    """As scripts make it; its parent is no module widget and cannot tell whether it is open."""
    widget = module.AttentionSegmentationWidget()
    volume = addBody()
    widget.onSceneEndImport(None, None)
    assert widget.ui.inputSelector.currentNode() is volume
    widget.cleanup()


def test_reload_reads_the_library_again(panel):
    name = "AttentionSegmentationLib.Segmentation.SegmentationWidget"
    before = sys.modules[name]
    with mock.patch.dict(sys.modules):
        panel.widget.onReload()
        assert sys.modules[name] is not before
        assert type(panel.widget.panel) is sys.modules[name].SegmentationWidget
        panel.idle()
        assert panel.ui.runButton.text == "Segment"
        slicer.util.selectModule("")
        panel.widget.cleanup()


@pytest.fixture
def dependencies(slicerApplication, monkeypatch):
    """A row with a button in a container, and what came of it."""
    import qt
    from AttentionSegmentationLib.Dependencies import Dependencies, DependencyProblem
    from AttentionSegmentationLib.DependenciesWidget import DependenciesWidget
    from AttentionSegmentationLib.DialogsWidget import Dialogs

    found = [DependencyProblem("torchMissing", "PyTorch is not installed.", "Install PyTorch", ("torch",))]
    monkeypatch.setattr(Dependencies, "problems", lambda self: tuple(found))
    monkeypatch.setattr(Dependencies, "resolve", lambda self, *problems, confirm: found.clear() or True)
    container = qt.QWidget()
    container.setLayout(qt.QVBoxLayout())
    resolved = mock.Mock()
    widget = DependenciesWidget(container, Dependencies(), Dialogs(), resolved, pytest.fail)
    widget.check()
    yield widget, resolved
    widget.cleanup()


def test_button_of_a_problem_outlives_its_own_click(dependencies, processEvents):
    """Qt is still inside of the button when it is clicked."""
    widget, resolved = dependencies
    (button,) = widget.buttons
    button.click()
    assert widget.buttons == (button,)
    assert processEvents(lambda: resolved.called)
    assert widget.buttons == ()


def test_click_just_before_the_panel_goes_installs_nothing(dependencies, processEvents):
    widget, resolved = dependencies
    widget.buttons[0].click()
    widget.cleanup()
    processEvents()
    assert not resolved.called
