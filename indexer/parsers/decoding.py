"""Bytes to text: byte order marks, UTF-8, UTF-16, what the file declares, and only then a guess."""

from __future__ import annotations

import codecs
import re
from typing import NamedTuple

from indexer.parsers.errors import UndecodableText

_BYTE_ORDER_MARKS = (
    (codecs.BOM_UTF8, "utf-8"),
    (codecs.BOM_UTF32_LE, "utf-32-le"),  # before UTF-16, whose mark it begins with
    (codecs.BOM_UTF32_BE, "utf-32-be"),
    (codecs.BOM_UTF16_LE, "utf-16-le"),
    (codecs.BOM_UTF16_BE, "utf-16-be"),
)
_DECLARED = re.compile(rb"""(?:charset\s*=\s*|encoding\s*=\s*|coding[:=]\s*)["']?([A-Za-z0-9_.:-]{2,30})""")
_DECLARATION_AREA = 2048
_SAMPLE = 64 * 1024
_TOLERATED_ERRORS = 1 / 500  # of the characters: a damaged byte here and there does not cost the document
_CONTROL_CODES = bytes((*range(0x07), *range(0x0E, 0x1B), *range(0x1C, 0x20), 0x7F))
_HIGH_CODES, _C1_CODES = bytes(range(0x80, 0x100)), bytes(range(0x80, 0xA0))
_STRAY_CONTROLS = re.compile("[\x00-\x08\x0e-\x1a\x1c-\x1f]")  # without escape, which logs use for colours


class DecodedText(NamedTuple):
    """Text, the encoding that it was in, and how many bytes had to be replaced."""

    text: str
    encoding: str
    num_replaced: int


def decode_text(data: bytes, *, name: str, declared: str | None = None) -> DecodedText:
    """Decode a whole file. `declared` is an encoding known from outside (a mail header).

    Raises UndecodableText when no encoding makes text of it.
    """
    for mark, encoding in _BYTE_ORDER_MARKS:
        if data.startswith(mark):
            return _decode_tolerantly(data[len(mark) :], encoding, name)
    wide = _wide_encoding(data[:_SAMPLE])
    if wide is not None:
        return _decode_tolerantly(data, wide, name)
    for encoding in ("utf-8", declared, _declared_encoding(data)):
        text = _decode_strictly(data, encoding)
        if text is not None and encoding is not None:
            return _readable(DecodedText(text, encoding, 0), name)
    almost = data.decode("utf-8", errors="replace")
    num_replaced = almost.count("\ufffd")
    if num_replaced <= len(almost) * _TOLERATED_ERRORS and not almost.isascii():
        return _readable(DecodedText(almost, "utf-8", num_replaced), name)
    return _decode_tolerantly(data, _guess_encoding(data, name), name)


def looks_like_text(head: bytes) -> bool:
    """Whether the first bytes of a file can be text: a Unicode encoding, or few control characters."""
    if any(head.startswith(mark) for mark, _ in _BYTE_ORDER_MARKS) or _wide_encoding(head) is not None:
        return True
    if b"\x00" in head:
        return False
    if _num_of(_CONTROL_CODES, head) * 100 > len(head):
        return False
    first = head[:4096]
    high = _num_of(_HIGH_CODES, first)
    if high * 10 < len(first) * 3:
        return True
    # Mostly beyond ASCII: UTF-8 proves itself; other scripts' 8-bit encodings have hardly any C1 bytes.
    try:
        codecs.getincrementaldecoder("utf-8")().decode(head)
    except UnicodeDecodeError:
        return _num_of(_C1_CODES, first) * 20 < high
    return True


def _num_of(codes: bytes, data: bytes) -> int:
    """How many bytes are one of the codes; a pass without a step of Python a byte."""
    return len(data) - len(data.translate(None, codes))


def _wide_encoding(head: bytes) -> str | None:
    """UTF-16 without a mark shows as zeros in every second byte of text that is mostly Latin."""
    if len(head) < 4 or b"\x00" not in head:
        return None
    even, odd, half = head[0::2].count(0), head[1::2].count(0), len(head) // 2
    encoding = ""
    if odd > half * 0.4 and even < half * 0.05:
        encoding = "utf-16-le"
    elif even > half * 0.4 and odd < half * 0.05:
        encoding = "utf-16-be"
    if not encoding:
        return None
    text = head[: 2 * half].decode(encoding, errors="replace")
    return encoding if len(_STRAY_CONTROLS.findall(text)) * 100 <= len(text) else None


def _declared_encoding(data: bytes) -> str | None:
    match = _DECLARED.search(data[:_DECLARATION_AREA])
    if match is None:
        return None
    encoding = match.group(1).decode("ascii").lower()
    # Browsers read declared Latin-1 as its superset, and so do we; UTF-16 without zeros is not UTF-16.
    if encoding in ("iso-8859-1", "latin-1", "latin1", "us-ascii", "ascii"):
        return "cp1252"
    return None if encoding.startswith(("utf-16", "utf16", "utf-32")) else encoding


def _decode_strictly(data: bytes, encoding: str | None) -> str | None:
    if encoding is None:
        return None
    try:
        return data.decode(encoding)
    except (LookupError, UnicodeDecodeError):
        return None


def _decode_tolerantly(data: bytes, encoding: str, name: str) -> DecodedText:
    text = data.decode(encoding, errors="replace")
    num_replaced = text.count("\ufffd")
    if num_replaced > max(1, len(text) * _TOLERATED_ERRORS):
        raise _undecodable(name)
    return _readable(DecodedText(text, encoding, num_replaced), name)


def _guess_encoding(data: bytes, name: str) -> str:
    from charset_normalizer import from_bytes

    # The sample should hold what is not ASCII, wherever that begins.
    first_high = next((match.start() for match in re.finditer(rb"[\x80-\xff]", data)), 0)
    start = max(0, first_high - _SAMPLE // 2)
    sample = data[start : start + _SAMPLE]
    # Windows-1252 is so much more frequent than its look-alikes that it wins where it is plausible.
    if _is_plausible_western(sample):
        return "cp1252"
    best = from_bytes(sample, enable_fallback=False).best()
    if best is None:
        raise _undecodable(name)
    return best.encoding


def _is_plausible_western(sample: bytes) -> bool:
    """Mostly ASCII letters, and what is beyond ASCII is letters within words or typographic punctuation."""
    text = _decode_strictly(sample, "cp1252")
    if text is None:
        return False
    high = [character for character in text if character > "\x7f"]
    letters = sum(character.isalpha() for character in text)
    common = sum(character in "äöüßÄÖÜéèêëàâçîïôùûñáíóúÉÀ’‘“”–—…•°§«»€£©®\u00a0" for character in high)
    return common >= 0.9 * len(high) and letters > 0 and len(high) < 0.3 * letters


def _readable(decoded: DecodedText, name: str) -> DecodedText:
    """Random bytes decode in many encodings; control characters give them away."""
    num_stray = len(_STRAY_CONTROLS.findall(decoded.text, 0, _SAMPLE))
    if num_stray * 50 > min(len(decoded.text), _SAMPLE):
        raise _undecodable(name)
    return decoded


def _undecodable(name: str) -> UndecodableText:
    return UndecodableText(
        f"{name} is not text in any encoding that could be recognised.",
        hint="Save it as UTF-8, or leave it out with a line in .ragserveignore.",
    )
