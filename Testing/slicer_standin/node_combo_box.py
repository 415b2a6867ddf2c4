"""qMRMLNodeComboBox: chooses a node of the scene."""

from typing import Any, ClassVar

import slicer
from PySide6 import QtCore, QtWidgets

from Testing.slicer_standin import dialogs
from Testing.slicer_standin.scene_observer import SceneObserver
from Testing.slicer_standin.ui_loader import registered
from Testing.slicer_standin.widget_parts import row, stored


@registered
class qMRMLNodeComboBox(QtWidgets.QWidget):
    """Lists the nodes of the scene that pass its filters; follows the scene as Slicer's widget does."""

    slicerName = "slicer.qMRMLNodeComboBox"
    signalOverloads: ClassVar = {"currentNodeChanged(bool)": lambda node: (node is not None,)}
    currentNodeChanged = QtCore.Signal(object)
    currentNodeIDChanged = QtCore.Signal(str)
    nodeActivated = QtCore.Signal(object)
    nodeAdded = QtCore.Signal(object)
    nodeAddedByUser = QtCore.Signal(object)
    nodeAboutToBeRemoved = QtCore.Signal(object)
    currentNodeRenamed = QtCore.Signal(str)

    nodeTypes = stored("QStringList", "nodeTypes", [], changed="_refresh")
    showHidden = stored(bool, "showHidden", False, changed="_refresh")
    showChildNodeTypes = stored(bool, "showChildNodeTypes", True, changed="_refresh")
    hideChildNodeTypes = stored("QStringList", "hideChildNodeTypes", [], changed="_refresh")
    noneEnabled = stored(bool, "noneEnabled", False, changed="_onNoneItem")
    noneDisplay = stored(str, "noneDisplay", "None", changed="_refresh")
    addEnabled = stored(bool, "addEnabled", True, changed="_refresh")
    removeEnabled = stored(bool, "removeEnabled", True, changed="_refresh")
    editEnabled = stored(bool, "editEnabled", False, changed="_refresh")
    renameEnabled = stored(bool, "renameEnabled", False, changed="_refresh")
    selectNodeUponCreation = stored(bool, "selectNodeUponCreation", True)
    baseName = stored(str, "baseName", "")
    interactionNodeSingletonTag = stored(str, "interactionNodeSingletonTag", "")

    def __init__(self, parent: QtWidgets.QWidget | None = None) -> None:
        super().__init__(parent)
        self._combo = QtWidgets.QComboBox()
        self._combo.setSizePolicy(QtWidgets.QSizePolicy.Policy.Expanding, QtWidgets.QSizePolicy.Policy.Fixed)
        self._combo.setMinimumContentsLength(6)
        row(self, self._combo)
        self._scene: Any = None
        self._nodes: list[Any] = []
        self._current: Any = None
        self._requested: Any = None
        self._attributes: dict[str, tuple[str, str | None]] = {}
        self._labels: dict[str, str] = {}
        self._userActions: list[Any] = []
        self._observer = SceneObserver(self, self._refresh, self._onNodeAdded, self._onNodeRemoved)
        self._combo.activated.connect(self._onActivated)
        self.setEnabled(False)
        self._refresh()

    def mrmlScene(self) -> Any:
        return self._scene

    def setMRMLScene(self, scene: Any) -> None:
        if scene is self._scene:
            return
        self._scene = scene
        self._observer.observe(scene)
        self._refresh()
        if scene is not None and self._requested is not None:
            self.setCurrentNode(self._requested)
        elif scene is not None and self._current is None and self._nodes and not self.noneEnabled:
            self._select(self._nodes[0])
        self._requested = None
        self.setEnabled(scene is not None)

    def currentNode(self) -> Any:
        return self._current

    def setCurrentNode(self, node: Any) -> None:
        if isinstance(node, str):
            self.setCurrentNodeID(node)
            return
        if self._scene is None:
            self._requested = node
        self._select(node if any(node is one for one in self._nodes) else None)

    def setCurrentNodeID(self, identifier: str) -> None:
        if self._scene is None:
            self._requested = slicer.mrmlScene.GetNodeByID(identifier or "")
        self._select(next((node for node in self._nodes if node.GetID() == identifier), None))

    def _currentID(self) -> str:
        return self._current.GetID() or "" if self._current is not None else ""

    currentNodeID = QtCore.Property(str, _currentID, setCurrentNodeID)

    def setCurrentNodeIndex(self, index: int) -> None:
        self._select(self._nodes[index] if 0 <= index < len(self._nodes) else None)

    def nodeCount(self) -> int:
        return len(self._nodes)

    def nodeFromIndex(self, index: int) -> Any:
        return self._nodes[index] if 0 <= index < len(self._nodes) else None

    def addAttribute(self, nodeType: str, name: str, value: Any = None) -> None:
        self._attributes[nodeType] = (name, None if value is None else str(value))
        self._refresh()

    def removeAttribute(self, nodeType: str, name: str) -> None:
        self._attributes.pop(nodeType, None)
        self._refresh()

    def setNodeTypeLabel(self, label: str, nodeType: str) -> None:
        self._labels[nodeType] = label
        self._refresh()

    def nodeTypeLabel(self, nodeType: str) -> str:
        if nodeType in self._labels:
            return self._labels[nodeType]
        return (self._scene and self._scene.GetTypeDisplayNameByClassName(nodeType)) or "node"

    def addMenuAction(self, action: Any) -> None:
        self._userActions.append(action)
        self._refresh()

    def addNode(self, nodeType: str = "") -> Any:
        nodeType = nodeType or next(iter(self.nodeTypes), "")
        if self._scene is None or nodeType not in self.nodeTypes:
            return None
        node = self._scene.CreateNodeByClass(nodeType)
        node.UnRegister(None)
        base = self.baseName or node.GetName() or node.GetDefaultNodeNamePrefix()
        node.SetName(self._scene.GetUniqueNameByString(base))
        for name, value in self._attributes.values():
            node.SetAttribute(name, value or "")
        node = self._scene.AddNode(node)
        if self.selectNodeUponCreation:
            self.setCurrentNode(node)
        self.nodeAddedByUser.emit(node)
        return node

    def removeCurrentNode(self) -> None:
        if self._current is not None:
            self._scene.RemoveNode(self._current)

    def renameCurrentNode(self) -> None:
        name = dialogs.show("text", "New name:") if self._current is not None else None
        if name:
            self._current.SetName(name)
            self.currentNodeRenamed.emit(name)

    def _accepts(self, node: Any) -> bool:
        if node.GetHideFromEditors() and not self.showHidden:
            return False
        for nodeType in self.nodeTypes:
            if not node.IsA(nodeType) or (not self.showChildNodeTypes and nodeType != node.GetClassName()):
                continue
            if self.showChildNodeTypes and any(node.IsA(hidden) for hidden in self.hideChildNodeTypes):
                return False
            name, value = self._attributes.get(nodeType, ("", None))
            return not name or (node.GetAttribute(name) is not None and value in (None, node.GetAttribute(name)))
        return not self.nodeTypes

    def _actions(self) -> list[tuple[str, Any]]:
        if self._scene is None:
            return []
        label = self.nodeTypeLabel(self.nodeTypes[0] if len(self.nodeTypes) == 1 else "")
        actions = []
        if self.renameEnabled:
            actions.append((f"Rename current {label}", self.renameCurrentNode))
        if self.addEnabled:
            for kind in self.nodeTypes:
                actions.append((f"Create new {self.nodeTypeLabel(kind)}", lambda kind=kind: self.addNode(kind)))
        if self.removeEnabled:
            actions.append((f"Delete current {label}", self.removeCurrentNode))
        return actions + [(action.text(), action.trigger) for action in self._userActions]

    def _refresh(self) -> None:
        """Reads the scene again; the current node stays while it is still listed."""
        if "_userActions" not in self.__dict__ or self._observer.isPaused():
            return
        before = [node.GetName() for node in self._nodes if node is self._current]
        names = [self._combo.itemText(self._combo.currentIndex())] if before else []
        nodes = self._observer.nodes()
        self._nodes = [node for node in nodes if self._accepts(node)]
        self._observer.observeNodes(nodes)
        self._fill()
        if self._current is not None and not any(self._current is node for node in self._nodes):
            self._select(None if self.noneEnabled or not self._nodes else self._nodes[-1])
        elif names and names != [self._current.GetName()]:
            self._emitCurrent()

    def _fill(self) -> None:
        self._combo.blockSignals(True)
        self._combo.clear()
        if self.noneEnabled:
            self._combo.addItem(self.noneDisplay)
        for node in self._nodes:
            self._combo.addItem(node.GetName())
        actions = self._actions()
        if actions:
            self._combo.insertSeparator(self._combo.count())
        for text, action in actions:
            self._combo.addItem(text, action)
        nodeType = self.nodeTypes[0] if self.nodeTypes else ""
        self._combo.setPlaceholderText(f"Select a {self.nodeTypeLabel(nodeType)}")
        self._combo.setCurrentIndex(self._row(self._current))
        self._combo.blockSignals(False)

    def _row(self, node: Any) -> int:
        found = next((index for index, one in enumerate(self._nodes) if one is node), None)
        return found + self.noneEnabled if found is not None else (0 if self.noneEnabled else -1)

    def _select(self, node: Any) -> None:
        changed = node is not self._current
        self._current = node
        self._combo.setCurrentIndex(self._row(node))
        if changed:
            self._emitCurrent()

    def _emitCurrent(self) -> None:
        self.currentNodeChanged.emit(self._current)
        self.currentNodeIDChanged.emit(self._currentID())

    def _onNoneItem(self) -> None:
        self._refresh()

    def _onNodeAdded(self, node: Any) -> None:
        wasEmpty = not self._nodes
        self._refresh()
        if any(node is one for one in self._nodes):
            # A combo box that was empty chooses its first item.
            if wasEmpty and self._current is None and not self.noneEnabled and not self._actions():
                self._select(node)
            self.nodeAdded.emit(node)

    def _onNodeRemoved(self, node: Any) -> None:
        if any(node is one for one in self._nodes):
            self.nodeAboutToBeRemoved.emit(node)

    def _onActivated(self, index: int) -> None:
        action = self._combo.itemData(index)
        number = index - self.noneEnabled
        if callable(action):
            self._combo.setCurrentIndex(self._row(self._current))
            action()
        elif number < len(self._nodes):
            node = self._nodes[number] if number >= 0 else None
            self._select(node)
            self.nodeActivated.emit(node)
