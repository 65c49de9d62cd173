"""The order of passages in a prompt: what it may change, and what it gains, against brute force."""

from __future__ import annotations

from itertools import permutations

from hypothesis import given, settings
from hypothesis import strategies as st

from generator.prefix_order import Order, longest_cached_order

BLOCK = 16
HEAD = 20  # tokens before the passages


class Cache:
    """Prompts that are computed, in whole blocks, over passages of given lengths."""

    def __init__(self, lengths: list[int], known: list[Order]) -> None:
        self.lengths = lengths
        self.known = known
        self.num_probes = 0

    def num_tokens(self, begun: Order) -> int:
        return HEAD + sum(self.lengths[index] for index in begun)

    def num_cached_tokens(self, order: Order) -> int:
        self.num_probes += 1
        return max((self._shared(order, other) for other in self.known), default=0)

    def _shared(self, order: Order, other: Order) -> int:
        same = 0
        while same < min(len(order), len(other)) and order[same] == other[same]:
            same += 1
        return self.num_tokens(order[:same]) // BLOCK * BLOCK


def allowed(order: Order, scores: list[float], margin: float) -> bool:
    """Whether no passage has overtaken one that is better by more than the margin."""
    places = {index: place for place, index in enumerate(order)}
    pairs = [(high, low) for low in range(len(order)) for high in range(low)]
    return all(places[high] < places[low] or scores[high] - scores[low] <= margin for high, low in pairs)


@st.composite
def situations(draw: st.DrawFn) -> tuple[list[float], float, Cache]:
    number = draw(st.integers(1, 5))
    scores = sorted(draw(st.lists(st.floats(0, 1), min_size=number, max_size=number)), reverse=True)
    lengths = draw(st.lists(st.integers(1, 70), min_size=number, max_size=number))
    indices = st.permutations(range(number))
    cut = st.tuples(indices, st.integers(0, number)).map(lambda pair: tuple(pair[0][: pair[1]]))
    known = draw(st.lists(cut, max_size=6))
    return scores, draw(st.sampled_from([0.0, 0.05, 0.3, 1.0])), Cache(lengths, known)


@settings(deadline=None)
@given(situation=situations())
def test_it_is_the_best_allowed_permutation_and_the_order_of_rank_where_nothing_is_gained(
    situation: tuple[list[float], float, Cache],
) -> None:
    scores, band, cache = situation
    order = longest_cached_order(
        scores, band=band, num_cached_tokens=cache.num_cached_tokens, num_tokens=cache.num_tokens
    )
    ranked = tuple(range(len(scores)))
    margin = band * scores[0]
    assert sorted(order) == list(ranked)
    assert allowed(order, scores, margin)
    gained = cache.num_cached_tokens(order)
    every = [each for each in permutations(ranked) if allowed(each, scores, margin)]
    assert gained >= max(map(cache.num_cached_tokens, every))
    assert order == ranked or gained > cache.num_cached_tokens(ranked)


def test_a_cold_cache_is_asked_hardly_anything() -> None:
    cache = Cache([100] * 50, [])
    scores = [1.0] * 50
    order = longest_cached_order(
        scores, band=1.0, num_cached_tokens=cache.num_cached_tokens, num_tokens=lambda begun: 500
    )
    assert order == tuple(range(50))
    assert cache.num_probes == 1


def test_however_much_is_cached_the_questions_are_bounded() -> None:
    cache = Cache([100] * 12, [])
    cache.num_cached_tokens = lambda order: setattr(cache, "num_probes", cache.num_probes + 1) or 10**6
    order = longest_cached_order(
        [1.0] * 12, band=1.0, num_cached_tokens=cache.num_cached_tokens, num_tokens=cache.num_tokens
    )
    assert order == tuple(range(12))
    assert 1 < cache.num_probes <= 128
