"""The choice of a model: combo box, details, adding, downloading, and the folder of downloaded models."""

from collections.abc import Callable
from html import escape
from pathlib import Path
from typing import Any

import slicer

from AGTraining.errors import AGTrainingError

from .ChoiceWidget import ChoiceWidget
from .DialogsWidget import Dialogs
from .Model import Model
from .ModelCatalogue import ModelCatalogue
from .QtConnections import QtConnections

_FILE_FILTER = "Models (*.safetensors)"


class ModelWidget:
    """Shows the catalogue's models for a task.

    ui: has modelComboBox, modelDetailsLabel (of rich text), addModelButton, downloadModelButton, removeModelButton,
    modelFolderButton (a ctkDirectoryButton), openModelFolderButton and clearModelFolderButton.
    onChanged: called when the user chose another model, or the chosen one was downloaded or removed. onError: called
    with a sentence.
    """

    def __init__(
        self,
        ui: Any,
        catalogue: ModelCatalogue,
        task: str,
        dialogs: Dialogs,
        onChanged: Callable[[], None],
        onError: Callable[[str], None],
    ) -> None:
        self._ui = ui
        self._catalogue = catalogue
        self._task = task
        self._dialogs = dialogs
        self._onChanged = onChanged
        self._onError = onError
        self._models: dict[str, Model] = {}
        self._missingId: str | None = None
        self._isInstalled = False
        self._choice = ChoiceWidget(ui.modelComboBox, self._onChosen)
        self._connections = QtConnections()
        for button, slot in (
            (ui.addModelButton, self._onAdd),
            (ui.downloadModelButton, self._onDownload),
            (ui.removeModelButton, self._onRemove),
            (ui.openModelFolderButton, self._onOpenFolder),
            (ui.clearModelFolderButton, self._onClearFolder),
        ):
            self._connections.connect(button, "clicked()", slot)
        ui.modelFolderButton.directory = str(catalogue.cacheFolder)
        self._connections.connect(ui.modelFolderButton, "directorySelected(QString)", self._onFolderSelected)
        self.refresh()

    @property
    def model(self) -> Model | None:
        """The chosen model; None when there is none of the id that was asked for."""
        return self._models.get(self._choice.value)

    def refresh(self) -> None:
        """Reads the catalogue again."""
        self._models = {model.id: model for model in self._catalogue.models(self._task)}
        self._choice.setItems((model.id, model.title) for model in self._models.values())
        self._showDetails()

    def choose(self, modelId: str) -> None:
        """Chooses a model; empty is the catalogue's first. Nothing is chosen when there is none of that id."""
        if not modelId and self._models:
            modelId = next(iter(self._models))
        before = self.model
        self._missingId = None if self._choice.choose(modelId) else modelId
        if self.model is not before:
            self._showDetails()

    def checkFile(self) -> None:
        """Looks again whether the chosen model's file is there."""
        self._showDetails()

    def disabledReason(self) -> str | None:
        """Why the chosen model cannot be used, or None. What it says of the file is as old as the last look at it."""
        model = self.model
        if model is None:
            name = (self._missingId or "").removeprefix("user:")
            which = f"The model '{name}' is not among the models" if name else "There is no model"
            return f"{which}; choose another one, or add its file."
        if not self._isInstalled:
            if model.source == "download":
                return f"The model '{model.title}' is not on this computer yet; download it first."
            return f"{model.path}: the file of the model '{model.title}' is gone; choose another model."
        return None

    def setEnabled(self, enabled: bool) -> None:
        """While something runs, the model stays."""
        ui = self._ui
        for widget in (ui.modelComboBox, ui.addModelButton, ui.downloadModelButton, ui.removeModelButton):
            widget.enabled = enabled

    def cleanup(self) -> None:
        """Takes the connections back."""
        self._choice.cleanup()
        self._connections.disconnectAll()

    def _showDetails(self) -> None:
        model = self.model
        self._isInstalled = installed = model is not None and self._catalogue.isInstalled(model)
        details = "" if model is None else detailsHtml(model)
        # Text that is set again loses what the user has selected in it.
        if self._ui.modelDetailsLabel.text != details:
            self._ui.modelDetailsLabel.text = details
        self._ui.modelDetailsLabel.toolTip = "" if model is None else escape(model.description)
        self._ui.modelDetailsLabel.visible = model is not None
        self._ui.downloadModelButton.visible = model is not None and model.source == "download" and not installed
        removable = model is not None and (model.source == "user" or (model.source == "download" and installed))
        self._ui.removeModelButton.visible = removable
        if removable:
            self._ui.removeModelButton.text = "Remove from list" if model.source == "user" else "Delete download"
        if model is not None and model.sizeBytes:
            self._ui.downloadModelButton.text = f"Download ({model.sizeBytes / 1e6:.0f} MB)"

    def _changed(self) -> None:
        chosen = self._choice.value
        self.refresh()
        self.choose(chosen if chosen in self._models else "")
        self._onChanged()

    def _onChosen(self, modelId: str) -> None:
        self.choose(modelId)
        self._onChanged()

    def _onAdd(self) -> None:
        path = self._dialogs.chooseFile("Add a model", _FILE_FILTER)
        if path is not None:
            self.addFile(path)

    def addFile(self, path: Path) -> None:
        """Puts a model of the user's into the catalogue and chooses it."""
        try:
            model = self._catalogue.addFromFile(path, self._task)
        except AGTrainingError as error:
            self._onError(str(error))
            return
        self.refresh()
        self.choose(model.id)
        self._onChanged()

    def _onDownload(self) -> None:
        model = self.model
        if model is None:
            return
        try:
            with slicer.util.WaitCursor():
                self._catalogue.install(model)
        except AGTrainingError as error:
            self._onError(str(error))
        self._changed()

    def _onRemove(self) -> None:
        model = self.model
        if model is None:
            return
        try:
            self._catalogue.remove(model)
        except AGTrainingError as error:
            self._onError(str(error))
        self._changed()

    def _onFolderSelected(self, folder: str) -> None:
        self._catalogue.cacheFolder = Path(folder)
        self._changed()

    def _onOpenFolder(self) -> None:
        folder = self._catalogue.cacheFolder
        try:
            folder.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            self._onError(f"{folder}: the folder cannot be made ({error.strerror}); choose another model folder.")
            return
        self._dialogs.openFolder(folder)

    def _onClearFolder(self) -> None:
        folder = self._catalogue.cacheFolder
        if self._dialogs.confirm(f"Delete the downloaded models in {folder}?", "Clear model folder"):
            try:
                self._catalogue.clearCache()
            except AGTrainingError as error:
                self._onError(str(error))
            self._changed()


def detailsHtml(model: Model) -> str:
    """License, training data and measured quality of a model, as rich text of a few lines."""
    lines = (("License", model.licence), ("Trained on", model.trainingData), ("Measured", model.performance))
    return "<br>".join(f"<b>{name}:</b> {escape(text)}" for name, text in lines if text)
