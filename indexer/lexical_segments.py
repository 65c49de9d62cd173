"""Where lexical search keeps its postings: immutable segments in the catalog's own SQLite file.

A segment holds up to 65,536 chunks. For each term it has one row: the slots (chunk positions within the
segment, 16 bits) that contain the term, and how often (8 bits; BM25 is flat long before 255). Adding chunks
writes a new segment; removing one marks its slot; segments of similar size are merged as they pile up, so a
term is never spread over more than a few dozen rows and each posting is rewritten a logarithmic number of
times (O'Neil et al., "The log-structured merge-tree", 1996). Everything happens inside the caller's
transaction: what search sees changes with the chunks themselves, or not at all. Chunks go by their number
in the catalog.
"""

from __future__ import annotations

import sqlite3
from array import array
from collections.abc import Collection, Iterable, Sequence
from itertools import groupby, islice
from typing import NamedTuple

import numpy as np

from indexer.lexical_terms import TERMS_VERSION, TermNumbers

SCHEMA = """
CREATE TABLE IF NOT EXISTS lexical_state (
    version INTEGER NOT NULL,       -- rises with every change below
    terms_version TEXT NOT NULL     -- the rules that made the terms
) STRICT;
CREATE TABLE IF NOT EXISTS lexical_segments (
    segment INTEGER PRIMARY KEY AUTOINCREMENT,
    chunks BLOB NOT NULL,           -- int64 chunk number of each slot
    lengths BLOB NOT NULL           -- int32 number of terms in each slot's chunk
) STRICT;
CREATE TABLE IF NOT EXISTS lexical_postings (
    segment INTEGER NOT NULL,
    term TEXT NOT NULL,
    postings BLOB NOT NULL,         -- n uint16 slots in rising order, then n uint8 counts
    PRIMARY KEY (segment, term)
) STRICT, WITHOUT ROWID;
CREATE TABLE IF NOT EXISTS lexical_removed (
    segment INTEGER NOT NULL,
    slot INTEGER NOT NULL,
    PRIMARY KEY (segment, slot)
) STRICT, WITHOUT ROWID;
"""

SLOTS_PER_SEGMENT = 1 << 16
MERGE_FANOUT = 8
_BYTES_PER_POSTING = 3
_CHUNKS_INVERTED_AT_ONCE = 4096  # some megabytes; a segment is large when it is made anew from a whole index


class Segment(NamedTuple):
    """The chunks of one segment, by slot."""

    segment: int
    chunks: np.ndarray  # (n,) int64
    lengths: np.ndarray  # (n,) int32
    alive: np.ndarray  # (n,) bool


class Postings(NamedTuple):
    """The slots that hold a term, in rising order, and how often."""

    slots: np.ndarray  # (n,) uint16
    counts: np.ndarray  # (n,) uint8

    @classmethod
    def decode(cls, blob: bytes) -> Postings:
        """Reads a row's blob without copying it."""
        n = len(blob) // _BYTES_PER_POSTING
        return cls(np.frombuffer(blob, "<u2", n), np.frombuffer(blob, np.uint8, n, 2 * n))


def create_tables(connection: sqlite3.Connection) -> None:
    """Makes the tables where they are missing."""
    for statement in SCHEMA.split(";\n"):
        connection.execute(statement)
    if connection.execute("SELECT 1 FROM lexical_state").fetchone() is None:
        connection.execute("INSERT INTO lexical_state VALUES (0, ?)", (TERMS_VERSION,))


def is_current(connection: sqlite3.Connection) -> bool:
    """False where there are no tables yet, or where other rules made the terms: then search has to wait."""
    if not connection.execute("SELECT 1 FROM sqlite_master WHERE name = 'lexical_state'").fetchone():
        return False
    return connection.execute("SELECT terms_version FROM lexical_state").fetchone()[0] == TERMS_VERSION


def version(connection: sqlite3.Connection) -> int:
    """A number that rises with every change to the lexical tables."""
    return connection.execute("SELECT version FROM lexical_state").fetchone()[0]


def add_chunks(connection: sqlite3.Connection, chunks: Iterable[tuple[int, str]]) -> None:
    """Makes chunks findable, given as number and text. None of them may be in there already."""
    iterator = iter(chunks)
    added = False
    while batch := list(islice(iterator, SLOTS_PER_SEGMENT)):
        _write_batch(connection, batch)
        added = True
    if added:
        _merge_where_due(connection)
        _bump(connection)


def remove_chunks(connection: sqlite3.Connection, chunks: Collection[int]) -> None:
    """Takes chunks out. Numbers that are not in there are passed over."""
    if not chunks:
        return
    wanted = np.fromiter(chunks, np.int64, len(chunks))
    for segment in read_segments(connection):
        slots = np.flatnonzero(segment.alive & np.isin(segment.chunks, wanted))
        if len(slots):
            rows = ((segment.segment, slot) for slot in slots.tolist())
            connection.executemany("INSERT INTO lexical_removed VALUES (?, ?)", rows)
    _merge_where_due(connection)
    _bump(connection)


def clear(connection: sqlite3.Connection) -> None:
    """Forgets every chunk and adopts the present rules for terms."""
    for table in ("lexical_postings", "lexical_removed", "lexical_segments"):
        connection.execute(f"DELETE FROM {table}")
    connection.execute("UPDATE lexical_state SET version = version + 1, terms_version = ?", (TERMS_VERSION,))


def read_segments(connection: sqlite3.Connection, known: Sequence[Segment] = ()) -> list[Segment]:
    """All segments in order; the immutable arrays of those already known are not read again."""
    arrays = {segment.segment: (segment.chunks, segment.lengths) for segment in known}
    removed = {
        segment: [slot for _, slot in rows]
        for segment, rows in groupby(
            connection.execute("SELECT segment, slot FROM lexical_removed ORDER BY segment"),
            lambda row: row[0],
        )
    }
    segments = []
    for (number,) in connection.execute("SELECT segment FROM lexical_segments ORDER BY segment").fetchall():
        chunks, lengths = arrays.get(number) or _read_arrays(connection, number)
        alive = np.ones(len(chunks), bool)
        alive[removed.get(number, [])] = False
        segments.append(Segment(number, chunks, lengths, alive))
    return segments


def read_postings(
    connection: sqlite3.Connection, segments: Sequence[Segment], terms: Sequence[str]
) -> dict[str, list[tuple[int, Postings]]]:
    """For each term that occurs, its postings by segment: pairs of a position in `segments` and the
    postings."""
    found: dict[str, list[tuple[int, Postings]]] = {}
    for position, segment in enumerate(segments):
        for start in range(0, len(terms), 500):  # SQLite allows 999 variables in old builds
            some = terms[start : start + 500]
            rows = connection.execute(
                "SELECT term, postings FROM lexical_postings"
                f" WHERE segment = ? AND term IN ({','.join('?' * len(some))})",
                (segment.segment, *some),
            )
            for term, blob in rows:
                found.setdefault(term, []).append((position, Postings.decode(blob)))
    return found


def _read_arrays(connection: sqlite3.Connection, segment: int) -> tuple[np.ndarray, np.ndarray]:
    chunks, lengths = connection.execute(
        "SELECT chunks, lengths FROM lexical_segments WHERE segment = ?", (segment,)
    ).fetchone()
    return np.frombuffer(chunks, "<i8"), np.frombuffer(lengths, "<i4")


def _write_batch(connection: sqlite3.Connection, batch: Sequence[tuple[int, str]]) -> None:
    """Inverts a batch of texts into a new segment."""
    numbers = TermNumbers()
    parts = []
    for start in range(0, len(batch), _CHUNKS_INVERTED_AT_ONCE):
        texts = [text for _, text in batch[start : start + _CHUNKS_INVERTED_AT_ONCE]]
        parts.append(_inverted(texts, numbers, first_slot=start))
    chunks = np.array([chunk for chunk, _ in batch], "<i8")
    term_of = np.concatenate([part.terms for part in parts])
    by_term = np.argsort(term_of, kind="stable")  # slots stay in rising order within a term
    _write_segment(
        connection,
        (chunks, np.concatenate([part.lengths for part in parts])),
        list(numbers.terms),
        np.cumsum(np.bincount(term_of, minlength=len(numbers.terms))),
        Postings(
            np.concatenate([part.slots for part in parts])[by_term],
            np.concatenate([part.counts for part in parts])[by_term],
        ),
    )


class _Inverted(NamedTuple):
    """What some texts hold: a row for each term of each text, by rising number of the term, then by slot."""

    terms: np.ndarray  # (n,) int32
    slots: np.ndarray  # (n,) uint16
    counts: np.ndarray  # (n,) uint8
    lengths: np.ndarray  # (texts,) int32 number of terms, each as often as it occurs


def _inverted(texts: Sequence[str], numbers: TermNumbers, *, first_slot: int) -> _Inverted:
    occurrences, ends = array("i"), []
    for text in texts:
        occurrences.extend(numbers.of_text(text))
        ends.append(len(occurrences))
    lengths = np.diff([0, *ends])
    slots = np.repeat(np.arange(len(texts)), lengths)
    keys = np.frombuffer(occurrences, np.intc) * np.int64(len(texts)) + slots
    keys, counts = np.unique(keys, return_counts=True)
    terms, slots = np.divmod(keys, len(texts))
    return _Inverted(
        terms.astype(np.int32),
        (first_slot + slots).astype("<u2"),
        np.minimum(counts, 255).astype(np.uint8),
        lengths.astype("<i4"),
    )


def _write_segment(
    connection: sqlite3.Connection,
    arrays: tuple[np.ndarray, np.ndarray],
    terms: Sequence[str],
    ends: np.ndarray,
    postings: Postings,
) -> None:
    """Stores a segment whose postings lie end to end: term i owns [ends[i-1]:ends[i])."""
    chunks, lengths = arrays
    cursor = connection.execute(
        "INSERT INTO lexical_segments (chunks, lengths) VALUES (?, ?)", (chunks.tobytes(), lengths.tobytes())
    )
    slots, counts = postings.slots.tobytes(), postings.counts.tobytes()
    bounds = zip(terms, [0, *ends.tolist()], ends.tolist(), strict=False)
    connection.executemany(
        "INSERT INTO lexical_postings VALUES (?, ?, ?)",
        (
            (cursor.lastrowid, term, slots[2 * start : 2 * end] + counts[start:end])
            for term, start, end in sorted(bounds)  # sorted: the B-tree only ever appends
            if end > start
        ),
    )


def _bump(connection: sqlite3.Connection) -> None:
    connection.execute("UPDATE lexical_state SET version = version + 1")


def _merge_where_due(connection: sqlite3.Connection) -> None:
    while group := _merge_candidates(_live_sizes(connection)):
        _merge(connection, [segment for segment in read_segments(connection) if segment.segment in group])


def _live_sizes(connection: sqlite3.Connection) -> list[tuple[int, int, int]]:
    """Segment number, slots and live slots of every segment, oldest first."""
    rows = connection.execute(
        "SELECT segment, length(chunks) / 8,"
        " (SELECT count(*) FROM lexical_removed AS gone WHERE gone.segment = lexical_segments.segment)"
        " FROM lexical_segments ORDER BY segment"
    )
    return [(segment, slots, slots - removed) for segment, slots, removed in rows]


def _merge_candidates(sizes: Sequence[tuple[int, int, int]]) -> set[int]:
    """The segments to rewrite as one: a mostly removed one, or the oldest of a size that has too many."""
    tiers: dict[int, list[tuple[int, int]]] = {}
    for segment, slots, live in sizes:
        if live * 2 < slots:
            return {segment}
        tiers.setdefault(live.bit_length() // 3, []).append((segment, live))  # tiers a factor of 8 apart
    for tier in tiers.values():
        if len(tier) >= MERGE_FANOUT:
            totals = np.cumsum([live for _, live in tier])
            fitting = int(np.searchsorted(totals, SLOTS_PER_SEGMENT, side="right"))
            if fitting > 1:
                return {segment for segment, _ in tier[:fitting]}
    return set()


def _merge(connection: sqlite3.Connection, segments: Sequence[Segment]) -> None:
    """Rewrites the live chunks of some segments as one segment, or as none where nothing lives."""
    alive = np.concatenate([segment.alive for segment in segments])
    if alive.any():
        chunks = np.concatenate([segment.chunks for segment in segments])[alive]
        lengths = np.concatenate([segment.lengths for segment in segments])[alive]
        terms, ends, postings = _merged_postings(connection, segments, alive)
        _write_segment(connection, (chunks, lengths), terms, ends, postings)
    for table in ("lexical_postings", "lexical_removed", "lexical_segments"):
        numbers = [(segment.segment,) for segment in segments]
        connection.executemany(f"DELETE FROM {table} WHERE segment = ?", numbers)


def _merged_postings(
    connection: sqlite3.Connection, segments: Sequence[Segment], alive: np.ndarray
) -> tuple[list[str], np.ndarray, Postings]:
    """The live postings of some segments, term by term and end to end, with the slots of the merged
    segment."""
    numbers = [segment.segment for segment in segments]
    offsets = np.cumsum([0, *(len(segment.alive) for segment in segments)])
    rows = connection.execute(
        "SELECT term, segment, postings FROM lexical_postings"
        f" WHERE segment IN ({','.join('?' * len(numbers))}) ORDER BY term, segment",
        numbers,
    ).fetchall()
    decoded = [Postings.decode(blob) for _, _, blob in rows]
    sizes = np.array([len(postings.slots) for postings in decoded], np.int64)
    starts = np.repeat(offsets[np.searchsorted(numbers, [segment for _, segment, _ in rows])], sizes)
    none = np.zeros(0, np.uint8)
    old_slots = np.concatenate([none, *(postings.slots for postings in decoded)]).astype(np.int64) + starts
    counts = np.concatenate([none, *(postings.counts for postings in decoded)])
    keep = alive[old_slots]
    last = [i for i, row in enumerate(rows) if i + 1 == len(rows) or rows[i + 1][0] != row[0]]
    ends = np.concatenate([[0], np.cumsum(keep)])[np.cumsum(sizes)[last]]
    new_slots = (np.cumsum(alive) - 1)[old_slots[keep]].astype("<u2")
    return [rows[i][0] for i in last], ends, Postings(new_slots, counts[keep])
