"""Volume and intensity of each organ as a table node."""

from typing import TYPE_CHECKING, Any

import vtk

if TYPE_CHECKING:
    from AGTraining.inference.result import SegmentResult


def addStatisticsTable(scene: Any, result: "SegmentResult", name: str) -> Any:
    """A new table node with a row for each organ: Organ, Volume (ml), Mean (HU), SD (HU).

    An organ that was not found has a volume of 0 ml and no mean (NaN).
    """
    organs = vtk.vtkStringArray()
    organs.SetName("Organ")
    volumes, means, deviations = (vtk.vtkDoubleArray() for _ in range(3))
    volumes.SetName("Volume (ml)")
    means.SetName("Mean (HU)")
    deviations.SetName("SD (HU)")
    for organ in result.organs:
        organs.InsertNextValue(organ.label.name)
        volumes.InsertNextValue(round(organ.volume_ml, 3))
        means.InsertNextValue(round(organ.mean_hu, 1))
        deviations.InsertNextValue(round(organ.sd_hu, 1))
    node = scene.AddNewNodeByClass("vtkMRMLTableNode", name)
    for column in (organs, volumes, means, deviations):
        node.AddColumn(column)
    node.SetLocked(True)
    return node
