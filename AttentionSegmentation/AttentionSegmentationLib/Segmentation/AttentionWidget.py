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


def overlayOf(parameterNode: Any) -> Overlay:
    """The choices of a `SegmentationParameterNode` about the overlay."""
    return Overlay(
        parameterNode.overlayVisible,
        parameterNode.overlayMap,
        parameterNode.overlayOpacity,
        parameterNode.overlayThreshold,
        parameterNode.overlayLegend,
    )


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
        self._segmentationNode: Any = None
        self._nodes: dict[str, Any] = {}
        self._shown: Overlay | None = None
        self.setSegmentation(None)

    @property
    def node(self) -> Any:
        """The map that is chosen, or None."""
        return self._nodes.get(self._choice.value)

    @property
    def segmentationNode(self) -> Any:
        """The node whose maps are shown, or None."""
        return self._segmentationNode

    @property
    def shownMap(self) -> str | None:
        """The name of the map that lies over the CT in a slice view now, whoever put it there; None without one."""
        return AttentionDisplay.shownMap(self._nodes)

    def setSegmentation(self, segmentationNode: Any) -> None:
        """Takes the maps that belong to this node, in the order in which they were made; the views stay as they are."""
        self._segmentationNode = segmentationNode
        self._setNodes(attentionNodesOf(segmentationNode))

    def adopt(self, overlay: Overlay) -> None:
        """As `show`, of what the slice views show already: they stay as they are until something else is asked for."""
        self._choose(overlay.mapName)
        self._shown = overlay

    def show(self, overlay: Overlay) -> None:
        """Makes the slice views show this; touches nothing when it was asked for already."""
        self._refresh()
        if overlay == self._shown:
            return
        before, self._shown = self._shown, overlay
        self._choose(overlay.mapName)
        node = self.node
        if before is not None and before.mapName == overlay.mapName and before.threshold != overlay.threshold:
            AttentionDisplay.setThreshold([] if node is None else [node], overlay.threshold)
        if overlay.visible and node is not None:
            AttentionDisplay.showOverlay(node, overlay.opacity)
            for other in self._nodes.values():
                AttentionDisplay.showLegend(other, overlay.legend and other is node)
        # One of an earlier result may have stayed; what the user put there while the button was off is not touched.
        elif (before is None or before.visible) and AttentionDisplay.isOverlayShown():
            AttentionDisplay.hideOverlay()

    def cleanup(self) -> None:
        """Lets go of the nodes and takes the connections back."""
        self._segmentationNode = None
        self._nodes = {}
        self._choice.cleanup()
        self._connections.disconnectAll()

    def _refresh(self) -> None:
        """Takes notice of maps that were removed, or replaced by a later run."""
        nodes = attentionNodesOf(self._segmentationNode)
        if list(nodes.items()) != list(self._nodes.items()):
            self._setNodes(nodes)

    def _setNodes(self, nodes: dict[str, Any]) -> None:
        self._nodes = nodes
        self._shown = None
        self._choice.setItems((name, mapTitle(name)) for name in nodes)
        self._choose(self._choice.value)
        for widget, toolTip in self._controls:
            widget.enabled = bool(nodes)
            widget.toolTip = toolTip if nodes else _NO_MAPS

    def _choose(self, mapName: str) -> None:
        """Chooses the first map where there is none of that name."""
        if not self._choice.choose(mapName) and self._nodes:
            self._choice.choose(next(iter(self._nodes)))

    def _onChosen(self, name: str) -> None:
        self._refresh()
        if name in self._nodes:
            self._onMapChosen(name, AttentionDisplay.threshold(self._nodes[name]))

    def _onJump(self) -> None:
        self._refresh()
        if self.node is not None:
            AttentionDisplay.jumpToMaximum(self.node)


def mapTitle(name: str) -> str:
    """`level2.gate1` in words: `Scale 2, sub-gate 1`."""
    level, _dot, gate = name.partition(".")
    title = level.replace("level", "Scale ")
    return f"{title}, {gate.replace('gate', 'sub-gate ')}" if gate else title
