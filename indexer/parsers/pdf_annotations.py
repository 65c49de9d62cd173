"""What stands on a PDF's pages without being part of them: filled-in form fields, comments, notes, links."""

from __future__ import annotations

import ctypes
import re
from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING

from indexer.parsers.normalise import normalise_text, normalise_typesetting, one_line

if TYPE_CHECKING:
    import pypdfium2

_MAX_ANNOTATIONS = 2000  # a page
_LONGEST_VALUE = 20_000  # bytes, in UTF-16
_HIDDEN = 0x2
_INSET = 0.2  # of a link's height: it often reaches into the lines above and below
_MOST_LINKS = 200  # a page
_LONGEST_ADDRESS = 500  # characters
_ADDRESS = re.compile(r"(?:https?|ftp)://\S+|mailto:\S+@\S+", re.IGNORECASE)
_OFF = frozenset({"Off", "No", "0", ""})


class AnnotationReader:
    """Reads the annotations of one PDF's pages; each text is given once, however often it is repeated."""

    def __init__(self, pdf: pypdfium2.PdfDocument) -> None:
        """To be made before the first page is loaded: pages learn of form fields when they are."""
        import pypdfium2
        import pypdfium2.raw as pdfium

        self._pdf = pdf
        self._seen: set[str] = set()
        self._form: pypdfium2.PdfFormEnv | None = None
        if pdf.get_formtype() in (pdfium.FORMTYPE_ACRO_FORM, pdfium.FORMTYPE_XFA_FOREGROUND):
            try:
                pdf.init_forms()
            except pypdfium2.PdfiumError:
                return  # comments can be read without
            self._form = pdf.formenv

    def lines(self, page: pypdfium2.PdfPage) -> list[str]:
        """ "name: value" of the page's form fields, and its comments."""
        lines = []
        for line in self._annotations(page):
            if line not in self._seen:
                self._seen.add(line)
                lines.append(line)
        return lines

    def links(self, page: pypdfium2.PdfPage, text: str) -> list[str]:
        """ "words: address" of the page's links to other places, but for addresses that `text` shows."""
        import pypdfium2.raw as pdfium

        visible = "".join(text.split())
        lines: dict[str, None] = {}
        position, link, textpage = ctypes.c_int(0), pdfium.FPDF_LINK(), None
        try:
            while pdfium.FPDFLink_Enumerate(page, position, link) and len(lines) < _MOST_LINKS:
                address = self._address(link)
                if address.partition(":")[2].strip("/") in visible or address in self._seen:
                    continue
                self._seen.add(address)
                textpage = textpage or page.get_textpage()
                words = _words_at(textpage, link)
                lines[f"{words}: {address}" if words else address] = None
        finally:
            if textpage is not None:
                textpage.close()
        return list(lines)

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

    def _annotations(self, page: pypdfium2.PdfPage) -> Iterator[str]:
        import pypdfium2.raw as pdfium

        for index in range(min(pdfium.FPDFPage_GetAnnotCount(page), _MAX_ANNOTATIONS)):
            annotation = pdfium.FPDFPage_GetAnnot(page, index)
            if not annotation:
                continue
            try:
                kind = pdfium.FPDFAnnot_GetSubtype(annotation)
                if pdfium.FPDFAnnot_GetFlags(annotation) & _HIDDEN:
                    continue
                if kind == pdfium.FPDF_ANNOT_WIDGET:
                    yield from self._field(annotation)
                elif kind not in (pdfium.FPDF_ANNOT_LINK, pdfium.FPDF_ANNOT_POPUP):
                    yield from _comment(annotation)
            finally:
                pdfium.FPDFPage_CloseAnnot(annotation)

    def _field(self, annotation: object) -> Iterator[str]:
        import pypdfium2.raw as pdfium

        if self._form is None:
            return
        value = _string(pdfium.FPDFAnnot_GetFormFieldValue, self._form, annotation)
        if pdfium.FPDFAnnot_GetFormFieldType(self._form, annotation) == pdfium.FPDF_FORMFIELD_PUSHBUTTON:
            return
        if value not in _OFF:
            name = _string(pdfium.FPDFAnnot_GetFormFieldAlternateName, self._form, annotation)
            name = name or _string(pdfium.FPDFAnnot_GetFormFieldName, self._form, annotation)
            yield f"{name}: {value}" if name else value


def _words_at(textpage: pypdfium2.PdfTextPage, link: object) -> str:
    """The text that a link is laid over."""
    import pypdfium2.raw as pdfium

    area = pdfium.FS_RECTF()
    if not pdfium.FPDFLink_GetAnnotRect(link, area):
        return ""
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
    num_bytes = min(call(*arguments, None, 0), _LONGEST_VALUE)
    if num_bytes <= 2:
        return ""
    buffer = ctypes.create_string_buffer(_LONGEST_VALUE)
    call(*arguments, ctypes.cast(buffer, ctypes.POINTER(ctypes.c_ushort)), _LONGEST_VALUE)
    return one_line(normalise_text(buffer.raw[: num_bytes - 2].decode("utf-16-le", errors="replace")))
