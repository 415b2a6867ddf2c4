"""What the worker and its client have said, kept for a log panel and for error reports."""

import codecs
import logging
from collections import deque
from collections.abc import Callable

_LINES = 2000
_LINE_LENGTH = 2000


class WorkerLog:
    """The last lines, as text. Bytes may be cut anywhere and need not be UTF-8."""

    def __init__(self) -> None:
        self.listeners: list[Callable[[str], None]] = []
        """Each is called with every new line, without its line end."""
        self._added = 0
        self._lines: deque[str] = deque(maxlen=_LINES)
        self._partial = ""
        self._decoder = codecs.getincrementaldecoder("utf-8")("replace")

    @property
    def text(self) -> str:
        """All lines that are kept."""
        return "\n".join([*self._lines, *([self._partial] if self._partial else [])])

    @property
    def mark(self) -> int:
        """The place after the last line, for `since`."""
        return self._added

    def since(self, mark: int, lines: int = 60) -> str:
        """The last lines, none of them from before the mark."""
        self._flush()
        kept = list(self._lines)[-lines:]
        return "\n".join(kept[max(0, len(kept) - (self._added - mark)) :])

    def addLine(self, line: str) -> None:
        """Adds a line, after whatever began a line before."""
        self._flush()
        self._add(line)

    def addBytes(self, data: bytes) -> None:
        """Adds standard error output."""
        # A progress bar writes over its line; here each state of it is a line.
        text = self._partial + self._decoder.decode(data).replace("\r\n", "\n").replace("\r", "\n")
        *lines, self._partial = text.split("\n")
        # No listener could show more of what floods in at once than is kept.
        for line in lines[-_LINES:]:
            if line.strip():
                self._add(line)
        if len(self._partial) > _LINE_LENGTH:
            self._flush()

    def endOfProcess(self) -> None:
        """Ends a line that has no end."""
        self._partial += self._decoder.decode(b"", final=True)
        self._decoder.reset()
        self._flush()

    def _flush(self) -> None:
        partial, self._partial = self._partial, ""
        if partial.strip():
            self._add(partial)

    def _add(self, line: str) -> None:
        line = line.rstrip()
        if len(line) > _LINE_LENGTH:
            line = line[:_LINE_LENGTH] + " …"
        self._lines.append(line)
        self._added += 1
        for listener in tuple(self.listeners):
            try:
                listener(line)
            except Exception:
                # A panel that cannot show a line must not stop the work.
                logging.getLogger(__name__).exception("A listener of the worker's log failed")
