"""What `verify` finds out by trying: does a search find the nearest, does the embedder still say the same?"""

from __future__ import annotations

import sqlite3
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from indexer import catalog_reader, checkpoint
from indexer.chunking import embedding_text
from indexer.recall import best_scores, recalls, synthetic_queries

if TYPE_CHECKING:
    from indexer.embedding import Embedder

_K = 10
_NUM_QUERIES = 128
_DEVIATIONS = 3.0  # below the target before it is a finding: the sample is small
# Another machine, batch or number format moves a vector by less; another model by far more.
_MIN_SIMILARITY = 0.99

_Problems = Iterator[tuple[str, str]]  # message and hint


class Sampled:
    """The checks, and the figures that they leave behind."""

    def __init__(self) -> None:
        self.recall: float | None = None  # of the 10 nearest chunks, or all; None where there are none
        self.num_embedded = 0

    def recall_of_searches(self, connection: sqlite3.Connection, folder: Path) -> _Problems:
        """Searches find what comparing all vectors of the catalog finds, or as much of it as they have to."""
        dimension = catalog_reader.dimension(connection)
        if dimension is None:
            return
        vectors = checkpoint.open_vectors(folder, connection, dimension)
        if not len(vectors):
            return
        k = min(_K, len(vectors))
        queries = synthetic_queries(vectors.sample(_NUM_QUERIES), np.random.default_rng(0))
        stored = (batch.vectors for batch in catalog_reader.numbered_vectors(connection))
        best = best_scores(stored, queries, k)
        found = recalls([scores for _, scores in vectors.nearest(queries, k)], best, k)
        self.recall = float(found.mean())
        target = 1.0
        if vectors.base is not None and vectors.base.stamp is not None:
            stamp = vectors.base.stamp
            # Or what was measured when it was tuned, where that was less: `stats` tells of it.
            target = min(stamp.recall_target, stamp.plan[0].recall)
            target -= _DEVIATIONS * float(found.std()) / np.sqrt(len(found))
        if self.recall < target:
            yield (
                f"A search finds {self.recall:.1%} of the {k} nearest chunks.",
                "Delete vectors.json in the index folder: the next ingest makes the vector index anew.",
            )

    def embed_again(
        self, connection: sqlite3.Connection, folder: Path, *, embedder: Embedder, count: int
    ) -> _Problems:
        """The chunks with the smallest ids, which are as good as drawn by lot, still have their vectors."""
        made_with = catalog_reader.meta(connection, "embedder")
        if made_with is None:
            return
        if made_with != embedder.fingerprint:
            label = catalog_reader.meta(connection, "embedder_label")
            yield (
                f"The index was made with the embedder {label}, not with the one that is set.",
                "Set that embedder, or embed everything anew: ingest into a new index folder.",
            )
            return
        rows = connection.execute(
            "SELECT chunks.id, context, text, vector FROM chunks"
            " JOIN embeddings ON embeddings.rowid = chunks.embedding ORDER BY chunks.id LIMIT ?",
            (count,),
        ).fetchall()
        if not rows:
            return
        again = embedder.embed_documents([embedding_text(context, text) for _, context, text, _ in rows])
        self.num_embedded = len(rows)
        for (chunk_id, _, _, blob), vector in zip(rows, again, strict=True):
            similarity = float(np.frombuffer(blob, "<f4") @ vector)
            if not similarity >= _MIN_SIMILARITY:
                yield (
                    f"Chunk {chunk_id} is embedded differently now (cosine {similarity:.3f}).",
                    "The embedder has changed under its name: ingest into a new index folder.",
                )
