"""The Slicer module Attention Segmentation: organs of the abdomen in CT, and where the network looked for them."""

import sys
import unittest

import slicer
from AttentionSegmentationLib.Segmentation.AttentionDisplay import isAttentionMap
from AttentionSegmentationLib.Segmentation.SegmentationLogic import SegmentationLogic
from slicer.i18n import tr as _
from slicer.i18n import translate
from slicer.ScriptedLoadableModule import *
from slicer.util import VTKObservationMixin


class AttentionSegmentation(ScriptedLoadableModule):
    """What Slicer shows about the module, and what it does once the application runs."""

    def __init__(self, parent):
        ScriptedLoadableModule.__init__(self, parent)
        self.parent.title = _("Attention Segmentation")
        self.parent.categories = [translate("qSlicerAbstractCoreModule", "Segmentation")]
        self.parent.dependencies = ["Segmentations", "Sequences", "Volumes"]
        self.parent.contributors = ["The AttentionSegmentation contributors"]
        self.parent.helpText = _("""
Segments pancreas, spleen and kidneys in an abdominal CT with one click, and shows the attention coefficients of the
network as overlays: where it looked. Everything is computed on this computer. For research, not for clinical use.
""")
        self.parent.acknowledgementText = _("""
The methods are those of O. Oktay, J. Schlemper, L. Le Folgoc, M. Lee, M. Heinrich, K. Misawa, K. Mori, S. McDonagh,
N. Y. Hammerla, B. Kainz, B. Glocker, D. Rueckert: "Attention U-Net: Learning Where to Look for the Pancreas", 2018
(<a href="https://arxiv.org/abs/1804.03999">arXiv:1804.03999</a>), and of J. Schlemper, O. Oktay, M. Schaap,
M. Heinrich, B. Kainz, B. Glocker, D. Rueckert: "Attention Gated Networks: Learning to Leverage Salient Regions in
Medical Images", Medical Image Analysis 53, 2019
(<a href="https://doi.org/10.1016/j.media.2019.01.012">doi:10.1016/j.media.2019.01.012</a>).
Please cite both when you use this module.
""")
        # Other modules, Sample Data among them, are there only when the application has started.
        slicer.app.connect("startupCompleted()", registerSampleData)


def registerSampleData():
    """Adds this module's sample scan to the Sample Data module."""
    from AttentionSegmentationLib.Segmentation.SampleScan import registerSampleData

    registerSampleData()


class AttentionSegmentationWidget(ScriptedLoadableModuleWidget, VTKObservationMixin):
    """Loads the panel and tells it what happens to module and scene."""

    def __init__(self, parent=None):
        # First, because without a parent the base class calls setup(). It initializes VTKObservationMixin too.
        self.logic = None
        self.panel = None
        self.uiWidget = None
        self.ui = None
        ScriptedLoadableModuleWidget.__init__(self, parent)

    def setup(self):
        """Called by Slicer when the module is opened for the first time, and when it is reloaded."""
        from AttentionSegmentationLib.Segmentation.SegmentationWidget import SegmentationWidget

        ScriptedLoadableModuleWidget.setup(self)
        self.uiWidget = slicer.util.loadUI(self.resourcePath("UI/AttentionSegmentation.ui"))
        self.layout.addWidget(self.uiWidget)
        self.uiWidget.setMRMLScene(slicer.mrmlScene)
        self.logic = AttentionSegmentationLogic()
        self.ui = slicer.util.childWidgetVariables(self.uiWidget)
        self.panel = SegmentationWidget(self.ui, self.logic)
        self.addObserver(slicer.mrmlScene, slicer.mrmlScene.StartCloseEvent, self.onSceneStartClose)
        self.addObserver(slicer.mrmlScene, slicer.mrmlScene.EndCloseEvent, self.onSceneEndClose)
        self.addObserver(slicer.mrmlScene, slicer.mrmlScene.EndImportEvent, self.onSceneEndImport)
        # Slicer unloads its modules before it tells others that it quits, so cleanup() has ended the worker by then;
        # this is for the case that cleanup() failed.
        slicer.app.connect("aboutToQuit()", self.onAboutToQuit)
        self.initializeParameterNode()

    def cleanup(self):
        """Called by Slicer before the widget is destroyed, on reload too: nothing is left behind."""
        self.removeObservers()
        slicer.app.disconnect("aboutToQuit()", self.onAboutToQuit)
        if self.panel is not None:
            self.panel.cleanup()
            self.panel = None
        if self.logic is not None:
            self.logic.shutdown()
        if self.uiWidget is not None:
            self.uiWidget.setMRMLScene(None)
            self.uiWidget = None
            self.ui = None

    def onReload(self):
        """The Reload button for developers: reads this module's library again too, not this file alone.

        AGTraining stays as it was imported, except in the worker, which is started anew.
        """
        for name in list(sys.modules):
            if name.partition(".")[0] == "AttentionSegmentationLib":
                del sys.modules[name]
        ScriptedLoadableModuleWidget.onReload(self)

    def enter(self):
        """Called by Slicer each time that the user opens the module."""
        self.initializeParameterNode()

    def exit(self):
        """Called by Slicer each time that the user opens another module; what runs goes on."""
        if self.panel is not None:
            self.panel.setParameterNode(None)

    def initializeParameterNode(self):
        """Shows the choices of the scene; the first volume is taken when none was chosen yet.

        Does nothing after cleanup(), or when setup() failed: Slicer calls enter() and exit() all the same.
        """
        if self.panel is None:
            return
        parameterNode = self.logic.getParameterNode()
        if parameterNode.inputVolume is None:
            parameterNode.inputVolume = firstVolumeNode()
        self.panel.setParameterNode(parameterNode)

    def onSceneStartClose(self, caller, event):
        """The nodes are about to go: what runs has nothing to work for."""
        if self.panel is not None:
            self.panel.cancel()
            self.panel.setParameterNode(None)

    def onSceneEndClose(self, caller, event):
        """The scene is empty now."""
        self.showIfEntered()

    def onSceneEndImport(self, caller, event):
        """A scene was loaded: the panel shows what was chosen in it."""
        self.showIfEntered()

    def showIfEntered(self):
        """Shows the choices of the scene, unless another module is open."""
        # Only Slicer's own panels can be left; the window that a widget without a parent makes cannot.
        if getattr(self.parent, "isEntered", True):
            self.initializeParameterNode()

    def onAboutToQuit(self):
        """Slicer closes: no process stays behind."""
        if self.logic is not None:
            self.logic.shutdown()


def firstVolumeNode():
    """The first volume of the scene that may be a CT, or None: hidden volumes and attention maps are none."""
    for node in slicer.util.getNodesByClass("vtkMRMLScalarVolumeNode"):
        # Label maps, vector and tensor volumes are derived from scalar volumes.
        isScalar = node.GetClassName() == "vtkMRMLScalarVolumeNode"
        if isScalar and not node.GetHideFromEditors() and not isAttentionMap(node):
            return node
    return None


class AttentionSegmentationLogic(SegmentationLogic, ScriptedLoadableModuleLogic):
    """The logic as scripts use it: `slicer.util.getModuleLogic("AttentionSegmentation").process(volumeNode)`."""

    def getParameterNode(self):
        """The choices of the scene, made with their defaults when there are none yet."""
        from AttentionSegmentationLib.Segmentation.ParameterNode import SegmentationParameterNode

        return SegmentationParameterNode(ScriptedLoadableModuleLogic.getParameterNode(self))


class AttentionSegmentationTest(ScriptedLoadableModuleTest):
    """Slicer's self test: segments the bundled phantom and looks at the result; nothing is downloaded."""

    def setUp(self):
        """An empty scene."""
        slicer.mrmlScene.Clear(False)

    def runTest(self):
        """Called by Slicer's test runner and by "Reload and Test"."""
        self.setUp()
        try:
            self.test_phantomIsSegmented()
        except unittest.SkipTest as reason:
            self.delayDisplay(str(reason))

    def test_phantomIsSegmented(self):
        """Nodes, units and sides of a segmentation of the phantom."""
        from AttentionSegmentationLib.Segmentation.SelfTest import runSelfTest

        runSelfTest(self)
