"""Files within files: what is attached to a mail or a PDF."""

from __future__ import annotations

from collections.abc import Callable

from indexer.parsers.allowance import Allowance
from indexer.parsers.building import DocumentBuilder
from indexer.parsers.detect import detect_format
from indexer.parsers.errors import NoExtractableText, ParseError
from indexer.parsers.formats import IMAGE_FORMATS, UNSUPPORTED
from indexer.parsers.options import ParseOptions
from indexer.parsers.pictures import PictureSieve, picture_text
from indexer.types import ParsedDocument

MAX_ATTACHMENTS = 100  # of one file


class AttachmentReader:
    """Reads what is attached to one file, within what all of it may take together.

    One that cannot be read costs a warning, not the document that it is attached to.
    """

    def __init__(
        self,
        options: ParseOptions,
        before_ocr_page: Callable[[], None] | None,
        *,
        max_attachments: int = MAX_ATTACHMENTS,
        num_ocr_pages_read: int = 0,
    ) -> None:
        """`num_ocr_pages_read` are those that the file itself has taken already."""
        self._options = options
        self._allowance = Allowance(options, before_ocr_page)
        self._allowance.num_ocr_pages_left -= num_ocr_pages_read
        self._max_attachments = max_attachments
        self._num_attachments = 0
        self._pictures = PictureSieve()

    @property
    def is_over(self) -> bool:
        """Whether the time for all of it is used up."""
        return self._allowance.is_over

    def add(self, builder: DocumentBuilder, data: bytes, title: str, *, level: int) -> bool:
        """Append an attachment's name and the text in it, headings below `level`; whether there was any."""
        self._num_attachments += 1
        if self._num_attachments > self._max_attachments:
            builder.warn(f"Only the first {self._max_attachments:,} attachments were looked at.")
            return False
        builder.add("text", f"Attachment: {title} ({len(data):,} bytes)", name="attachment")
        format = detect_format(data, title) if data else None
        if format is None or (format in IMAGE_FORMATS and not self._is_to_be_read(data)):
            return False
        problem = self._why_not(format)
        if problem:
            builder.warn(f"Attachment {title}: {problem}")
            return False
        try:
            document = self._parse(data, title)
        except ParseError as error:
            is_photo = format in IMAGE_FORMATS and isinstance(error, NoExtractableText)
            if not is_photo:
                builder.warn(f"Attachment {title}: {error.message}")
            return False
        if format in IMAGE_FORMATS:
            return _add_picture(builder, document, title)
        builder.add_document(document, name=title, level=level)
        return True

    def _is_to_be_read(self, picture: bytes) -> bool:
        return self._options.ocr and self._pictures.passes(picture)

    def _why_not(self, format: str) -> str:
        """What keeps a file of a format from being read; "" where nothing does."""
        if format in UNSUPPORTED:
            return f"it is in {format} format, which is not read."
        if self._options.max_nesting < 1:
            return "it is nested too deep to be read."
        if self._allowance.is_over:
            return "it was not read, the ones before it took too long."
        if format in IMAGE_FORMATS and self._allowance.num_ocr_pages_left < 1:
            return "it was not read, the limit of pages that are read by OCR was reached."
        return ""

    def _parse(self, data: bytes, title: str) -> ParsedDocument:
        from indexer.parsers.registry import parse

        options = self._allowance.options(max_nesting=self._options.max_nesting - 1)
        return parse(data, name=title, options=options, before_ocr_page=self._allowance.before_ocr_page)


def _add_picture(builder: DocumentBuilder, document: ParsedDocument, title: str) -> bool:
    """What stands in a picture; its name was told above."""
    found = picture_text(document)
    for kind, text in found:
        builder.add(kind, text)
    if found:
        for warning in document.warnings:
            builder.warn(f"{title}: {warning}")
    return bool(found)
