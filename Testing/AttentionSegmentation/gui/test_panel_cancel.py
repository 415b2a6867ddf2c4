"""Cancelling from the panel, at every stage and within a second, and what else ends a run before its time."""

from __future__ import annotations

import tempfile
import time
from pathlib import Path

import numpy as np
import pytest
import slicer

from .conftest import nodeNames, workers

# What a user may have to wait.
CANCEL_SECONDS = 1.0
# On top of it, because the machine of a test works for others too: drawing, killing, polling.
MACHINE_SECONDS = 0.5

# What the worker's Python runs before anything else; the worker then stays in a stage, and hears no cancellation.
HELD = {
    "Loading the model": "import AGTraining.worker_tasks as tasks\ntasks.ModelKeeper.load = hold\n",
    "Handing over the result": "import AGTraining.exchange as exchange\nexchange.save_result = hold\n",
}
PRELUDE = "import os, signal, time\ndef hold(*arguments):\n    time.sleep(600)\n"


@pytest.fixture
def startUpCode(pythonSlicer, tmp_path):
    """Lets the worker's Python run this code when it starts."""

    def add(code):
        folder = tmp_path / "start-up"
        folder.mkdir()
        (folder / "sitecustomize.py").write_text(PRELUDE + code, encoding="utf-8")
        launcher = pythonSlicer.read_text(encoding="utf-8")
        shebang = "#!/bin/sh\n"
        pythonSlicer.write_text(launcher.replace(shebang, f'{shebang}export PYTHONPATH="{folder}:$PYTHONPATH"\n'))

    return add


@pytest.fixture
def folders(monkeypatch, tmp_path):
    """What is in the folder for temporary files."""
    parent = tmp_path / "temporary"
    parent.mkdir()
    monkeypatch.setattr(tempfile, "tempdir", str(parent))
    return lambda: list(parent.iterdir())


@pytest.fixture
def longRun(panel, addBody):
    """A volume and choices that keep the worker busy for long."""
    panel.parameters.inputVolume = addBody((100, 130, 130), name="large")
    panel.parameters.mirror = True
    panel.parameters.tileSize = 64


@pytest.fixture
def cancel(scene, panel, folders):
    """Cancels what runs, and looks at what it leaves: nothing, in time."""

    def click(before):
        assert panel.ui.runButton.text == "Cancel"
        start = time.monotonic()
        panel.ui.runButton.click()
        panel.process(lambda: panel.ui.runButton.text == "Segment", seconds=10)
        assert time.monotonic() - start < CANCEL_SECONDS + MACHINE_SECONDS
        assert nodeNames(scene) == before
        assert not panel.ui.errorLabel.visible
        assert not panel.ui.progressContainer.visible
        assert "Cancelled; the scene is as it was." in panel.ui.logTextEdit.plainText
        assert folders() == []

    return click


def reach(panel, stage):
    panel.process(lambda: panel.ui.stageLabel.text.startswith(stage))


@pytest.mark.parametrize("stage", ["at once", "Starting PyTorch", "Segmenting"])
def test_cancel_leaves_the_scene_as_it_was(scene, panel, longRun, cancel, stage):
    before = nodeNames(scene)
    panel.click()
    if stage != "at once":
        reach(panel, stage)
    cancel(before)


@pytest.mark.parametrize("stage", list(HELD))
def test_cancel_where_the_worker_cannot_hear_it(scene, panel, addBody, startUpCode, cancel, stage):
    startUpCode(HELD[stage])
    panel.parameters.inputVolume = addBody()
    before = nodeNames(scene)
    panel.click()
    reach(panel, stage)
    cancel(before)


def test_cancel_while_the_worker_still_describes_its_devices(scene, panel, addBody, startUpCode, cancel):
    startUpCode(HELD["Loading the model"])
    panel.parameters.inputVolume = addBody()
    before = nodeNames(scene)
    panel.ui.advancedCollapsibleButton.collapsed = False
    panel.process(workers)
    panel.click()
    panel.idle(0.5)
    # Nothing of the run itself was told yet.
    assert panel.ui.stageLabel.text.startswith("Starting ·")
    cancel(before)


def test_cancel_in_the_second_image_of_a_sequence(scene, panel, longRun, cancel):
    volume = panel.parameters.inputVolume
    sequence = scene.AddNewNodeByClass("vtkMRMLSequenceNode", "4D CT")
    large = slicer.util.arrayFromVolume(volume).copy()
    for value, array in enumerate((large[::5, ::3, ::3].copy(), large)):
        slicer.util.updateVolumeFromArray(volume, array)
        sequence.SetDataNodeAtValue(volume, str(value))
    browser = scene.AddNewNodeByClass("vtkMRMLSequenceBrowserNode")
    browser.SetAndObserveMasterSequenceNodeID(sequence.GetID())
    browser.AddProxyNode(volume, sequence, False)
    panel.parameters.frames = "all"
    before = nodeNames(scene)
    panel.click()
    reach(panel, "Image 2 of 2: Segmenting")
    cancel(before)


def test_run_after_a_cancelled_one_works(panel, addBody, longRun):
    panel.click()
    reach(panel, "Segmenting")
    panel.ui.runButton.click()
    panel.finish()
    panel.parameters.inputVolume = addBody()
    panel.parameters.mirror = False
    assert panel.run().GetName() == "body segmentation"


def test_error_that_nobody_foresaw_ends_the_run_with_a_sentence(scene, panel, addBody, folders, monkeypatch):
    def fail(*arguments, **keywords):
        raise ZeroDivisionError("odd")

    panel.parameters.inputVolume = addBody()
    panel.idle()
    before = nodeNames(scene)
    with monkeypatch.context() as broken:
        broken.setattr(np.lib.format, "write_array", fail)
        panel.ui.runButton.click()
    assert panel.ui.runButton.text == "Segment"
    assert "body: something unexpected went wrong (ZeroDivisionError: odd)" in panel.ui.errorLabel.text
    assert "Traceback" in panel.ui.logTextEdit.plainText
    assert nodeNames(scene) == before and folders() == []
    assert panel.run().GetName() == "body segmentation"


def test_worker_that_is_killed_after_it_wrote_the_result_is_an_error(scene, panel, addBody, startUpCode, folders):
    startUpCode(
        "import AGTraining.exchange as exchange\nsave = exchange.save_result\n"
        "def saveAndDie(*arguments):\n    save(*arguments)\n    os.kill(os.getpid(), signal.SIGKILL)\n"
        "exchange.save_result = saveAndDie\n"
    )
    panel.parameters.inputVolume = addBody()
    before = nodeNames(scene)
    panel.click()
    panel.finish()
    assert "worker" in panel.ui.errorLabel.text
    assert nodeNames(scene) == before and folders() == []


def test_worker_that_is_killed_before_its_result_is_read_has_done_its_work(panel, addBody, folders, monkeypatch):
    from AttentionSegmentationLib.Segmentation import SegmentationEngine

    load = SegmentationEngine.load_result
    killed = []

    def killAndLoad(document, folder: Path):
        for process in workers():
            process.kill()
            killed.append(process)
        return load(document, folder)

    monkeypatch.setattr(SegmentationEngine, "load_result", killAndLoad)
    panel.parameters.inputVolume = addBody()
    assert panel.run().GetName() == "body segmentation"
    assert killed and folders() == []
    assert panel.run() is not None
