"""A store of strings that lasts as long as the program: what plain Python has in place of Slicer's settings."""

from typing import Any


class MemorySettings:
    """`get` and `set` of strings by key, as QtSettings has them."""

    def __init__(self) -> None:
        self._values: dict[str, str] = {}

    def get(self, key: str, default: Any = None) -> Any:
        """The value that was set; default when there is none."""
        return self._values.get(key, default)

    def set(self, key: str, value: str | None) -> None:
        """Keeps a value; None forgets it."""
        if value is None:
            self._values.pop(key, None)
        else:
            self._values[key] = value
