from __future__ import annotations

import threading
import time

import pytest

from ragserve.lazy import Lazy


def test_the_value_is_made_once_however_many_ask():
    made = []

    def make():
        time.sleep(0.02)
        made.append(1)
        return object()

    lazy = Lazy(make)
    got = []
    threads = [threading.Thread(target=lambda: got.append(lazy.get())) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(made) == 1
    assert len(set(map(id, got))) == 1


def test_nothing_is_made_before_it_is_asked_for():
    lazy = Lazy(lambda: pytest.fail("made too early"))
    lazy.join()


def test_started_in_the_background_it_is_waited_for():
    release = threading.Event()

    def make():
        assert threading.current_thread() is not threading.main_thread()
        release.wait(60)
        return 7

    lazy = Lazy(make)
    lazy.start()
    lazy.start()
    release.set()
    assert lazy.get() == 7
    lazy.join()


def test_everyone_who_asks_gets_the_exception():
    def fail():
        raise ValueError("no such model")

    lazy = Lazy(fail)
    lazy.start()
    for _ in range(2):
        with pytest.raises(ValueError, match="no such model"):
            lazy.get()


def test_a_look_makes_nothing_and_sees_what_is_there():
    value = Lazy(lambda: "made")
    assert value.peek() is None
    assert value.get() == value.peek() == "made"
    broken = Lazy(lambda: 1 / 0)
    with pytest.raises(ZeroDivisionError):
        broken.get()
    assert broken.peek() is None
