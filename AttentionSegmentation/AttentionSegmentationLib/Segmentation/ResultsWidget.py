"""What came out of a segmentation: organ volumes and intensities, messages, and where to go from here."""

import math
from collections.abc import Iterable
from typing import Any

import qt
import slicer

from ..NoticeWidget import Notice, NoticeWidget
from ..QtConnections import QtConnections
from .CompanionNodes import tableNodeOf

_NO_VALUE = "–"


class ResultsWidget:
    """Shows a segmentation node that this module made, with its companion table.

    ui: the widgets of AttentionSegmentation.ui by name.
    """

    def __init__(self, ui: Any) -> None:
        self._ui = ui
        self._messages = NoticeWidget(ui.resultMessagesLabel)
        self._connections = QtConnections()
        self._connections.connect(ui.segmentEditorButton, "clicked()", self._onSegmentEditor)
        self._connections.connect(ui.dicomHintLabel, "linkActivated(QString)", self._onLink)
        self._segmentationNode: Any = None
        self._shown: Any = None
        self.show(None, ())

    @property
    def segmentationNode(self) -> Any:
        """The node that is shown, or None."""
        return self._segmentationNode

    def show(self, segmentationNode: Any, messages: Iterable[str]) -> None:
        """Shows a result as it is now; None shows that there is none. Touches nothing that is shown already."""
        ui = self._ui
        tableNode = tableNodeOf(segmentationNode)
        messages = tuple(messages)
        # A later run may have replaced the contents of the same nodes.
        state = (segmentationNode, tableNode, None if tableNode is None else tableNode.GetTable().GetMTime(), messages)
        if state == self._shown:
            return
        self._shown = state
        self._segmentationNode = segmentationNode
        self._fillTable(tableNode)
        self._messages.show(Notice(message) for message in messages)
        found = segmentationNode is not None
        ui.resultsPlaceholderLabel.visible = not found
        ui.resultsTable.visible = tableNode is not None
        ui.dicomHintLabel.visible = found
        ui.show3DButton.setSegmentationNode(segmentationNode)
        ui.show3DButton.enabled = found
        ui.segmentEditorButton.enabled = found

    def cleanup(self) -> None:
        """Lets go of the nodes and takes the connections back."""
        self._segmentationNode = self._shown = None
        self._ui.show3DButton.setSegmentationNode(None)
        self._messages.cleanup()
        self._connections.disconnectAll()

    def _fillTable(self, tableNode: Any) -> None:
        table = self._ui.resultsTable
        table.clear()
        table.rowCount = 0
        if tableNode is None:
            return
        data = tableNode.GetTable()
        table.rowCount, table.columnCount = data.GetNumberOfRows(), data.GetNumberOfColumns()
        table.setHorizontalHeaderLabels([data.GetColumnName(column) for column in range(table.columnCount)])
        for column in range(table.columnCount):
            values = data.GetColumn(column)
            for row in range(table.rowCount):
                value = values.GetVariantValue(row)
                item = qt.QTableWidgetItem(_cellText(value))
                if value.IsNumeric():
                    item.setTextAlignment(qt.Qt.AlignRight | qt.Qt.AlignVCenter)
                table.setItem(row, column, item)
        table.resizeColumnsToContents()
        table.resizeRowsToContents()
        table.updateGeometry()

    def _onSegmentEditor(self) -> None:
        openSegmentEditor(self._segmentationNode)

    def _onLink(self, link: str) -> None:
        slicer.util.selectModule(link.removeprefix("module:"))


def openSegmentEditor(segmentationNode: Any) -> None:
    """Shows a segmentation and the CT it was made from in Slicer's Segment Editor."""
    scene = segmentationNode.GetScene()
    # The Segment Editor keeps what it edits in this node, and makes it when there is none.
    editorNode = scene.GetSingletonNode("SegmentEditor", "vtkMRMLSegmentEditorNode")
    if editorNode is None:
        editorNode = slicer.vtkMRMLSegmentEditorNode()
        editorNode.SetSingletonTag("SegmentEditor")
        editorNode = scene.AddNode(editorNode)
    editorNode.SetAndObserveSegmentationNode(segmentationNode)
    volumeRole = segmentationNode.GetReferenceImageGeometryReferenceRole()
    editorNode.SetAndObserveSourceVolumeNode(segmentationNode.GetNodeReference(volumeRole))
    slicer.util.selectModule("SegmentEditor")


def _cellText(value: Any) -> str:
    """A value of a vtkTable as the panel shows it: numbers with one decimal, a dash where there is none."""
    if not value.IsNumeric():
        return value.ToString()
    number = value.ToDouble()
    if math.isnan(number):
        return _NO_VALUE
    return value.ToString() if value.IsInt() else f"{number:.1f}"
