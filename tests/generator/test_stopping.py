"""Stop texts against a brute-force reading, one character at a time."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from generator.engine.stopping import StopMatcher

TEXT = st.text(alphabet="ab\n", max_size=30)
STOPS = st.lists(st.text(alphabet="ab\n", min_size=1, max_size=4), max_size=3)


def expected(text: str, stops: list[str]) -> tuple[str, str | None]:
    for end in range(1, len(text) + 1):
        matching = [stop for stop in stops if text[:end].endswith(stop)]
        if matching:
            longest = max(matching, key=len)
            return text[: end - len(longest)], longest
    return text, None


@given(text=TEXT, stops=STOPS, data=st.data())
def test_the_outcome_is_that_of_reading_character_by_character(
    text: str, stops: list[str], data: st.DataObject
) -> None:
    cuts = sorted(data.draw(st.lists(st.integers(0, len(text)), max_size=6)))
    pieces = [text[start:end] for start, end in zip([0, *cuts], [*cuts, len(text)], strict=True)]
    matcher = StopMatcher(stops)

    shown = "".join(matcher.push(piece) for piece in pieces) + matcher.finish()

    assert (shown, matcher.matched) == expected(text, stops)


@given(text=TEXT, stops=STOPS)
def test_nothing_is_shown_early_that_a_stop_text_would_take_back(text: str, stops: list[str]) -> None:
    final, _ = expected(text, stops)
    matcher, shown = StopMatcher(stops), ""
    for character in text:
        shown += matcher.push(character)
        assert final.startswith(shown)


def test_a_prefix_of_a_stop_text_is_held_back_and_given_when_it_turns_out_otherwise() -> None:
    matcher = StopMatcher(("\nUser:",))
    assert matcher.push("Hello\nUs") == "Hello"
    assert matcher.push("ual") == "\nUsual"
    assert matcher.push("\nUser") == ""
    assert matcher.finish() == "\nUser"


def test_text_after_the_match_is_dropped() -> None:
    matcher = StopMatcher(("END",))
    assert matcher.push("one END two") == "one "
    assert matcher.push("three") == ""
    assert matcher.finish() == ""
