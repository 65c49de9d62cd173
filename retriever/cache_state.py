"""What of a cache outlives its process: vectors and lists. Results do not, they follow from the lists.

So a file of it holds questions and numbers of chunks, and no text of any document.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

from indexer.types import Filters
from retriever.cache_lists import NUM_TOP_SCORES, ListEntry
from retriever.errors import CacheFileCorrupt

_UNIT_TOLERANCE = 1e-3


class Account(NamedTuple):
    """What the books say of an entry."""

    cost: float  # seconds that a hit saves
    uses: int
    age_s: float


class KeptVector(NamedTuple):
    """A query's vector."""

    embedder: str  # fingerprint
    text: str
    vector: np.ndarray  # (dimension,) float32
    account: Account


class KeptList(NamedTuple):
    """A query's dense list, right for one state of the corpus."""

    embedder: str  # fingerprint
    filters: Filters | None
    generation: int
    token: str
    entry: ListEntry
    account: Account


class CacheState(NamedTuple):
    """All that is kept, at a time."""

    vectors: tuple[KeptVector, ...]
    lists: tuple[KeptList, ...]
    saved_at: float  # seconds since 1970


def check_state(state: CacheState) -> None:
    """Raises CacheFileCorrupt unless every value is one that a cache could have kept."""
    for kept in state.vectors:
        _check_unit(kept.vector)
        _check_account(kept.account)
    for kept in state.lists:
        text, vector, _, radius, top_scores, _ = kept.entry
        _check_unit(vector)
        _check_account(kept.account)
        _check(bool(text), "an empty query")
        _check(radius == -np.inf or abs(radius) <= 1 + _UNIT_TOLERANCE, "a radius that is no cosine")
        _check(len(top_scores) <= NUM_TOP_SCORES and bool(np.isfinite(top_scores).all()), "a score")


def oldest_first(kept: KeptVector | KeptList) -> float:
    """What to sort by."""
    return -kept.account.age_s


def by_state(
    lists: tuple[KeptList, ...], embedder: str
) -> dict[tuple[Filters | None, int, str], list[KeptList]]:
    """Lists of one embedder by their filters and the state of the corpus that they are right for."""
    found: dict[tuple[Filters | None, int, str], list[KeptList]] = {}
    for kept in lists:
        if kept.embedder == embedder:
            found.setdefault((kept.filters, kept.generation, kept.token), []).append(kept)
    return found


def _check_unit(vector: np.ndarray) -> None:
    _check(abs(float(np.linalg.norm(vector)) - 1) <= _UNIT_TOLERANCE, "a vector that is not of length 1")


def _check_account(account: Account) -> None:
    cost, uses, age_s = account
    _check(0 <= cost < np.inf and uses >= 1 and 0 <= age_s < np.inf, "an account that cannot be")


def _check(ok: bool, what: str) -> None:
    if not ok:
        raise CacheFileCorrupt(f"The cache file holds {what}.", hint="It is made anew.")
