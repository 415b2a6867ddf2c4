from __future__ import annotations

import unittest

from AttentionSegmentationLib.Dependencies import Dependencies
from AttentionSegmentationLib.InstalledPackages import InstalledPackages
from AttentionSegmentationLib.Segmentation.SelfTest import runSelfTest


def run(dependencies=None):
    """What a test runner says about a test case that runs the self test."""

    class SelfTestOnSlicerCore(unittest.TestCase):
        def test(self):
            runSelfTest(self, dependencies)

    result = unittest.TestResult()
    SelfTestOnSlicerCore("test").run(result)
    return result


def test_the_self_test_passes_on_slicer_core(scene):
    result = run()

    assert not result.skipped
    assert not result.failures, result.failures[0][1]
    assert not result.errors, result.errors[0][1]


def test_missing_packages_skip_the_self_test_with_a_sentence(scene, tmp_path):
    result = run(Dependencies(installed=InstalledPackages([str(tmp_path)])))

    assert result.wasSuccessful()
    [(_, reason)] = result.skipped
    assert "PyTorch" in reason
    assert scene.GetFirstNodeByClass("vtkMRMLScalarVolumeNode") is None
