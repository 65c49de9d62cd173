"""PDFs: text and boxes from pdfium page by page; pages without a usable text layer from pypdf or OCR."""

from __future__ import annotations

import re
import time
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any

from indexer.parsers.attachments import MAX_ATTACHMENTS, AttachmentReader
from indexer.parsers.building import DocumentBuilder
from indexer.parsers.errors import NoExtractableText, OcrUnavailable, TruncatedFile
from indexer.parsers.failures import file_title, malformed
from indexer.parsers.image import picture_blocks
from indexer.parsers.layout import PlacedBlock, Row
from indexer.parsers.normalise import normalise_typesetting
from indexer.parsers.options import ParseOptions
from indexer.parsers.pdf_annotations import AnnotationReader
from indexer.parsers.pdf_drawing import is_blank, render_page, shows_picture
from indexer.parsers.pdf_pages import PageText, is_sensible, read_page, whole_page, without_garbage
from indexer.parsers.pdf_pictures import PictureFinder, render_area
from indexer.parsers.pdf_second import SecondReader, encrypted_pdf
from indexer.parsers.pdf_text import Outline, PageContent, PdfWriter, fold
from indexer.types import Box, ParsedDocument

if TYPE_CHECKING:
    import pypdfium2
    from PIL.Image import Image

_PASSWORD_ERROR, _SECURITY_ERROR = 4, 5  # FPDF_ERR_PASSWORD, FPDF_ERR_SECURITY
_FEW_LETTERS = 16  # a picture beside text with fewer characters is no more than a logo
_FEW_CHARACTERS = 40  # a page with a picture and fewer characters may be a scan with a stamp on it
_FAILURES_IN_A_ROW = 50  # after which the rest of the pages is given up: the page tree lies
_OUTLINE_ENTRIES = 5000
_CATALOG = re.compile(rb"(\d{1,10})\s+(\d{1,5})\s+obj\s*<<[^>]{0,200}/Type\s*/Catalog")
_TAIL = 4096  # bytes in which an intact file has its end mark
_NO_TITLE = re.compile(
    r"^(?:untitled.*|microsoft (?:word|powerpoint|excel) - .*|"
    r".*\.(?:docx?|tex|dvi|qxd|indd|pptx?|xlsx?|pdf|rtf)|"
    r"slide \d+|document\d*|pii:.*|\W*)$",
    re.IGNORECASE,
)


def parse_pdf(
    data: bytes,
    *,
    name: str,
    options: ParseOptions,
    format: str,
    before_ocr_page: Callable[[], None] | None = None,
) -> ParsedDocument:
    """Read a PDF. Raises EncryptedPdf, TruncatedFile, MalformedFile; NoExtractableText without any text."""
    import pypdfium2

    builder = DocumentBuilder(name=name, options=options)
    second = SecondReader(data, password=options.password)
    try:
        pdf = _open(data, name, options.password)
    except pypdfium2.PdfiumError as error:
        pdf = _open_with_trailer(data)
        if pdf is None:
            return _read_by_pypdf(builder, second, data, error)
    with pdf:
        reading = _Reading(pdf, builder, second, before_ocr_page)
        reading.read()
        has_text = not builder.is_empty
        attachments = AttachmentReader(options, before_ocr_page, num_ocr_pages_read=reading.num_read_by_ocr)
        has_text = _add_attachments(pdf, builder, attachments) or has_text
        metadata = _metadata(pdf)
    title = metadata.pop("title", "")
    if not _ends_properly(data):
        builder.warn("The file has no end mark: it may be truncated.")
    if not has_text:
        raise _no_text(builder, reading, data)
    return builder.build(
        format="pdf",
        parser="pypdfium2+rapidocr" if reading.ocr_pages or reading.picture_pages else "pypdfium2",
        title=reading.title if _NO_TITLE.match(title) else title,
        metadata=metadata | reading.facts,
    )


def _open(data: bytes, name: str, password: str | None) -> pypdfium2.PdfDocument:
    import pypdfium2

    for attempt in (None, password) if password else (None,):
        try:
            return pypdfium2.PdfDocument(data, password=attempt)
        except pypdfium2.PdfiumError as error:
            if error.err_code not in (_PASSWORD_ERROR, _SECURITY_ERROR):
                raise
    raise encrypted_pdf(name, data, password_given=password is not None)


def _open_with_trailer(data: bytes) -> pypdfium2.PdfDocument | None:
    """A file that was cut short has lost its trailer; with a new one, what is left of it can be read."""
    import pypdfium2

    catalog = _CATALOG.search(data)
    if catalog is None or _ends_properly(data):
        return None
    trailer = (
        b"\nendstream\nendobj\ntrailer\n<< /Root %s %s R /Size 1 >>\nstartxref\n0\n%%%%EOF\n"
        % catalog.groups()
    )
    try:
        return pypdfium2.PdfDocument(data + trailer)
    except pypdfium2.PdfiumError:
        return None


class _Reading:
    """One pass over the pages of an open PDF."""

    def __init__(
        self,
        pdf: pypdfium2.PdfDocument,
        builder: DocumentBuilder,
        second: SecondReader,
        before_ocr_page: Callable[[], None] | None,
    ) -> None:
        self._pdf = pdf
        self._builder = builder
        self._options = builder.options
        self._second = second
        self._before_ocr_page = before_ocr_page
        self._annotations = AnnotationReader(pdf)
        self._writer = PdfWriter(builder, _outline(pdf))
        self._pictures = PictureFinder()
        self._seen_whether_blank = (0, False)  # of the last page that was asked about
        self._seconds_of_ocr = 0.0
        self.num_read_by_ocr = 0  # pages, and pictures on pages
        self.num_pages = len(pdf)
        self.ocr_pages: list[int] = []
        self.picture_pages: list[int] = []  # with pictures that were read beside the text
        self.pypdf_pages: list[int] = []
        self.failed_pages: list[int] = []
        self.unread_pages: list[int] = []  # that show something, in which no text was found
        self.skipped_pages: list[int] = []  # that OCR would have had to read
        self.skipped_picture_pages: list[int] = []  # with pictures that were not looked at
        self.ocr_error: OcrUnavailable | None = None

    @property
    def title(self) -> str:
        """The most prominent heading of the first page."""
        return self._writer.title

    @property
    def facts(self) -> dict[str, str]:
        """Which pages were read otherwise than from their text layer."""
        pages = {
            "ocr_pages": self.ocr_pages,
            "ocr_picture_pages": self.picture_pages,
            "pypdf_pages": self.pypdf_pages,  # without places on the page: each line's box is the page
        }
        return {key: _ranges(numbers) for key, numbers in pages.items() if numbers}

    def read(self) -> None:
        """Append every page's blocks to the builder, and warnings about what was not read."""
        started = time.monotonic()
        num_pages = self.num_pages
        for number in range(1, min(num_pages, self._options.max_pages) + 1):
            if time.monotonic() - started - self._seconds_of_ocr > self._options.soft_seconds:
                self._builder.warn(f"Reading stopped before page {number} of {num_pages}: it took too long.")
                break
            if self.failed_pages[-_FAILURES_IN_A_ROW:] == list(range(number - _FAILURES_IN_A_ROW, number)):
                self._builder.warn(
                    f"Reading stopped before page {number} of {num_pages}: no page could be read."
                )
                break
            self._read_page(number)
        else:
            if num_pages > self._options.max_pages:
                self._builder.warn(
                    f"Only the first {self._options.max_pages:,} of {num_pages:,} pages were read."
                )
        self._writer.finish()
        self._warn("could not be read", self.failed_pages)
        self._warn("no text was found", self.unread_pages)
        self._warn(f"not read by OCR, {self._why_no_ocr}", self.skipped_pages)
        self._warn("some of the pictures were not read: they are too many", self.skipped_picture_pages)
        self._warn(
            "some of the form fields, comments and links were not read: they are too many",
            self._annotations.pages_cut,
        )

    def _read_page(self, number: int) -> None:
        import pypdfium2

        try:
            page = self._pdf[number - 1]
        except pypdfium2.PdfiumError:
            paragraphs = self._read_by_pypdf(number, self._second.page_size(number - 1))
            if paragraphs:
                self._writer.add_page(PageContent(number, 0.0, paragraphs=paragraphs))
            else:
                self.failed_pages.append(number)
            return
        try:
            content = self._content(number, page)
            if not content.is_empty:
                self._writer.add_page(content)
            elif number not in self.skipped_pages[-1:] and not self._is_blank(number, page):
                self.unread_pages.append(number)
        finally:
            page.close()

    def _content(self, number: int, page: pypdfium2.PdfPage) -> PageContent:
        """What is on a page, from the best of its readers."""
        import pypdfium2

        try:
            text = read_page(page)
        except pypdfium2.PdfiumError:
            text = PageText([], 0, 0)
        annotations = tuple(self._annotations.lines(page, number))
        content = PageContent(number, page.get_height(), annotations=annotations)
        rows = without_garbage(text.rows)
        if text.is_garbage:
            content = content._replace(paragraphs=self._read_by_pypdf(number, page.get_size()))
            if not content.paragraphs:
                content = content._replace(pictures=self._read_by_ocr(number, page, text), is_scan=True)
        elif self._is_scan(page, text, annotations):
            content = content._replace(pictures=self._read_by_ocr(number, page, text), is_scan=True)
        else:
            pictures = self._read_pictures(number, page, rows)
            links = tuple(self._annotations.links(page, number, " ".join(row.text for row in rows)))
            content = content._replace(rows=rows, pictures=pictures, links=links)
        if content.paragraphs or content.pictures:
            return content
        return content._replace(rows=rows, is_scan=False)

    def _is_scan(self, page: pypdfium2.PdfPage, text: PageText, annotations: Sequence[object]) -> bool:
        """Whether what the page shows is likely not in its text layer."""
        if text.num_characters >= _FEW_CHARACTERS and not text.is_marginal(page.get_height()):
            return False
        return shows_picture(page) if text.rows or annotations else True

    def _read_by_pypdf(self, number: int, size: tuple[float, float]) -> tuple[PlacedBlock, ...]:
        """The paragraphs of pypdf's text of a page, if it makes sense, each somewhere on the page.

        On pages where pdfium finds no text at all, pypdf never found any in 517 files; but it knows some
        encodings of fonts that pdfium does not.
        """
        text = self._second.page_text(number - 1).strip()
        if not is_sensible(text):
            return ()
        self.pypdf_pages.append(number)
        return _somewhere(text, whole_page(number, size))

    def _read_by_ocr(self, number: int, page: pypdfium2.PdfPage, text: PageText) -> tuple[PlacedBlock, ...]:
        """What the picture of a page says; nothing where a text layer says as much."""
        if self._is_blank(number, page):
            return ()
        if not self._may_use_ocr:
            self.skipped_pages.append(number)
            return ()
        image = render_page(page, dpi=self._options.ocr_dpi)
        minimum = 0 if text.is_garbage else 2 * text.num_characters
        scale = max(page.get_size()) / max(image.size)
        blocks = self._ocr(image, page=number, scale=scale, more_than=minimum)
        if blocks:
            self.ocr_pages.append(number)
        return blocks

    def _is_blank(self, number: int, page: pypdfium2.PdfPage) -> bool:
        """Whether a page shows nothing; drawn once, however often it is asked."""
        if self._seen_whether_blank[0] != number:
            self._seen_whether_blank = (number, is_blank(page))
        return self._seen_whether_blank[1]

    def _read_pictures(
        self, number: int, page: pypdfium2.PdfPage, rows: Sequence[Row]
    ) -> tuple[PlacedBlock, ...]:
        """The text in the larger pictures of a page that has a text layer."""
        if not self._options.ocr or self.ocr_error is not None:
            return ()
        blocks: list[PlacedBlock] = []
        areas = self._pictures.find(page, rows)
        if self._pictures.left_out or (areas and not self._may_use_ocr):
            self.skipped_picture_pages.append(number)
        for area in areas:
            if self._may_use_ocr:
                image = render_area(page, area, dpi=self._options.ocr_dpi)
                scale = (area.x1 - area.x0) / image.size[0]
                blocks += self._ocr(
                    image, page=number, scale=scale, origin=(area.x0, area.y0), more_than=_FEW_LETTERS
                )
        if blocks:
            self.picture_pages.append(number)
        return tuple(blocks)

    @property
    def _may_use_ocr(self) -> bool:
        limit = self._options.max_ocr_pages
        return self._options.ocr and self.ocr_error is None and self.num_read_by_ocr < limit

    @property
    def _why_no_ocr(self) -> str:
        if not self._options.ocr:
            return "which is off"
        if self.ocr_error is not None:
            return "whose models are not installed"
        return f"whose limit of {self._options.max_ocr_pages:,} pages and pictures was reached"

    def _ocr(self, image: Image, **placing: Any) -> tuple[PlacedBlock, ...]:
        started = time.monotonic()
        if self._before_ocr_page is not None:
            self._before_ocr_page()
        self.num_read_by_ocr += 1
        try:
            return tuple(picture_blocks(image, before_second_look=self._before_ocr_page, **placing))
        except OcrUnavailable as error:
            self.ocr_error = error
            return ()
        finally:
            self._seconds_of_ocr += time.monotonic() - started

    def _warn(self, what: str, pages: list[int]) -> None:
        if pages:
            self._builder.warn(f"{'Page' if len(pages) == 1 else 'Pages'} {_ranges(pages)}: {what}.")


def _somewhere(text: str, page: Box) -> tuple[PlacedBlock, ...]:
    """Paragraphs of which no more is known than their page."""
    paragraphs = normalise_typesetting(text).split("\n\n")
    return tuple(
        PlacedBlock("text", tuple((line, page) for line in paragraph.split("\n"))) for paragraph in paragraphs
    )


def _ranges(pages: list[int]) -> str:
    """Page numbers with runs drawn together: "1, 3-5"."""
    runs: list[list[int]] = []
    for page in pages:
        if runs and page == runs[-1][1] + 1:
            runs[-1][1] = page
        else:
            runs.append([page, page])
    return ", ".join(str(first) if first == last else f"{first}-{last}" for first, last in runs)


def _outline(pdf: pypdfium2.PdfDocument) -> Outline:
    levels: dict[tuple[int, str], int] = {}
    for count, bookmark in enumerate(pdf.get_toc(max_depth=8)):
        if count == _OUTLINE_ENTRIES:
            break
        destination = bookmark.get_dest()
        index = destination.get_index() if destination is not None else None
        if index is not None:
            levels.setdefault((index + 1, fold(bookmark.get_title())), min(bookmark.level + 1, 6))
    return Outline({key: level for key, level in levels.items() if key[1]})


def _add_attachments(
    pdf: pypdfium2.PdfDocument, builder: DocumentBuilder, attachments: AttachmentReader
) -> bool:
    """Append the files that are attached; whether there was text in any."""
    import pypdfium2

    num_attachments, num_bytes, has_text = pdf.count_attachments(), 0, False
    for index in range(min(num_attachments, MAX_ATTACHMENTS)):
        try:
            attachment = pdf.get_attachment(index)
            name, data = attachment.get_name(), bytes(attachment.get_data())
        except (pypdfium2.PdfiumError, UnicodeDecodeError):
            builder.warn(f"Attachment {index + 1} could not be unpacked.")
            continue
        num_bytes += len(data)
        if num_bytes > builder.options.max_unpacked_bytes:
            builder.warn(f"Only the first {index} attachments were looked at: they unpack to too much.")
            break
        has_text |= attachments.add(builder, data, file_title(name) or "unnamed", level=1)
    if num_attachments > MAX_ATTACHMENTS:
        builder.warn(f"Only the first {MAX_ATTACHMENTS} attachments were looked at.")
    return has_text


def _metadata(pdf: pypdfium2.PdfDocument) -> dict[str, str]:
    keys = {
        "Title": "title",
        "Author": "author",
        "Subject": "subject",
        "Keywords": "keywords",
        "CreationDate": "created",
    }
    metadata = {ours: pdf.get_metadata_value(theirs) for theirs, ours in keys.items()}
    return metadata | {"pages": str(len(pdf))}


def _ends_properly(data: bytes) -> bool:
    return b"%%EOF" in data[-_TAIL:] or b"startxref" in data[-_TAIL:]


def _read_by_pypdf(
    builder: DocumentBuilder, second: SecondReader, data: bytes, cause: Exception
) -> ParsedDocument:
    """The whole document by pypdf, which rebuilds what pdfium gives up on."""
    for index, text in enumerate(second.texts(builder.options.max_pages)):
        if is_sensible(text):
            for block in _somewhere(text, whole_page(index + 1, second.page_size(index))):
                builder.add_lines(block.kind, block.lines)
    if builder.is_empty:
        if not _ends_properly(data):
            raise _truncated(builder.name) from cause
        raise malformed(builder.name, "a PDF") from cause
    builder.warn("The file is damaged; its text came from pypdf, without places on the page.")
    return builder.build(format="pdf", parser="pypdf")


def _no_text(builder: DocumentBuilder, reading: _Reading, data: bytes) -> Exception:
    title = file_title(builder.name)
    if reading.ocr_error is not None:
        return reading.ocr_error
    if not _ends_properly(data):
        return _truncated(builder.name)
    if len(reading.failed_pages) == reading.num_pages:
        return malformed(builder.name, "a PDF", "no page could be read")
    if not builder.options.ocr:
        return NoExtractableText(f"{title} has no text layer and OCR is off.", hint="Switch OCR on.")
    return NoExtractableText(
        f"{title} has no text layer, and OCR found no text on its pages.",
        hint="Scan it again at a higher resolution, or leave it out with a line in .ragserveignore.",
    )


def _truncated(name: str) -> TruncatedFile:
    return TruncatedFile(
        f"{file_title(name)} ends before its content does.", hint="Copy or download it again from its source."
    )
