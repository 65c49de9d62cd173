"""In which order passages go into a prompt, so that more of it is computed already.

Two prompts share keys and values as far as they begin alike, so the same passages in another order share
nothing. Where scores are close, their order says little; then passages may change places to follow the
longest path that the cache knows (the knowledge tree of RAGCache, arXiv 2404.12457, without a tree of its
own).
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

Order = tuple[int, ...]

_MAX_PROBES = 128  # of the cache, for one prompt
_MAX_CANDIDATES = 8  # for one place
_SLACK_TOKENS = 64  # a cache of whole blocks ends up to a block before what it knows


def longest_cached_order(
    scores: Sequence[float],
    *,
    band: float,
    num_cached_tokens: Callable[[Order], int],
    num_tokens: Callable[[Order], int],
) -> Order:
    """The permutation of `scores`' indices whose prompt has the most cached tokens, of those allowed.

    A passage may overtake another only if its score is lower by at most `band` times the best score's size.
    `num_cached_tokens` is of the prompt with all passages in an order, `num_tokens` of its beginning with the
    passages given. The order of rank wins ties, and is never left for one with less in the cache.
    """
    ranked = tuple(range(len(scores)))
    margin = band * abs(max(scores, default=0.0))
    best, most = ranked, num_cached_tokens(ranked)
    num_probes = 1
    pending: list[tuple[Order, int]] = [((), most)]  # beginnings, and what is cached of the prompt they open
    while pending:
        begun, num_cached = pending.pop()
        if num_cached + _SLACK_TOKENS <= num_tokens(begun):
            continue  # the cache ends before the next passage would begin
        rest = [index for index in ranked if index not in begun]
        # The first of the rest makes the prompt that was probed for `begun`.
        following = [((*begun, first), num_cached) for first in rest[:1]]
        for chosen in _overtaking(scores, rest, margin):
            if num_probes == _MAX_PROBES:
                return best
            num_probes += 1
            order = (*begun, chosen, *(index for index in rest if index != chosen))
            found = num_cached_tokens(order)
            if found > most:
                best, most = order, found
            following.append(((*begun, chosen), found))
        pending += reversed(following)  # by rank first
    return best


def _overtaking(scores: Sequence[float], rest: Sequence[int], margin: float) -> list[int]:
    """Which of the remaining passages but the first may come next: those hardly worse than any."""
    highest = max((scores[index] for index in rest), default=0.0)
    return [index for index in rest[1:_MAX_CANDIDATES] if highest - scores[index] <= margin]
