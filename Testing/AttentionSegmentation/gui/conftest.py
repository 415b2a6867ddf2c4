"""The module in the stand-in for Slicer: real MRML, the real worker, a tiny model."""

from __future__ import annotations

import os
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import psutil
import pytest
import slicer

from Testing.slicer_standin.fixtures import (  # noqa: F401
    dialogs,
    loadModule,
    processEvents,
    screenshot,
    slicerApplication,
    slotErrors,
)

MODULE_FILE = Path(__file__).resolve().parents[3] / "AttentionSegmentation" / "AttentionSegmentation.py"
# Generous: the machine of a test may be busy with others.
SECONDS = 60.0


@pytest.fixture
def pythonSlicer(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A launcher PythonSlicer on the PATH; as in Slicer, the Python that it starts is another process than itself."""
    if os.name == "nt":
        pytest.skip("the launcher of the tests is a shell script")
    folder = tmp_path / "bin with blank ü"
    folder.mkdir()
    launcher = folder / "PythonSlicer"
    launcher.write_text(f'#!/bin/sh\n"{sys.executable}" "$@"\n', encoding="utf-8")
    launcher.chmod(0o755)
    monkeypatch.setenv("PATH", f"{folder}{os.pathsep}{os.environ['PATH']}")
    return launcher


@pytest.fixture
def interactive(slicerApplication: Any, monkeypatch: pytest.MonkeyPatch) -> None:  # noqa: F811
    """A user sits in front of Slicer, though the stand-in has no main window."""
    from AttentionSegmentationLib.DialogsWidget import Dialogs

    monkeypatch.setattr(Dialogs, "interactive", True)


@pytest.fixture
def addBody(addCT: Callable[..., Any]) -> Callable[..., Any]:
    """Adds a CT with a body in it, of a size (K, J, I) and a spacing in mm."""

    def add(size: tuple[int, int, int] = (24, 40, 48), spacing: float = 2.0, name: str = "body") -> Any:
        _k, j, i = np.mgrid[0 : size[0], 0 : size[1], 0 : size[2]]
        inside = ((i / size[2] - 0.5) / 0.42) ** 2 + ((j / size[1] - 0.5) / 0.4) ** 2 < 1
        noise = np.random.default_rng(4).normal(40, 60, size)
        matrix = np.diag([-spacing, -spacing, 8.0 if size[0] < 50 else spacing, 1.0])
        return addCT(np.where(inside, noise, -1000).astype(np.int16), matrix, name)

    return add


class Panel:
    """The module's panel as a user sees it, and what a test asks of it."""

    def __init__(self, processEvents: Callable[..., bool]) -> None:  # noqa: F811
        self._processEvents = processEvents

    @property
    def widget(self) -> Any:
        return slicer.modules.AttentionSegmentationWidget

    @property
    def ui(self) -> Any:
        return self.widget.ui

    @property
    def parameters(self) -> Any:
        return self.widget.logic.getParameterNode()

    def process(self, until: Callable[[], Any], seconds: float = SECONDS) -> None:
        """Lets Qt work until a condition holds, which it has to."""
        assert self._processEvents(until, seconds), f"{self.ui.errorLabel.text}\n{self.ui.logTextEdit.plainText}"

    def idle(self, seconds: float = 0.3) -> None:
        """Lets Qt work for a while."""
        self._processEvents(seconds=seconds)

    def click(self) -> None:
        """Clicks Segment, which starts something."""
        self.idle()
        assert self.ui.runButton.enabled, self.ui.runButton.toolTip
        self.ui.runButton.click()
        assert self.ui.runButton.text == "Cancel", self.ui.errorLabel.text

    def finish(self) -> None:
        """Waits for the end of the run."""
        self.process(lambda: self.ui.runButton.text == "Segment")

    def run(self) -> Any:
        """Clicks Segment and waits; the segmentation that came out."""
        before = self.parameters.resultSegmentation
        self.click()
        self.finish()
        assert not self.ui.errorLabel.visible, self.ui.errorLabel.text
        result = self.parameters.resultSegmentation
        assert result is not None
        assert result is not before or self.parameters.outputSegmentation is result
        return result


@pytest.fixture
def panel(
    scene: Any,
    pythonSlicer: Path,
    tinyBundle: Path,
    loadModule: Callable[..., Any],  # noqa: F811
    processEvents: Callable[..., bool],  # noqa: F811
) -> Iterator[Panel]:
    """The panel, opened, with the tiny model chosen and the CPU; no worker outlives it."""
    loadModule(MODULE_FILE).widgetRepresentation().show()
    slicer.util.selectModule("AttentionSegmentation")
    panel = Panel(processEvents)
    panel.widget.panel.addModelFile(tinyBundle)
    panel.parameters.device = "cpu"
    yield panel
    slicer.util.selectModule("")
    slicer.modules.AttentionSegmentationWidget.cleanup()
    assert workers() == []


@pytest.fixture
def sliceView(scene: Any) -> Iterator[Any]:
    """The composite node of a slice view, as the application would have made it."""
    node = slicer.vtkMRMLSliceCompositeNode()
    node.SetLayoutName("Red")
    node.SetSingletonTag("Red")
    node = scene.AddNode(node)
    yield node
    # Closing a scene leaves singletons in it.
    scene.RemoveNode(node)


@pytest.fixture
def addResult(panel: Panel, addCT: Callable[..., Any], labelArray: np.ndarray, makeResult: Callable[..., Any]) -> Any:
    """Gives the panel a result as a run would have left it, without the run: attention maps of these names.

    output: the segmentation node whose segments are replaced; None makes a new one.
    """

    def add(*mapNames: str, output: Any = None, message: str = "body: something to know.") -> Any:
        from AttentionSegmentationLib.Segmentation.ResultNodes import addResultNodes
        from AttentionSegmentationLib.Segmentation.SegmentationLogic import ProcessingResult
        from AttentionSegmentationLib.VolumeConversion import volumeFromNode

        volumeNode = panel.parameters.inputVolume if output is not None else addCT(name="body")
        panel.parameters.inputVolume = volumeNode
        volume = volumeFromNode(volumeNode)
        random = np.random.default_rng(1)
        maps = {name: volume.with_array(random.random(labelArray.shape, np.float32)) for name in mapNames}
        result = makeResult(volume, labelArray, attention=maps, messages=(message,))
        nodes = addResultNodes(volumeNode, result, output)
        panel.widget.panel._onFinished(ProcessingResult(**vars(nodes), messages=result.messages, segmentResult=result))
        return nodes

    return add


def workers() -> list[psutil.Process]:
    """The worker processes of this test, launchers included."""
    found = []
    for process in psutil.Process().children(recursive=True):
        try:
            if "worker" in process.cmdline() and process.status() != psutil.STATUS_ZOMBIE:
                found.append(process)
        except psutil.Error:
            continue
    return found


def nodeNames(scene: Any) -> list[str]:
    """Names of all nodes of the scene, in order."""
    return [scene.GetNthNode(index).GetName() for index in range(scene.GetNumberOfNodes())]
