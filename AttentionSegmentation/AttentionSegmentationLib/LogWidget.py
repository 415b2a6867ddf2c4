"""The log panel: what a computation printed, to read and to copy into a report."""

from typing import Any

import slicer

from .QtConnections import QtConnections


class LogWidget:
    """Lines in a read-only QPlainTextEdit, with a button that copies them and one that clears them.

    ui: has logTextEdit, copyLogButton and clearLogButton.
    """

    def __init__(self, ui: Any) -> None:
        self._textEdit = ui.logTextEdit
        self._connections = QtConnections()
        self._connections.connect(ui.copyLogButton, "clicked()", self.copy)
        self._connections.connect(ui.clearLogButton, "clicked()", self.clear)

    @property
    def text(self) -> str:
        """All lines that are still held."""
        return self._textEdit.plainText

    def append(self, text: str) -> None:
        """Adds lines at the end."""
        for line in text.splitlines():
            self._textEdit.appendPlainText(line)

    def clear(self) -> None:
        """Forgets all lines."""
        self._textEdit.clear()

    def copy(self) -> None:
        """Puts the log into the clipboard."""
        slicer.app.clipboard().setText(self.text)

    def cleanup(self) -> None:
        """Takes the connections back."""
        self._connections.disconnectAll()
