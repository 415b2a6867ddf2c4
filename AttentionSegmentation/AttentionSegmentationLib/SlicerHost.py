"""Slicer's scene and module logics where there is no Slicer application: plain Python with slicer-core."""

from types import SimpleNamespace

import slicer
import vtk

# Of slicer-core's logics, those that this project and `slicer.util` call. The terminologies logic is left out: it needs
# dictionary files that only the application has.
_LOGIC_CLASSES = {
    "markups": "vtkSlicerMarkupsLogic",
    "plots": "vtkSlicerPlotsLogic",
    "segmentations": "vtkSlicerSegmentationsModuleLogic",
    "sequences": "vtkSlicerSequencesLogic",
    "subjecthierarchy": "vtkSlicerSubjectHierarchyModuleLogic",
    "tables": "vtkSlicerTablesLogic",
    "transforms": "vtkSlicerTransformLogic",
    "volumes": "vtkSlicerVolumesLogic",
}


def isSlicerApplication() -> bool:
    """Whether this Python runs inside the Slicer application."""
    return getattr(slicer, "app", None) is not None


def startSlicerHost() -> None:
    """Makes what the application would have made: `slicer.mrmlScene` with its standard nodes, and `slicer.modules`.

    `slicer.modules.NAME.logic()` then gives the logics named above, so that the functions of `slicer.util` that need
    neither Qt nor a file reader work as in Slicer. Does nothing inside Slicer, nor when called again.
    """
    if isSlicerApplication() or getattr(slicer, "mrmlScene", None) is not None:
        return
    # On Windows VTK would show its messages in a window of its own.
    vtk.vtkOutputWindow.GetInstance().SetDisplayModeToAlwaysStdErr()
    scene = slicer.vtkMRMLScene()
    applicationLogic = slicer.vtkSlicerApplicationLogic()
    applicationLogic.SetMRMLScene(scene)
    # The color logic of slicer-core's base library: vtkSlicerColorLogic would look for the application's color files.
    colorLogic = applicationLogic.GetColorLogic()
    colorLogic.SetMRMLScene(scene)
    logics = {"colors": colorLogic}
    for name, className in _LOGIC_CLASSES.items():
        logics[name] = getattr(slicer, className)()
        logics[name].SetMRMLApplicationLogic(applicationLogic)
        logics[name].SetMRMLScene(scene)
    slicer.mrmlScene = scene
    slicer.modules = SimpleNamespace(**{name: _Module(logic) for name, logic in logics.items()})
    # Logics hold the application logic only weakly.
    slicer.modules.applicationLogic = applicationLogic


class _Module:
    """As much of a loaded Slicer module as can be had without Qt."""

    def __init__(self, logic: vtk.vtkObject) -> None:
        self._logic = logic

    def logic(self) -> vtk.vtkObject:
        """The module's logic."""
        return self._logic
