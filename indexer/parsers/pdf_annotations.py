"""What stands on a PDF's pages without being part of them: filled-in form fields, comments, notes, links.

Each comes with where it stands on the page, as a line of text does.
"""

from __future__ import annotations

import ctypes
import math
import re
from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING, NamedTuple

from indexer.parsers.normalise import normalise_text, normalise_typesetting, one_line
from indexer.parsers.pdf_pages import placement, whole_page
from indexer.types import Box

if TYPE_CHECKING:
    import pypdfium2

PlacedLine = tuple[str, Box]

_MAX_ANNOTATIONS = 2000  # a page
_LONGEST_VALUE = 4 << 20  # bytes, in UTF-16
_HIDDEN = 0x2
_INSET = 0.2  # of a link's height: it often reaches into the lines above and below
_MOST_LINKS = 200  # a page
_LONGEST_ADDRESS = 500  # characters
_ADDRESS = re.compile(r"(?:https?|ftp)://\S+|mailto:\S+@\S+", re.IGNORECASE)
_OFF = frozenset({"Off", "No", "0"})  # what boxes say that are not ticked


class AnnotationReader:
    """Reads the annotations of one PDF's pages; each text is given once, however often it is repeated."""

    def __init__(self, pdf: pypdfium2.PdfDocument) -> None:
        """To be made before the first page is loaded: pages learn of form fields when they are."""
        import pypdfium2
        import pypdfium2.raw as pdfium

        self._pdf = pdf
        self._seen: set[str] = set()
        self.pages_cut: list[int] = []  # that had more than are looked at
        self._form: pypdfium2.PdfFormEnv | None = None
        if pdf.get_formtype() in (pdfium.FORMTYPE_ACRO_FORM, pdfium.FORMTYPE_XFA_FOREGROUND):
            try:
                pdf.init_forms()
            except pypdfium2.PdfiumError:
                return  # comments can be read without
            self._form = pdf.formenv

    def lines(self, page: pypdfium2.PdfPage, number: int) -> list[PlacedLine]:
        """ "name: value" of the form fields of the page with that number, and its comments."""
        place = _Placing(page, number)
        import pypdfium2.raw as pdfium

        lines = []
        if pdfium.FPDFPage_GetAnnotCount(page) > _MAX_ANNOTATIONS:
            self._cut(number)
        for line, area in self._annotations(page):
            if line not in self._seen:
                self._seen.add(line)
                lines.append((line, place(area)))
        return lines

    def links(self, page: pypdfium2.PdfPage, number: int, text: str) -> list[PlacedLine]:
        """ "words: address" of the page's links to other places, but for addresses that `text` shows."""
        import pypdfium2.raw as pdfium

        place = _Placing(page, number)
        visible = "".join(text.split())
        lines: dict[str, Box] = {}
        position, link, textpage = ctypes.c_int(0), pdfium.FPDF_LINK(), None
        try:
            while pdfium.FPDFLink_Enumerate(page, position, link):
                address = self._address(link)
                if address.partition(":")[2].strip("/") in visible or address in self._seen:
                    continue
                if len(lines) == _MOST_LINKS:
                    self._cut(number)
                    break
                self._seen.add(address)
                textpage = textpage or page.get_textpage()
                area = _area(pdfium.FPDFLink_GetAnnotRect, link)
                words = _words_at(textpage, area) if area is not None else ""
                lines.setdefault(f"{words}: {address}" if words else address, place(area))
        finally:
            if textpage is not None:
                textpage.close()
        return list(lines.items())

    def _cut(self, page: int) -> None:
        if page not in self.pages_cut[-1:]:
            self.pages_cut.append(page)

    def _address(self, link: object) -> str:
        """Where a link leads to, "" if it stays within the document or does something else."""
        import pypdfium2.raw as pdfium

        action = pdfium.FPDFLink_GetAction(link)
        if not action or pdfium.FPDFAction_GetType(action) != pdfium.PDFACTION_URI:
            return ""
        buffer = ctypes.create_string_buffer(_LONGEST_ADDRESS)
        length = pdfium.FPDFAction_GetURIPath(self._pdf, action, buffer, _LONGEST_ADDRESS)
        address = normalise_text(buffer.value.decode("utf-8", errors="replace")).strip()
        return address if length <= _LONGEST_ADDRESS and _ADDRESS.fullmatch(address) else ""

    def _annotations(self, page: pypdfium2.PdfPage) -> Iterator[tuple[str, _Area | None]]:
        """What they say, and where in the page's own space."""
        import pypdfium2.raw as pdfium

        for index in range(min(pdfium.FPDFPage_GetAnnotCount(page), _MAX_ANNOTATIONS)):
            annotation = pdfium.FPDFPage_GetAnnot(page, index)
            if not annotation:
                continue
            try:
                kind = pdfium.FPDFAnnot_GetSubtype(annotation)
                if pdfium.FPDFAnnot_GetFlags(annotation) & _HIDDEN:
                    continue
                if kind in (pdfium.FPDF_ANNOT_LINK, pdfium.FPDF_ANNOT_POPUP):
                    continue
                said = self._field(annotation) if kind == pdfium.FPDF_ANNOT_WIDGET else _comment(annotation)
                area = _area(pdfium.FPDFAnnot_GetRect, annotation)
                yield from ((line, area) for line in said)
            finally:
                pdfium.FPDFPage_CloseAnnot(annotation)

    def _field(self, annotation: object) -> Iterator[str]:
        import pypdfium2.raw as pdfium

        if self._form is None:
            return
        kind = pdfium.FPDFAnnot_GetFormFieldType(self._form, annotation)
        if kind == pdfium.FPDF_FORMFIELD_PUSHBUTTON:
            return
        value = _string(pdfium.FPDFAnnot_GetFormFieldValue, self._form, annotation)
        is_mark = kind in (pdfium.FPDF_FORMFIELD_CHECKBOX, pdfium.FPDF_FORMFIELD_RADIOBUTTON)
        if value and not (is_mark and value in _OFF):
            name = _string(pdfium.FPDFAnnot_GetFormFieldAlternateName, self._form, annotation)
            name = name or _string(pdfium.FPDFAnnot_GetFormFieldName, self._form, annotation)
            yield f"{name}: {value}" if name else value


class _Area(NamedTuple):
    """A rectangle in a page's own space."""

    left: float
    bottom: float
    right: float
    top: float


class _Placing:
    """Turns areas of one page into boxes on it, as the page is shown; what sticks out of it is cut off."""

    def __init__(self, page: pypdfium2.PdfPage, number: int) -> None:
        self._place = placement(page)
        self._whole = whole_page(number, page.get_size())

    def __call__(self, area: _Area | None) -> Box:
        """The box of an area; of what does not say where it stands, the page."""
        page, _, _, width, height = self._whole
        if area is None:
            return self._whole
        x0, y0, x1, y1 = self._place(*area)
        xs, ys = (min(max(x, 0.0), width) for x in (x0, x1)), (min(max(y, 0.0), height) for y in (y0, y1))
        (left, right), (top, bottom) = sorted(xs), sorted(ys)
        return Box(page, round(left, 1), round(top, 1), round(right, 1), round(bottom, 1))


def _area(call: Callable[..., int], thing: object) -> _Area | None:
    """What a pdfium function says of where something stands; None where it says nothing."""
    import pypdfium2.raw as pdfium

    found = pdfium.FS_RECTF()
    if not call(thing, found):
        return None
    area = _Area(found.left, found.bottom, found.right, found.top)
    return area if all(map(math.isfinite, area)) else None


def _words_at(textpage: pypdfium2.PdfTextPage, area: _Area) -> str:
    """The text that a link is laid over."""
    inset = _INSET * (area.top - area.bottom)
    text = textpage.get_text_bounded(area.left, area.bottom + inset, area.right, area.top - inset)
    return one_line(normalise_typesetting(normalise_text(text.replace("\ufffe", "-"))))


def _comment(annotation: object) -> Iterator[str]:
    import pypdfium2.raw as pdfium

    contents = _string(pdfium.FPDFAnnot_GetStringValue, annotation, b"Contents")
    author = _string(pdfium.FPDFAnnot_GetStringValue, annotation, b"T")
    if contents:
        yield f"Comment by {author}: {contents}" if author else contents


def _string(call: Callable[..., int], *arguments: object) -> str:
    """What a pdfium function writes into a buffer of UTF-16, on one line."""
    num_bytes = call(*arguments, None, 0)
    if not 2 < num_bytes <= _LONGEST_VALUE:
        return ""
    buffer = ctypes.create_string_buffer(num_bytes)
    call(*arguments, ctypes.cast(buffer, ctypes.POINTER(ctypes.c_ushort)), num_bytes)
    return one_line(normalise_text(buffer.raw[: num_bytes - 2].decode("utf-16-le", errors="replace")))
