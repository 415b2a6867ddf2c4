"""Slicer's application settings as a store of strings."""

from typing import Any

import slicer


class QtSettings:
    """A group of the user's application settings: `get` and `set` of strings by key."""

    def __init__(self, group: str) -> None:
        self._group = group

    def get(self, key: str, default: Any = None) -> Any:
        """The value as a string, since that is what comes back in the next session; default when there is none."""
        value = slicer.app.userSettings().value(f"{self._group}/{key}")
        return default if value is None else str(value)

    def set(self, key: str, value: str | None) -> None:
        """Keeps a value; None forgets it."""
        settings = slicer.app.userSettings()
        if value is None:
            settings.remove(f"{self._group}/{key}")
        else:
            settings.setValue(f"{self._group}/{key}", value)
