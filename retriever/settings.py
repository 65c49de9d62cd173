"""How retrieval ranks. Every number here is a measurement's outcome; docs/retrieval.md has the tables."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal, get_args

from retriever.errors import InvalidRetrievalSettings

Ranking = Literal["pool", "rrf", "dense", "lexical"]


@dataclass(frozen=True, slots=True)
class RetrievalSettings:
    """How the dense and the lexical list become one. Hashable: part of every cache key.

    `ranking` is "pool" (the mean of two probabilities, see fusion.py), "rrf" (weighted reciprocal rank
    fusion), or only one of the lists. The other numbers are those of the formulas in fusion.py.
    """

    ranking: Ranking = "pool"
    depth: int = 100  # candidates taken from each list to begin with
    dense_weight: float = 0.5  # what the dense list's opinion counts for; the lexical one's is the rest
    dense_midpoint: float = 6.0  # standard deviations above the mean where a chunk is as likely as not
    dense_scale: float = 1.4  # standard deviations
    lexical_scale: float = 1.5  # BM25 points
    lexical_floor: float = 7.0  # BM25 points of "none of them"
    rrf_constant: float = 60.0
    max_query_chars: int = 16_384

    def __post_init__(self) -> None:
        _check(
            self.ranking in get_args(Ranking),
            "ranking",
            self.ranking,
            f"one of {', '.join(get_args(Ranking))}",
        )
        _check(self.depth >= 1, "depth", self.depth, "at least 1")
        _check(0 <= self.dense_weight <= 1, "dense_weight", self.dense_weight, "between 0 and 1")
        _check(self.dense_scale > 0, "dense_scale", self.dense_scale, "positive")
        _check(self.lexical_scale > 0, "lexical_scale", self.lexical_scale, "positive")
        _check(self.rrf_constant >= 0, "rrf_constant", self.rrf_constant, "at least 0")
        _check(self.max_query_chars >= 1, "max_query_chars", self.max_query_chars, "at least 1")


def _check(ok: bool, name: str, value: object, expected: str) -> None:
    if not ok:
        raise InvalidRetrievalSettings(f"{name} is {value!r}.", hint=f"It has to be {expected}.")
