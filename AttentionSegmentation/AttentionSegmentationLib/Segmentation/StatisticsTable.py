"""Volume and intensity of each organ as a table node."""

from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from typing import Any

import vtk

from AGTraining.inference.result import OrganStatistics


def addTableNode(scene: Any, table: Any, name: str) -> Any:
    """A new table node that shows a vtkTable; it is not to be edited by hand."""
    node = scene.AddNewNodeByClass("vtkMRMLTableNode", name)
    node.SetAndObserveTable(table)
    node.SetLocked(True)
    return node


@contextmanager
def replacingTable(tableNode: Any, table: Any) -> Iterator[None]:
    """Gives a table node another vtkTable; when the block fails, it has its own again."""
    before = tableNode.GetTable()
    tableNode.SetAndObserveTable(table)
    try:
        yield
    except BaseException:
        tableNode.SetAndObserveTable(before)
        raise


def organTable(organs: Iterable[OrganStatistics]) -> Any:
    """A vtkTable with a row for each organ: Organ, Volume (ml), Mean (HU), SD (HU).

    An organ that was not found has a volume of 0 ml and no mean (NaN).
    """
    return _table([], [((), organ) for organ in organs])


def organTableOfFrames(images: Iterable[tuple[str, Iterable[OrganStatistics]]], indexTitle: str) -> Any:
    """As `organTable`, for the images of a sequence one after the other: Frame (from 1), the index, then the organs.

    images: the value of the sequence's index, and the organs. indexTitle: what the index is, as `time (s)`.
    """
    frame, index = vtk.vtkIntArray(), vtk.vtkStringArray()
    frame.SetName("Frame")
    index.SetName(indexTitle)
    rows = [((number, value), organ) for number, (value, organs) in enumerate(images, 1) for organ in organs]
    return _table([frame, index], rows)


def _table(leading: list[Any], rows: list[tuple[tuple[Any, ...], OrganStatistics]]) -> Any:
    """A vtkTable of the leading columns, whose values come first in each row, and those of the organ."""
    names = vtk.vtkStringArray()
    names.SetName("Organ")
    volumes, means, deviations = (vtk.vtkDoubleArray() for _ in range(3))
    volumes.SetName("Volume (ml)")
    means.SetName("Mean (HU)")
    deviations.SetName("SD (HU)")
    columns = [*leading, names, volumes, means, deviations]
    for first, organ in rows:
        values = (organ.label.name, round(organ.volume_ml, 3), round(organ.mean_hu, 1), round(organ.sd_hu, 1))
        for column, value in zip(columns, (*first, *values), strict=True):
            column.InsertNextValue(value)
    table = vtk.vtkTable()
    for column in columns:
        table.AddColumn(column)
    return table
