"""A combo box whose items stand for values."""

from collections.abc import Callable, Iterable
from typing import Any

from .QtConnections import QtConnections


class ChoiceWidget:
    """A QComboBox with a value behind each item's text.

    onChosen: called with the value when the user chooses an item, not when the program does.
    """

    def __init__(self, comboBox: Any, onChosen: Callable[[Any], None]) -> None:
        self._comboBox = comboBox
        self._onChosen = onChosen
        self._values: list[Any] = []
        self._connections = QtConnections()
        self._connections.connect(comboBox, "activated(int)", self._onActivated)

    @property
    def values(self) -> list[Any]:
        """The values in the order of the items."""
        return list(self._values)

    def setItems(self, items: Iterable[tuple[Any, str]]) -> None:
        """items: value and text. What was chosen stays chosen where it is still there."""
        chosen = self.value
        items = list(items)
        self._values = [value for value, _text in items]
        self._comboBox.clear()
        for _value, text in items:
            self._comboBox.addItem(text)
        self.choose(chosen)

    @property
    def value(self) -> Any:
        """The chosen value, or None."""
        index = self._comboBox.currentIndex
        return self._values[index] if 0 <= index < len(self._values) else None

    def choose(self, value: Any) -> bool:
        """Chooses an item; none when there is no such value, which returns False."""
        found = value in self._values
        self._comboBox.currentIndex = self._values.index(value) if found else -1
        return found

    def cleanup(self) -> None:
        """Takes the connections back."""
        self._connections.disconnectAll()

    def _onActivated(self, index: int) -> None:
        self._onChosen(self._values[index])
