"""One state of an index, held still: for questions whose answers have to agree with one another.

Everything goes by chunk number, which is never used again and keeps its vector and its text.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np

from indexer import catalog_reader, image_vectors
from indexer.catalog_reader import Version
from indexer.lexical import LexicalHits, LexicalIndex, Snapshot
from indexer.lines import LineNumbers
from indexer.types import Chunk, Filters

if TYPE_CHECKING:
    from indexer.row_file import StoredRows
    from indexer.vectors import VectorIndex


class IndexView:
    """What `Index.view()` yields. Valid until that context is left, and for one thread."""

    def __init__(
        self,
        connection: sqlite3.Connection,
        version: Version,
        vectors: VectorIndex | None,
        lexical: LexicalIndex,
        lines: LineNumbers,
    ) -> None:
        """The connection is in a read transaction; the vectors are of the same state, and locked for
        reading."""
        self.version = version
        self._connection = connection
        self._vectors = vectors
        self._lexical = lexical
        self._lines = lines

    @property
    def is_exact(self) -> bool:
        """Whether `nearest` compares all vectors; if not, one of the nearest may be missed."""
        return self._vectors is None or self._vectors.is_exact

    def matching(self, filters: Filters | None) -> np.ndarray | None:
        """(n,) int64 rising numbers of the chunks that pass the filters; None if all do."""
        return None if filters is None else catalog_reader.matching_numbers(self._connection, filters)

    def count(self, allowed: np.ndarray | None = None) -> int:
        """How many chunks there are, or how many of the allowed ones."""
        if self._vectors is None:
            return 0
        return len(self._vectors) if allowed is None else len(self._vectors.present(allowed))

    def nearest(
        self, vectors: np.ndarray, k: int, *, allowed: np.ndarray | None = None
    ) -> list[tuple[np.ndarray, np.ndarray]]:
        """(n,) numbers and (n,) float32 exact scores of the k nearest chunks of each (q, dimension) vector.

        All there are where k is larger; best first, ties by id.
        """
        if self._vectors is None:
            return [(np.zeros(0, np.int64), np.zeros(0, np.float32)) for _ in vectors]
        return self._vectors.nearest(vectors, k, allowed=allowed)

    def match(
        self, queries: Sequence[str], k: int, *, allowed: np.ndarray | None = None
    ) -> list[LexicalHits]:
        """The k best chunks of each query by BM25, and all those that tie with the k-th."""
        if not self.version.generation:  # nothing was ever indexed
            nothing = np.zeros(0, np.int64), np.zeros(0, np.float32)
            return [LexicalHits(Snapshot(0, ()), (), 0.0, *nothing) for _ in queries]
        return self._lexical.search(self._connection, queries, k, allowed=allowed)

    def vectors(self, numbers: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Those of the (n,) numbers that exist, in their order, and their (m, dimension) float32 vectors."""
        if self._vectors is None:
            return np.zeros(0, np.int64), np.zeros((0, 0), np.float32)
        numbers = self._vectors.present(numbers)
        return numbers, self._vectors.vectors_of(numbers)

    def images(self) -> tuple[np.ndarray, np.ndarray]:
        """(n,) int64 rising numbers of the chunks that stand for pictures, and (n, dimension) float32 what
        those look like to the image embedder."""
        return image_vectors.load(self._connection)

    def stored_near(self, vector: np.ndarray, max_bytes: int) -> StoredRows | None:
        """The vectors on disk that searches near a (dimension,) float32 one may read, up to so many bytes.

        None where all are in memory. To be read ahead when the view is left, or later.
        """
        return None if self._vectors is None else self._vectors.stored_near(vector, max_bytes)

    def ids(self, numbers: np.ndarray) -> np.ndarray:
        """(n,) S32 ids of chunks by number."""
        return np.zeros(0, "S32") if self._vectors is None else self._vectors.ids_of(numbers)

    def chunks(self, numbers: np.ndarray, *, filters: Filters | None = None) -> list[Chunk]:
        """Chunks by number, in the order asked for; their first path is one that passes the filters."""
        ids = self.ids(numbers).astype(str).tolist()
        return catalog_reader.load_chunks(self._connection, ids, filters=filters, lines=self._lines)

    def around(self, chunk_id: str, before: int, after: int) -> list[Chunk]:
        """A chunk with up to so many chunks of its document before and after it, in order; [] if it is
        gone."""
        return catalog_reader.chunks_around(self._connection, chunk_id, before, after, lines=self._lines)

    def document_text(self, document_id: str) -> str:
        """A document's normalised text, which the chunks' offsets count in."""
        return catalog_reader.document_text(self._connection, document_id)

    def sample(self, size: int) -> np.ndarray:
        """(n, dimension) float32 vectors of the up to `size` chunks with the smallest ids.

        An id is a hash, so that is a random sample, and an unchanging one while the corpus does not change.
        """
        if self._vectors is None:
            return np.zeros((0, 0), np.float32)
        return self._vectors.sample(size)

    def added_since(self, version: Version) -> np.ndarray | None:
        """(n,) int64 numbers of the chunks that came, or got other paths, since a state of this index.

        None where it is not one, or too long ago.
        """
        if not catalog_reader.remembers(self._connection, version):
            return None
        rows = self._connection.execute(
            "SELECT rowid FROM chunks WHERE added_generation > ? ORDER BY rowid", (version.generation,)
        )
        return np.fromiter((number for (number,) in rows), np.int64)
