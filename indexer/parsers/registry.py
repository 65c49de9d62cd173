"""From a format's name to the function that reads it, imported when first needed."""

from __future__ import annotations

import importlib
from collections.abc import Callable, Mapping
from types import MappingProxyType
from typing import NamedTuple, Protocol

from indexer.parsers.building import clean_metadata
from indexer.parsers.detect import detect_format
from indexer.parsers.errors import ParserOutOfMemory, UnsupportedFormat
from indexer.parsers.failures import file_title, nested_too_deep, no_text, too_large
from indexer.parsers.formats import ARCHIVE_FORMATS, CODE_FORMATS, IMAGE_FORMATS, UNSUPPORTED, format_by_name
from indexer.parsers.options import DEFAULT_OPTIONS, ParseOptions
from indexer.types import ParsedDocument

PARSER_VERSION = "5"
"""Rises when the same bytes may give another document; an index records it."""

OcrNotice = Callable[[], None]
"""Called before each page that is about to be read by OCR, which takes seconds."""


class Reader(Protocol):
    """What a format family provides."""

    def __call__(self, data: bytes, *, name: str, options: ParseOptions, format: str) -> ParsedDocument:
        """Read a whole file."""


class _Place(NamedTuple):
    module: str
    function: str
    announces_ocr: bool = False


_PLACES: Mapping[str, _Place] = MappingProxyType(
    {
        "text": _Place("text", "parse_text"),
        "markdown": _Place("markdown", "parse_markdown"),
        **dict.fromkeys(("rst", "org", "asciidoc"), _Place("lightweight", "parse_lightweight")),
        **dict.fromkeys(("html", "xml"), _Place("markup", "parse_markup")),
        **dict.fromkeys(("json", "ndjson", "yaml", "toml"), _Place("data", "parse_data")),
        "ipynb": _Place("notebook", "parse_notebook"),
        **dict.fromkeys(("csv", "tsv"), _Place("tables", "parse_delimited")),
        "xlsx": _Place("tables", "parse_workbook", announces_ocr=True),
        "docx": _Place("docx", "parse_docx", announces_ocr=True),
        "pptx": _Place("pptx", "parse_pptx", announces_ocr=True),
        **dict.fromkeys(
            ("odt", "ods", "odp"), _Place("opendocument", "parse_opendocument", announces_ocr=True)
        ),
        "epub": _Place("epub", "parse_epub"),
        "rtf": _Place("rtf", "parse_rtf"),
        "eml": _Place("email", "parse_email", announces_ocr=True),
        "mbox": _Place("mbox", "parse_mbox", announces_ocr=True),
        "compressed": _Place("compressed", "parse_compressed", announces_ocr=True),
        "pdf": _Place("pdf", "parse_pdf", announces_ocr=True),
        **dict.fromkeys(sorted(IMAGE_FORMATS), _Place("image", "parse_image", announces_ocr=True)),
        **dict.fromkeys(sorted(ARCHIVE_FORMATS), _Place("archive", "parse_archive", announces_ocr=True)),
        **dict.fromkeys((*CODE_FORMATS, "code"), _Place("code", "parse_code")),
    }
)


def supported_formats() -> tuple[str, ...]:
    """The names of all formats that can be read."""
    return tuple(sorted(_PLACES))


def parse(
    data: bytes,
    *,
    name: str,
    options: ParseOptions = DEFAULT_OPTIONS,
    before_ocr_page: OcrNotice | None = None,
) -> ParsedDocument:
    """Read a file's bytes into a document; `name` (a path or file name) helps where content leaves a choice.

    Raises a ParseError subclass for every reason not to return a document with text in it.
    """
    if len(data) > options.max_bytes:
        raise too_large(name, len(data), options)
    if not data:
        raise no_text(name)
    format = detect_format(data, name)
    if format is None:
        raise UnsupportedFormat(
            f"{file_title(name)} is a binary of no known kind.",
            hint="Leave it out with a line in .ragserveignore.",
        )
    if format in UNSUPPORTED:
        raise UnsupportedFormat(
            f"{file_title(name)} is in {format} format, which is not read.", hint=UNSUPPORTED[format][0]
        )
    place = _PLACES[format]
    reader = getattr(importlib.import_module(f"indexer.parsers.{place.module}"), place.function)
    extra = {"before_ocr_page": before_ocr_page} if place.announces_ocr else {}
    try:
        document = reader(data, name=name, options=options, format=format, **extra)
    except RecursionError as error:
        raise nested_too_deep(name) from error
    except MemoryError as error:
        raise ParserOutOfMemory(
            f"{file_title(name)} needs more memory to read than allowed.",
            hint="Split it, or raise the memory limit.",
        ) from error
    return _note_wrong_extension(document, name)


def _note_wrong_extension(document: ParsedDocument, name: str) -> ParsedDocument:
    """The document; where its name says that it is something else, that is noted. Nothing is lost by it."""
    by_name = format_by_name(name)
    same_family = (
        by_name is None or by_name == document.format or {by_name, document.format} <= _INTERCHANGEABLE
    )
    if same_family or by_name == "text" or document.format == "code":
        return document
    from dataclasses import replace

    return replace(document, metadata=clean_metadata({**document.metadata, "named_as": by_name}))


_INTERCHANGEABLE = frozenset({"xml", "html", "c", "cpp", "json", "ndjson", "csv", "tsv"}) | IMAGE_FORMATS
