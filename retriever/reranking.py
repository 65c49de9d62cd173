"""Reading the best candidates once more, with more care than a search can spend on every chunk.

What reranks is a `Reranker`: late_interaction.py has one that needs no model but the embedder,
cross_encoder.py takes any that sentence-transformers can load.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol

import numpy as np

from indexer.types import Chunk
from retriever.errors import RerankingFailed

# Scores are compared at this precision: the last digits of a model depend on what else is in its batch, and
# an order that hangs on them would not be the same twice.
_DECIMALS = 4


class Reranker(Protocol):
    """Scores texts for a query. May be called from several threads."""

    @property
    def name(self) -> str:
        """What to call it when speaking to people."""
        ...

    @property
    def fingerprint(self) -> str:
        """Not empty; equal for rerankers whose scores are equal, since results are cached under it."""
        ...

    def scores(self, query: str, texts: Sequence[str]) -> np.ndarray:
        """(n,) finite scores of n texts, on any scale; higher is better."""
        ...


def passage_text(chunk: Chunk) -> str:
    """A chunk as rerankers read it: its headings say what it is about."""
    return "\n".join([*chunk.heading_path, chunk.text])


def reranked_scores(
    reranker: Reranker, query: str, chunks: Sequence[Chunk], scores: np.ndarray, *, weight: float
) -> np.ndarray:
    """(n,) float64: the scores that decide the new order of candidates with these (n,) scores.

    With `weight` 1 they are the reranker's. Below, `weight` times those and the rest times the old ones, each
    in standard deviations from their mean over the candidates, since the two have no common scale. Raises
    RerankingFailed.
    """
    found = np.asarray(reranker.scores(query, [passage_text(chunk) for chunk in chunks]), np.float64)
    if found.shape != (len(chunks),) or not np.isfinite(found).all():
        raise RerankingFailed(
            f"{reranker.name} did not give a number for each of {len(chunks)} passages.",
            hint="Use another reranker, or none.",
        )
    if weight < 1:
        found = weight * _standardised(found) + (1 - weight) * _standardised(scores)
    return np.round(found, _DECIMALS)


def _standardised(scores: np.ndarray) -> np.ndarray:
    """(n,) float64 deviations from the mean; zeros where all scores are equal."""
    deviations = np.asarray(scores, np.float64) - np.mean(scores)
    spread = deviations.std()
    return deviations / spread if spread > 1e-12 else np.zeros(len(deviations))
