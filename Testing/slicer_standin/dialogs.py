"""Dialogs that would wait for the user: recorded, and answered by what the test said."""

from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any


class UnexpectedDialog(AssertionError):
    """A dialog opened that the test had not announced."""


@dataclass(frozen=True)
class Dialog:
    """One dialog that was shown."""

    kind: str
    """info, warning, error, confirm, message, file (open), save, folder, text, menu, dialog, url or pip."""
    text: str
    details: dict[str, Any] = field(default_factory=dict)
    """Further arguments or properties, such as the window title."""


@dataclass(frozen=True)
class _Expectation:
    kind: str
    contains: str
    answer: Any


class Dialogs:
    """What was shown, in order, and the answers still to be given."""

    def __init__(self) -> None:
        self.shown: list[Dialog] = []
        self.unexpected: list[Dialog] = []
        self._expected: list[_Expectation] = []

    def expect(self, kind: str, contains: str = "", answer: Any = None) -> None:
        """Announces a dialog: its kind, a part of its text, and the answer.

        Answers: bool for "confirm" (None: True); a path for "file", "save" and "folder"; a text for "text"; the text of
        the chosen action for "menu"; the text or value of the button for "message" and "dialog".
        """
        self._expected.append(_Expectation(kind, contains, answer))

    def texts(self, kind: str = "") -> list[str]:
        """The texts of the dialogs shown, of one kind or of all."""
        return [dialog.text for dialog in self.shown if kind in ("", dialog.kind)]

    def show(self, kind: str, text: str, **details: Any) -> Any:
        """Called in place of a dialog: gives the answer, or raises UnexpectedDialog."""
        dialog = Dialog(kind, str(text), details)
        self.shown.append(dialog)
        for expectation in self._expected:
            if expectation.kind == kind and expectation.contains in dialog.text:
                self._expected.remove(expectation)
                return expectation.answer
        self.unexpected.append(dialog)
        raise UnexpectedDialog(f"Unexpected {kind} dialog: {dialog.text}")

    def problems(self) -> Iterator[str]:
        """Dialogs that nobody announced, and announced ones that did not come."""
        for dialog in self.unexpected:
            yield f"unexpected {dialog.kind} dialog: {dialog.text}"
        for expectation in self._expected:
            yield f"no {expectation.kind} dialog with {expectation.contains!r} was shown"


current = Dialogs()
"""The record of the running test; `fixtures.slicerApplication` makes a fresh one."""


def show(kind: str, text: str, **details: Any) -> Any:
    """Shows a dialog of the running test."""
    return current.show(kind, text, **details)
