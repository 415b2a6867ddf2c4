"""The panel of the module: keeps its widgets, the choices in the scene and the results in step."""

from pathlib import Path
from typing import Any

import qt
import slicer
import vtk

from AGTraining.errors import AGTrainingError

from ..ChoiceWidget import ChoiceWidget
from ..Dependencies import Dependencies
from ..DependenciesWidget import DependenciesWidget
from ..DeviceWidget import DeviceWidget
from ..DialogsWidget import Dialogs
from ..LogWidget import LogWidget
from ..ModelCatalogue import ModelCatalogue
from ..ModelWidget import ModelWidget
from ..NoticeWidget import NoticeWidget
from ..QtConnections import QtConnections
from ..QtSettings import QtSettings
from . import AttentionDisplay
from .AttentionWidget import AttentionWidget, overlayOf
from .OrgansWidget import OrgansWidget
from .PanelChoices import choiceOfAction, findingNotices, processingOptions
from .ProcessingOptions import ProcessingOptions
from .ResultsWidget import ResultsWidget
from .SegmentationRunWidget import RunRequest, SegmentationRunWidget
from .SequenceFrames import isFrameOfSequence
from .VolumeChecks import Finding, checkBeforeRun

_FRAMES = (("current", "The one that is shown"), ("all", "All"))
# Dragging a slider must not read the whole CT again with every pixel.
_CHECK_DELAY_MS = 150


class SegmentationWidget:
    """Connects the widgets of AttentionSegmentation.ui with a parameter node and the logic.

    ui: the widgets by name, as `slicer.util.childWidgetVariables` gives them. The last three take the
    place of the real ones in tests.
    """

    def __init__(
        self,
        ui: Any,
        logic: Any,
        catalogue: ModelCatalogue | None = None,
        dependencies: Dependencies | None = None,
        dialogs: Dialogs | None = None,
    ) -> None:
        self._ui = ui
        self._logic = logic
        self._dialogs = dialogs or Dialogs()
        self._parameterNode: Any = None
        self._guiTag: Any = None
        self._observerTag: Any = None
        self._findings: tuple[Finding, ...] = ()
        self._isAskingForDevices = False
        self._checkTimer = qt.QTimer()
        self._checkTimer.singleShot = True
        self._checkTimer.interval = _CHECK_DELAY_MS
        self._connections = QtConnections()
        self._connections.connect(self._checkTimer, "timeout()", self._check)
        self._connections.connect(ui.advancedCollapsibleButton, "contentsCollapsed(bool)", self._onAdvancedCollapsed)
        catalogue = catalogue or ModelCatalogue(settings=QtSettings("AttentionSegmentation"))
        self._makeChoices(catalogue)
        self._makeRun(dependencies or Dependencies())
        logic.addLogListener(self._log.append)
        self._update()

    def _makeChoices(self, catalogue: ModelCatalogue) -> None:
        ui = self._ui
        self._frames = ChoiceWidget(ui.framesComboBox, lambda value: self._set("frames", value))
        self._frames.setItems(_FRAMES)
        self._organs = OrgansWidget(ui.organsContainer, lambda names: self._set("omittedOrgans", names))
        self._model = ModelWidget(ui, catalogue, "segmentation", self._dialogs, self._onModelChanged, self._showError)
        self._device = DeviceWidget(
            ui, lambda value: self._set("device", value), lambda value: self._set("tileSize", value)
        )
        self._findingsNotice = NoticeWidget(ui.findingsLabel, self._onFindingAction)
        self._attention = AttentionWidget(ui, self._onMapChosen)
        self._results = ResultsWidget(ui)

    def _makeRun(self, dependencies: Dependencies) -> None:
        ui = self._ui
        self._log = LogWidget(ui)
        self._dependencies = DependenciesWidget(
            ui.dependenciesContainer, dependencies, self._dialogs, self._onDependenciesResolved, self._showError
        )
        self._run = SegmentationRunWidget(
            ui,
            self._logic,
            self._log,
            self._dependencies,
            self._dialogs,
            self._runRequest,
            self._onRunChanged,
            self._onFinished,
        )

    def setParameterNode(self, parameterNode: Any) -> None:
        """Shows these choices from now on and follows them; None shows none. What runs goes on."""
        if self._parameterNode is not None:
            self._parameterNode.disconnectGui(self._guiTag)
            self._parameterNode.RemoveObserver(self._observerTag)
        self._parameterNode = parameterNode
        if parameterNode is not None:
            self._adoptOverlay()
            self._guiTag = parameterNode.connectGui(self._ui)
            self._observerTag = parameterNode.AddObserver(vtk.vtkCommand.ModifiedEvent, self._onModified)
        self._update()

    def cancel(self) -> None:
        """Ends what runs; the scene stays as it is."""
        self._run.cancel()

    def addModelFile(self, path: Path) -> None:
        """Puts a model of the user's into the list and chooses it."""
        self._model.addFile(path)

    def cleanup(self) -> None:
        """Gives up what runs, ends the worker, lets go of all nodes, and takes all connections and observers back."""
        self.setParameterNode(None)
        self._checkTimer.stop()
        self._run.cleanup()
        self._logic.removeLogListener(self._log.append)
        for part in (
            self._frames,
            self._organs,
            self._model,
            self._device,
            self._findingsNotice,
            self._attention,
            self._results,
            self._dependencies,
            self._log,
        ):
            part.cleanup()
        self._connections.disconnectAll()

    def _set(self, name: str, value: Any) -> None:
        if self._parameterNode is not None:
            setattr(self._parameterNode, name, value)

    def _onModified(self, _caller: Any, _event: str) -> None:
        self._update()

    def _update(self) -> None:
        """Makes the panel show the choices."""
        parameterNode = self._parameterNode
        idle = parameterNode is not None and not self._run.isRunning
        ui = self._ui
        for widget in (ui.inputSelector, ui.outputSelector, ui.framesComboBox, ui.organsContainer):
            widget.enabled = idle
        self._model.setEnabled(idle)
        if parameterNode is None:
            self._results.show(None, ())
            self._attention.setSegmentation(None)
            self._updateReason()
            return
        self._model.choose(parameterNode.modelId)
        self._organs.setLabels(self._model.model.labels if self._model.model is not None else ())
        self._organs.setOmitted(parameterNode.omittedOrgans)
        inSequence = isFrameOfSequence(parameterNode.inputVolume)
        self._ui.framesLabel.visible = inSequence
        self._ui.framesComboBox.visible = inSequence
        self._frames.choose(parameterNode.frames)
        hasAttention = self._model.model is not None and self._model.model.hasAttention
        self._ui.attentionCheckBox.enabled = hasAttention
        self._ui.subGatesCheckBox.enabled = hasAttention and parameterNode.attention
        self._device.chooseDevice(parameterNode.device)
        self._device.chooseTileSize(parameterNode.tileSize)
        self._showResults()
        self._updateReason()
        self._checkTimer.start()

    def _showResults(self) -> None:
        parameterNode = self._parameterNode
        segmentationNode = parameterNode.resultSegmentation
        self._results.show(segmentationNode, parameterNode.resultMessages)
        if segmentationNode is not self._attention.segmentationNode:
            self._attention.setSegmentation(segmentationNode)
        self._attention.show(overlayOf(parameterNode))

    def _adoptOverlay(self) -> None:
        """Lets the choices say what the slice views show: they may have changed while nobody followed the choices."""
        parameterNode = self._parameterNode
        self._attention.setSegmentation(parameterNode.resultSegmentation)
        mapName = self._attention.shownMap
        with slicer.util.NodeModify(parameterNode):
            parameterNode.overlayVisible = mapName is not None
            if mapName is not None:
                parameterNode.overlayMap = mapName
        if mapName is not None:
            self._attention.adopt(overlayOf(parameterNode))

    def _options(self) -> ProcessingOptions:
        return processingOptions(self._parameterNode, self._model.model, self._organs.kept())

    def _check(self) -> None:
        """Looks at the input volume and shows what was found."""
        self._findings = ()
        self._model.checkFile()
        volumeNode = self._parameterNode.inputVolume if self._parameterNode is not None else None
        if volumeNode is not None and AttentionDisplay.isAttentionMap(volumeNode):
            # The selector lists them: it cannot leave out nodes that have an attribute.
            sentence = f"{volumeNode.GetName()}: this is an attention map; choose the CT that it was made from."
            self._findings = (Finding("attentionMap", sentence, blocking=True),)
        elif self._parameterNode is not None and self._model.model is not None:
            self._findings = checkBeforeRun(volumeNode, self._options(), self._device.devices)
        # That nothing was chosen yet is no news: the button's tooltip says it.
        self._findingsNotice.show(findingNotices(self._findings) if volumeNode is not None else ())
        self._updateReason()

    def _updateReason(self) -> None:
        self._run.setDisabledReason(self._disabledReason())

    def _disabledReason(self) -> str | None:
        if self._parameterNode is None:
            return "There is no scene."
        if self._parameterNode.inputVolume is None:
            return "Select the input volume: a CT of the abdomen."
        reason = self._model.disabledReason()
        if reason is not None:
            return reason
        if self._organs.kept() == ():
            return "Tick at least one organ."
        return next((finding.sentence for finding in self._findings if finding.blocking), None)

    def _runRequest(self) -> RunRequest | None:
        self._check()
        reason = self._disabledReason()
        if reason is not None:
            # Something changed since the button was enabled: the model's file was deleted, say.
            self._showError(reason)
            return None
        parameterNode = self._parameterNode
        return RunRequest(
            parameterNode.inputVolume,
            self._options(),
            parameterNode.outputSegmentation,
            parameterNode.frames if isFrameOfSequence(parameterNode.inputVolume) else "current",
            parameterNode.keepLogs,
        )

    def _onRunChanged(self) -> None:
        self._update()
        if not self._run.isRunning:
            self._askForDevices()

    def _onFinished(self, result: Any) -> None:
        # The panel may show no choices at the moment: another module is open. The scene has them all the same.
        parameterNode = self._logic.getParameterNode()
        with slicer.util.NodeModify(parameterNode):
            parameterNode.resultMessages = list(result.messages)
            parameterNode.resultSegmentation = result.segmentationNode
            maps = result.attentionNodes
            if parameterNode.overlayMap not in maps:
                parameterNode.overlayMap = next(iter(maps), "")
            if maps:
                parameterNode.overlayThreshold = AttentionDisplay.threshold(maps[parameterNode.overlayMap])
            else:
                parameterNode.overlayVisible = False
        # Nodes and choices may be those of before, with other contents.
        self._update()
        self._ui.resultsCollapsibleButton.collapsed = False

    def _onModelChanged(self) -> None:
        model = self._model.model
        self._set("modelId", model.id if model is not None else "")
        self._update()

    def _onMapChosen(self, name: str, threshold: float) -> None:
        with slicer.util.NodeModify(self._parameterNode):
            self._parameterNode.overlayMap = name
            self._parameterNode.overlayThreshold = threshold

    def _onFindingAction(self, action: str) -> None:
        self._set(*choiceOfAction(action))

    def _onDependenciesResolved(self) -> None:
        self._update()
        self._askForDevices()

    def _onAdvancedCollapsed(self, collapsed: bool) -> None:
        self._askForDevices()

    def _askForDevices(self) -> None:
        """Has the worker list the devices, once, when somebody looks at the list."""
        if self._ui.advancedCollapsibleButton.collapsed or self._device.devices is not None:
            return
        if self._run.isRunning or self._isAskingForDevices or not self._dependencies.check():
            return
        model = self._model.model
        self._isAskingForDevices = True
        try:
            self._logic.describe(self._onDevices, self._onDeviceError, model.path if model is not None else None)
        except AGTrainingError as error:
            self._onDeviceError(error)

    def _onDevices(self, description: dict[str, Any]) -> None:
        self._isAskingForDevices = False
        self._device.setDevices(description.get("devices", ()))
        self._check()

    def _onDeviceError(self, error: AGTrainingError) -> None:
        self._isAskingForDevices = False
        self._dependencies.showWorkerError(error)
        self._log.append(f"The devices could not be listed: {error}")

    def _showError(self, sentence: str) -> None:
        self._run.showError(sentence)
