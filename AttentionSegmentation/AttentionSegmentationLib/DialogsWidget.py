"""Questions to the user: the only place of the modules where a window pops up."""

from pathlib import Path

import qt
import slicer


class Dialogs:
    """Asks where there is somebody to answer; a test or a run without a main window gets the careful answer."""

    @property
    def interactive(self) -> bool:
        """Whether a user sits in front of Slicer."""
        return not slicer.app.testingEnabled() and slicer.util.mainWindow() is not None

    def confirm(self, question: str, title: str) -> bool:
        """The user's answer to a yes-or-no question; no where there is no user."""
        return self.interactive and bool(slicer.util.confirmYesNoDisplay(question, windowTitle=title))

    def chooseFile(self, caption: str, nameFilter: str) -> Path | None:
        """An existing file that the user chose, or None. nameFilter: as in `Models (*.safetensors)`."""
        if not self.interactive:
            return None
        name = qt.QFileDialog.getOpenFileName(slicer.util.mainWindow(), caption, "", nameFilter)
        return Path(name) if name else None

    def openFolder(self, folder: Path) -> None:
        """Shows a folder in the system's file manager."""
        if self.interactive:
            qt.QDesktopServices.openUrl(qt.QUrl(folder.as_uri()))
