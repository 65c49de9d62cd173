"""Which lines of its file a piece of a document is: counted in the document's text, stored nowhere."""

from __future__ import annotations

import threading
from collections import OrderedDict
from collections.abc import Callable, Hashable
from typing import TYPE_CHECKING

from indexer.types import LineRange

if TYPE_CHECKING:
    import numpy as np

# The parsers whose text is the file's own, line for line; that of the others is put together.
_KEEP_LINES = frozenset({"text", "markdown", "rst", "asciidoc", "org", "tree-sitter", "lines"})
_MAX_NEWLINES = 1 << 20  # that are remembered: 4 MiB


def keeps_lines(parser: str) -> bool:
    """Whether the lines of what this parser makes are those of the file."""
    return parser in _KEEP_LINES


def lines_between(text: str, start: int, end: int) -> LineRange:
    """The lines, from 1, of the first and the last character of text[start:end]."""
    first = text.count("\n", 0, start) + 1
    return LineRange(first, first + text.count("\n", start, max(start, end - 1)))


class LineNumbers:
    """Finds lines in texts that are costly to get: of the last ones it remembers where the lines end.

    Threads may share it.
    """

    def __init__(self, *, max_newlines: int = _MAX_NEWLINES) -> None:
        self._max_newlines = max_newlines
        self._num_newlines = 0
        self._newlines: OrderedDict[Hashable, np.ndarray] = OrderedDict()  # the last used is the last
        self._lock = threading.Lock()

    def find(self, key: Hashable, start: int, end: int, text: Callable[[], str]) -> LineRange:
        """The same as `lines_between`. `text` is called unless the text of this key is remembered."""
        import numpy as np

        newlines = self._remembered(key)
        if newlines is None:
            newlines = _newlines(text())
            self._remember(key, newlines)
        first, last = np.searchsorted(newlines, [start, max(start, end - 1)]).tolist()
        return LineRange(first + 1, last + 1)

    def _remembered(self, key: Hashable) -> np.ndarray | None:
        with self._lock:
            newlines = self._newlines.get(key)
            if newlines is not None:
                self._newlines.move_to_end(key)
            return newlines

    def _remember(self, key: Hashable, newlines: np.ndarray) -> None:
        with self._lock:
            if key in self._newlines:  # another thread was quicker
                return
            self._newlines[key] = newlines
            # A text of one line takes a place as well.
            self._num_newlines += 1 + len(newlines)
            while self._num_newlines > self._max_newlines and len(self._newlines) > 1:
                _, forgotten = self._newlines.popitem(last=False)
                self._num_newlines -= 1 + len(forgotten)


def _newlines(text: str) -> np.ndarray:
    """(n,) int32 offsets of the newlines."""
    import numpy as np

    if text.isascii():
        codes = np.frombuffer(text.encode("ascii"), np.uint8)
    else:
        codes = np.frombuffer(text.encode("utf-32-le", "surrogatepass"), np.uint32)
    return np.flatnonzero(codes == ord("\n")).astype(np.int32)
