"""How many of the true nearest vectors a search finds."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

import numpy as np

# A vector that is as near as the k-th, but for rounding, counts as one of the k nearest.
_ROUNDING = 1e-5


def synthetic_queries(vectors: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """(n, dimension) float32 unit vectors: each of (n, dimension) vectors, moved towards another one.

    A question lies near some chunks and is none of them. Chunks taken as questions would be found too easily;
    noise that is alike in all directions would lead where there is no text.
    """
    others = vectors[rng.permutation(len(vectors))] - vectors.mean(axis=0)
    moved = vectors + rng.uniform(0.5, 1.0, (len(vectors), 1)).astype(np.float32) * others
    moved /= np.maximum(np.linalg.norm(moved, axis=1, keepdims=True), 1e-12)
    return np.ascontiguousarray(moved, np.float32)


def best_scores(blocks: Iterable[np.ndarray], queries: np.ndarray, k: int) -> np.ndarray:
    """(q, k) float32: the k highest inner products of each query with all rows of the blocks, falling.

    Where there are fewer than k rows, the rest is -inf.
    """
    best = np.full((len(queries), k), -np.inf, np.float32)
    for block in blocks:
        scores = queries @ block.T  # (q, rows)
        together = np.concatenate([best, scores], axis=1)
        best = np.partition(together, together.shape[1] - k, axis=1)[:, -k:]
    return -np.sort(-best, axis=1)


def recalls(found: Sequence[np.ndarray], best: np.ndarray, k: int) -> np.ndarray:
    """(q,) the share of the true k nearest among those found.

    `found` holds the exact scores of each query's hits; `best` is what `best_scores` gives, for k or more.
    """
    worst = best[:, k - 1] - _ROUNDING
    wanted = np.maximum(np.isfinite(best[:, :k]).sum(axis=1), 1)
    hits = [min(int((scores >= limit).sum()), k) for scores, limit in zip(found, worst, strict=True)]
    return np.minimum(np.array(hits) / wanted, 1.0)
