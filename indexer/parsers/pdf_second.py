"""pypdf beside pdfium: it opens what pdfium refuses, and says how a file is encrypted."""

from __future__ import annotations

import io
import logging
from collections.abc import Iterator
from typing import TYPE_CHECKING

from indexer.parsers.errors import EncryptedPdf
from indexer.parsers.failures import file_title

if TYPE_CHECKING:
    from pypdf import PdfReader

_LETTER = (612.0, 792.0)  # points: what PDFs are said to be that do not say what they are
_LONGEST_SIDE = 1e6  # points; no reader shows a page that is larger
# pypdf promises PdfReadError; on hostile files its parsers meet these as well.
_DAMAGE = (
    ValueError,
    KeyError,
    TypeError,
    IndexError,
    AttributeError,
    OSError,
    ArithmeticError,
    AssertionError,
    NotImplementedError,
)


class SecondReader:
    """pypdf, opened when first asked; every failure means that it has nothing to add."""

    def __init__(self, data: bytes, *, password: str | None) -> None:
        self._data = data
        self._password = password
        self._reader: PdfReader | None = None
        self._failed = False

    def page_text(self, index: int) -> str:
        """The text of a page, "" when there is none or it cannot be read."""
        reader = self._open()
        if reader is None:
            return ""
        try:
            return reader.pages[index].extract_text() or ""
        except _failures():
            return ""

    def page_size(self, index: int) -> tuple[float, float]:
        """Width and height of a page as shown, in points; those of a letter when they cannot be read."""
        reader = self._open()
        try:
            page = reader.pages[index] if reader is not None else None
            size = (float(page.cropbox.width), float(page.cropbox.height)) if page is not None else _LETTER
            turned = page is not None and page.rotation % 180 != 0
        except _failures():
            return _LETTER
        if not all(0 < side < _LONGEST_SIDE for side in size):
            return _LETTER
        return (size[1], size[0]) if turned else size

    def texts(self, max_pages: int) -> Iterator[str]:
        """The text of each page."""
        for index in range(min(self.num_pages, max_pages)):
            yield self.page_text(index)

    @property
    def num_pages(self) -> int:
        """How many pages it finds; 0 when it cannot open the file."""
        reader = self._open()
        if reader is None:
            return 0
        try:
            return len(reader.pages)
        except _failures():
            return 0

    def _open(self) -> PdfReader | None:
        if self._reader is None and not self._failed:
            logging.getLogger("pypdf").setLevel(logging.CRITICAL)  # it reports each oddity of a broken file
            import pypdf

            try:
                reader = pypdf.PdfReader(io.BytesIO(self._data), strict=False)
                if reader.is_encrypted and not reader.decrypt(self._password or ""):
                    reader = None
                self._reader = reader
            except _failures():
                self._reader = None
            self._failed = self._reader is None
        return self._reader


def encrypted_pdf(name: str, data: bytes, *, password_given: bool) -> EncryptedPdf:
    """The error for a PDF that no known password opens, with the kind of its encryption."""
    what = _encryption(data)
    if password_given:
        return EncryptedPdf(
            f"{file_title(name)} is encrypted{what} and the password does not open it.",
            hint="Check the password, or save a copy without one.",
        )
    return EncryptedPdf(
        f"{file_title(name)} is encrypted{what} and needs a password.",
        hint="Give it by --password or --password-file, or save a copy without one.",
    )


def _encryption(data: bytes) -> str:
    import pypdf

    try:
        encryption = pypdf.PdfReader(io.BytesIO(data), strict=False).trailer["/Encrypt"].get_object()
        handler, version = str(encryption.get("/Filter", "")).strip("/"), encryption.get("/V", 0)
    except _failures():
        return ""
    if handler and handler != "Standard":
        return f" by the {handler} scheme"
    return {1: " (RC4, 40 bit)", 2: " (RC4)", 4: " (AES or RC4, 128 bit)", 5: " (AES, 256 bit)"}.get(
        version, ""
    )


def _failures() -> tuple[type[Exception], ...]:
    from pypdf.errors import DependencyError, DeprecationError, PyPdfError

    return (PyPdfError, DependencyError, DeprecationError, *_DAMAGE)
