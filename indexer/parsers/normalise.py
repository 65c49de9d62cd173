"""The one place where text gets the form that every offset in the index refers to.

NFC, `\\n` newlines, no control characters but `\\n` and `\\t`, no lone surrogates, no byte order marks.
"""

from __future__ import annotations

import re
import unicodedata

_NEWLINES = re.compile("\r\n|[\r\x0b\x0c\x85\u2028\u2029]")
_CONTROLS = re.compile("[\x00-\x08\x0e-\x1f\x7f-\x9f\ufeff]")
_SURROGATES = re.compile("[\ud800-\udfff]")
_SPACES = re.compile(r"[^\S\n]+")
_LIGATURES = str.maketrans(
    {
        "\ufb00": "ff",
        "\ufb01": "fi",
        "\ufb02": "fl",
        "\ufb03": "ffi",
        "\ufb04": "ffl",
        "\ufb05": "st",
        "\ufb06": "st",
        "\u00a0": " ",
        "\u00ad": "",  # soft hyphen
        "\u200b": "",  # zero-width space
        "\u2060": "",  # word joiner
    }
)


def normalise_text(text: str) -> str:
    """Bring text into the form of `ParsedDocument.text`; idempotent."""
    if text.isascii() and text.isprintable():  # as most lines are
        return text
    if _NEWLINES.search(text):
        text = _NEWLINES.sub("\n", text)
    if _CONTROLS.search(text):
        text = _CONTROLS.sub("", text)
    if _SURROGATES.search(text):
        text = _SURROGATES.sub("\ufffd", text)
    return text if unicodedata.is_normalized("NFC", text) else unicodedata.normalize("NFC", text)


def normalise_typesetting(text: str) -> str:
    """Undo what typesetting does to text: ligatures, fixed spaces, invisible break marks."""
    return text if text.isascii() else text.translate(_LIGATURES)


def collapse_spaces(text: str) -> str:
    """One space for each run of blanks within a line, and none at the ends of lines."""
    return "\n".join(line.strip() for line in _SPACES.sub(" ", text).split("\n"))


def one_line(text: str) -> str:
    """All the text on one line, single-spaced."""
    return " ".join(text.split())
