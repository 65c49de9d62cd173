from __future__ import annotations

from hypothesis import given, settings
from hypothesis import strategies as st

from retriever.cache_eviction import EvictionLedger

steps = st.lists(
    st.one_of(
        st.tuples(st.just("admit"), st.integers(0, 12), st.integers(1, 40), st.integers(1, 9)),
        st.tuples(st.just("touch"), st.integers(0, 12)),
        st.tuples(st.just("discard"), st.integers(0, 12)),
        st.tuples(st.just("resize"), st.integers(0, 12), st.integers(1, 40)),
    ),
    max_size=120,
)


@settings(max_examples=150, deadline=None)
@given(steps)
def test_it_evicts_what_the_formula_rates_lowest(operations):
    ledger: EvictionLedger[int] = EvictionLedger(100)
    model: dict[int, list] = {}  # key -> [size, cost, uses, priority]
    past: dict[int, int] = {}  # uses of those that were evicted
    inflation = 0.0

    def rate(key):
        size, cost, uses, _ = model[key]
        model[key][3] = inflation + uses * cost / size

    for kind, key, *values in operations:
        if kind == "admit":
            evicted = ledger.admit(key, size=values[0], cost=float(values[1]))
            before = model[key][2] if key in model else past.pop(key, 0)
            model[key] = [values[0], float(values[1]), before + 1, 0.0]
            rate(key)
            assert evicted is not None
            for gone in evicted:
                lowest = min(entry[3] for other, entry in model.items() if other != key)
                assert model[gone][3] == lowest
                inflation = lowest
                past[gone] = model.pop(gone)[2]
            assert sum(entry[0] for entry in model.values()) <= 100
        elif kind == "discard":
            ledger.discard(key)
            model.pop(key, None)
        elif key in model and kind == "touch":
            ledger.touch(key)
            model[key][2] += 1
            rate(key)
        elif key in model and kind == "resize":
            ledger.resize(key, values[0])
            model[key][0] = values[0]
            rate(key)
        assert set(ledger) == set(model)
        assert ledger.total_bytes == sum(entry[0] for entry in model.values())


def test_an_entry_larger_than_the_budget_changes_nothing():
    ledger: EvictionLedger[str] = EvictionLedger(100)
    ledger.admit("small", size=60, cost=1.0)
    assert ledger.admit("large", size=101, cost=99.0) is None
    assert list(ledger) == ["small"]


def test_what_was_used_once_long_ago_goes_before_what_is_new():
    ledger: EvictionLedger[str] = EvictionLedger(100)
    ledger.admit("popular", size=50, cost=1.0)
    for _ in range(9):
        ledger.touch("popular")
    assert ledger.admit("a", size=50, cost=1.0) == []
    assert ledger.admit("b", size=50, cost=1.0) == ["a"]
    for i in range(30):  # each departure raises the bar that a newcomer starts from
        gone = ledger.admit(f"n{i}", size=50, cost=1.0)
        if gone == ["popular"]:
            break
    else:
        raise AssertionError("what was popular once never aged")


def test_the_books_stay_small_under_many_uses():
    ledger: EvictionLedger[str] = EvictionLedger(100)
    ledger.admit("a", size=1, cost=1.0)
    for _ in range(10_000):
        ledger.touch("a")
    assert len(ledger._heap) < 200


def test_what_went_and_comes_back_is_not_new():
    ledger: EvictionLedger[str] = EvictionLedger(100)
    for _ in range(3):
        ledger.admit("again", size=60, cost=1.0)
        assert ledger.admit("once", size=60, cost=100.0) == ["again"]
        ledger.discard("once")
    ledger.admit("again", size=60, cost=1.0)
    assert ledger.cost_and_uses("again") == (1.0, 4)
    ledger.admit("again", size=50, cost=2.0)
    assert ledger.cost_and_uses("again") == (2.0, 5)
    ledger.discard("again")
    ledger.admit("again", size=50, cost=2.0)  # nobody had evicted it
    assert ledger.cost_and_uses("again") == (2.0, 1)


def test_only_so_many_that_went_are_remembered():
    ledger: EvictionLedger[int] = EvictionLedger(100)
    for key in range(1000):
        ledger.admit(key, size=50, cost=1.0)
    assert len(ledger._past) < 100
    ledger.forget_past()
    assert not ledger._past
