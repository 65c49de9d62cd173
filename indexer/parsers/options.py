"""What a caller may choose about parsing, and the bounds that keep one file from harming the rest."""

from __future__ import annotations

from dataclasses import dataclass, field

_MIB = 1 << 20


@dataclass(frozen=True, slots=True, kw_only=True)
class ParseOptions:
    """Choices and bounds of a parse. All values are JSON-safe, so they can cross to a worker process."""

    password: str | None = field(default=None, repr=False)  # tried on encrypted files, after the empty one
    ocr: bool = True  # read pictures of text
    max_bytes: int = 256 * _MIB  # of the file
    max_unpacked_bytes: int = 512 * _MIB  # of what one zip-based file holds
    max_characters: int = 32_000_000  # of the document's text
    max_table_rows: int = 100_000  # a table's further rows are dropped with a warning
    max_nesting: int = 3  # files within files: an attachment of an attachment of an attachment is read
    max_depth: int = 256  # nesting of XML, HTML and JSON
    max_pages: int = 20_000  # of a PDF; further pages are dropped with a warning
    max_ocr_pages: int = 500  # further pages without text are left out with a warning
    max_pixels: int = 150_000_000  # of an image, read from its header; Pillow itself stops at 179 million
    ocr_dpi: int = 200  # at which PDF pages are rasterised for OCR
    thumbnails: bool = False  # keep a small copy of a picture; one without text is a document then
    soft_seconds: float = 90.0  # a PDF stops after the page it is on and keeps what it has, with a warning


DEFAULT_OPTIONS = ParseOptions()
