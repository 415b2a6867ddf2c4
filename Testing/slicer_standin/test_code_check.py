"""The extension uses only names that Slicer has; and the check finds those that it does not."""

from __future__ import annotations

from pathlib import Path

import pytest

from Testing.slicer_standin.code_check import problems, readUiFile

REPOSITORY = Path(__file__).resolve().parents[2]
EXAMPLE_UI = Path(__file__).with_name("example") / "Resources" / "UI" / "Example.ui"
MODULES = [path.parent for path in REPOSITORY.glob("*/*.py") if path.stem == path.parent.name]


@pytest.mark.parametrize("folder", MODULES, ids=lambda folder: folder.name)
def test_module_uses_only_what_slicer_has(folder: Path) -> None:
    uiFiles = sorted(folder.rglob("*.ui"))

    assert uiFiles
    assert list(problems(sorted(folder.rglob("*.py")), uiFiles)) == []


def test_there_is_a_module() -> None:
    assert "AttentionSegmentation" in [folder.name for folder in MODULES]


def test_example_uses_only_what_slicer_has() -> None:
    assert list(problems([EXAMPLE_UI.parents[2] / "Example.py"], [EXAMPLE_UI])) == []


@pytest.mark.parametrize(
    ("code", "found"),
    [
        ("qt.QPushBotton()", "qt has no QPushBotton"),
        ("qt.QPushButton().txt", "qt.QPushButton has no txt"),
        ("qt.QMessageBox.Maybe", "qt.QMessageBox has no Maybe"),
        ("ctk.ctkWidget", "ctk has no ctkWidget"),
        ("slicer.util.errorBox('x')", "slicer.util has no errorBox"),
        ("from slicer.parameterNodeWrapper import Between", "slicer.parameterNodeWrapper has no Between"),
        ("slicer.app.sceneClosed", "slicer.app has no sceneClosed"),
        ("slicer.app.userSettings().get('x')", "qt.QSettings has no get"),
        ("self.ui.aplyButton", "no .ui file has a widget aplyButton"),
        ("self.ui.applyButton.setTooltip('x')", "qt.QPushButton has no setTooltip"),
        ("self.ui.thresholdSlider.setMinimum(1)", "ctk.ctkSliderWidget has no setMinimum"),
        ("ui.applyButton.text()", "qt.QPushButton.text is a property and cannot be called"),
        ("ui.deviceBox.count = 3", "qt.QComboBox.count cannot be set"),
        ("ui.deviceBox.clear = 3", "qt.QComboBox.clear is no property and cannot be set"),
        ("button = self.ui.applyButton\n    button.texts", "qt.QPushButton has no texts"),
        ("self.timer = qt.QTimer()\n    self.timer.begin()", "qt.QTimer has no begin"),
        ("self.ui.applyButton.connect('clicked(int)', self.f)", "qt.QPushButton has no signal clicked(int)"),
        ("self.connect(self.ui.deviceBox, 'chosen()', self.f)", "qt.QComboBox has no signal chosen()"),
        ("unknown.connect('neverHeardOf(bool)', self.f)", "no class has a signal neverHeardOf(bool)"),
    ],
)
def test_wrong_name_is_found(tmp_path: Path, code: str, found: str) -> None:
    path = tmp_path / "sample.py"
    path.write_text(f"class Panel:\n  def f(self, ui):\n    {code}\n", encoding="utf-8")

    assert [
        text.partition(": ")[2].removesuffix(", or nobody looked at it") for text in problems([path], [EXAMPLE_UI])
    ] == [found]


def test_name_that_the_code_asks_for_may_be_missing(tmp_path: Path) -> None:
    path = tmp_path / "sample.py"
    path.write_text("if hasattr(slicer.app, 'newInSlicer6'):\n    slicer.app.newInSlicer6()\n", encoding="utf-8")

    assert list(problems([path], [])) == []


@pytest.mark.parametrize(
    ("before", "after", "found"),
    [
        ('"QPushButton" name="applyButton"', '"QBigButton" name="applyButton"', "is a qt.QBigButton"),
        ('"noneEnabled"', '"noneAllowed"', "has no property noneAllowed"),
        ("mrmlSceneChanged(vtk", "sceneChanged(vtk", "has no signal sceneChanged(vtkMRMLScene*)"),
        ("<slot>setMRMLScene", "<slot>setScene", "has no slot setScene(vtkMRMLScene*)"),
        ("<receiver>inputSelector", "<receiver>noSelector", "noSelector has no slot"),
    ],
)
def test_wrong_name_in_a_ui_file_is_found(tmp_path: Path, before: str, after: str, found: str) -> None:
    path = tmp_path / "sample.ui"
    text = EXAMPLE_UI.read_text(encoding="utf-8")
    assert before in text
    path.write_text(text.replace(before, after, 1), encoding="utf-8")

    read = readUiFile(path)

    assert len(read.problems) == 1
    assert found in read.problems[0]
