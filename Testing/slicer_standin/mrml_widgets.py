"""qMRML widgets other than the node selector."""

from typing import Any

import slicer
import vtk
from PySide6 import QtCore, QtGui, QtWidgets

from Testing.slicer_standin.ctk_containers import ctkCollapsibleButton, ctkMenuButton
from Testing.slicer_standin.ctk_values import ctkDoubleSpinBox, ctkRangeWidget, ctkSliderWidget
from Testing.slicer_standin.ui_loader import registered
from Testing.slicer_standin.widget_parts import passed, row, stored


class _HoldsScene:
    """A widget that hands its scene on."""

    def setMRMLScene(self, scene: Any) -> None:
        if scene is not self.__dict__.get("_scene"):
            self._scene = scene
            self.mrmlSceneChanged.emit(scene)


@registered
class qMRMLWidget(_HoldsScene, QtWidgets.QWidget):
    """A container that hands the scene on to what is connected."""

    slicerName = "slicer.qMRMLWidget"
    mrmlSceneChanged = QtCore.Signal(object)

    def mrmlScene(self) -> Any:
        return self.__dict__.get("_scene")


@registered
class qMRMLCollapsibleButton(_HoldsScene, ctkCollapsibleButton):
    """A collapsible section that hands the scene on."""

    slicerName = "slicer.qMRMLCollapsibleButton"
    mrmlSceneChanged = QtCore.Signal(object)


class _TakesScene:
    """A widget that only keeps its scene."""

    def setMRMLScene(self, scene: Any) -> None:
        self._scene = scene

    def mrmlScene(self) -> Any:
        return self.__dict__.get("_scene")


@registered
class qMRMLSliderWidget(_TakesScene, ctkSliderWidget):
    """A slider with units."""

    slicerName = "slicer.qMRMLSliderWidget"
    quantity = stored(str, "quantity", "")

    def setQuantity(self, quantity: str) -> None:
        self.setProperty("quantity", quantity)


@registered
class qMRMLSpinBox(_TakesScene, ctkDoubleSpinBox):
    """A spin box with units."""

    slicerName = "slicer.qMRMLSpinBox"
    quantity = stored(str, "quantity", "")


@registered
class qMRMLRangeWidget(ctkRangeWidget):
    """A range with units."""

    slicerName = "slicer.qMRMLRangeWidget"
    quantity = stored(str, "quantity", "")

    def setMRMLScene(self, scene: Any) -> None:
        self._scene = scene


@registered
class qMRMLSegmentationShow3DButton(ctkMenuButton):
    """Makes surfaces of a segmentation, or removes them."""

    slicerName = "slicer.qMRMLSegmentationShow3DButton"
    locked = stored(bool, "locked", False)

    def __init__(self, parent: QtWidgets.QWidget | None = None) -> None:
        super().__init__(parent)
        self.setText("Show 3D")
        self.setCheckable(True)
        self.setEnabled(False)
        self._node: Any = None
        self.toggled.connect(self._onToggled)

    def segmentationNode(self) -> Any:
        return self._node

    def setSegmentationNode(self, node: Any) -> None:
        if node is not None and not node.IsA("vtkMRMLSegmentationNode"):
            raise TypeError("setSegmentationNode takes a vtkMRMLSegmentationNode")
        self._node = node
        self.setEnabled(node is not None)
        self.blockSignals(True)
        self.setChecked(node is not None and node.GetSegmentation().ContainsRepresentation(_surfaceName()))
        self.blockSignals(False)

    def _onToggled(self, checked: bool) -> None:
        if self._node is None:
            return
        if checked:
            self._node.CreateClosedSurfaceRepresentation()
        else:
            self._node.RemoveClosedSurfaceRepresentation()


def _surfaceName() -> str:
    return slicer.vtkSegmentationConverter.GetSegmentationClosedSurfaceRepresentationName()


@registered
class qMRMLTableView(QtWidgets.QTableView):
    """Shows a table node."""

    slicerName = "slicer.qMRMLTableView"

    def __init__(self, parent: QtWidgets.QWidget | None = None) -> None:
        super().__init__(parent)
        self._node: Any = None
        self._tag = 0
        self._scene: Any = None
        self.setModel(QtGui.QStandardItemModel(self))
        self.destroyed.connect(lambda *arguments: self._observe(None))

    def mrmlScene(self) -> Any:
        return self._scene

    def setMRMLScene(self, scene: Any) -> None:
        self._scene = scene
        if scene is None:
            self.setMRMLTableNode(None)

    def mrmlTableNode(self) -> Any:
        return self._node

    def setMRMLTableNode(self, node: Any) -> None:
        self._observe(node)
        self._fill()

    def _observe(self, node: Any) -> None:
        if self._node is not None:
            self._node.RemoveObserver(self._tag)
        self._node = node
        if node is not None:
            self._tag = node.AddObserver(vtk.vtkCommand.ModifiedEvent, lambda *arguments: self._fill())

    def _fill(self) -> None:
        model = self.model()
        model.clear()
        if self._node is None or self._node.GetTable() is None:
            return
        table = self._node.GetTable()
        names = [table.GetColumnName(column) or "" for column in range(table.GetNumberOfColumns())]
        model.setHorizontalHeaderLabels(names)
        for number in range(table.GetNumberOfRows()):
            texts = [table.GetValue(number, column).ToString() for column in range(len(names))]
            model.appendRow([QtGui.QStandardItem(text) for text in texts])


@registered
class qMRMLSegmentsTableView(QtWidgets.QWidget):
    """Lists the segments of a segmentation."""

    slicerName = "slicer.qMRMLSegmentsTableView"
    mrmlSceneChanged = QtCore.Signal(object)

    def __init__(self, parent: QtWidgets.QWidget | None = None) -> None:
        super().__init__(parent)
        self._node: Any = None
        self._scene: Any = None
        self._list = QtWidgets.QListWidget()
        row(self, self._list)

    headerVisible = stored(bool, "headerVisible", True)
    visibilityColumnVisible = stored(bool, "visibilityColumnVisible", True)
    colorColumnVisible = stored(bool, "colorColumnVisible", True)
    opacityColumnVisible = stored(bool, "opacityColumnVisible", True)
    statusColumnVisible = stored(bool, "statusColumnVisible", False)
    layerColumnVisible = stored(bool, "layerColumnVisible", False)
    readOnly = stored(bool, "readOnly", False)
    filterBarVisible = stored(bool, "filterBarVisible", False)
    selectionMode = passed(int, "_list", "selectionMode")
    segmentCount = QtCore.Property(int, lambda self: self._list.count())

    def mrmlScene(self) -> Any:
        return self._scene

    def setMRMLScene(self, scene: Any) -> None:
        self._scene = scene
        self.mrmlSceneChanged.emit(scene)
        if scene is None:
            self.setSegmentationNode(None)

    def segmentationNode(self) -> Any:
        return self._node

    def setSegmentationNode(self, node: Any) -> None:
        self._node = node
        self._list.clear()
        for identifier in node.GetSegmentation().GetSegmentIDs() if node is not None else ():
            item = QtWidgets.QListWidgetItem(node.GetSegmentation().GetSegment(identifier).GetName(), self._list)
            item.setData(QtCore.Qt.ItemDataRole.UserRole, identifier)

    def selectedSegmentIDs(self) -> list[str]:
        return [item.data(QtCore.Qt.ItemDataRole.UserRole) for item in self._list.selectedItems()]


@registered
class qMRMLVolumeThresholdWidget(QtWidgets.QWidget):
    """The threshold of a scalar volume's display."""

    slicerName = "slicer.qMRMLVolumeThresholdWidget"
    thresholdValuesChanged = QtCore.Signal(float, float)

    def __init__(self, parent: QtWidgets.QWidget | None = None) -> None:
        super().__init__(parent)
        self._range = ctkRangeWidget()
        row(self, self._range)
        self._node: Any = None
        self._range.valuesChanged.connect(self._onValues)

    lowerThreshold = passed(float, "_range", "minimumValue")
    upperThreshold = passed(float, "_range", "maximumValue")

    def mrmlVolumeNode(self) -> Any:
        return self._node

    def setMRMLVolumeNode(self, node: Any) -> None:
        self._node = node
        display = node.GetDisplayNode() if node is not None else None
        if display is not None:
            self._range.setRange(*node.GetImageData().GetScalarRange())
            self._range.setValues(display.GetLowerThreshold(), display.GetUpperThreshold())

    def _onValues(self, low: float, high: float) -> None:
        display = self._node.GetDisplayNode() if self._node is not None else None
        if display is not None:
            display.SetThreshold(low, high)
        self.thresholdValuesChanged.emit(low, high)
