"""Dialogs are recorded, answered by the test, and never wait."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import slicer

from Testing.slicer_standin.dialogs import Dialogs, UnexpectedDialog

pytestmark = pytest.mark.usefixtures("slicerApplication")


def test_message_is_recorded_with_what_it_was_given(dialogs: Dialogs) -> None:
    dialogs.expect("error", contains="model")
    slicer.util.errorDisplay("The model is missing.", windowTitle="Segmentation", detailedText="traceback")

    assert dialogs.texts("error") == ["The model is missing."]
    assert dialogs.shown[0].details == {"windowTitle": "Segmentation", "detailedText": "traceback"}


def test_keyword_that_the_message_box_lacks_is_refused(dialogs: Dialogs) -> None:
    with pytest.raises(AssertionError, match="ctkMessageBox has no property details"):
        slicer.util.errorDisplay("The model is missing.", details="traceback")


@pytest.mark.parametrize("answer", [True, False])
def test_question_gets_the_answer(dialogs: Dialogs, answer: bool) -> None:
    dialogs.expect("confirm", answer=answer)

    assert slicer.util.confirmOkCancelDisplay("Go on?") is answer


def test_question_in_testing_mode_is_answered_by_slicer(slicerApplication: Any, dialogs: Dialogs) -> None:
    slicerApplication._qt.isTesting = True

    assert slicerApplication.testingEnabled()
    assert slicer.util.confirmYesNoDisplay("Go on?") is True
    assert dialogs.shown == []


def test_dialog_that_nobody_announced_is_an_error(dialogs: Dialogs) -> None:
    with pytest.raises(UnexpectedDialog, match="Go on"):
        slicer.util.confirmYesNoDisplay("Go on?")

    assert list(dialogs.problems()) == ["unexpected confirm dialog: Go on?"]
    dialogs.unexpected.clear()


def test_announced_dialog_that_did_not_come_is_a_problem() -> None:
    dialogs = Dialogs()
    dialogs.expect("error", contains="memory")

    assert list(dialogs.problems()) == ["no error dialog with 'memory' was shown"]


def test_button_of_a_message_box_is_clicked(dialogs: Dialogs) -> None:
    import qt

    box = qt.QMessageBox()
    box.text = "Restart now?"
    restart = box.addButton("Restart", qt.QMessageBox.AcceptRole)
    box.addButton(qt.QMessageBox.Cancel)
    dialogs.expect("message", contains="Restart", answer="Restart")
    box.exec_()

    assert box.clickedButton() is restart


def test_standard_button_of_a_message_box_is_clicked(dialogs: Dialogs) -> None:
    import ctk
    import qt

    box = ctk.ctkMessageBox()
    box.setStandardButtons(qt.QMessageBox.Yes | qt.QMessageBox.No)
    dialogs.expect("message", answer=qt.QMessageBox.No)

    assert box.exec() == qt.QMessageBox.No


def test_files_and_folders_are_chosen_by_the_test(dialogs: Dialogs, tmp_path: Path) -> None:
    import qt

    dialogs.expect("file", contains="model", answer=tmp_path / "a.safetensors")
    dialogs.expect("folder", answer=None)

    assert qt.QFileDialog.getOpenFileName(None, "Add a model", "", "Models (*.safetensors)") == str(
        tmp_path / "a.safetensors"
    )
    assert qt.QFileDialog.getExistingDirectory(None, "Folder") == ""


def test_menu_triggers_the_chosen_action(dialogs: Dialogs) -> None:
    import qt

    menu, calls = qt.QMenu(), []
    menu.addAction("Copy").triggered.connect(lambda: calls.append("copy"))
    menu.addAction("Clear")
    dialogs.expect("menu", contains="Clear", answer="Copy")
    menu.exec_()

    assert calls == ["copy"]


def test_pip_is_recorded_and_never_run(dialogs: Dialogs) -> None:
    dialogs.expect("pip", contains="install tqdm")
    slicer.util.pip_install(["tqdm", "psutil"])

    assert dialogs.texts("pip") == ["install tqdm psutil"]


def test_url_is_recorded(dialogs: Dialogs) -> None:
    import qt

    dialogs.expect("url", contains="slicer.org")

    assert qt.QDesktopServices.openUrl(qt.QUrl("https://slicer.org"))


def test_there_is_a_main_window_where_a_test_asks_for_it(request: pytest.FixtureRequest) -> None:
    assert slicer.util.mainWindow() is None

    window = request.getfixturevalue("mainWindow")

    assert slicer.util.mainWindow() is window
    assert window.objectName == "qSlicerMainWindow"


def test_closing_slicer_tells_those_who_listen(slicerApplication: Any, closeSlicer: Callable[[], None]) -> None:
    calls: list[str] = []
    slicerApplication.connect("aboutToQuit()", lambda: calls.append("quit"))
    closeSlicer()

    assert calls == ["quit"]


def test_connections_to_the_application_end_with_the_test(slicerApplication: Any) -> None:
    assert slicerApplication._qt.__dict__.get("_standInConnections", []) == []
