"""Texts to vectors in small batches, checked before they are kept."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import TYPE_CHECKING

import numpy as np

from indexer.errors import EmbedderFailed
from indexer.identity import embedder_label

if TYPE_CHECKING:
    from indexer.embedding import Embedder

# Progress is reported between batches. The embedder cuts them further, to its own budget of tokens; for both
# it helps that neighbours are of one length, because a batch is padded to its longest text.
BATCH_TEXTS = 128
_UNIT_TOLERANCE = 1e-3


def embed_in_batches(embedder: Embedder, texts: Mapping[bytes, str]) -> Iterator[dict[bytes, np.ndarray]]:
    """The vectors of keyed texts, batch by batch, the longest texts first."""
    keys = sorted(texts, key=lambda key: (-len(texts[key]), key))
    for start in range(0, len(keys), BATCH_TEXTS):
        batch = keys[start : start + BATCH_TEXTS]
        vectors = embedder.embed_documents([texts[key] for key in batch])
        yield dict(zip(batch, _checked(vectors, len(batch), embedder), strict=True))


def _checked(vectors: np.ndarray, count: int, embedder: Embedder) -> np.ndarray:
    """(count, dimension) float32 unit vectors, or EmbedderFailed."""
    vectors = np.asarray(vectors, np.float32)
    if vectors.shape != (count, embedder.dimension):
        raise EmbedderFailed(
            f"The embedder {embedder_label(embedder)} returned the shape {vectors.shape} for {count} texts"
            f" instead of {(count, embedder.dimension)}.",
            hint="Use an embedder that gives one vector a text.",
        )
    deviation = np.abs(np.linalg.norm(vectors, axis=1) - 1)
    if not (deviation <= _UNIT_TOLERANCE).all():  # not a number fails as well
        raise EmbedderFailed(
            f"The embedder {embedder_label(embedder)} returned vectors whose length is not 1.",
            hint="Use an embedder that normalises its vectors.",
        )
    return vectors
