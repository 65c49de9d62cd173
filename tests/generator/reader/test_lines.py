"""Where the line is the unit: code, tables, settings, logs. Never prose."""

from __future__ import annotations

import pytest

from generator.reader.lines import structured_lines

PROSE = (
    "The ferry (built in 1987) has a crew of three: a skipper, a mate and a hand.\n"
    "From April on, it sails at 10:30; the fare is 42 pounds.\nReturn tickets cost less."
)


@pytest.mark.parametrize(
    ("text", "span", "line"),
    [
        ("Boat | Built\n--- | ---\nWagtail | 1987\nDipper | 2004", "1987", "Wagtail | 1987"),
        (
            '{\n  "name": "Kestle Quay",\n  "bicycle_racks": 120,\n  "bus": null\n}',
            "120",
            '"bicycle_racks": 120,',
        ),
        ('[site]\nconnector = "pantograph"\nberth = 2', "pantograph", 'connector = "pantograph"'),
        ("func Tide(h float64) float64 {\n\treturn 2.0 * h\n}", "2.0", "return 2.0 * h"),
        (
            "2025-02-11 05:41:07 INFO bridge signed on\n2025-02-11 05:44:52 INFO charger unplugged",
            "unplugged",
            "2025-02-11 05:44:52 INFO charger unplugged",
        ),
        ("month\tcrossings\n2024-01\t2062", "2062", "2024-01\t2062"),
    ],
)
def test_the_line_of_a_span_is_its_unit(text, span, line):
    start = text.index(span)
    first, last = structured_lines(text, start, start + len(span))
    assert text[first:last] == line


def test_several_lines_keep_their_indentation():
    code = "def fare(age):\n    if age < 6:\n        return 0;\n    return 280"
    first, last = structured_lines(code, code.index("age <"), code.index("0;"))
    assert code[first:last] == "    if age < 6:\n        return 0;"


@pytest.mark.parametrize("word", ["1987", "crew", "42 pounds", "Return"])
def test_prose_has_no_lines(word):
    start = PROSE.index(word)
    assert structured_lines(PROSE, start, start + len(word)) is None


def test_a_line_that_looks_like_code_among_prose_is_prose():
    text = "The mate explains.\nNow comes the rule\nx = 3\nwhich everyone knows.\nAnd so they sail."
    start = text.index("3")
    assert structured_lines(text, start, start + 1) is None
