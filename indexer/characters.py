"""What each character is to a BERT tokenizer, for whole texts at once.

ASCII is known. Of any other character the tokenizer is asked once, when it first occurs.
"""

from __future__ import annotations

import unicodedata
from collections.abc import Callable
from typing import NamedTuple

import numpy as np

SPACE = 1  # between words
LETTER = 2  # of a part: reads as one character of it, whatever stands beside it
ALONE = 4  # always a token of its own: punctuation, Chinese characters
OTHER = 8  # only the tokenizer can tell
CONTROL = 16  # deleted: with one of them, words do not add up
_NUM_CODE_POINTS = 0x110000
_BLANK = ord(" ")


class Characters(NamedTuple):
    """The characters of a stretch of text."""

    kinds: np.ndarray  # (n,) uint8, the sums of the flags above
    letters: str  # as long as the text: what a LETTER reads as, a blank for everything else


class CharacterTable:
    """Looks characters up for one BERT tokenizer; `parts_of` says which parts it makes of a text.

    Grows; not thread-safe.
    """

    def __init__(self, parts_of: Callable[[str], list[str]], *, lowercase: bool) -> None:
        self._parts_of = parts_of
        self._ascii_kinds = bytes(map(_ascii_kind, range(256)))
        self._ascii_letters = bytes(_ascii_letter(code, lowercase=lowercase) for code in range(256))
        # A page of these is only there once a character of it has occurred.
        self._kinds = np.zeros(_NUM_CODE_POINTS, np.uint8)  # 0: has not occurred
        self._letters = np.zeros(_NUM_CODE_POINTS, np.uint32)

    def read(self, text: str) -> Characters:
        """Every character of the text."""
        data = text.encode("ascii", "replace")  # as long as the text, "?" for what is not ASCII
        kinds = np.frombuffer(data.translate(self._ascii_kinds), np.uint8)
        letters = data.translate(self._ascii_letters)
        if text.isascii():
            return Characters(kinds, letters.decode("ascii"))
        codes = np.frombuffer(text.encode("utf-32-le", "surrogatepass"), np.uint32)
        positions = np.flatnonzero(codes > 127)
        codes = codes[positions]
        found = self._kinds[codes]
        if not found.all():
            self._learn(np.unique(codes[found == 0]))
            found = self._kinds[codes]
        kinds = kinds.copy()
        kinds[positions] = found
        spelled = np.frombuffer(letters, np.uint8).astype("<u4")
        spelled[positions] = self._letters[codes]
        return Characters(kinds, spelled.tobytes().decode("utf-32-le"))

    def read_ascii(self, text: str) -> tuple[str | None, int]:
        """(letters as in `read`, how many are ALONE) of an ASCII text; None if it has control characters."""
        data = text.encode("ascii")
        if data.translate(None, _NOT_CONTROL):
            return None, 0
        return data.translate(self._ascii_letters).decode("ascii"), len(data.translate(None, _NOT_ALONE))

    def _learn(self, codes: np.ndarray) -> None:
        for code in codes.tolist():
            self._kinds[code], self._letters[code] = self._ask(chr(code))

    def _ask(self, character: str) -> tuple[int, int]:
        """(kind, the letter that it reads as)."""
        control = CONTROL if "\x7f" <= character <= "\x9f" else 0
        if character.isspace():
            return SPACE | control, _BLANK
        if control or may_join(character):
            return control or OTHER, _BLANK
        parts = self._parts_of(f"a{character}a")
        if len(parts) == 3 and parts[0] == parts[2] == "a" and len(parts[1]) == 1:
            return ALONE, _BLANK
        if len(parts) == 1 and len(parts[0]) == 3 and parts[0][::2] == "aa":
            return LETTER, ord(parts[0][1])
        return OTHER, _BLANK


def may_join(character: str) -> bool:
    """Whether it may be read as one with the character before it or after it, or is none."""
    return (
        unicodedata.category(character)[0] in "MC"  # accents, joiners, surrogates
        or "\u1100" <= character <= "\u11ff"  # Hangul
        or "\U0001f1e6" <= character <= "\U0001f1ff"  # flags
        or "\U0001f3fb" <= character <= "\U0001f3ff"  # skin tones
    )


def _ascii_kind(code: int) -> int:
    character = chr(code)
    if character.isalnum():
        return LETTER
    if "!" <= character <= "~":
        return ALONE
    return SPACE * character.isspace() | CONTROL * (character not in " \t\n\r")


def _ascii_letter(code: int, *, lowercase: bool) -> int:
    character = chr(code)
    if code > 127 or not character.isalnum():
        return _BLANK
    return ord(character.lower() if lowercase else character)


_NOT_CONTROL = bytes(code for code in range(128) if not _ascii_kind(code) & CONTROL)
_NOT_ALONE = bytes(code for code in range(128) if _ascii_kind(code) != ALONE)
