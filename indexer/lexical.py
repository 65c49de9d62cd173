"""BM25 over the chunks, computed from the catalog's postings: exact, incremental, and as durable as the
catalog.

    score(q, d) = sum over the query's terms t of n(t, q) * idf(t) * f / (f + K(d))
    K(d) = k1 * (1 - b + b * length(d) / mean length)
    idf(t) = ln(1 + (N - df + 0.5) / (df + 0.5))

with f the count of t in d and n its count in q: the variant of Lucene 8 and later (Kamphuis et al., "Which
BM25 do you mean?", ECIR 2020), in which a term adds less than its idf. So every score lies below the
query's `ceiling`, the sum of n * idf, which makes scores of different queries comparable.
"""

from __future__ import annotations

import json
import sqlite3
from collections.abc import Collection, Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property
from itertools import islice
from typing import TYPE_CHECKING, NamedTuple

import numpy as np

from indexer import lexical_segments
from indexer.chunking import embedding_text
from indexer.errors import IndexNotWritable
from indexer.lexical_segments import Segment
from indexer.lexical_terms import query_terms

if TYPE_CHECKING:
    from indexer.catalog import ChunkChange

# Lucene's defaults. They sit on a plateau: benchmarks/retrieval_quality.py moves by less than 0.01 around
# them.
K1 = 1.2
B = 0.75

# A longer query is reduced to its rarest terms; the rest would add time and next to no score.
MAX_QUERY_TERMS = 64
_MAX_TERMS_LOOKED_UP = 1024
_CHUNKS_READ_AT_ONCE = 1000


class _Term(NamedTuple):
    """A query term's postings over the whole snapshot."""

    weight: float  # n * idf: an upper bound of what it adds to any score
    positions: np.ndarray  # (df,) int64 positions in the snapshot, rising
    counts: np.ndarray  # (df,) uint8


@dataclass(frozen=True)
class Snapshot:
    """The live chunks at one version of the lexical tables; positions number their slots end to end."""

    version: int
    segments: tuple[Segment, ...]

    @cached_property
    def offsets(self) -> list[int]:
        """The position of each segment's first slot, and the number of positions."""
        return np.cumsum([0, *(len(segment.chunks) for segment in self.segments)]).tolist()

    @cached_property
    def chunks(self) -> np.ndarray:
        """(n,) int64: the chunk number at each position; -1 where it was removed."""
        chunks = np.concatenate([np.zeros(0, np.int64), *(segment.chunks for segment in self.segments)])
        return np.where(self.alive, chunks, -1)

    @cached_property
    def alive(self) -> np.ndarray:
        """(n,) bool."""
        return np.concatenate([np.zeros(0, bool), *(segment.alive for segment in self.segments)])

    @cached_property
    def live_count(self) -> int:
        """How many chunks can be found."""
        return int(self.alive.sum())

    @cached_property
    def norms(self) -> np.ndarray:
        """(n,) float32: k1 * (1 - b + b * length / mean length)."""
        lengths = np.concatenate([np.zeros(0, np.int32), *(segment.lengths for segment in self.segments)])
        mean = max(float(lengths[self.alive].mean()), 1.0) if self.live_count else 1.0
        return (K1 * (1 - B + B / mean * lengths)).astype(np.float32)

    @cached_property
    def _by_chunk(self) -> np.ndarray:
        return np.argsort(self.chunks, kind="stable")

    def positions_of(self, chunks: Sequence[int]) -> np.ndarray:
        """(m,) int64 positions of chunks by number; -1 where a number is not present."""
        if not len(self.chunks):
            return np.full(len(chunks), -1)
        wanted = np.asarray(chunks, np.int64)
        nearest = np.searchsorted(self.chunks, wanted, sorter=self._by_chunk)
        positions = self._by_chunk[np.minimum(nearest, len(self.chunks) - 1)]
        return np.where((self.chunks[positions] == wanted) & (wanted >= 0), positions, -1)


class LexicalHits:
    """What one query found, and the means to score any other chunk by it."""

    def __init__(
        self, snapshot: Snapshot, terms: Sequence[_Term], ceiling: float, best: np.ndarray, scores: np.ndarray
    ) -> None:
        self.chunks = snapshot.chunks[best]  # (n,) int64 numbers, best first
        self.scores = scores[best]  # (n,) float32, > 0
        self.ceiling = ceiling  # the score that no chunk can reach
        self._snapshot = snapshot
        self._terms = terms

    def scores_of(self, chunks: np.ndarray) -> np.ndarray:
        """(m,) float32 scores of chunks by number: 0 for one without any of the terms, or unknown."""
        positions = self._snapshot.positions_of(chunks)
        known = np.unique(positions[positions >= 0])
        scores = np.zeros(len(self._snapshot.chunks) + 1, np.float32)  # the last for what is unknown
        _score_candidates(self._snapshot, self._terms, known, scores)
        return scores[positions]


class LexicalIndex:
    """Lexical search over the catalog, and the hook that keeps its tables in step with the chunks.

    In memory it keeps nothing but the segments' chunk numbers and lengths. Safe to share between threads:
    each search works on an immutable snapshot, within the read transaction of the connection that it is
    given.
    """

    def __init__(self) -> None:
        self._snapshot = Snapshot(-1, ())

    def prepare(self, connection: sqlite3.Connection) -> None:
        """Makes the tables, and brings them up to the table of chunks wherever they differ."""
        lexical_segments.create_tables(connection)
        if not lexical_segments.is_current(connection):
            lexical_segments.clear(connection)
        there = Snapshot(0, tuple(lexical_segments.read_segments(connection))).chunks
        wanted = np.fromiter((n for (n,) in connection.execute("SELECT rowid FROM chunks")), np.int64)
        lexical_segments.remove_chunks(connection, np.setdiff1d(there[there >= 0], wanted).tolist())
        self._add(connection, np.setdiff1d(wanted, there).tolist())

    def before_commit(self, connection: sqlite3.Connection, change: ChunkChange) -> None:
        """Follows a transaction that added or removed chunks."""
        lexical_segments.remove_chunks(connection, change.removed)
        self._add(connection, change.added)

    def search(
        self,
        connection: sqlite3.Connection,
        queries: Sequence[str],
        k: int,
        *,
        allowed: Collection[int] | None = None,
    ) -> list[LexicalHits]:
        """The k best chunks of each query, and all those that tie with the k-th.

        `allowed` restricts the hits to some chunk numbers.
        """
        snapshot = self._refresh(connection)
        counts = [dict(islice(query_terms(query).items(), _MAX_TERMS_LOOKED_UP)) for query in queries]
        distinct = sorted({term for terms in counts for term in terms})
        found = lexical_segments.read_postings(connection, snapshot.segments, distinct)
        scored = {term: _join(snapshot, postings) for term, postings in found.items()}
        mask = None
        if allowed is not None:
            mask = np.isin(snapshot.chunks, np.fromiter(allowed, np.int64, len(allowed)))
        return [_search_one(snapshot, scored, terms, k, mask) for terms in counts]

    def _add(self, connection: sqlite3.Connection, numbers: Sequence[int]) -> None:
        lexical_segments.add_chunks(connection, _texts(connection, numbers))

    def _refresh(self, connection: sqlite3.Connection) -> Snapshot:
        snapshot = self._snapshot
        if snapshot.version < 0 and not lexical_segments.is_current(connection):
            raise IndexNotWritable(
                "The index has to be brought up to date before its text can be searched.",
                hint="Open it once for writing, for example by ingesting a folder.",
            )
        version = lexical_segments.version(connection)
        if snapshot.version != version:
            snapshot = Snapshot(version, tuple(lexical_segments.read_segments(connection, snapshot.segments)))
            self._snapshot = snapshot
        return snapshot


def _texts(connection: sqlite3.Connection, numbers: Sequence[int]) -> Iterator[tuple[int, str]]:
    """Number and text of chunks, in rising order of number."""
    rising = sorted(numbers)
    for start in range(0, len(rising), _CHUNKS_READ_AT_ONCE):
        rows = connection.execute(
            "SELECT rowid, context, text FROM chunks"
            " WHERE rowid IN (SELECT value FROM json_each(?)) ORDER BY rowid",
            (json.dumps(rising[start : start + _CHUNKS_READ_AT_ONCE]),),
        ).fetchall()
        for number, context, text in rows:
            yield number, embedding_text(context, text)


def _join(
    snapshot: Snapshot, postings: list[tuple[int, lexical_segments.Postings]]
) -> tuple[np.ndarray, np.ndarray]:
    """A term's live postings over all segments: positions and counts."""
    positions = np.concatenate([part.slots + np.int64(snapshot.offsets[index]) for index, part in postings])
    counts = np.concatenate([part.counts for _, part in postings])
    live = snapshot.alive[positions]
    return (positions, counts) if live.all() else (positions[live], counts[live])


def _search_one(
    snapshot: Snapshot,
    scored: dict[str, tuple[np.ndarray, np.ndarray]],
    counts: dict[str, int],
    k: int,
    mask: np.ndarray | None,
) -> LexicalHits:
    weights = {term: count * _idf(snapshot, scored.get(term)) for term, count in counts.items()}
    kept = sorted(weights, key=lambda term: (-weights[term], term))[:MAX_QUERY_TERMS]
    terms = [_Term(weights[term], *scored[term]) for term in kept if term in scored]
    scores = _score(snapshot, terms, k, mask)
    if mask is not None:
        scores = np.where(mask, scores, np.float32(0))
    ceiling = sum(weights[term] for term in kept)
    return LexicalHits(snapshot, terms, ceiling, _best(scores, k), scores)


def _idf(snapshot: Snapshot, postings: tuple[np.ndarray, np.ndarray] | None) -> float:
    df = 0 if postings is None else len(postings[0])
    return float(np.log1p((snapshot.live_count - df + 0.5) / (df + 0.5)))


def _score(snapshot: Snapshot, terms: Sequence[_Term], k: int, mask: np.ndarray | None) -> np.ndarray:
    """(n,) float32 scores by position, exact for the k best and their ties.

    Term at a time, rarest first. Once the terms that are left cannot lift an unseen chunk to the k-th score,
    only the chunks still in the race are looked up in the long postings (MaxScore: Turtle and Flood, 1995).
    """
    scores = np.zeros(len(snapshot.chunks), np.float32)
    remaining = sum(term.weight for term in terms)
    for index, term in enumerate(terms):
        if len(term.positions) * 32 > len(scores):  # a check costs a pass over the scores
            floor = _kth(scores if mask is None else scores[mask], k)
            if floor > remaining:
                race = np.flatnonzero(scores >= floor - remaining)
                _score_candidates(snapshot, terms[index:], race, scores)
                return scores
        scores[term.positions] += _gain(term, term.counts, snapshot.norms[term.positions])
        remaining -= term.weight
    return scores


def _score_candidates(
    snapshot: Snapshot, terms: Sequence[_Term], candidates: np.ndarray, scores: np.ndarray
) -> None:
    for term in terms:
        if not len(term.positions):
            continue  # every chunk that held it was removed
        nearest = np.minimum(np.searchsorted(term.positions, candidates), len(term.positions) - 1)
        hit = term.positions[nearest] == candidates
        where = candidates[hit]
        scores[where] += _gain(term, term.counts[nearest[hit]], snapshot.norms[where])


def _gain(term: _Term, counts: np.ndarray, norms: np.ndarray) -> np.ndarray:
    frequency = counts.astype(np.float32)
    return np.float32(term.weight) * (frequency / (frequency + norms))


def _kth(scores: np.ndarray, k: int) -> float:
    """The k-th best score, 0 where fewer are positive."""
    positive = scores[scores > 0]  # selecting among thousands of equal zeros would take the longest
    return float(np.partition(positive, -k)[-k]) if 0 < k <= len(positive) else 0.0


def _best(scores: np.ndarray, k: int) -> np.ndarray:
    """Positions of the k best positive scores and of all that tie with the k-th, best first."""
    floor = _kth(scores, k)
    candidates = np.flatnonzero(scores >= floor) if floor > 0 else np.flatnonzero(scores > 0)
    return candidates[np.argsort(-scores[candidates], kind="stable")]
