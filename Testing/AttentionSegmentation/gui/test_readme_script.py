"""The script of the README, as it is pasted into Slicer's console."""

from __future__ import annotations

import re
import sys
from types import ModuleType

import numpy as np
import pytest
import slicer
from AttentionSegmentationLib.Segmentation.SampleScan import samplePhantom
from AttentionSegmentationLib.VolumeConversion import addVolumeNode


@pytest.mark.slow
def test_readme_script_segments_the_sample(repository, scene, slicerApplication, pythonSlicer, monkeypatch, capsys):
    text = (repository / "README.md").read_text(encoding="utf-8")
    script = re.search(r"^```python\n(.+?)^```", text, re.MULTILINE | re.DOTALL)[1]
    sampleData = ModuleType("SampleData")
    sampleData.downloadSample = lambda name: addVolumeNode(
        slicer.mrmlScene, samplePhantom(spacingMm=(4.0, 4.0, 4.0)).ct, name
    )
    monkeypatch.setitem(sys.modules, "SampleData", sampleData)
    console = {"slicer": slicer}

    exec(compile(script, "README.md", "exec"), console)

    lines = capsys.readouterr().out.splitlines()
    volumes = {line.rsplit(" ", 2)[0]: float(line.split()[-2]) for line in lines if line.endswith(" ml")}
    assert lines[0] == "AbdomenCTPhantom segmentation"
    assert set(volumes) == {"pancreas", "spleen"}
    reference = samplePhantom(spacingMm=(4.0, 4.0, 4.0)).labels
    spleen = np.count_nonzero(reference.array == 2) * reference.voxel_volume_ml
    # A voxel at the surface of an organ of 190 ml is 0.06 ml; the model may be off by a shell of one voxel.
    assert volumes["spleen"] == pytest.approx(spleen, rel=0.25)
