"""The one definition of a dense score and of the order of hits, for the index and for whatever caches it."""

from __future__ import annotations

import sys
from collections.abc import Sequence

import numpy as np

from indexer.types import ScoredChunkId


def exact_scores(vectors: np.ndarray, query: np.ndarray) -> np.ndarray:
    """(n,) float32 inner products of (n, dimension) vectors with a query, summed in float64.

    A row's score depends on that row alone. A matrix product does not promise that: equal rows may differ in
    the last digit with their position and the size of the batch, and then equal chunks would not tie.
    """
    return np.einsum("nd,d->n", vectors, query, dtype=np.float64).astype(np.float32)


def inner_products(queries: np.ndarray, rows: np.ndarray) -> np.ndarray:
    """(q, n) float32 inner products of (q, d) and (n, d), as a matrix product rounds them, on all cores.

    By torch if it is loaded: where it has embedded the queries its threads are awake, and NumPy's, if it may
    have any, would only be in their way. `rows` must be writable, which torch insists on.
    """
    if "torch" not in sys.modules:
        return queries @ rows.T
    import torch

    return torch.mm(torch.tensor(queries), torch.from_numpy(rows).T).numpy()


def best_first(chunk_ids: Sequence[str], scores: np.ndarray, k: int) -> list[ScoredChunkId]:
    """The k best, ties in the order of their ids."""
    ranked = sorted(zip(chunk_ids, scores.tolist(), strict=True), key=lambda hit: (-hit[1], hit[0]))
    return [ScoredChunkId(*hit) for hit in ranked[:k]]
