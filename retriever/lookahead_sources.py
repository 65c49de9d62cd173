"""Where a LookaheadRetriever's expectations come from."""

from __future__ import annotations

import threading
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Sequence
from itertools import islice
from typing import Protocol

from retriever.rounds import ends_sentence, is_settled, query_from_draft
from retriever.types import Hit, SearchResult


class LookaheadSource(Protocol):
    """Where expected queries come from. Called from several threads; `observe` holds up the one who asked."""

    def observe(self, query: str, result: SearchResult | None) -> None:
        """Learns of a query that was asked, and what was found; None if the search failed."""
        ...

    def expected(self, limit: int) -> Sequence[str]:
        """Up to `limit` queries that are likely to be asked next, the likeliest first."""
        ...


class QueuedQueries:
    """Queries that will be asked in this order: a session's queue, the parts of a question."""

    def __init__(
        self, queries: Iterable[str] = (), *, max_queries: int = 1024, max_chars: int = 1 << 18
    ) -> None:
        """What does not fit into `max_queries`, or into so many characters, is not looked ahead for."""
        self._max_queries = max_queries
        self._max_chars = max_chars
        self._lock = threading.Lock()  # guards the two below
        self._queries: deque[str] = deque()
        self._num_chars = 0
        self.extend(queries)

    def extend(self, queries: Iterable[str]) -> None:
        """Adds queries to the end."""
        with self._lock:
            for query in queries:
                if len(self._queries) >= self._max_queries:
                    return
                if self._num_chars + len(query) > self._max_chars:
                    return
                self._queries.append(query)
                self._num_chars += len(query)

    def clear(self) -> None:
        """Expects nothing any more."""
        with self._lock:
            self._queries.clear()
            self._num_chars = 0

    def observe(self, query: str, result: SearchResult | None) -> None:
        """Moves on to the query after this one; those before it were passed over."""
        text = collapsed(query)
        with self._lock:
            for position, queued in enumerate(self._queries):
                if collapsed(queued) == text:
                    for _ in range(position + 1):
                        self._num_chars -= len(self._queries.popleft())
                    return

    def expected(self, limit: int) -> Sequence[str]:
        """The next ones."""
        with self._lock:
            return list(islice(self._queries, limit))


class HeadingFollowUps:
    """The headings around the last hits, as questions: what an interface offers to ask next.

    `outline` gives a document's heading paths in reading order, by document id; with it, the sections after
    and before each hit's are expected too. Whoever asks something else still finds the index warm.
    """

    def __init__(
        self,
        *,
        outline: Callable[[str], Sequence[tuple[str, ...]]] | None = None,
        phrase: Callable[[tuple[str, ...]], str] = lambda path: ": ".join(path[-2:]),
    ) -> None:
        """`phrase` makes a query of a heading path."""
        self._outline = outline
        self._phrase = phrase
        self._last: tuple[str, tuple[Hit, ...]] = "", ()  # replaced as a whole, as threads share it

    def observe(self, query: str, result: SearchResult | None) -> None:
        """Remembers the hits."""
        self._last = query, result.hits if result is not None else ()

    def expected(self, limit: int) -> Sequence[str]:
        """Follow-ups of the best hit first; for each its own section, the next and the one before."""
        query, hits = self._last
        asked = collapsed(query).casefold()
        found: dict[str, None] = {}  # a set in order
        for path in self._paths(hits):
            follow_up = self._phrase(path)
            if follow_up and collapsed(follow_up).casefold() != asked:
                found[follow_up] = None
            if len(found) >= limit:
                break
        return list(found)

    def _paths(self, hits: Iterable[Hit]) -> Iterator[tuple[str, ...]]:
        for hit in hits:
            path = hit.chunk.heading_path
            if not path:
                continue
            yield path
            outline = list(self._outline(hit.chunk.document_id)) if self._outline is not None else []
            if path in outline:
                here = outline.index(path)
                yield from outline[here + 1 : here + 2]
                yield from outline[max(here - 1, 0) : here]


class DraftQueries:
    """What will be searched for after a draft, as far as it is written: for looking ahead meanwhile.

    Every end of a sentence may be the end of the draft. What is expected in the middle of a sentence would
    never be asked for.
    """

    def __init__(self, question: str) -> None:
        self.settled: str | None = None  # the query, once no further text changes it: no guess any more
        self._question = question
        self._text = ""
        self._expected: tuple[str, ...] = ()  # replaced as a whole, as threads share it

    def write(self, piece: str) -> bool:
        """The draft goes on; whether another query is to be expected now, or one is settled."""
        if self.settled is not None:
            return False
        self._text += piece
        query = query_from_draft(self._question, self._text)
        if is_settled(self._text):
            self.settled, self._expected = query, ()
            return True
        if not ends_sentence(self._text) or self._expected == (query,):
            return False
        self._expected = (query,)
        return True

    def observe(self, query: str, result: SearchResult | None) -> None:
        """The draft is done, and what it led to was asked: another one may begin."""
        self._text, self._expected, self.settled = "", (), None

    def expected(self, limit: int) -> Sequence[str]:
        """The query of the text so far, while it is a guess."""
        return self._expected[:limit]


def collapsed(query: str) -> str:
    """The query with single spaces: what the retriever takes for the same query."""
    return " ".join(query.split())
