"""What lies over the pages of a PDF or is attached to it: form fields, comments, links, files."""

from __future__ import annotations

import io
import itertools
from collections.abc import Callable

import pypdf
import pytest
from parsing_samples import Words, make_pdf, text_of
from pdf_samples import CELLS, LINES, page, scanned, table

from indexer.chunking import chunk_document
from indexer.parsers import ParseOptions, parse
from indexer.parsers import pdf as pdf_parser
from indexer.parsers.errors import NoExtractableText
from indexer.parsers.layout import PlacedBlock
from indexer.parsers.pdf_pages import PageText
from indexer.tokenization import ChunkTokenizer
from indexer.types import Box, ParsedDocument

Read = Callable[..., ParsedDocument]


@pytest.mark.parametrize("turn", [0, 90, 180, 270])
def test_form_fields_and_comments_are_read_with_their_page_and_place(turn: int, read: Read) -> None:
    from pypdf.annotations import Text
    from pypdf.generic import (
        ArrayObject,
        DictionaryObject,
        FloatObject,
        NameObject,
        NumberObject,
        TextStringObject,
    )

    writer = pypdf.PdfWriter(clone_from=io.BytesIO(make_pdf([page(), page()], rotate=turn)))
    writer.add_annotation(1, Text(rect=(50, 50, 70, 70), text="Ask the captain"))
    fields = [
        ("/Tx", "Passenger", TextStringObject("Åse"), (100, 100, 200, 120)),
        ("/Tx", "Children", TextStringObject("0"), (100, 80, 200, 95)),
        ("/Tx", "Dogs", TextStringObject(""), (100, 60, 200, 75)),
        ("/Btn", "Return", NameObject("/Off"), (100, 40, 110, 50)),
        ("/Btn", "Meal", NameObject("/Yes"), (120, 40, 130, 50)),
    ]
    references = []
    for kind, name, value, rect in fields:
        field = DictionaryObject(
            {
                NameObject("/Type"): NameObject("/Annot"),
                NameObject("/Subtype"): NameObject("/Widget"),
                NameObject("/FT"): NameObject(kind),
                NameObject("/T"): TextStringObject(name),
                NameObject("/V"): value,
                NameObject("/F"): NumberObject(4),
                NameObject("/Rect"): ArrayObject(FloatObject(edge) for edge in rect),
            }
        )
        if kind == "/Btn":
            field[NameObject("/AS")] = value
        references.append(writer._add_object(field))
        writer.pages[1]["/Annots"].append(references[-1])
    form = DictionaryObject({NameObject("/Fields"): ArrayObject(references)})
    writer.root_object[NameObject("/AcroForm")] = form
    buffer = io.BytesIO()
    writer.write(buffer)
    document = read(buffer.getvalue(), "a.pdf")
    last = document.blocks[-1]
    assert (last.page, last.name) == (2, "form fields and comments")
    placed = dict(zip(text_of(document, last).split("\n"), last.boxes, strict=True))
    assert placed == {
        "Ask the captain": shown_at((50, 50, 70, 70), turn),
        "Passenger: Åse": shown_at((100, 100, 200, 120), turn),
        "Children: 0": shown_at((100, 80, 200, 95), turn),
        "Meal: Yes": shown_at((120, 40, 130, 50), turn),
    }


def shown_at(area: tuple[int, int, int, int], turn: int) -> Box:
    """The box on page 2, 612 x 792 points before it is turned, of (left, bottom, right, top)."""
    left, bottom, right, top = area
    edges = {
        0: (left, 792 - top, right, 792 - bottom),
        90: (bottom, left, top, right),
        180: (612 - right, bottom, 612 - left, top),
        270: (792 - top, 612 - right, 792 - bottom, 612 - left),
    }[turn]
    return Box(2, *map(float, edges))


@pytest.mark.parametrize("area", [(-50, -40, 900, 2000), (700, 800, 800, 900), (1e30, 0, -1e30, 1e38)])
def test_a_comment_beyond_the_page_has_a_box_on_the_page(area: tuple[float, ...], read: Read) -> None:
    from pypdf.annotations import Text

    writer = pypdf.PdfWriter(clone_from=io.BytesIO(make_pdf([page()])))
    writer.add_annotation(0, Text(rect=area, text="Ask the captain"))
    buffer = io.BytesIO()
    writer.write(buffer)
    (box,) = read(buffer.getvalue(), "a.pdf").blocks[-1].boxes
    assert 0 <= box.x0 <= box.x1 <= 612
    assert 0 <= box.y0 <= box.y1 <= 792


def test_links_are_read_with_the_words_that_they_are_laid_over(read: Read) -> None:
    from pypdf.annotations import Link

    lines = ["Fares and times are here.", "See https://ferry.example/visible for more.", "Call us."]
    writer = pypdf.PdfWriter(clone_from=io.BytesIO(make_pdf([page(lines), page(lines)])))
    for number in (0, 1):
        writer.add_annotation(number, Link(rect=(70, 690, 200, 704), url="https://ferry.example/fares?a=1"))
        writer.add_annotation(number, Link(rect=(70, 678, 300, 691), url="https://ferry.example/visible"))
        writer.add_annotation(number, Link(rect=(70, 666, 120, 679), url="javascript:alert(1)"))
    writer.add_annotation(1, Link(rect=(70, 666, 120, 679), url="mailto:pier@ferry.example"))
    writer.add_annotation(1, Link(rect=(70, 690, 200, 704), target_page_index=0))
    buffer = io.BytesIO()
    writer.write(buffer)
    document = read(buffer.getvalue(), "a.pdf")
    links = [(text_of(document, block), block.boxes) for block in document.blocks if block.name == "links"]
    assert links == [
        ("Fares and times are here.: https://ferry.example/fares?a=1", (Box(1, 70, 88, 200, 102),)),
        ("Call us.: mailto:pier@ferry.example", (Box(2, 70, 113, 120, 126),)),
    ]


def test_every_chunk_of_a_pdf_has_a_page_and_boxes_on_it(
    read: Read, minilm_tokenizer: ChunkTokenizer, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Whatever it was made of: text, a table, a comment, a link, a scan, and what pypdf alone could read."""
    from pypdf.annotations import Link, Text

    lines = [
        Words(72, 60, "Boarding", 18),
        *page(),
        *(word._replace(y=word.y + 300) for word in table(CELLS)),
    ]
    writer = pypdf.PdfWriter(clone_from=io.BytesIO(make_pdf([lines, page()])))
    writer.append(io.BytesIO(scanned()))
    for number in range(3):
        writer.add_annotation(number, Text(rect=(50, 50, 70, 70), text=f"Comment {number}"))
    writer.add_annotation(0, Link(rect=(70, 690, 200, 704), url="https://ferry.example/fares"))
    buffer = io.BytesIO()
    writer.write(buffer)
    said = [PlacedBlock("text", (("Words of a scan.", Box(3, 10, 10, 90, 20)),))]
    monkeypatch.setattr(pdf_parser, "picture_blocks", lambda *_, **__: said)
    read_page, numbers = pdf_parser.read_page, itertools.count(1)

    def read_page_but_the_second(page: object) -> PageText:
        text = read_page(page)
        return text._replace(num_garbage=text.num_characters) if next(numbers) == 2 else text

    monkeypatch.setattr(pdf_parser, "read_page", read_page_but_the_second)
    document = read(buffer.getvalue(), "a.pdf")
    assert (document.metadata["pypdf_pages"], document.metadata["ocr_pages"]) == ("2", "3")
    drafts = chunk_document(document, minilm_tokenizer, max_tokens=64)
    assert {draft.page for draft in drafts} == {1, 2, 3}
    for draft in drafts:
        assert draft.boxes
        assert {box.page for box in draft.boxes} == {draft.page}


def with_attachments(data: bytes, **attachments: bytes) -> bytes:
    writer = pypdf.PdfWriter(clone_from=io.BytesIO(data))
    for name, content in attachments.items():
        writer.add_attachment(name.replace("_", "."), content)
    buffer = io.BytesIO()
    writer.write(buffer)
    return buffer.getvalue()


def test_attachments_are_named_and_those_with_text_are_read(read: Read) -> None:
    data = with_attachments(
        make_pdf([page()]), fares_csv=b"a,b\n1,2\n", x_bin=b"\0\1\2", broken_pdf=b"%PDF-1.4 x"
    )
    document = read(data, "a.pdf")
    assert LINES[0] in document.text
    assert "Attachment: fares.csv (8 bytes)\n\na | b\n--- | ---\n1 | 2" in document.text
    assert "Attachment: x.bin (3 bytes)" in document.text
    assert any("broken.pdf" in warning for warning in document.warnings)


def test_the_name_of_an_attachment_is_no_text_of_a_pdf_that_has_none(read: Read) -> None:
    with pytest.raises(NoExtractableText):
        parse(with_attachments(scanned(), x_bin=b"\0\1"), name="a.pdf", options=ParseOptions(ocr=False))
    portfolio = with_attachments(scanned(), notes_txt=b"All that matters is in here.")
    assert "All that matters" in read(portfolio, "a.pdf", ocr=False).text


def test_attachments_of_attachments_end_somewhere(read: Read) -> None:
    data = b"The innermost words."
    for level in range(6):
        data = with_attachments(make_pdf([page([f"This is level {level}, and it has words."])]), in_pdf=data)
        if level == 0:
            data = data.replace(b"in.pdf", b"in.txt")
    document = read(data, "a.pdf")
    assert [f"level {level}," in document.text for level in range(6)] == [False] * 2 + [True] * 4
    assert any("nested too deep" in warning for warning in document.warnings)
