from __future__ import annotations

from generator.cancellation import Cancellation


def test_calls_are_made_once_when_it_is_cancelled_and_at_once_after_that() -> None:
    made: list[str] = []
    cancellation = Cancellation()
    cancellation.on_cancel(lambda: made.append("before"))
    assert (cancellation.is_cancelled, made) == (False, [])
    cancellation.cancel()
    cancellation.cancel()
    assert (cancellation.is_cancelled, made) == (True, ["before"])
    cancellation.on_cancel(lambda: made.append("after"))
    assert made == ["before", "after"]
