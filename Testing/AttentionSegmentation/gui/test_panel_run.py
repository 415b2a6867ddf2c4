"""From the click on Segment to the nodes in the scene, and all that may come between."""

from __future__ import annotations

import errno
import signal

import psutil
import pytest
import slicer

from .conftest import nodeNames, workers


@pytest.fixture
def longRun(panel, addBody):
    """A volume and choices that keep the worker busy for long."""
    panel.parameters.inputVolume = addBody((100, 130, 130), name="large")
    panel.parameters.mirror = True
    panel.parameters.tileSize = 64
    panel.parameters.keepLogs = True


def test_click_gives_nodes_table_and_messages(scene, panel, addBody):
    panel.parameters.inputVolume = addBody()
    panel.parameters.attention = True
    segmentation = panel.run()
    assert segmentation.GetName() == "body segmentation"
    assert panel.ui.resultsTable.rowCount == 4
    assert [panel.ui.resultsTable.item(row, 0).text() for row in range(4)] == [
        "pancreas",
        "spleen",
        "right kidney",
        "left kidney",
    ]
    assert not panel.ui.resultsCollapsibleButton.collapsed
    assert panel.ui.show3DButton.enabled
    assert panel.ui.overlayMapComboBox.count == 3
    assert "body attention level2" in nodeNames(scene)


def test_second_click_uses_the_same_worker(panel, addBody):
    panel.parameters.inputVolume = addBody()
    panel.run()
    (first,) = {process.pid for process in workers()} - {process.ppid() for process in workers()} or {None}
    panel.run()
    assert first in {process.pid for process in workers()}


def test_killed_worker_gives_a_sentence_and_the_next_click_works(scene, panel, addBody, longRun):
    before = nodeNames(scene)
    panel.click()
    panel.process(lambda: panel.ui.progressBar.value > 100)
    for process in workers():
        process.send_signal(signal.SIGKILL)
    panel.finish()
    assert "worker" in panel.ui.errorLabel.text
    assert nodeNames(scene) == before
    panel.parameters.inputVolume = addBody()
    panel.parameters.mirror = False
    assert panel.run().GetName() == "body segmentation"


def test_missing_model_is_named(scene, panel, addBody, tinyBundle, tmp_path):
    path = tmp_path / "own model.safetensors"
    path.write_bytes(tinyBundle.read_bytes())
    panel.widget.panel.addModelFile(path)
    panel.parameters.inputVolume = addBody()
    panel.idle()
    assert panel.ui.runButton.enabled
    path.unlink()
    panel.ui.runButton.click()
    assert panel.ui.runButton.text == "Segment"
    assert "own model.safetensors" in panel.ui.errorLabel.text
    assert workers() == []


def test_model_that_the_worker_cannot_read_is_named(scene, panel, addBody, tinyBundle, tmp_path):
    path = tmp_path / "damaged.safetensors"
    path.write_bytes(tinyBundle.read_bytes())
    panel.widget.panel.addModelFile(path)
    panel.parameters.inputVolume = addBody()
    panel.idle()
    content = bytearray(path.read_bytes())
    content[-100:] = b"\0" * 100
    path.write_bytes(content)
    before = nodeNames(scene)
    panel.click()
    panel.finish()
    assert "damaged.safetensors" in panel.ui.errorLabel.text
    assert nodeNames(scene) == before


def test_missing_torch_is_named_before_the_run_with_its_button(panel, addBody, monkeypatch):
    import qt
    from AttentionSegmentationLib.Dependencies import Dependencies, DependencyProblem

    problem = DependencyProblem("torchMissing", "PyTorch is not installed.", "Install PyTorch", ("torch",))
    monkeypatch.setattr(Dependencies, "problems", lambda self: (problem,))
    panel.parameters.inputVolume = addBody()
    panel.idle()
    panel.ui.runButton.click()
    assert panel.ui.runButton.text == "Segment"
    assert panel.ui.dependenciesContainer.visible
    texts = [child.text for child in panel.ui.dependenciesContainer.findChildren(qt.QPushButton)]
    assert texts == ["Install PyTorch"]
    assert "PyTorch is not installed." in panel.ui.logTextEdit.plainText
    assert workers() == []


def test_torch_that_only_the_worker_misses_is_named(scene, panel, addBody, pythonSlicer, tmp_path):
    folder = tmp_path / "broken"
    folder.mkdir()
    (folder / "torch.py").write_text("raise ImportError('libtorch_cpu.so: not found')", encoding="utf-8")
    launcher = pythonSlicer.read_text(encoding="utf-8")
    shebang = "#!/bin/sh\n"
    pythonSlicer.write_text(launcher.replace(shebang, f'{shebang}export PYTHONPATH="{folder}:$PYTHONPATH"\n'))
    panel.parameters.inputVolume = addBody()
    before = nodeNames(scene)
    panel.click()
    panel.finish()
    assert "torch" in panel.ui.errorLabel.text
    assert panel.ui.dependenciesContainer.visible
    assert nodeNames(scene) == before


def test_full_disk_for_the_temporary_folder_is_a_sentence(scene, panel, addBody, monkeypatch):
    import numpy as np

    def full(*arguments, **keywords):
        raise OSError(errno.ENOSPC, "No space left on device")

    panel.parameters.inputVolume = addBody()
    panel.idle()
    before = nodeNames(scene)
    monkeypatch.setattr(np.lib.format, "write_array", full)
    panel.ui.runButton.click()
    assert panel.ui.runButton.text == "Segment"
    assert "disk" in panel.ui.errorLabel.text
    assert nodeNames(scene) == before


def test_closing_the_scene_cancels(scene, panel, longRun):
    panel.click()
    panel.process(lambda: panel.ui.progressBar.value > 100)
    scene.Clear(False)
    panel.process(lambda: panel.ui.runButton.text == "Segment", seconds=3)
    assert "large" not in nodeNames(scene)
    assert not any("segmentation" in name for name in nodeNames(scene))
    assert not panel.ui.runButton.enabled
    assert not panel.ui.errorLabel.visible


def test_reloading_the_module_ends_run_and_worker(scene, panel, longRun):
    panel.click()
    panel.process(lambda: panel.ui.progressBar.value > 100)
    before = workers()
    assert before
    slicer.util.reloadScriptedModule("AttentionSegmentation")
    psutil.wait_procs(before, timeout=5)
    assert workers() == []
    panel.idle()
    assert panel.ui.runButton.text == "Segment"
    assert panel.ui.runButton.enabled


def test_removed_volume_ends_the_run_with_a_sentence(scene, panel, longRun):
    panel.click()
    panel.process(lambda: panel.ui.progressBar.value > 100)
    scene.RemoveNode(panel.parameters.inputVolume)
    panel.process(lambda: panel.ui.runButton.text == "Segment", seconds=3)
    assert "large" in panel.ui.errorLabel.text


def test_another_module_may_be_open_when_the_run_ends(panel, addBody):
    panel.parameters.inputVolume = addBody()
    panel.click()
    slicer.util.selectModule("")
    panel.process(lambda: panel.parameters.resultSegmentation is not None)
    slicer.util.selectModule("AttentionSegmentation")
    assert panel.ui.resultsTable.rowCount == 4


def test_replacing_asks_once(panel, addBody, interactive, dialogs):
    panel.parameters.inputVolume = addBody()
    segmentation = panel.run()
    panel.parameters.outputSegmentation = segmentation
    dialogs.expect("confirm", "body segmentation", False)
    panel.idle()
    panel.ui.runButton.click()
    assert panel.ui.runButton.text == "Segment"
    dialogs.expect("confirm", "body segmentation", True)
    assert panel.run() is segmentation
    assert len(dialogs.shown) == 2


def test_replaced_results_are_shown(panel, addBody, interactive, dialogs):
    panel.parameters.inputVolume = addBody()
    panel.parameters.attention = True
    segmentation = panel.run()
    assert panel.ui.resultsTable.rowCount == 4
    assert "spleen" in panel.ui.resultMessagesLabel.text
    panel.parameters.outputSegmentation = segmentation
    panel.parameters.omittedOrgans = ["spleen"]
    panel.parameters.subGates = True
    dialogs.expect("confirm", "body segmentation", True)
    panel.run()
    rows = [panel.ui.resultsTable.item(row, 0).text() for row in range(panel.ui.resultsTable.rowCount)]
    assert rows == ["pancreas", "right kidney", "left kidney"]
    assert "spleen" not in panel.ui.resultMessagesLabel.text
    assert panel.ui.overlayMapComboBox.count == 6


def test_nothing_is_replaced_where_nobody_can_be_asked(panel, addBody):
    """And no dialog comes, which `slicerApplication` would report."""
    panel.parameters.inputVolume = addBody()
    segmentation = panel.run()
    panel.parameters.outputSegmentation = segmentation
    panel.idle()
    time = segmentation.GetSegmentation().GetMTime()
    panel.ui.runButton.click()
    assert panel.ui.runButton.text == "Segment"
    assert "body segmentation" in panel.ui.errorLabel.text
    assert segmentation.GetSegmentation().GetMTime() == time


def test_closing_slicer_ends_the_worker(panel, addBody, slicerApplication):
    panel.parameters.inputVolume = addBody()
    panel.run()
    before = workers()
    assert before
    panel.widget.onAboutToQuit()
    psutil.wait_procs(before, timeout=5)
    assert workers() == []
