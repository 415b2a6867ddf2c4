"""A small scripted module, as developers write them, for the tests of the stand-in."""

from typing import Annotated

import ctk
import qt
import slicer
import vtk
from slicer.i18n import tr as _
from slicer.parameterNodeWrapper import Choice, WithinRange, parameterNodeWrapper
from slicer.ScriptedLoadableModule import (
    ScriptedLoadableModule,
    ScriptedLoadableModuleLogic,
    ScriptedLoadableModuleTest,
    ScriptedLoadableModuleWidget,
)
from slicer.util import VTKObservationMixin


@parameterNodeWrapper
class ExampleParameters:
    """What the panel remembers."""

    inputVolume: slicer.vtkMRMLScalarVolumeNode
    outputSegmentation: slicer.vtkMRMLSegmentationNode
    threshold: Annotated[float, WithinRange(0.0, 1.0)] = 0.5
    smooth: bool = True
    device: Annotated[str, Choice(["auto", "cpu"])] = "auto"
    organs: list[str]


class Example(ScriptedLoadableModule):
    def __init__(self, parent):
        super().__init__(parent)
        parent.title = _("Example")
        parent.categories = ["Segmentation"]


class ExampleWidget(ScriptedLoadableModuleWidget, VTKObservationMixin):
    def __init__(self, parent=None):
        ScriptedLoadableModuleWidget.__init__(self, parent)
        VTKObservationMixin.__init__(self)
        self.calls = []
        self.parameters = None
        self._tag = None

    def setup(self):
        super().setup()
        uiWidget = slicer.util.loadUI(self.resourcePath("UI/Example.ui"))
        self.layout.addWidget(uiWidget)
        self.ui = slicer.util.childWidgetVariables(uiWidget)
        uiWidget.setMRMLScene(slicer.mrmlScene)
        self.logic = ExampleLogic()
        self.button = qt.QPushButton(_("More"))
        self.layout.addWidget(self.button)
        self.box = ctk.ctkCollapsibleButton()
        self.addObserver(slicer.mrmlScene, slicer.mrmlScene.StartCloseEvent, self.onSceneStartClose)
        self.addObserver(slicer.mrmlScene, slicer.mrmlScene.EndCloseEvent, self.onSceneEndClose)
        self.addObserver(slicer.mrmlScene, slicer.mrmlScene.EndImportEvent, self.onSceneEndClose)
        self.ui.applyButton.connect("clicked(bool)", self.onApply)
        self.initialize()

    def enter(self):
        self.calls.append("enter")
        self.initialize()

    def exit(self):
        self.calls.append("exit")
        self.setParameters(None)

    def cleanup(self):
        self.calls.append("cleanup")
        self.setParameters(None)
        self.removeObservers()

    def onSceneStartClose(self, caller, event):
        self.setParameters(None)

    def onSceneEndClose(self, caller, event):
        self.initialize()

    def initialize(self):
        self.setParameters(ExampleParameters(self.logic.getParameterNode()))

    def setParameters(self, parameters):
        if self.parameters:
            self.parameters.disconnectGui(self._tag)
            self.removeObserver(self.parameters, vtk.vtkCommand.ModifiedEvent, self.onChanged)
        self.parameters = parameters
        if parameters:
            self._tag = parameters.connectGui(self.ui)
            self.addObserver(parameters, vtk.vtkCommand.ModifiedEvent, self.onChanged)
            self.onChanged()

    def onChanged(self, caller=None, event=None):
        self.ui.applyButton.enabled = self.parameters.inputVolume is not None

    def onApply(self):
        if slicer.util.confirmYesNoDisplay("Replace the segmentation?"):
            self.calls.append("apply")


class ExampleLogic(ScriptedLoadableModuleLogic):
    pass


class ExampleTest(ScriptedLoadableModuleTest):
    def test_nothing(self):
        self.delayDisplay("Nothing to test")
