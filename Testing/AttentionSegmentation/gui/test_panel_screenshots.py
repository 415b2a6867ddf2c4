"""Pictures of the panel at the width that Slicer gives it on a small screen, to be looked at."""

from __future__ import annotations

import os
import re
from pathlib import Path

import pytest
import slicer
from AttentionSegmentationLib.Segmentation.SampleScan import samplePhantom
from AttentionSegmentationLib.VolumeConversion import addVolumeNode

WIDTH = 400
SECTIONS = ("results", "attention", "advanced", "log")


@pytest.fixture
def folder(tmp_path) -> Path:
    """Where the pictures go: $PANEL_SCREENSHOTS, or the test's own folder."""
    return Path(os.environ.get("PANEL_SCREENSHOTS") or tmp_path)


def openSections(panel, opened: bool) -> None:
    for name in SECTIONS:
        getattr(panel.ui, f"{name}CollapsibleButton").collapsed = not opened


def take(panel, screenshot, path: Path) -> Path:
    """Draws the panel; nothing in it may be wider than the panel."""
    panel.idle()
    return screenshot(panel.widget.parent, path, WIDTH)


def cutWidgets(panel) -> list[str]:
    """Names of visible labels, buttons and boxes that are narrower than what they have to show."""
    cut = []
    for name, widget in vars(panel.ui).items():
        # These two shorten their texts by themselves.
        shortens = name in ("stageLabel", "modelFolderButton")
        if re.search(r"(Label|Button|CheckBox|ComboBox|Slider)$", name) and not shortens and widget.visible:
            needed = widget.minimumSizeHint.width()
            if widget.width < needed:
                cut.append(f"{name}: {widget.width} of {needed}")
    return cut


@pytest.mark.parametrize("opened", [False, True], ids=["collapsed", "open"])
def test_idle_and_running_and_results(panel, addBody, screenshot, folder, opened):
    suffix = "open" if opened else "collapsed"
    panel.parameters.inputVolume = addBody((60, 120, 120), name="Abdomen CT, portal venous phase, 2 mm")
    panel.parameters.attention = True
    openSections(panel, opened)
    if opened:
        panel.process(lambda: panel.ui.deviceComboBox.count == 2 and "free" in panel.ui.deviceComboBox.itemText(1))
    pictures = [take(panel, screenshot, folder / f"panel_idle_{suffix}.png")]
    assert cutWidgets(panel) == []
    panel.click()
    panel.process(lambda: panel.ui.progressBar.value > 0)
    pictures.append(take(panel, screenshot, folder / f"panel_running_{suffix}.png"))
    assert panel.ui.runButton.text == "Cancel"
    assert cutWidgets(panel) == []
    panel.finish()
    openSections(panel, opened)
    panel.ui.resultsCollapsibleButton.collapsed = False
    pictures.append(take(panel, screenshot, folder / f"panel_results_{suffix}.png"))
    assert cutWidgets(panel) == []
    assert len({path.read_bytes() for path in pictures}) == 3
    assert panel.widget.parent.minimumSizeHint.width() <= WIDTH


@pytest.mark.slow
def test_tutorial_on_the_sample_scan(panel, screenshot, folder):
    """The pictures of the README's tutorial: the model that comes with the extension, on the sample."""
    volume = samplePhantom().ct
    panel.parameters.inputVolume = addVolumeNode(slicer.mrmlScene, volume, "AbdomenCTPhantom")
    panel.parameters.modelId = "abdomen-ct-starter"
    panel.idle()
    take(panel, screenshot, folder / "tutorial_start.png")
    panel.ui.attentionCollapsibleButton.collapsed = False
    panel.parameters.attention = True

    segmentationNode = panel.run()

    segmentation = segmentationNode.GetSegmentation()
    names = [segmentation.GetNthSegment(index).GetName() for index in range(segmentation.GetNumberOfSegments())]
    assert names == ["pancreas", "spleen", "right kidney", "left kidney"]
    panel.ui.overlayButton.click()
    take(panel, screenshot, folder / "tutorial_results.png")
    assert cutWidgets(panel) == []
    assert panel.parameters.overlayVisible
