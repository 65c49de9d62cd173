"""What a camera or a person wrote into a picture about it. Anybody may have: it is cut and cleaned."""

from __future__ import annotations

import re
import unicodedata
from typing import TYPE_CHECKING

from indexer.parsers.normalise import normalise_text, one_line

if TYPE_CHECKING:
    from PIL.Image import Image

_DESCRIPTION, _MAKER, _MODEL, _CHANGED = 0x010E, 0x010F, 0x0110, 0x0132
_EXIF_PART, _TAKEN = 0x8769, 0x9003  # when it was taken is in a part of its own
_LONGEST_DESCRIPTION = 300  # characters
_LONGEST_CAMERA = 80
_DATE = re.compile(r"(\d{4})[:\-/.](\d{2})[:\-/.](\d{2})(?:[ T](\d{2}):(\d{2}))?")
# What Pillow raises on parts that are damaged.
_DAMAGE = (
    *(OSError, SyntaxError, ValueError, KeyError, TypeError, IndexError, EOFError, OverflowError),
    *(AssertionError, AttributeError),
)


def exif_facts(image: Image) -> dict[str, str]:
    """`description`, `created` (as 2024-05-01 12:30) and `camera`, those that a picture has."""
    try:
        exif = image.getexif()
        values = {tag: exif.get(tag) for tag in (_DESCRIPTION, _MAKER, _MODEL, _CHANGED)}
        values[_TAKEN] = exif.get_ifd(_EXIF_PART).get(_TAKEN)
    except _DAMAGE:
        return {}  # a damaged EXIF part does not make the picture unreadable
    maker, model = (_clean(values[tag], _LONGEST_CAMERA) for tag in (_MAKER, _MODEL))
    named = model.lower().startswith(maker.lower())
    facts = {
        "description": _clean(values[_DESCRIPTION], _LONGEST_DESCRIPTION),
        "created": _date(values[_TAKEN]) or _date(values[_CHANGED]),
        "camera": model if named else f"{maker} {model}".strip(),
    }
    return {key: value for key, value in facts.items() if value}


def _date(value: object) -> str:
    match = _DATE.match(_clean(value, 40))
    if match is None or match[1] == "0000":
        return ""
    day = "-".join(match.group(1, 2, 3))
    return f"{day} {match[4]}:{match[5]}" if match[4] else day


def _clean(value: object, longest: int) -> str:
    """Text on one line, without what is not shown: control characters, and marks that turn text around."""
    if isinstance(value, bytes):
        value = value[: 4 * longest].decode("utf-8", errors="replace")
    if not isinstance(value, str):
        return ""
    text = one_line(normalise_text(value[: 4 * longest].partition("\x00")[0]))
    return "".join(c for c in text if not unicodedata.category(c).startswith("C"))[:longest].strip()
