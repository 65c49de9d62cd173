from __future__ import annotations

import threading

import pytest

from indexer.lazy import Lazy


def test_the_value_is_made_once_however_many_ask():
    everyone = threading.Barrier(8)
    made, got = [], []

    def make():
        made.append(1)
        return object()

    def ask():
        everyone.wait(60)
        got.append(lazy.get())

    lazy = Lazy(make)
    threads = [threading.Thread(target=ask) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(made) == 1
    assert len(set(map(id, got))) == 1


def test_nothing_is_made_before_it_is_asked_for():
    lazy = Lazy(lambda: pytest.fail("made too early"))
    lazy.join()
    assert lazy.peek() is None


def test_started_in_the_background_it_is_waited_for():
    release = threading.Event()

    def make():
        assert threading.current_thread() is not threading.main_thread()
        release.wait(60)
        return 7

    lazy = Lazy(make)
    lazy.start()
    lazy.start()
    assert lazy.peek() is None
    release.set()
    lazy.join()
    assert lazy.peek() == lazy.get() == 7


def test_everyone_who_waits_gets_the_exception():
    release, waiting = threading.Event(), threading.Barrier(4)

    def fail():
        release.wait(60)
        raise ValueError("no such model")

    lazy = Lazy(fail)
    caught = []

    def ask():
        waiting.wait(60)
        with pytest.raises(ValueError, match="no such model") as error:
            lazy.get()
        caught.append(error.value)

    lazy.start()
    threads = [threading.Thread(target=ask) for _ in range(3)]
    for thread in threads:
        thread.start()
    waiting.wait(60)
    release.set()
    for thread in threads:
        thread.join()
    assert len(caught) == 3


def test_after_a_failure_the_next_to_ask_tries_again():
    outcomes = [ValueError("broken"), ValueError("still broken"), 7]

    def make():
        outcome = outcomes.pop(0)
        if isinstance(outcome, Exception):
            raise outcome
        return outcome

    lazy = Lazy(make)
    lazy.start()
    lazy.join()
    assert lazy.peek() is None
    with pytest.raises(ValueError, match="still broken"):
        lazy.get()
    assert lazy.get() == lazy.get() == lazy.peek() == 7
    assert not outcomes
