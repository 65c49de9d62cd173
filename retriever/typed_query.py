"""A question that is still being typed: what it may become."""

from __future__ import annotations

import threading
from collections.abc import Sequence

from retriever.lookahead_sources import collapsed
from retriever.types import SearchResult

_MIN_CHARS = 3  # fewer letters begin anything
_MAX_CHARS = 1000  # nobody types more than that again


class TypedText:
    """A LookaheadSource: the text as it stands, for whoever pauses because it is whole.

    `write` is called with the whole of the text, at pauses: in the middle of a word nothing is expected.
    """

    def __init__(self, *, min_words: int = 2) -> None:
        """Shorter texts than `min_words` are no question yet."""
        self._min_words = min_words
        self._text = ""  # replaced as a whole, as threads share it

    def write(self, text: str) -> None:
        """What has been typed so far."""
        self._text = collapsed(text)

    def observe(self, query: str, result: SearchResult | None) -> None:
        """It was asked; the next one begins."""
        self._text = ""

    def expected(self, limit: int) -> Sequence[str]:
        """The text, if it may be a question."""
        text = self._text
        return [text][:limit] if len(text.split()) >= self._min_words else []


class PastQueries:
    """A LookaheadSource: past queries that begin with what is being typed, the most frequent first."""

    def __init__(self, *, max_queries: int = 256) -> None:
        """Remembers the latest `max_queries` distinct ones."""
        self._max_queries = max_queries
        self._lock = threading.Lock()  # guards the two below
        self._counts: dict[str, int] = {}  # the latest last
        self._begun = ""

    def write(self, text: str) -> None:
        """What has been typed so far."""
        with self._lock:
            self._begun = collapsed(text).casefold()

    def observe(self, query: str, result: SearchResult | None) -> None:
        """Remembers a query that found something."""
        text = collapsed(query)
        with self._lock:
            self._begun = ""
            if result is None or not result.hits or len(text) > _MAX_CHARS:
                return
            self._counts[text] = self._counts.pop(text, 0) + 1
            if len(self._counts) > self._max_queries:
                del self._counts[next(iter(self._counts))]

    def expected(self, limit: int) -> Sequence[str]:
        """The ways in which those who began like this went on; of equally frequent ones the latest first."""
        with self._lock:
            if len(self._begun) < _MIN_CHARS:
                return []
            fitting = [text for text in reversed(self._counts) if text.casefold().startswith(self._begun)]
            return sorted(fitting, key=lambda text: -self._counts[text])[:limit]
