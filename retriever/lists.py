"""What the two kinds of search know about a query: candidates, and how good everything else can be at
most."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

from retriever.corpus import TextHits


class DenseList(NamedTuple):
    """Chunks by their similarity to a query, best first, ties by id."""

    chunks: np.ndarray  # (n,) int64 chunk numbers
    scores: np.ndarray  # (n,) float32 inner products, as indexer.scoring.exact_scores defines them
    bound: float  # no other chunk scores higher; -inf where there is no other
    num_certain: int  # how many of the first are exactly the best of all chunks, in order

    def first(self, length: int) -> DenseList:
        """The beginning of the list."""
        if len(self.chunks) <= length:
            return self
        bound = float(self.scores[length - 1])
        return DenseList(self.chunks[:length], self.scores[:length], bound, min(self.num_certain, length))


class LexicalList(NamedTuple):
    """Chunks by BM25, best first, ties by id."""

    chunks: np.ndarray  # (n,) int64 chunk numbers
    scores: np.ndarray  # (n,) float32
    bound: float  # no other chunk scores higher; 0 where no other has any of the terms


class TextMatch(NamedTuple):
    """What BM25 found for a query: the list, and the means to score any other chunk."""

    hits: TextHits
    best: LexicalList


class Candidates(NamedTuple):
    """Chunks with both their scores: every chunk that is on either list."""

    chunks: np.ndarray  # (n,) int64 chunk numbers, rising
    ids: np.ndarray  # (n,) S32 chunk ids: what ties are settled by
    dense: np.ndarray  # (n,) float32
    lexical: np.ndarray  # (n,) float32


class Ranked(NamedTuple):
    """Candidates by fused score, best first, ties by id."""

    chunks: np.ndarray  # (n,) int64 chunk numbers
    scores: np.ndarray  # (n,) float64
    num_certain: float  # how many of the first are the best of all chunks; inf if there are no others
