"""Sentences for the user inside the panel, each with a link that does something about it."""

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from html import escape
from typing import Any, Literal

from .QtConnections import QtConnections

_MARKS = {"info": "• ", "warning": "⚠ ", "error": "✖ "}


@dataclass(frozen=True)
class Notice:
    """A sentence; action and actionText: what a click on the link after it is called, for the program and the user."""

    sentence: str
    kind: Literal["info", "warning", "error"] = "info"
    action: str | None = None
    actionText: str = ""


class NoticeWidget:
    """Shows notices in a QLabel of rich text, which takes no place while there are none.

    onAction: called with the action of a link that was clicked.
    """

    def __init__(self, label: Any, onAction: Callable[[str], None] | None = None) -> None:
        self._label = label
        self._connections = QtConnections()
        if onAction is not None:
            self._connections.connect(label, "linkActivated(QString)", onAction)
        self.notices: tuple[Notice, ...] = ()
        self.show(())

    def show(self, notices: Iterable[Notice]) -> None:
        """Shows these notices in place of the earlier ones."""
        self.notices = tuple(notices)
        # A bullet tells sentences apart; one alone needs none.
        self._label.text = "<br>".join(map(_html, self.notices)).removeprefix("" if len(self.notices) > 1 else "• ")
        self._label.visible = bool(self.notices)

    def clear(self) -> None:
        """Shows nothing."""
        self.show(())

    def cleanup(self) -> None:
        """Takes the connections back."""
        self._connections.disconnectAll()


def _html(notice: Notice) -> str:
    text = _MARKS[notice.kind] + escape(notice.sentence)
    if notice.action is not None:
        text += f' <a href="{escape(notice.action)}">{escape(notice.actionText)}</a>'
    return text
