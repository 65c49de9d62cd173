"""Looking ahead goes on while it pays, and never for long at a loss."""

from __future__ import annotations

import pytest
from fakes import result_of
from lookahead_fakes import Guesses, WatchedRetriever, idle, looking

from retriever.lookahead_gate import PrefetchGate

pytestmark = pytest.mark.usefixtures("no_thread_is_left")


@pytest.fixture
def retriever():
    return WatchedRetriever()


def test_guesses_that_are_never_right_end_after_a_few_and_are_tried_again_rarely(retriever):
    wrong = Guesses()
    with looking(retriever, window=1, keep_for=1, sources=[wrong]) as ahead:
        for i in range(300):
            wrong.queries = [f"wrong {i}"]
            assert ahead.get(str(i)) == result_of(str(i))
            idle(ahead)
        stats = ahead.stats()
    assert stats.gate_open == (True, False)
    assert 4 < stats.prefetched < 20
    assert stats.seconds_saved == 0


def test_a_closed_gate_opens_again_when_guesses_come_true(retriever):
    source = Guesses()
    with looking(retriever, window=1, keep_for=1, sources=[source]) as ahead:
        for i in range(100):
            source.queries = [f"wrong {i}"]
            ahead.get(str(i))
            idle(ahead)
        assert not ahead.stats().gate_open[1]
        for i in range(100, 400):
            source.queries = [str(i + 1)]
            ahead.get(str(i))
            idle(ahead)
        assert ahead.stats().gate_open[1]
        assert ahead.stats().used > 100


def test_what_a_gate_has_learnt_may_outlive_the_one_who_looks_ahead(retriever):
    gates = [PrefetchGate(), PrefetchGate()]
    for _ in range(4):  # nobody asks for what is guessed
        with looking(retriever, sources=[Guesses("x")], gates=gates) as ahead:
            ahead.look_ahead()
            idle(ahead)
    with looking(retriever, sources=[Guesses("x")], gates=gates) as ahead:
        assert ahead.stats().gate_open == (True, False)
    with looking(retriever, sources=[Guesses("x"), Guesses("y")], gates=gates[:1]) as ahead:
        assert ahead.stats().gate_open == (True, True, True)


def test_a_source_that_is_wrong_does_not_close_the_gate_of_one_that_is_right(retriever):
    wrong = Guesses()
    with looking(retriever, keep_for=3, sources=[wrong]) as ahead:
        ahead.expect(map(str, range(50)))
        for i in range(50):
            idle(ahead)
            wrong.queries = [f"wrong {i}"]
            ahead.get(str(i))
        stats = ahead.stats()
    assert stats.gate_open[0]
    assert stats.used == 50


def test_the_gain_is_what_hits_save_less_what_misses_cost_others():
    gate = PrefetchGate()
    assert gate.is_open(load=100)  # nothing is known
    for _ in range(100):
        gate.used(0.3, 0.4)
        gate.unused(0.1)
    chance = 7 / 15  # where 1/8 up and 1/8 down meet, after a miss
    assert gate.gain() == pytest.approx(chance * 0.3 - (1 - chance) * 0.1 - 0.001)
    assert gate.gain(load=0.5) == pytest.approx(chance * (0.3 - 0.2) - (1 - chance) * 0.15 - 0.001)
    assert gate.is_open(load=0.2)
    assert not gate.is_open(load=0.5)


def test_beside_one_who_wants_the_processor_no_hit_pays():
    gate = PrefetchGate()
    for _ in range(20):
        gate.used(0.1, 0.1)  # all of it was hidden, and all of it was taken from the other
    assert gate.is_open()
    assert not gate.is_open(load=1)


def test_hits_that_save_less_than_handing_them_over_costs_close_the_gate():
    gate = PrefetchGate()
    assert not gate.is_tried
    gate.used(0.0005, 0.0005)
    assert gate.is_tried
    assert not gate.is_open()
    other = PrefetchGate()
    other.used(0.01, 0.01)
    assert other.is_open()


def test_a_closed_gate_admits_one_in_so_many_chances():
    gate = PrefetchGate(probe_every=4)
    gate.unused(1.0)
    while gate.is_open():
        gate.unused(1.0)
    assert [gate.admit(3) for _ in range(8)] == [0, 0, 0, 1, 0, 0, 0, 1]
    assert gate.admit(0) == 0
    assert [gate.may_admit() for _ in range(6)] == [False, False, False, True, True, True]
    assert [gate.admit(3) for _ in range(2)] == [1, 0]
    for _ in range(20):
        gate.used(1.0, 1.0)
    assert gate.admit(3) == 3


def test_until_something_has_become_of_one_a_gate_lets_a_few_through():
    gate = PrefetchGate(max_untried=3)
    assert [gate.admit(2) for _ in range(3)] == [2, 1, 0]
    gate.used(1.0, 1.0)
    assert gate.admit(2) == 2


def test_a_wary_gate_closes_at_the_first_guess_that_was_wrong():
    gate = PrefetchGate(first_chance=0.5)
    assert gate.may_admit()
    gate.unused(0.01)
    assert not gate.may_admit()
