"""AttentionSegmentation.ui against the code that works with it."""

from __future__ import annotations

import ast
import re
import xml.etree.ElementTree as ElementTree
from pathlib import Path

import pytest

MODULE = Path(__file__).resolve().parents[2] / "AttentionSegmentation"
UI_FILE = MODULE / "Resources" / "UI" / "AttentionSegmentation.ui"
LIBRARY = MODULE / "AttentionSegmentationLib"
SOURCES = sorted(LIBRARY.rglob("*Widget.py"))

# Widgets that show a text which the user reads as a sentence or a label.
TEXTS = {"QLabel", "QPushButton", "QCheckBox", "ctkCollapsibleButton", "qMRMLSegmentationShow3DButton"}
NAMES = {"Segment Editor", "Data", "DICOM", "CT", "QuantitativeReporting", "3D", "Export"}


@pytest.fixture(scope="module")
def root() -> ElementTree.Element:
    return ElementTree.parse(UI_FILE).getroot()


@pytest.fixture(scope="module")
def widgets(root) -> dict[str, ElementTree.Element]:
    return {element.get("name"): element for element in root.iter("widget")}


def propertyText(element: ElementTree.Element, name: str) -> str | None:
    for entry in element.findall("property"):
        if entry.get("name") == name:
            return entry[0].text or ""
    return None


def parameterNames() -> set[str]:
    """Names of the parameters, read from the class itself: it needs no Qt for that."""
    tree = ast.parse((LIBRARY / "Segmentation" / "ParameterNode.py").read_text(encoding="utf-8"))
    (definition,) = [node for node in tree.body if isinstance(node, ast.ClassDef)]
    return {node.target.id for node in definition.body if isinstance(node, ast.AnnAssign)}


def usedNames() -> set[str]:
    names: set[str] = set()
    for path in SOURCES:
        names.update(re.findall(r"(?:\b|_)ui\.(\w+)", path.read_text(encoding="utf-8")))
    return names


def test_names_are_unique(root):
    names = [element.get("name") for tag in ("widget", "layout", "spacer") for element in root.iter(tag)]
    assert len(names) == len(set(names))


def test_every_widget_that_the_code_uses_exists(widgets):
    assert len(usedNames()) > 30
    assert usedNames() - set(widgets) == set()


def test_every_widget_for_the_user_is_used(root, widgets):
    """What the user can click is connected in code or bound to a parameter."""
    bound = {name for name, element in widgets.items() if propertyText(element, "SlicerParameterName")}
    buttons = {name for name in widgets if re.search(r"(Button|ComboBox|Selector|CheckBox|Slider)$", name)}
    sections = {name for name, element in widgets.items() if element.get("class") == "ctkCollapsibleButton"}
    assert buttons - sections - bound - usedNames() == set()


def test_every_bound_parameter_exists(widgets):
    bound = {name: propertyText(element, "SlicerParameterName") for name, element in widgets.items()}
    bound = {name: parameter for name, parameter in bound.items() if parameter is not None}
    assert len(bound) >= 10
    assert set(bound.values()) - parameterNames() == set()
    assert len(set(bound.values())) == len(bound)


def test_every_node_selector_gets_the_scene(root, widgets):
    receivers = {
        connection.findtext("receiver")
        for connection in root.iter("connection")
        if connection.findtext("signal") == "mrmlSceneChanged(vtkMRMLScene*)"
        and connection.findtext("slot") == "setMRMLScene(vtkMRMLScene*)"
        and connection.findtext("sender") == root.findtext("class")
    }
    selectors = {name for name, element in widgets.items() if element.get("class") == "qMRMLNodeComboBox"}
    assert receivers == selectors


def test_custom_widgets_are_declared(root, widgets):
    declared = {element.findtext("class") for element in root.iter("customwidget")}
    used = {element.get("class") for element in widgets.values()}
    assert {name for name in used if not name.startswith("Q")} <= declared


def test_labels_belong_to_their_widgets(widgets):
    buddies = {propertyText(element, "buddy") for element in widgets.values()} - {None}
    assert buddies <= set(widgets)
    colons = [name for name, element in widgets.items() if (propertyText(element, "text") or "").endswith(":")]
    assert [name for name in colons if propertyText(widgets[name], "buddy") is None] == ["organsLabel"]


def test_tab_order_visits_every_widget_that_takes_input(root, widgets):
    order = [element.text for element in root.iter("tabstop")]
    assert len(order) == len(set(order))
    expected = {name for name in widgets if re.search(r"(Button|ComboBox|Selector|CheckBox|Slider|Edit|Table)$", name)}
    assert expected - {name for name in expected if name.endswith("CollapsibleButton")} == set(order)


def test_texts_are_in_sentence_case(widgets):
    for name, element in widgets.items():
        text = propertyText(element, "text")
        if not text or element.get("class") not in TEXTS or "<a" in text:
            continue
        for known in NAMES:
            text = text.replace(known, known.lower())
        first, *others = text.split()
        assert first[0].isupper() or not first[0].isalpha() or text.lower().startswith(tuple(map(str.lower, NAMES))), (
            name
        )
        assert [word for word in others if word[0].isupper()] == [], name


def test_every_button_has_a_tooltip(widgets):
    without = [
        name
        for name, element in widgets.items()
        if re.search(r"(Button|ComboBox|Selector|CheckBox|Slider)$", name)
        and element.get("class") != "ctkCollapsibleButton"
        and not propertyText(element, "toolTip")
    ]
    assert without == []
