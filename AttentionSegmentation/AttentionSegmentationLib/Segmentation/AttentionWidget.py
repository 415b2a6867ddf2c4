"""The attention maps of a result: which one lies over the CT, and how."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from ..ChoiceWidget import ChoiceWidget
from ..QtConnections import QtConnections
from . import AttentionDisplay
from .CompanionNodes import attentionNodesOf

_NO_MAPS = "There are no attention maps yet: tick “Compute attention maps” and segment."


@dataclass(frozen=True)
class Overlay:
    """How attention is to be shown. mapName: empty is the first map. threshold: below it the map is transparent."""

    visible: bool
    mapName: str
    opacity: float
    threshold: float
    legend: bool


class AttentionWidget:
    """Shows the maps that belong to a segmentation node.

    ui: the widgets of AttentionSegmentation.ui by name. onMapChosen: called with the name of the map that the user
    chose and with its threshold, since each map has a range of its own.
    """

    def __init__(self, ui: Any, onMapChosen: Callable[[str, float], None]) -> None:
        self._onMapChosen = onMapChosen
        self._choice = ChoiceWidget(ui.overlayMapComboBox, self._onChosen)
        self._connections = QtConnections()
        self._connections.connect(ui.jumpButton, "clicked()", self._onJump)
        controls = (
            ui.overlayMapComboBox,
            ui.overlayButton,
            ui.opacitySlider,
            ui.thresholdSlider,
            ui.legendCheckBox,
            ui.jumpButton,
        )
        self._controls = [(widget, widget.toolTip) for widget in controls]
        self._nodes: dict[str, Any] = {}
        self._shown: Overlay | None = None
        self.setSegmentation(None)

    @property
    def node(self) -> Any:
        """The map that is chosen, or None."""
        return self._nodes.get(self._choice.value)

    def setSegmentation(self, segmentationNode: Any) -> None:
        """Takes the maps that belong to this node, in the order in which they were made."""
        self._nodes = attentionNodesOf(segmentationNode)
        self._shown = None
        self._choice.setItems((name, mapTitle(name)) for name in self._nodes)
        for widget, toolTip in self._controls:
            widget.enabled = bool(self._nodes)
            widget.toolTip = toolTip if self._nodes else _NO_MAPS

    def show(self, overlay: Overlay) -> None:
        """Makes the slice views show this; touches nothing when they do already."""
        if not self._nodes or overlay == self._shown:
            return
        before, self._shown = self._shown, overlay
        if not self._choice.choose(overlay.mapName):
            self._choice.choose(next(iter(self._nodes)))
        if before is not None and before.mapName == overlay.mapName and before.threshold != overlay.threshold:
            AttentionDisplay.setThreshold([self.node], overlay.threshold)
        if overlay.visible:
            AttentionDisplay.showOverlay(self.node, overlay.opacity)
            for node in self._nodes.values():
                AttentionDisplay.showLegend(node, overlay.legend and node is self.node)
        elif before is not None and before.visible:
            AttentionDisplay.hideOverlay()

    def cleanup(self) -> None:
        """Lets go of the nodes and takes the connections back."""
        self._nodes = {}
        self._choice.cleanup()
        self._connections.disconnectAll()

    def _onChosen(self, name: str) -> None:
        self._onMapChosen(name, AttentionDisplay.threshold(self._nodes[name]))

    def _onJump(self) -> None:
        if self.node is not None:
            AttentionDisplay.jumpToMaximum(self.node)


def mapTitle(name: str) -> str:
    """`level2.gate1` in words: `Scale 2, sub-gate 1`."""
    level, _dot, gate = name.partition(".")
    title = level.replace("level", "Scale ")
    return f"{title}, {gate.replace('gate', 'sub-gate ')}" if gate else title
