"""A query waits for others only while they come thick and fast, and never for long."""

from __future__ import annotations

import inspect

import pytest

from ragserve import ServerSettings
from retriever import BatchPrefetcher
from retriever.batching import Arrivals


class Clock:
    """Stands still unless it is moved."""

    def __init__(self) -> None:
        self.now = 100.0


@pytest.fixture
def clock():
    return Clock()


def test_by_default_nothing_waits_longer_than_a_millisecond():
    default = inspect.signature(BatchPrefetcher).parameters["max_wait_ms"].default
    assert default == ServerSettings().search_wait_ms <= 1


def hold(arrivals: Arrivals, clock: Clock) -> float:
    """Seconds that a query which comes now is held back for."""
    arrivals.arrived(clock.now)
    return arrivals.hold_until(clock.now) - clock.now


def test_at_low_load_nothing_is_held_back(clock):
    arrivals = Arrivals(0.002)
    for _ in range(50):
        clock.now += 0.010
        assert hold(arrivals, clock) == 0


def test_under_load_a_query_is_held_back_for_a_few_gaps_and_never_beyond_the_longest_wait(clock):
    arrivals = Arrivals(0.002)
    for gap in [0.0001] * 20:
        clock.now += gap
        held = hold(arrivals, clock)
    assert held == pytest.approx(0.0004, rel=0.01)
    for gap in [0.0019] * 20:
        clock.now += gap
        held = hold(arrivals, clock)
    assert held == pytest.approx(0.002)


def test_a_burst_is_over_when_no_query_has_come_for_a_while(clock):
    arrivals = Arrivals(0.002)
    for _ in range(20):
        clock.now += 0.0001
        arrivals.arrived(clock.now)
    assert arrivals.hold_until(clock.now - 0.0003) - clock.now == pytest.approx(0.0004, rel=0.01)
    assert arrivals.hold_until(clock.now - 0.0019) - clock.now == pytest.approx(0.0001, rel=0.01)


def test_after_a_burst_only_one_lone_query_is_held_back(clock):
    arrivals = Arrivals(0.002)
    for _ in range(50):
        clock.now += 0.0001
        arrivals.arrived(clock.now)
    held = []
    for _ in range(4):
        clock.now += 1
        held.append(hold(arrivals, clock) > 0)
    assert held == [True, False, False, False]


@pytest.mark.parametrize("clients", [3, 4, 8])
def test_clients_that_ask_together_again_and_again_are_waited_for(clock, clients):
    arrivals = Arrivals(0.002)
    for _ in range(10):
        clock.now += 0.020
        first = hold(arrivals, clock)
        for _ in range(clients - 1):
            clock.now += 0.0001
            arrivals.arrived(clock.now)
    assert first > 0.0001


def test_a_clock_that_goes_backwards_does_no_harm(clock):
    arrivals = Arrivals(0.002)
    for gap in [0.0001, -5, 0.0001, 0.0001]:
        clock.now += gap
        assert 0 <= hold(arrivals, clock) <= 0.002
