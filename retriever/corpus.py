"""What retrieval asks of an index: one state of the corpus at a time, by chunk number."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager
from typing import Protocol

import numpy as np

from indexer.types import Chunk, Filters


class Version(Protocol):
    """Names a state of the corpus: equal versions mean equal answers. indexer's Version is one."""

    @property
    def generation(self) -> int:
        """Rises with every state of one corpus."""
        ...

    @property
    def token(self) -> str:
        """Differs from that of any other corpus's state with this generation."""
        ...


class TextHits(Protocol):
    """What BM25 found for one query; the real one is indexer.lexical.LexicalHits."""

    chunks: np.ndarray  # (n,) int64 chunk numbers, best first
    scores: np.ndarray  # (n,) float32, > 0

    def scores_of(self, chunks: np.ndarray) -> np.ndarray:
        """(m,) float32 scores of chunks by number, 0 for one without any of the terms."""
        ...


class StoredRows(Protocol):
    """Vectors on disk; indexer.row_file.StoredRows is one."""

    def read_ahead(self, *, stopped: Callable[[], bool]) -> int:
        """Brings them into memory for a search to come, until `stopped`; how many bytes."""
        ...


class CorpusView(Protocol):
    """One state of the corpus; all its answers agree. Numbers are never used again, and keep their vector."""

    @property
    def version(self) -> Version:
        """Which state this is."""
        ...

    @property
    def is_exact(self) -> bool:
        """Whether `nearest` compares all vectors; if not, one of the nearest may be missed."""
        ...

    def matching(self, filters: Filters | None) -> np.ndarray | None:
        """(n,) int64 rising numbers of the chunks that pass the filters; None if all do."""
        ...

    def count(self, allowed: np.ndarray | None) -> int:
        """How many chunks there are, or how many of the allowed ones."""
        ...

    def nearest(
        self, vectors: np.ndarray, k: int, *, allowed: np.ndarray | None
    ) -> list[tuple[np.ndarray, np.ndarray]]:
        """Numbers and exact scores of the k nearest chunks of each vector, or all there are; ties by id."""
        ...

    def match(self, queries: Sequence[str], k: int, *, allowed: np.ndarray | None) -> Sequence[TextHits]:
        """The k best chunks of each query by BM25, and all those that tie with the k-th."""
        ...

    def vectors(self, numbers: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Those of the (n,) numbers that exist, in their order, and their (m, dimension) float32 vectors."""
        ...

    def stored_near(self, vector: np.ndarray, max_bytes: int) -> StoredRows | None:
        """The vectors on disk that searches near a (dimension,) one may read, up to so many bytes; None where
        all are in memory. It may be read when the context is left."""
        ...

    def images(self) -> tuple[np.ndarray, np.ndarray]:
        """(n,) rising numbers of the chunks that stand for pictures, and (n, dimension) float32 what those
        look like to an image embedder; asked only by who has one."""
        ...

    def ids(self, numbers: np.ndarray) -> np.ndarray:
        """(n,) S32 ids of chunks by number."""
        ...

    def chunks(self, numbers: np.ndarray, *, filters: Filters | None) -> list[Chunk]:
        """Chunks by number, in the order asked for; their first path is one that passes the filters."""
        ...

    def around(self, chunk_id: str, before: int, after: int) -> list[Chunk]:
        """A chunk, and up to so many of its document before and after it, in order; [] if it is gone."""
        ...

    def document_text(self, document_id: str) -> str:
        """The document's normalised text, which the chunks' offsets count in."""
        ...

    def sample(self, size: int) -> np.ndarray:
        """(n, dimension) float32 vectors of up to `size` chunks, always the same ones for a state."""
        ...

    def added_since(self, version: Version) -> np.ndarray | None:
        """(n,) int64 numbers of chunks that came since a state, or whose paths changed; None if not known."""
        ...


class Corpus(Protocol):
    """An index, as retrieval sees it. indexer.Index is one."""

    def refreshed_version(self) -> Version:
        """The newest committed state."""
        ...

    def view(self) -> AbstractContextManager[CorpusView]:
        """The newest committed state, held still until the context is left."""
        ...
