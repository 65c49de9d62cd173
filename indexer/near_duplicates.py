"""Which documents say nearly the same: signatures kept beside the documents, and the groups they form."""

from __future__ import annotations

import sqlite3
import zlib
from collections.abc import Iterable
from typing import TYPE_CHECKING

import numpy as np

from indexer.minhash import NUM_BINS, signature, similar_pairs
from indexer.types import NearDuplicates, NearDuplicatesReport

if TYPE_CHECKING:
    from indexer.catalog import ChunkChange

THRESHOLD = 0.8
MAX_GROUPS = 50
MAX_FILES = 20  # of a group that are named

_SCHEMA = """
CREATE TABLE IF NOT EXISTS document_minhashes (
    document INTEGER PRIMARY KEY REFERENCES documents (rowid) ON DELETE CASCADE,
    signature BLOB NOT NULL             -- 128 uint32, little endian
) STRICT
"""


class MinHashes:
    """The hook that keeps the signatures in step with the documents, within the same transactions."""

    def prepare(self, connection: sqlite3.Connection) -> None:
        """Makes the table, and the signatures of documents that were stored before there was one."""
        connection.execute(_SCHEMA)
        rows = connection.execute(
            "SELECT rowid FROM documents WHERE rowid NOT IN (SELECT document FROM document_minhashes)"
        ).fetchall()
        self._write(connection, (document for (document,) in rows))

    def before_commit(self, connection: sqlite3.Connection, change: ChunkChange) -> None:
        """Follows a transaction that stored documents; those that went took their signatures along."""
        self._write(connection, change.documents)

    def _write(self, connection: sqlite3.Connection, documents: Iterable[int]) -> None:
        for document in documents:
            row = connection.execute("SELECT text FROM documents WHERE rowid = ?", (document,)).fetchone()
            if row is not None:
                blob = signature(zlib.decompress(row[0]).decode()).astype("<u4").tobytes()
                connection.execute(
                    "INSERT OR REPLACE INTO document_minhashes VALUES (?, ?)", (document, blob)
                )


def near_duplicates(connection: sqlite3.Connection, *, threshold: float = THRESHOLD) -> NearDuplicatesReport:
    """Groups of files with the same or nearly the same text, the most alike first.

    Nearly: of all the runs of 16 characters that occur in two documents, about `threshold` occur in both.
    """
    documents, signatures = _signatures(connection)
    groups = _connected(*similar_pairs(signatures, threshold))
    named = {documents[row] for rows, _ in groups for row in rows}
    copied = connection.execute("SELECT document FROM files GROUP BY document HAVING count(document) > 1")
    found = [([documents[row] for row in rows], similarity) for rows, similarity in groups]
    found += [([document], 1.0) for (document,) in copied if document not in named]
    reported = [_described(connection, members, similarity) for members, similarity in found]
    reported.sort(key=lambda group: (-group.similarity, group.uris))
    return NearDuplicatesReport(tuple(reported[:MAX_GROUPS]), len(reported))


def _signatures(connection: sqlite3.Connection) -> tuple[list[int], np.ndarray]:
    """The documents, and (n, 128) uint32; none in an index that was last written by an older version."""
    if not connection.execute("SELECT 1 FROM sqlite_master WHERE name = 'document_minhashes'").fetchone():
        return [], np.zeros((0, NUM_BINS), np.uint32)
    rows = connection.execute(
        "SELECT document, signature FROM document_minhashes ORDER BY document"
    ).fetchall()
    blobs = b"".join(blob for _, blob in rows)
    signatures = np.frombuffer(blobs, "<u4").astype(np.uint32).reshape(len(rows), NUM_BINS)
    return [document for document, _ in rows], signatures


def _connected(pairs: np.ndarray, similarities: np.ndarray) -> list[tuple[list[int], float]]:
    """The rows that pairs connect, group by group, and the least similarity that connects them."""
    parents: dict[int, int] = {}

    def root(row: int) -> int:
        parents.setdefault(row, row)
        while parents[row] != row:
            parents[row] = parents[parents[row]]
            row = parents[row]
        return row

    least: dict[int, float] = {}
    # The most alike first, so that a group is as similar as its weakest necessary link.
    for number in np.argsort(-similarities, kind="stable").tolist():
        left, right = (root(row) for row in pairs[number].tolist())
        if left != right:
            parents[right] = left
            least[left] = float(similarities[number])
    groups: dict[int, list[int]] = {}
    for row in sorted(parents):
        groups.setdefault(root(row), []).append(row)
    return [(rows, least[head]) for head, rows in groups.items()]


def _described(connection: sqlite3.Connection, documents: list[int], similarity: float) -> NearDuplicates:
    uris = sorted(
        uri
        for document in documents
        for (uri,) in connection.execute("SELECT uri FROM files WHERE document = ?", (document,))
    )
    return NearDuplicates(round(similarity, 2), tuple(uris[:MAX_FILES]), len(uris))
