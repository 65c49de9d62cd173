"""Pages that several of the tests of PDFs read."""

from __future__ import annotations

import io

from parsing_samples import Words
from PIL import Image

PROSE = "The ferry leaves the northern pier at nine and comes back in the"
LINES = [PROSE + f" evening, line {i}." for i in range(12)]


def page(lines: list[str] = LINES, *, x: float = 72, y: float = 100, step: float = 12) -> list[Words]:
    return [Words(x, y + step * i, line) for i, line in enumerate(lines)]


CELLS = [("Who", "Low", "High"), *((f"Person {n}", f"{n}.5", f"{n}.9") for n in range(1, 9))]


def table(rows: list[tuple[str, ...]], *, bold: bool = False, shift: float = 0) -> list[Words]:
    return [
        Words(72 + shift * j + 120 * j, 100 + 14 * i, cell, bold=bold and i == 0)
        for i, row in enumerate(rows)
        for j, cell in enumerate(row)
    ]


LEAF = b"<< /Type /Page /Parent 2 0 R /MediaBox [0 0 612 792] /Contents 4 0 R /Resources << >> >>"


def scanned(*, blank: bool = False) -> bytes:
    buffer = io.BytesIO()
    Image.new("L", (600, 800), 255 if blank else 90).save(buffer, "PDF")
    return buffer.getvalue()
