"""Which pages of a PDF are believed, and which are read otherwise: each page for itself."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
from parsing_samples import assemble_pdf, text_of

from indexer.parsers.layout import PlacedBlock
from indexer.parsers.pdf_second import SecondReader
from indexer.types import Box, ParsedDocument

Read = Callable[..., ParsedDocument]
PROSE = "The ferry leaves the northern pier at nine and comes back in the evening of each day"
CODES = range(0x20, 0x7F)
TO_UNICODE = {
    "private-use characters": "".join(f"<{code:02X}> <{0xE000 + code:04X}>\n" for code in CODES),
    "replacement characters": "".join(f"<{code:02X}> <FFFD>\n" for code in CODES),
    "control characters": "".join(f"<{code:02X}> <{code % 8 + 1:04X}>\n" for code in CODES),
}


def pdf(*pages: str, to_unicode: str) -> bytes:
    """Pages of Helvetica; /Odd shows the same letters as /F1, and says that they mean something else."""
    cmap = (
        "/CIDInit /ProcSet findresource begin begincmap /CMapName /X def\n"
        "1 begincodespacerange <00> <FF> endcodespacerange\n"
        f"{len(CODES)} beginbfchar\n{to_unicode}endbfchar\nendcmap end"
    )
    helvetica = "<< /Type /Font /Subtype /Type1 /BaseFont /Helvetica /Encoding /WinAnsiEncoding"
    objects = ["", "", f"{helvetica} >>", f"{helvetica} /ToUnicode 5 0 R >>", _stream(cmap)]
    kids = []
    for content in pages:
        objects += [
            _stream(content),
            "<< /Type /Page /Parent 2 0 R /MediaBox [0 0 600 800]"
            f" /Contents {len(objects) + 1} 0 R /Resources << /Font << /F1 3 0 R /Odd 4 0 R >> >> >>",
        ]
        kids.append(f"{len(objects)} 0 R")
    objects[0] = "<< /Type /Catalog /Pages 2 0 R >>"
    objects[1] = f"<< /Type /Pages /Kids [{' '.join(kids)}] /Count {len(kids)} >>"
    return assemble_pdf([each.encode("latin-1") for each in objects], "/Root 1 0 R")


def _stream(content: str) -> str:
    return f"<< /Length {len(content)} >>\nstream\n{content}\nendstream"


def lines(font: str, count: int, *, top: int = 700) -> str:
    return "".join(
        f"BT /{font} 10 Tf 50 {top - 14 * number} Td ({PROSE}, {number}) Tj ET\n" for number in range(count)
    )


@pytest.fixture
def read_by_ocr(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """Stands in for the models. The pages that were to be read by OCR."""
    pages: list[int] = []

    def picture_blocks(image: Any, *, page: int, **_: Any) -> list[PlacedBlock]:
        pages.append(page)
        return [PlacedBlock("text", (("What the page shows.", Box(page, 50, 90, 400, 110)),))]

    monkeypatch.setattr("indexer.parsers.pdf.picture_blocks", picture_blocks)
    return pages


@pytest.mark.parametrize("kind", TO_UNICODE)
def test_only_a_page_whose_text_layer_makes_no_sense_is_read_by_ocr(
    kind: str, read: Read, read_by_ocr: list[int]
) -> None:
    data = pdf(lines("F1", 5), lines("Odd", 5), lines("F1", 5), to_unicode=TO_UNICODE[kind])
    document = read(data, "a.pdf")
    assert read_by_ocr == [2]
    assert document.metadata["ocr_pages"] == "2"
    assert [text_of(document, block) for block in document.blocks if block.page == 2] == [
        "What the page shows."
    ]
    assert [block.page for block in document.blocks] == [1, 2, 3]
    assert document.warnings == ()


@pytest.mark.parametrize(("odd", "goes_to_ocr"), [(1, False), (4, True)])
def test_a_page_with_little_that_makes_no_sense_is_kept_without_it(
    odd: int, goes_to_ocr: bool, read: Read, read_by_ocr: list[int]
) -> None:
    """One line in twelve does not: less than 15% of the characters. Four do."""
    page = lines("F1", 12 - odd) + lines("Odd", odd, top=300)
    document = read(pdf(page, to_unicode=TO_UNICODE["private-use characters"]), "a.pdf")
    assert read_by_ocr == ([1] if goes_to_ocr else [])
    assert (PROSE in document.text) == (not goes_to_ocr)
    assert not any("\ue000" <= character <= "\uf8ff" for character in document.text)


def test_pypdf_is_asked_first_and_its_lines_have_the_box_of_the_page(
    read: Read, read_by_ocr: list[int], monkeypatch: pytest.MonkeyPatch
) -> None:
    said = "The ferry carries passen-\ngers and cars.\n\nIt leaves at nine."
    monkeypatch.setattr(SecondReader, "page_text", lambda reader, index: said)
    data = pdf(lines("F1", 5), lines("Odd", 5), to_unicode=TO_UNICODE["private-use characters"])
    document = read(data, "a.pdf")
    assert read_by_ocr == []
    assert document.metadata["pypdf_pages"] == "2"
    blocks = [block for block in document.blocks if block.page == 2]
    assert [text_of(document, block) for block in blocks] == [
        "The ferry carries passengers\nand cars.",
        "It leaves at nine.",
    ]
    assert {box for block in blocks for box in block.boxes} == {Box(2, 0, 0, 600, 800)}


def test_what_pypdf_says_is_not_taken_where_it_makes_no_sense_either(
    read: Read, read_by_ocr: list[int], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(SecondReader, "page_text", lambda reader, index: "/g12/g3/g77 /C4/C5 \ue010\ue011")
    document = read(pdf(lines("Odd", 5), to_unicode=TO_UNICODE["private-use characters"]), "a.pdf")
    assert read_by_ocr == [1]
    assert "pypdf_pages" not in document.metadata


def test_where_neither_reads_a_page_that_is_told(read: Read, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("indexer.parsers.pdf.picture_blocks", lambda *_, **__: [])
    data = pdf(lines("F1", 5), lines("Odd", 5), to_unicode=TO_UNICODE["private-use characters"])
    document = read(data, "a.pdf")
    assert document.warnings == ("Page 2: no text was found.",)
    assert read(data, "a.pdf", ocr=False).warnings == ("Page 2: not read by OCR, which is off.",)
