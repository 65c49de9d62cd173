"""Which of the best chunks to return: no copies, and not five times the same."""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import NamedTuple

import numpy as np

_SHINGLE_WORDS = 3
_WORD = re.compile(r"\w+")


class Copy(NamedTuple):
    """A text that says nearly the same as a better one."""

    index: int
    of: int
    overlap: float


def find_copies(texts: Sequence[str], threshold: float, *, wanted: int | None = None) -> list[Copy]:
    """Those of the texts, best first, whose overlap with one before that is no copy is `threshold` or more.

    Overlap is the Jaccard similarity of the sets of three-word runs (Broder, "On the resemblance and
    containment of documents", 1997). Not the cosine of the vectors: two rows of a price list are near each
    other there, and say different things. Looks no further once `wanted` texts are no copies.
    """
    kept: list[int] = []
    copies: list[Copy] = []
    shingles = [_shingles(text) for text in texts]
    for index, own in enumerate(shingles):
        if wanted is not None and len(kept) >= wanted:
            break
        overlaps = [_jaccard(own, shingles[other]) for other in kept]
        best = int(np.argmax(overlaps)) if overlaps else -1
        if best >= 0 and overlaps[best] >= threshold:
            copies.append(Copy(index, kept[best], overlaps[best]))
        else:
            kept.append(index)
    return copies


def maximal_marginal_relevance(
    relevance: np.ndarray, vectors: np.ndarray, k: int, *, trade_off: float
) -> list[int]:
    """The indices of k of n candidates, in the order chosen: relevant, and unlike those chosen before.

    Each is the one with the highest `trade_off` * relevance - (1 - `trade_off`) * its highest cosine with a
    chosen one (Carbonell and Goldstein, SIGIR 1998), the first of equals. (n,) relevance is first brought to
    [0, 1] over the candidates, since its scale is anybody's; (n, dimension) vectors have unit length.
    """
    count = len(relevance)
    if not count:
        return []
    spread = float(np.ptp(relevance))
    gain = trade_off * ((relevance - relevance.min()) / spread if spread else np.ones(count))
    similarities = vectors @ vectors.T  # (n, n)
    nearest = np.zeros(count)  # highest similarity to a chosen one; until there is one, it is all the same
    chosen: list[int] = []
    left = np.ones(count, bool)
    while len(chosen) < min(k, count):
        values = np.where(left, gain - (1 - trade_off) * nearest, -np.inf)
        best = int(np.argmax(values))
        nearest = similarities[best].copy() if not chosen else np.maximum(nearest, similarities[best])
        chosen.append(best)
        left[best] = False
    return chosen


def _shingles(text: str) -> frozenset[tuple[str, ...]]:
    words = _WORD.findall(text.casefold())
    if len(words) < _SHINGLE_WORDS:
        return frozenset([tuple(words)])
    return frozenset(zip(*(words[offset:] for offset in range(_SHINGLE_WORDS)), strict=False))


def _jaccard(a: frozenset[tuple[str, ...]], b: frozenset[tuple[str, ...]]) -> float:
    return len(a & b) / len(a | b)
