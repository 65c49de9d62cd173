"""Rich Text Format: the text between the control words."""

from __future__ import annotations

import codecs
import re
from collections.abc import Mapping
from types import MappingProxyType

from indexer.parsers.building import DocumentBuilder
from indexer.parsers.failures import malformed
from indexer.parsers.options import ParseOptions
from indexer.types import ParsedDocument

_TOKEN = re.compile(
    rb"\\([a-z]{1,32})(-?\d{1,10})? ?|\\'([0-9a-fA-F]{2})|\\([^a-z])|([{}])|[\r\n]+|([^\\{}\r\n]+)", re.I
)
_IGNORED_GROUPS = frozenset(
    (
        b"fonttbl colortbl stylesheet info pict object header footer headerl headerr headerf footerl "
        b"footerr footerf fldinst xe tc themedata colorschememapping datastore latentstyles listtable "
        b"listoverridetable rsidtbl generator filetbl revtbl mmathpr xmlnstbl bkmkstart bkmkend pnseclvl "
    ).split()
)
_TEXT: Mapping[bytes, str] = MappingProxyType(
    dict.fromkeys((b"par", b"sect", b"page"), "\n\n")
    | dict.fromkeys((b"line", b"row", b"nestrow"), "\n")
    | dict.fromkeys((b"cell", b"nestcell"), " | ")
    | {b"tab": "\t", b"emdash": "—", b"endash": "–", b"bullet": "•"}
    | {b"lquote": "‘", b"rquote": "’", b"ldblquote": "“", b"rdblquote": "”"}
)
_SYMBOLS: Mapping[bytes, str] = MappingProxyType(
    {b"~": "\u00a0", b"-": "", b"_": "-", b"\n": "\n\n", b"\r": "\n\n"} | {b"{": "{", b"}": "}", b"\\": "\\"}
)
_DEEPEST = 1000


def parse_rtf(data: bytes, *, name: str, options: ParseOptions, format: str) -> ParsedDocument:
    """Read RTF; tables keep their rows, pictures and headers are left out."""
    builder = DocumentBuilder(name=name, options=options)
    for paragraph in re.split(r"\n{2,}", rtf_text(data, name)):
        is_table = paragraph.count(" | ") > 1
        lines = (line.strip().removesuffix("|").rstrip() for line in paragraph.split("\n"))
        builder.add("table" if is_table else "text", "\n".join(lines))
    return builder.build(format="rtf", parser="rtf")


def rtf_text(data: bytes, name: str) -> str:
    """The visible text. Raises MalformedFile when groups are nested beyond reason."""
    encoding = _code_page(data)
    pieces: list[str] = []
    pending = bytearray()  # bytes in the file's code page, which may take two for a character
    ignoring, stack, skip, fallback = False, [], 0, 1
    for token in _TOKEN.finditer(data):
        word, number, hexadecimal, symbol, brace, plain = token.groups()
        if hexadecimal is not None or plain is not None:
            raw = bytes([int(hexadecimal, 16)]) if hexadecimal is not None else plain
            dropped, skip = min(skip, len(raw)), max(0, skip - len(raw))
            if not ignoring:
                pending += raw[dropped:]
            continue
        if pending:
            pieces.append(pending.decode(encoding, errors="replace"))
            pending.clear()
        if brace == b"{":
            stack.append((ignoring, fallback))
            if len(stack) > _DEEPEST:
                raise malformed(name, "RTF", "its groups are nested too deep")
        elif brace == b"}":
            ignoring, fallback = stack.pop() if stack else (False, 1)
        elif symbol == b"*":
            ignoring = True
        elif symbol is not None and not ignoring:
            pieces.append(_SYMBOLS.get(symbol, ""))
        elif word is not None:
            word = word.lower()
            if word in _IGNORED_GROUPS:
                ignoring = True
            elif word == b"uc" and number:
                fallback = min(8, max(0, int(number)))
            elif word == b"bin" and number:
                skip = max(0, min(int(number), len(data)))
            elif not ignoring and word == b"u" and number:
                pieces.append(chr(int(number) % 0x10000))
                skip = fallback
            elif not ignoring:
                pieces.append(_TEXT.get(word, ""))
    pieces.append(pending.decode(encoding, errors="replace"))
    # Characters beyond the first plane come as two surrogates.
    return "".join(pieces).encode("utf-16", "surrogatepass").decode("utf-16", "replace")


def _code_page(data: bytes) -> str:
    match = re.search(rb"\\ansicpg(\d{1,5})", data[:4096])
    name = f"cp{match.group(1).decode()}" if match else "cp1252"
    try:
        return codecs.lookup(name).name
    except LookupError:
        return "cp1252"
