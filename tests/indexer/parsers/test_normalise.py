from __future__ import annotations

import re
import unicodedata

from hypothesis import given
from hypothesis import strategies as st

from indexer.parsers.normalise import collapse_spaces, normalise_text, normalise_typesetting, one_line


@given(st.text())
def test_normalised_text_is_nfc_without_control_characters_and_stays_as_it_is(text: str) -> None:
    normalised = normalise_text(text)
    assert unicodedata.is_normalized("NFC", normalised)
    assert not [c for c in normalised if unicodedata.category(c) in ("Cc", "Cs") and c not in "\n\t"]
    assert normalise_text(normalised) == normalised


def test_every_kind_of_line_end_becomes_a_newline() -> None:
    assert normalise_text("a\r\nb\rc\vd\fe\x85f\u2028g\u2029h") == "a\nb\nc\nd\ne\nf\ng\nh"


def test_composed_and_decomposed_accents_are_the_same_text() -> None:
    assert normalise_text("cafe\u0301") == normalise_text("caf\u00e9") == "caf\u00e9"


def test_lone_surrogates_become_replacement_characters() -> None:
    assert normalise_text("a\ud800b") == "a\ufffdb"


def test_ligatures_and_invisible_breaks_of_typesetting_are_undone() -> None:
    assert (
        normalise_typesetting("e\ufb03cient o\ufb00\u00a0er re\u00adpeat\u200bed")
        == "efficient off er repeated"
    )


def test_spaces_collapse_within_lines_and_over_all() -> None:
    assert collapse_spaces("  a \t b \n  c ") == "a b\nc"
    assert one_line(" a \n\n b\t c ") == "a b c"


def test_what_a_regular_expression_calls_blank_parts_words_and_nothing_else_does() -> None:
    characters = "".join(map(chr, range(0x3001)))  # the last blank is U+3000
    assert [c for c in characters if one_line(f" a{c}b ") == "a b"] == re.findall(r"\s", characters)


def test_of_ascii_only_control_characters_change() -> None:
    changed = [c for c in map(chr, range(128)) if normalise_text(f"a{c}b") != f"a{c}b"]
    assert changed == [c for c in map(chr, range(128)) if (c < " " or c == "\x7f") and c not in "\n\t"]
