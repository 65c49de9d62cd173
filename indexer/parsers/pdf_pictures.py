"""Pictures on pages that have text as well: which of them are worth reading, and what they show."""

from __future__ import annotations

import hashlib
import itertools
from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING, NamedTuple

from indexer.parsers.layout import Row
from indexer.parsers.pdf_drawing import ocr_scale, pictures_on
from indexer.parsers.pdf_pages import placement

if TYPE_CHECKING:
    import pypdfium2
    from PIL.Image import Image

_LEAST_SIDE = 72.0  # points: an inch
_LEAST_AREA = 0.04  # of the page's
_LEAST_PIXELS = 100  # a side: nothing legible has fewer
_MOST_PICTURES = 8  # a page


class Area(NamedTuple):
    """A rectangle of a page as shown, in points, origin at the top left."""

    x0: float
    y0: float
    x1: float
    y1: float


class PictureFinder:
    """Finds the pictures of one PDF that may hold text; one that is repeated is found once."""

    def __init__(self) -> None:
        self._seen: set[bytes] = set()
        self.left_out = False  # whether the last page had more pictures than are read

    def find(self, page: pypdfium2.PdfPage, rows: Sequence[Row]) -> list[Area]:
        """Where the page shows pictures that no text of its text layer stands on."""
        areas = list(itertools.islice(self._areas(page, rows), _MOST_PICTURES + 1))
        self.left_out = len(areas) > _MOST_PICTURES
        return areas[:_MOST_PICTURES]

    def _areas(self, page: pypdfium2.PdfPage, rows: Sequence[Row]) -> Iterator[Area]:
        import pypdfium2

        width, height = page.get_size()
        place = placement(page)
        for picture, bounds in pictures_on(page):
            try:
                if min(picture.get_px_size()) < _LEAST_PIXELS:
                    continue
            except pypdfium2.PdfiumError:
                continue
            x0, y0, x1, y1 = place(*bounds)
            area = Area(max(0.0, x0), max(0.0, y0), min(width, x1), min(height, y1))
            if not _is_large(area, width * height) or any(_stands_on(row, area) for row in rows):
                continue
            digest = hashlib.sha256(picture.get_data(decode_simple=False)).digest()
            if digest not in self._seen:
                self._seen.add(digest)
                yield area


def render_area(page: pypdfium2.PdfPage, area: Area, *, dpi: int) -> Image:
    """That part of the page as a picture for OCR."""
    width, height = page.get_size()
    scale = ocr_scale(max(area.x1 - area.x0, area.y1 - area.y0), dpi)
    crop = (area.x0, height - area.y1, width - area.x1, area.y0)  # cut off: left, bottom, right, top
    return page.render(scale=scale, crop=crop).to_pil().convert("RGB")


def _is_large(area: Area, page: float) -> bool:
    width, height = area.x1 - area.x0, area.y1 - area.y0
    return min(width, height) >= _LEAST_SIDE and width * height >= _LEAST_AREA * page


def _stands_on(row: Row, area: Area) -> bool:
    x, y = (row.x0 + row.x1) / 2, (row.y0 + row.y1) / 2
    return area.x0 < x < area.x1 and area.y0 < y < area.y1
