"""The stand-ins of ctk and qMRML widgets behave as Slicer's sources say."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import slicer


@pytest.fixture
def scene(slicerApplication: Any) -> Iterator[Any]:
    """An empty scene."""
    slicer.mrmlScene.Clear(False)
    yield slicer.mrmlScene
    slicer.mrmlScene.Clear(False)


@pytest.fixture
def selector(scene: Any) -> Iterator[Any]:
    """A selector of volumes, without a None item and without actions."""
    selector = slicer.qMRMLNodeComboBox()
    selector.nodeTypes = ["vtkMRMLScalarVolumeNode"]
    selector.addEnabled = selector.removeEnabled = False
    selector.setMRMLScene(scene)
    yield selector
    selector.setMRMLScene(None)


def addVolume(name: str, nodeClassName: str | None = None) -> Any:
    return slicer.util.addVolumeFromArray(np.zeros((2, 2, 2), np.int16), name=name, nodeClassName=nodeClassName)


def test_first_node_is_chosen_where_none_is_not_offered(selector: Any) -> None:
    chosen: list[Any] = []
    selector.connect("currentNodeChanged(vtkMRMLNode*)", chosen.append)
    first = addVolume("first")
    addVolume("second")

    assert selector.currentNode() is first
    assert chosen == [first]
    assert selector.nodeCount() == 2


def test_nothing_is_chosen_where_none_is_offered(selector: Any) -> None:
    selector.noneEnabled = True
    addVolume("first")

    assert selector.currentNode() is None
    assert selector.currentNodeID == ""


def test_overloads_of_a_signal_are_told_apart(selector: Any) -> None:
    selector.noneEnabled = True
    calls: list[Any] = []
    volume = addVolume("CT")
    selector.connect("currentNodeChanged(bool)", calls.append)
    selector.currentNodeChanged.connect(calls.append)
    selector.setCurrentNode(volume)
    selector.setCurrentNodeID("")

    assert calls == [True, volume, False, None]


def test_child_classes_are_hidden_when_told_so(selector: Any) -> None:
    addVolume("labels", "vtkMRMLLabelMapVolumeNode")
    assert selector.nodeCount() == 1

    selector.showChildNodeTypes = False

    assert selector.nodeCount() == 0
    assert selector.currentNode() is None


def test_hidden_nodes_are_not_listed(selector: Any) -> None:
    volume = addVolume("hidden")
    volume.SetHideFromEditors(True)

    assert selector.nodeCount() == 0


def test_attribute_filters(selector: Any) -> None:
    addVolume("plain")
    marked = addVolume("marked")
    marked.SetAttribute("Kind", "attention")
    selector.addAttribute("vtkMRMLScalarVolumeNode", "Kind", "attention")

    assert selector.nodeCount() == 1
    assert selector.nodeFromIndex(0) is marked


def test_scene_set_late_finds_the_node_asked_for(scene: Any) -> None:
    addVolume("first")
    second = addVolume("second")
    selector = slicer.qMRMLNodeComboBox()
    selector.nodeTypes = ["vtkMRMLScalarVolumeNode"]
    selector.setCurrentNode(second)
    assert not selector.enabled

    selector.setMRMLScene(scene)

    assert selector.currentNode() is second
    assert selector.enabled
    selector.setMRMLScene(None)


def test_new_node_gets_base_name_and_attributes(selector: Any) -> None:
    selector.baseName = "Result"
    selector.addAttribute("vtkMRMLScalarVolumeNode", "Kind", "attention")
    node = selector.addNode()

    assert selector.currentNode() is node
    assert (node.GetName(), node.GetAttribute("Kind")) == ("Result", "attention")


def test_destroyed_selector_leaves_no_observer(slicerApplication: Any) -> None:
    # Not the application's scene, which others observe.
    scene = slicer.vtkMRMLScene()
    before = observers(scene)
    selector = slicer.qMRMLNodeComboBox()
    selector.nodeTypes = ["vtkMRMLScalarVolumeNode"]
    selector.setMRMLScene(scene)
    assert observers(scene) > before

    selector.delete()

    assert observers(scene) == before


def observers(scene: Any) -> int:
    events = ("NodeAddedEvent", "NodeAboutToBeRemovedEvent", "NodeRemovedEvent", "EndCloseEvent", "EndImportEvent")
    return sum(bool(scene.HasObserver(getattr(scene, event))) for event in events)


def test_collapsed_section_hides_its_children_and_brings_them_back(slicerApplication: Any) -> None:
    import ctk
    import qt

    section = ctk.ctkCollapsibleButton()
    layout = qt.QVBoxLayout(section)
    shown, hidden = qt.QLabel("shown"), qt.QLabel("hidden")
    layout.addWidget(shown)
    layout.addWidget(hidden)
    hidden.visible = False
    section.show()

    section.collapsed = True
    late = not shown.visible
    hidden.setVisible(True)
    assert late and not hidden.visible

    section.collapsed = False
    assert shown.visible and hidden.visible


def test_folder_button_tells_each_choice_and_each_change(slicerApplication: Any, tmp_path: Path) -> None:
    import ctk

    button, calls = ctk.ctkDirectoryButton(), []
    button.connect("directorySelected(QString)", lambda folder: calls.append("selected"))
    button.connect("directoryChanged(QString)", lambda folder: calls.append("changed"))
    button.directory = str(tmp_path)
    button.directory = str(tmp_path)

    assert button.directory == str(tmp_path)
    assert calls == ["selected", "changed", "selected"]


def test_show_3d_button_makes_and_removes_surfaces(scene: Any) -> None:
    button = slicer.qMRMLSegmentationShow3DButton()
    assert not button.enabled
    node = slicer.mrmlScene.AddNewNodeByClass("vtkMRMLSegmentationNode")
    button.setSegmentationNode(node)

    assert button.enabled
    assert button.segmentationNode() is node
    with pytest.raises(TypeError):
        button.setSegmentationNode(addVolume("CT"))


def test_table_view_shows_the_table(scene: Any) -> None:
    import qt

    node = slicer.mrmlScene.AddNewNodeByClass("vtkMRMLTableNode")
    view = slicer.qMRMLTableView()
    view.setMRMLTableNode(node)
    slicer.util.updateTableFromArray(node, np.array([[1.5, 2.0]]), ["ml", "HU"])

    model = view.model()
    assert (model.rowCount(), model.columnCount()) == (1, 2)
    assert model.headerData(0, qt.Qt.Horizontal) == "ml"
    view.setMRMLTableNode(None)


def test_widget_hands_its_scene_on_once(scene: Any) -> None:
    widget, scenes = slicer.qMRMLWidget(), []
    widget.connect("mrmlSceneChanged(vtkMRMLScene*)", scenes.append)
    widget.setMRMLScene(scene)
    widget.setMRMLScene(scene)

    assert scenes == [scene]
