from __future__ import annotations

import codecs
import random

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from indexer.parsers.decoding import decode_text, looks_like_text
from indexer.parsers.errors import UndecodableText

GERMAN = "Die Fähre legt täglich außer sonntags um neun Uhr ab; Räder fahren für fünf Kronen mit. " * 3


@pytest.mark.parametrize(
    ("mark", "encoding"),
    [
        (codecs.BOM_UTF8, "utf-8"),
        (codecs.BOM_UTF16_LE, "utf-16-le"),
        (codecs.BOM_UTF16_BE, "utf-16-be"),
        (codecs.BOM_UTF32_LE, "utf-32-le"),
    ],
)
def test_a_byte_order_mark_decides(mark: bytes, encoding: str) -> None:
    assert decode_text(mark + GERMAN.encode(encoding), name="a.txt").text == GERMAN


@pytest.mark.parametrize("encoding", ["utf-8", "utf-16-le", "utf-16-be", "cp1252"])
def test_text_without_a_mark_is_recognised(encoding: str) -> None:
    data = GERMAN.encode(encoding)
    assert looks_like_text(data)
    assert decode_text(data, name="a.txt").text == GERMAN


def test_other_scripts_are_guessed_from_a_sample() -> None:
    russian = "Паром отходит каждый день, кроме воскресенья, в девять часов утра от северной пристани. " * 5
    assert decode_text(russian.encode("cp1251"), name="a.txt").text == russian


def test_what_the_file_declares_is_believed_before_guessing() -> None:
    page = '<html><meta charset="iso-8859-15"><p>A crossing costs 5 €, a bicycle 2 €.</p></html>'
    assert decode_text(page.encode("iso-8859-15"), name="a.html").text == page


def test_a_damaged_byte_does_not_cost_the_document() -> None:
    data = (GERMAN * 10).encode()
    damaged = data[:500] + b"\xff" + data[501:]
    decoded = decode_text(damaged, name="a.txt")
    assert decoded.encoding == "utf-8"
    assert 1 <= decoded.num_replaced <= 2


def test_random_bytes_are_a_typed_failure() -> None:
    data = random.Random(7).randbytes(5000)
    with pytest.raises(UndecodableText) as failure:
        decode_text(data, name="folder/noise.txt")
    assert failure.value.code == "undecodable-text"
    assert failure.value.hint


@given(st.text(max_size=200))
@example("0\x00\x80")
def test_utf8_round_trips_or_is_refused(text: str) -> None:
    try:
        decoded = decode_text(text.encode(), name="a.txt").text
    except UndecodableText:
        assert any(ord(character) < 32 for character in text)
    else:
        # Zero bytes may speak for UTF-16; no text has them otherwise.
        assert decoded == text.removeprefix("\ufeff") or "\x00" in text
