"""A PDF's pages as pictures: which pictures stand on them, whether they show anything, and drawn for OCR."""

from __future__ import annotations

import itertools
import math
from collections.abc import Iterator
from contextlib import suppress
from typing import TYPE_CHECKING, Any

from indexer.parsers.pdf_pages import Bounds

if TYPE_CHECKING:
    import pypdfium2
    from PIL.Image import Image

_PICTURE = 0.25  # of the page's area
_FORMS_WITHIN_FORMS = 4
_MOST_OBJECTS = 20_000  # that are looked at for pictures, a page
_MOST_PICTURES = 200  # of them
_OCR_SIDE = 2000  # pixels that text is looked for in at once
_CLOSE_SIDE = 6000  # pixels of a large page, whose text may be too small for that
_MUCH_LARGER = 1.25
_PREVIEW_SIDE = 200  # pixels, in which it shows whether there is anything on a page
_SHADES = 16  # of 255, that what is on a page differs from the page by


def pictures_on(page: pypdfium2.PdfPage) -> Iterator[tuple[pypdfium2.PdfImage, Bounds]]:
    """The pictures of a page, also within forms, and where they are in the page's own space."""
    import pypdfium2

    for raw, forms in itertools.islice(_pictures(page), _MOST_PICTURES):
        with suppress(pypdfium2.PdfiumError):
            picture = pypdfium2.PdfObject(raw, page=page)
            bounds = picture.get_bounds()
            for form in reversed(forms):  # what is in a form has its place in the form's space
                bounds = pypdfium2.PdfObject(form, page=page).get_matrix().on_rect(*bounds)
            yield picture, bounds


def _pictures(page: pypdfium2.PdfPage) -> Iterator[tuple[Any, tuple[Any, ...]]]:
    """pdfium's own pictures, each with the forms around it from the outside; until a form is damaged.

    Pages of charts and maps have tens of thousands of objects, so most must cost no more than two calls.
    """
    import pypdfium2.raw as pdfium

    kind_of, num_left = pdfium.FPDFPageObj_GetType, _MOST_OBJECTS
    image, form, unknown = pdfium.FPDF_PAGEOBJ_IMAGE, pdfium.FPDF_PAGEOBJ_FORM, pdfium.FPDF_PAGEOBJ_UNKNOWN
    get = pdfium.FPDFPage_GetObject
    around: tuple[Any, ...] = ()
    parent, index, count = page.raw, 0, pdfium.FPDFPage_CountObjects(page.raw)
    outer: list[tuple[Any, int, int]] = []  # what is gone on with behind a form: parent, index, count
    while num_left > 0:
        if index >= count:
            if not outer:
                return
            parent, index, count = outer.pop()
            around = around[:-1]
            get = pdfium.FPDFFormObj_GetObject if outer else pdfium.FPDFPage_GetObject
            continue
        raw = get(parent, index)
        kind = kind_of(raw) if raw else unknown
        if kind == unknown:
            return
        index, num_left = index + 1, num_left - 1
        if kind == image:
            yield raw, around
        elif kind == form and len(outer) < _FORMS_WITHIN_FORMS - 1:
            outer.append((parent, index, count))
            around = (*around, raw)
            get = pdfium.FPDFFormObj_GetObject
            parent, index, count = raw, 0, pdfium.FPDFFormObj_CountObjects(raw)
            if count < 0:
                return


def shows_picture(page: pypdfium2.PdfPage) -> bool:
    """Whether a picture covers a good part of the page."""
    left, bottom, right, top = page.get_bbox()
    area = 0.0
    for _, (x0, y0, x1, y1) in pictures_on(page):
        area += max(0.0, min(x1, right) - max(x0, left)) * max(0.0, min(y1, top) - max(y0, bottom))
    return area > _PICTURE * (right - left) * (top - bottom)


def ocr_scale(points: float, dpi: int) -> float:
    """Pixels a point for a page or a part of one, `points` long, that is to be read by OCR."""
    pixels = points * dpi / 72
    if pixels <= _MUCH_LARGER * _OCR_SIDE:
        return min(dpi / 72, _OCR_SIDE / points)
    return min(dpi / 72, _CLOSE_SIDE / points)


def render_page(page: pypdfium2.PdfPage, *, dpi: int) -> Image:
    """The page as a picture for OCR."""
    return page.render(scale=ocr_scale(max(page.get_size()), dpi)).to_pil().convert("RGB")


def is_blank(page: pypdfium2.PdfPage) -> bool:
    """Whether a page shows nothing. It is drawn if there is anything to draw, until there is ink.

    A page whose ink is painted over later counts as one that shows something.
    """
    import pypdfium2.raw as pdfium

    longest = max(page.get_size())
    if longest <= 0 or not (pdfium.FPDFPage_CountObjects(page) or pdfium.FPDFPage_GetAnnotCount(page)):
        return True
    scale = min(1.0, _PREVIEW_SIDE / longest)
    width, height = (math.ceil(points * scale) for points in page.get_size())
    return min(width, height) < 1 or not _has_ink(page, width, height)


def _has_ink(page: pypdfium2.PdfPage, width: int, height: int) -> bool:
    """Whether a page drawn on so many pixels has any that differ; looked at after 1, 2, 4, 8 ... steps."""
    import pypdfium2
    import pypdfium2.raw as pdfium

    bitmap = pypdfium2.PdfBitmap.new_native(width, height, pdfium.FPDFBitmap_Gray)
    bitmap.fill_rect((255, 255, 255, 255), 0, 0, width, height)
    drawing = (bitmap, page, 0, 0, width, height, 0, pdfium.FPDF_ANNOT | pdfium.FPDF_GRAYSCALE)
    steps = itertools.count(1)
    pause = pdfium.IFSDK_PAUSE(version=1)
    pause.NeedToPauseNow = type(pause.NeedToPauseNow)(lambda _: next(steps).bit_count() == 1)
    status = pdfium.FPDF_RenderPageBitmap_Start(*drawing, pause)
    try:
        while status == pdfium.FPDF_RENDER_TOBECONTINUED:
            if _differs(bytes(bitmap.buffer)):
                return True
            status = pdfium.FPDF_RenderPage_Continue(page, pause)
    finally:
        pdfium.FPDF_RenderPage_Close(page)
    if page.formenv is not None:
        pdfium.FPDF_FFLDraw(page.formenv, *drawing)
    return _differs(bytes(bitmap.buffer))


def _differs(pixels: bytes) -> bool:
    shades = set(pixels)
    return max(shades) - min(shades) >= _SHADES
