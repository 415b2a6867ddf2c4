"""Check boxes for the organs that a model finds."""

from collections.abc import Callable, Iterable
from typing import Any

import qt

from AGTraining.labels import OutputLabel

from ..QtConnections import QtConnections

_COLUMNS = 2


class OrgansWidget:
    """A check box for each label of the model, in a grid.

    container: a QWidget with a QGridLayout. onChanged: called with the names of the labels that are unticked.
    """

    def __init__(self, container: Any, onChanged: Callable[[list[str]], None]) -> None:
        self._layout = container.layout()
        self._onChanged = onChanged
        self._connections = QtConnections()
        self.checkBoxes: dict[str, Any] = {}

    def setLabels(self, labels: Iterable[OutputLabel]) -> None:
        """Makes the check boxes anew, all ticked."""
        labels = list(labels)
        if list(self.checkBoxes) == [label.name for label in labels]:
            return
        self._removeCheckBoxes()
        for index, label in enumerate(labels):
            checkBox = qt.QCheckBox(label.name[:1].upper() + label.name[1:])
            checkBox.checked = True
            if label.usual_ml is not None:
                checkBox.toolTip = "Usually {:g} to {:g} ml.".format(*label.usual_ml)
            self._layout.addWidget(checkBox, index // _COLUMNS, index % _COLUMNS)
            self._connections.connect(checkBox, "clicked()", self._onClicked)
            self.checkBoxes[label.name] = checkBox

    def setOmitted(self, names: Iterable[str]) -> None:
        """Unticks these labels and ticks the others."""
        omitted = set(names)
        for name, checkBox in self.checkBoxes.items():
            checkBox.checked = name not in omitted

    def kept(self) -> tuple[str, ...] | None:
        """Names of the ticked labels; None when all are."""
        names = tuple(name for name, checkBox in self.checkBoxes.items() if checkBox.checked)
        return None if len(names) == len(self.checkBoxes) else names

    def cleanup(self) -> None:
        """Takes the check boxes and their connections away."""
        self._removeCheckBoxes()

    def _onClicked(self) -> None:
        self._onChanged([name for name, checkBox in self.checkBoxes.items() if not checkBox.checked])

    def _removeCheckBoxes(self) -> None:
        self._connections.disconnectAll()
        for checkBox in self.checkBoxes.values():
            checkBox.setParent(None)
            checkBox.deleteLater()
        self.checkBoxes = {}
