from __future__ import annotations

import subprocess
import sys
import urllib.request
from contextlib import contextmanager
from pathlib import Path
from types import ModuleType, SimpleNamespace
from typing import ClassVar

import numpy as np
import pytest
import slicer
from AttentionSegmentationLib.Segmentation import SampleScan
from AttentionSegmentationLib.Segmentation.SampleScan import CATEGORY, SAMPLE_NAME, phantomFile, registerSampleData

from AGTraining.data.phantom import PhantomOptions, make_phantom
from AGTraining.errors import InputError
from AGTraining.imaging.files import read_volume


class SampleDataLogic:
    """As much of Slicer 5.12's SampleData.SampleDataLogic as a custom source meets, in the same order."""

    sources: ClassVar[dict[str, list[SimpleNamespace]]] = {}
    rules: ClassVar[dict[str, object]] = {}
    cacheFolder = Path()

    @staticmethod
    def sampleDataSourcesByCategory(category=None):
        return SampleDataLogic.sources.get(category, [])

    @staticmethod
    def registerUrlRewriteRule(name, rewriteFunction):
        SampleDataLogic.rules[name] = rewriteFunction

    @staticmethod
    def registerCustomSampleDataSource(
        category="Custom",
        sampleName=None,
        uris=None,
        fileNames=None,
        nodeNames=None,
        customDownloader=None,
        thumbnailFileName=None,
        loadFileTypes=None,
        loadFiles=None,
        loadFileProperties={},  # noqa: B006
        checksums=None,
        loadFileType=None,
    ):
        SampleDataLogic.sources.setdefault(category, []).append(SimpleNamespace(**locals()))

    def downloadFromSource(self, source):
        """The file that would be loaded."""
        address = source.uris
        for rule in self.rules.values():
            address = rule(address)
        path = self.cacheFolder / source.fileNames
        if not path.exists():
            urllib.request.urlretrieve(address, path)
        return [path]


@pytest.fixture
def sampleData(monkeypatch, tmp_path):
    """Slicer's Sample Data module with an empty cache, in a folder with a blank and an umlaut."""
    module = ModuleType("SampleData")
    module.SampleDataLogic = SampleDataLogic
    cache = tmp_path / "Slicer cache ü"
    cache.mkdir()
    monkeypatch.setitem(sys.modules, "SampleData", module)
    monkeypatch.setattr(SampleDataLogic, "sources", {})
    monkeypatch.setattr(SampleDataLogic, "rules", {})
    monkeypatch.setattr(SampleDataLogic, "cacheFolder", cache)
    manager = SimpleNamespace(GetRemoteCacheDirectory=lambda: str(cache))
    monkeypatch.setattr(slicer, "mrmlScene", SimpleNamespace(GetCacheManager=lambda: manager))
    # The true one shows dialogs with Qt.
    monkeypatch.setattr(slicer.util, "tryWithErrorDisplay", rethrow)
    return SampleDataLogic


@contextmanager
def rethrow(message=None, show=True, waitCursor=False):
    yield


@pytest.fixture
def smallSample(monkeypatch):
    """The sample on a coarse grid, and how often it was drawn."""
    drawn = []

    def draw():
        drawn.append(1)
        return make_phantom(PhantomOptions(spacing=(8.0, 8.0, 8.0)))

    monkeypatch.setattr(SampleScan, "samplePhantom", draw)
    return drawn


def filesBelow(folder):
    return sorted(path for path in folder.rglob("*") if path.is_file())


def test_registration_offers_the_sample_once_and_draws_nothing(sampleData, smallSample):
    registerSampleData()
    registerSampleData()

    [source] = sampleData.sources[CATEGORY]
    assert source.sampleName == source.nodeNames == SAMPLE_NAME
    assert Path(source.thumbnailFileName).is_file()
    assert list(sampleData.rules) == [SAMPLE_NAME]
    assert not smallSample
    assert not filesBelow(sampleData.cacheFolder)


@pytest.mark.parametrize("byButton", [True, False])
def test_the_sample_is_drawn_on_first_use_and_then_kept(sampleData, smallSample, byButton):
    registerSampleData()
    [source] = sampleData.sources[CATEGORY]
    load = source.customDownloader if byButton else SampleDataLogic().downloadFromSource

    [first] = load(source)
    [second] = load(source)

    assert first == second
    assert len(smallSample) == 1
    expected = make_phantom(PhantomOptions(spacing=(8.0, 8.0, 8.0))).ct
    volume = read_volume(first)
    assert np.array_equal(volume.array, expected.array)
    np.testing.assert_allclose(volume.ijk_to_world, expected.ijk_to_world, atol=1e-6)


def test_addresses_of_other_samples_are_left_alone(sampleData, smallSample):
    registerSampleData()

    address = "https://github.com/Slicer/SlicerTestingData/releases/download/SHA256/4507b6"
    assert sampleData.rules[SAMPLE_NAME](address) == address
    assert not smallSample


def test_a_cache_folder_that_cannot_be_used_is_named(tmp_path, smallSample):
    (tmp_path / "AttentionSegmentation").write_text("a file where the folder should be")

    with pytest.raises(InputError, match=r"AttentionSegmentation: the sample cannot be kept there .* cache folder"):
        phantomFile(tmp_path)


def test_the_sample_needs_only_what_slicer_ships(repository, tmp_path):
    code = (
        "import sys\n"
        "for name in 'torch', 'pydantic', 'safetensors', 'psutil', 'tqdm', 'matplotlib', 'monai', 'yaml':\n"
        "    sys.modules[name] = None\n"
        "sys.path[:0] = [sys.argv[1], sys.argv[1] + '/AttentionSegmentation']\n"
        "from pathlib import Path\n"
        "from AttentionSegmentationLib.Segmentation import SampleScan, SelfTest\n"
        "draw = SampleScan.samplePhantom\n"
        "SampleScan.samplePhantom = lambda: draw((8.0, 8.0, 8.0))\n"
        "SampleScan.phantomFile(Path(sys.argv[2]))\n"
    )

    done = subprocess.run([sys.executable, "-c", code, repository, tmp_path], capture_output=True, encoding="utf-8")

    assert done.returncode == 0, done.stderr
    assert filesBelow(tmp_path)
