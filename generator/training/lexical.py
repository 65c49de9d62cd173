"""BM25 over a few thousand passages: brings realistic wrong passages to training and evaluation."""

from __future__ import annotations

import math
import re
from collections import Counter
from collections.abc import Sequence

_WORD = re.compile(r"\w+")


class Bm25:
    """Robertson's BM25 with k1 = 0.9 and b = 0.4, the values that Anserini defaults to."""

    def __init__(self, texts: Sequence[str], *, k1: float = 0.9, b: float = 0.4) -> None:
        counts = [Counter(_words(text)) for text in texts]
        lengths = [sum(count.values()) for count in counts]
        mean = sum(lengths) / max(len(texts), 1)
        self._postings: dict[str, list[tuple[int, float]]] = {}
        for index, count in enumerate(counts):
            norm = k1 * (1 - b + b * lengths[index] / max(mean, 1e-9))
            for word, times in count.items():
                weight = times * (k1 + 1) / (times + norm)
                self._postings.setdefault(word, []).append((index, weight))
        self._total = len(texts)

    def best(self, query: str, count: int) -> list[int]:
        """Indices of the `count` best texts, best first, ties by index."""
        scores: Counter[int] = Counter()
        for word in set(_words(query)):
            postings = self._postings.get(word, [])
            idf = math.log(1 + (self._total - len(postings) + 0.5) / (len(postings) + 0.5))
            for index, weight in postings:
                scores[index] += idf * weight
        return sorted(scores, key=lambda index: (-scores[index], index))[:count]


def _words(text: str) -> list[str]:
    return _WORD.findall(text.lower())
