"""The edges of an answer: whole numbers, titles with their names, no half brackets."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from generator.reader.edges import mend


@pytest.mark.parametrize(
    ("text", "span", "mended"),
    [
        ("built by Messrs. Calder and Voss in 1908", "Messrs", "Messrs. Calder and Voss"),
        ("kept by Mr. Samuel Orchard, who", "Mr", "Mr. Samuel Orchard"),
        ("on St. Mary's day", "St.", "St. Mary's"),
        ("a cost of $42,000.50 a year", "42", "$42,000.50"),
        ("a cost of 42,000. The next", "42", "42,000"),
        ("at 10:30, then", "30", "10:30"),
        ("by 34% now", "34", "34%"),
        ("called the Sun (a star) here", "Sun (a star", "Sun (a star)"),
        ("the (old) Sun) set", "(old) Sun)", "(old) Sun"),
        ("it, the Sun, is", ", the Sun,", "the Sun"),
        ("the first mate", "first mate", "first mate"),
        ("the mister came", "mister", "mister"),
        ("the `run <run_command>` command", "run_command>` command", "`run <run_command>` command"),
        ("call `open it` now", "`open", "`open it`"),
        ("set <a href> here", "<a", "<a href>"),
        ("five > four and `x`", "four", "four"),
    ],
)
def test_spans_are_mended(text, span, mended):
    start = text.index(span)
    first, last = mend(text, start, start + len(span))
    assert text[first:last] == mended


@given(st.text(alphabet="aB1 .,()“”<>`Mr$%\n", max_size=30), st.data())
def test_mending_stays_in_the_text_and_twice_is_once(text, data):
    start = data.draw(st.integers(0, len(text)))
    end = data.draw(st.integers(start, len(text)))
    if not any(c.isalnum() for c in text[start:end]):
        return
    first, last = mend(text, start, end)
    assert 0 <= first < last <= len(text)
    assert any(c.isalnum() for c in text[first:last])
