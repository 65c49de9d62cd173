"""How retrieval ranks. Every number here is a measurement's outcome; docs/retrieval.md has the tables."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal, get_args

from retriever.errors import InvalidRetrievalSettings

Ranking = Literal["pool", "rrf", "dense", "lexical"]
MAX_NEIGHBOURS = 16


@dataclass(frozen=True, slots=True)
class RetrievalSettings:
    """How the dense and the lexical list become one, and what becomes of its best. Hashable: part of every
    cache key.

    `ranking` is "pool" (the mean of two probabilities, see fusion.py), "rrf" (weighted reciprocal rank
    fusion), or only one of the lists. The other numbers of the first part are those of the formulas in
    fusion.py. The second part is off by default; docs/retrieval.md, "After the ranking", has its figures.
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

    image_embedder: str = (
        ""  # its fingerprint, which the Retriever puts here; see pictures.py for the numbers
    )
    image_weight: float = 0.5  # the most that a picture scores: as much as one list that is sure
    image_midpoint: float = 4.0  # deviations above an ordinary likeness, where it is as likely as not
    image_scale: float = 0.7

    reranker: str = ""  # its fingerprint, which the Retriever puts here: whoever reranks is part of the key
    rerank_depth: int = 50  # best chunks that are reranked, compared for copies, and chosen from by MMR
    rerank_weight: float = 1.0  # of the reranker's opinion; the ranking's own is the rest
    duplicate_overlap: float | None = None  # Jaccard similarity from which a chunk is a copy; None: never
    mmr_lambda: float = 1.0  # relevance against novelty; 1: relevance alone
    neighbours: int = 0  # chunks of the document that are added before and after each hit
    section_min_hits: int | None = None  # hits in a section from which it is returned instead; None: never
    section_max_chars: int = 4000  # longest section that is returned so
    repair_disfluencies: bool = False  # search for what the speaker meant; see disfluency.py

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
        _check(
            not self.image_embedder or self.ranking == "pool",
            "ranking",
            self.ranking,
            "pool where pictures are searched: the others' scores are no probabilities",
        )
        _check(0 <= self.image_weight <= 1, "image_weight", self.image_weight, "between 0 and 1")
        _check(self.image_scale > 0, "image_scale", self.image_scale, "positive")
        _check(self.rerank_depth >= 1, "rerank_depth", self.rerank_depth, "at least 1")
        _check(0 <= self.rerank_weight <= 1, "rerank_weight", self.rerank_weight, "between 0 and 1")
        overlap, min_hits = self.duplicate_overlap, self.section_min_hits
        _check(overlap is None or 0 < overlap <= 1, "duplicate_overlap", overlap, "above 0 and at most 1")
        _check(0 <= self.mmr_lambda <= 1, "mmr_lambda", self.mmr_lambda, "between 0 and 1")
        _check(
            0 <= self.neighbours <= MAX_NEIGHBOURS, "neighbours", self.neighbours, f"0 to {MAX_NEIGHBOURS}"
        )
        _check(min_hits is None or min_hits >= 2, "section_min_hits", min_hits, "at least 2")
        _check(self.section_max_chars >= 1, "section_max_chars", self.section_max_chars, "at least 1")

    @property
    def refines(self) -> bool:
        """Whether more chunks are looked at than are returned."""
        return bool(self.reranker) or self.duplicate_overlap is not None or self.mmr_lambda < 1

    @property
    def expands(self) -> bool:
        """Whether a hit may become a longer passage."""
        return self.neighbours > 0 or self.section_min_hits is not None

    def num_candidates(self, k: int) -> int:
        """How many chunks the ranking has to be complete for."""
        return max(k, self.rerank_depth) if self.refines else k


def _check(ok: bool, name: str, value: object, expected: str) -> None:
    if not ok:
        raise InvalidRetrievalSettings(f"{name} is {value!r}.", hint=f"It has to be {expected}.")
