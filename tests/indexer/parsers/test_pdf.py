from __future__ import annotations

import io
import itertools
import zlib
from collections.abc import Callable

import pypdf
import pytest
from parsing_samples import Words, assemble_pdf, make_pdf, outline_of, text_of
from PIL import Image

from indexer.chunking import chunk_document
from indexer.parsers import ParseOptions, parse
from indexer.parsers import pdf as pdf_parser
from indexer.parsers.errors import EncryptedPdf, MalformedFile, NoExtractableText, ParseError, TruncatedFile
from indexer.parsers.layout import PlacedBlock
from indexer.parsers.pdf_pages import PageText
from indexer.tokenization import ChunkTokenizer
from indexer.types import Box, ParsedDocument

Read = Callable[..., ParsedDocument]
PROSE = "The ferry leaves the northern pier at nine and comes back in the"
LINES = [PROSE + f" evening, line {i}." for i in range(12)]


def page(lines: list[str] = LINES, *, x: float = 72, y: float = 100, step: float = 12) -> list[Words]:
    return [Words(x, y + step * i, line) for i, line in enumerate(lines)]


def test_text_comes_with_pages_and_a_box_for_every_line(read: Read) -> None:
    document = read(make_pdf([page(), page(y=200)]), "a.pdf")
    assert document.parser == "pypdfium2"
    assert [block.page for block in document.blocks] == [1, 2]
    lines = text_of(document, document.blocks[0]).split("\n")
    assert lines == LINES
    for i, box in enumerate(document.blocks[0].boxes):
        baseline = 100 + 12 * i
        assert box.page == 1
        assert 71 < box.x0 < 74
        assert baseline - 10 < box.y0 < baseline - 5
        assert baseline - 1 < box.y1 < baseline + 4
        assert 300 < box.x1 < 540


@pytest.mark.parametrize("turn", [90, 180, 270])
def test_boxes_on_turned_pages_are_where_the_reader_sees_them(turn: int, read: Read) -> None:
    document = read(make_pdf([[Words(72, 100, PROSE)]], rotate=turn), "a.pdf")
    (box,) = document.blocks[0].boxes
    seen = {90: (792 - 100, 72), 180: (612 - 72, 792 - 100), 270: (100, 612 - 72)}[
        turn
    ]  # where the first letter is
    assert box.x0 - 12 < seen[0] < box.x1 + 12
    assert box.y0 - 12 < seen[1] < box.y1 + 12
    assert (box.y1 - box.y0 > box.x1 - box.x0) == (turn != 180)


def test_headings_are_told_by_their_type_and_levels_by_its_size(read: Read) -> None:
    words = [
        Words(72, 60, "The Ferry", 24),
        *page(y=100),
        Words(72, 270, "Boarding", 15),
        *page(y=300),
        Words(72, 470, "In bold", 10, bold=True),
        *page(y=500),
    ]
    document = read(make_pdf([words]), "a.pdf")
    headings = [
        (text_of(document, block), block.level) for block in document.blocks if block.kind == "heading"
    ]
    assert headings == [("The Ferry", 1), ("Boarding", 2), ("In bold", 3)]
    assert document.title == "The Ferry"


def test_a_bold_word_in_a_line_makes_no_heading_and_parts_no_paragraph(read: Read) -> None:
    lines = [Words(72, 100, PROSE), Words(72, 124, "morning and in the evening of each day of the week.")]
    mixed = [
        Words(72, 112, "harbour of"),
        Words(124, 112, "North Ronaldsay", bold=True),
        Words(208, 112, "in the"),
    ]
    document = read(make_pdf([lines[:1] + mixed + lines[1:], mixed]), "a.pdf")
    assert [(block.kind, block.page) for block in document.blocks] == [("text", 1), ("text", 2)]
    assert "harbour of North Ronaldsay in the\nmorning" in document.text


def test_the_outline_outweighs_the_type(read: Read) -> None:
    words = [Words(72, 60, "1. Plain heading"), *page(y=100)]
    document = read(make_pdf([words], outline=[("Plain heading", 1)], title="Set in the file"), "a.pdf")
    assert outline_of(document)[0] == ("heading", "1. Plain heading")
    assert document.title == "Set in the file"


def test_words_broken_at_a_lines_end_are_mended_unless_the_hyphen_is_their_own(read: Read) -> None:
    lines = [
        "The ferry carries passen-",
        "gers, cars and well-",
        "known well-known goods to the is-",
        "Lands. It is a long line",
    ]
    document = read(make_pdf([page(lines)]), "a.pdf")
    text = document.text
    bottoms = [box.y1 for box in document.blocks[0].boxes]
    lines_held = [round((bottom - 102) / 12) for bottom in bottoms]  # the base line of the first is at 100
    assert lines_held == [1, 2, 2, 3], "the box of a word's line holds the line of its other half too"
    assert "passengers\n, cars" in text or "passengers,\ncars" in text
    assert "well-known" in text
    assert "wellknown" not in text
    assert "is-\nLands" in text, "a capital does not continue a word"


def test_columns_are_read_one_after_the_other_even_when_drawn_row_by_row(read: Read) -> None:
    left = [f"left column has words in it {i}" for i in range(10)]
    right = [f"right column has others in it {i}" for i in range(10)]
    words = [Words(72, 60, "A title across both of the columns of this page, set wide", 10)]
    for i in range(10):
        words += [Words(72, 100 + 12 * i, left[i]), Words(330, 100 + 12 * i, right[i])]
    text = read(make_pdf([words]), "a.pdf").text
    assert text.index(left[9]) < text.index(right[0])
    assert text.index(left[0]) < text.index(left[9])


def test_cells_in_rows_are_a_table(read: Read) -> None:
    words = [Words(72, 60, PROSE)]
    for i, row in enumerate(
        [("Who", "Low", "High"), ("Adult", "5", "6"), ("Child", "2", "3"), ("Dog", "1", "1")]
    ):
        words += [Words(72 + 120 * j, 100 + 14 * i, cell) for j, cell in enumerate(row)]
    document = read(make_pdf([words]), "a.pdf")
    assert (
        "table",
        "Who | Low | High\n--- | --- | ---\nAdult | 5 | 6\nChild | 2 | 3\nDog | 1 | 1",
    ) in outline_of(document)


def test_cells_stand_in_their_column_where_others_are_blank_and_wrapped_ones_are_whole(read: Read) -> None:
    rows = [
        ("Name", "Role", "Remarks"),
        ("Ann", "Captain", "sails the ship and"),
        ("", "", "keeps the log"),
        ("Bo", "", "absent"),
        ("", "Cook", "soups, and on Sundays"),
        ("", "", "cakes"),
        ("Cy", "Mate", "none"),
    ]
    words = [
        Words(72 + 150 * j, 100 + 14 * i, cell)
        for i, row in enumerate(rows)
        for j, cell in enumerate(row)
        if cell
    ]
    document = read(make_pdf([[*words, Words(72, 300, PROSE)]]), "a.pdf")
    (kind, text), prose = outline_of(document)
    assert (kind, prose) == ("table", ("text", PROSE))
    assert text.split("\n") == [
        "Name | Role | Remarks",
        "--- | --- | ---",
        "Ann | Captain | sails the ship and keeps the log",
        "Bo | | absent",
        "| Cook | soups, and on Sundays cakes",
        "Cy | Mate | none",
    ]
    wrapped, single = document.blocks[0].boxes[2], document.blocks[0].boxes[3]
    assert wrapped.y1 - wrapped.y0 > 1.8 * (single.y1 - single.y0)
    assert wrapped.y1 < single.y0 + 3


CELLS = [("Who", "Low", "High"), *((f"Person {n}", f"{n}.5", f"{n}.9") for n in range(1, 9))]


def table(rows: list[tuple[str, ...]], *, bold: bool = False, shift: float = 0) -> list[Words]:
    return [
        Words(72 + shift * j + 120 * j, 100 + 14 * i, cell, bold=bold and i == 0)
        for i, row in enumerate(rows)
        for j, cell in enumerate(row)
    ]


def test_a_table_that_goes_on_on_the_next_page_keeps_its_header_in_the_context(
    read: Read, minilm_tokenizer: ChunkTokenizer
) -> None:
    pages = [table(CELLS[:4]), table(CELLS[4:7]), [*table(CELLS[7:9] + CELLS[1:2]), Words(72, 300, PROSE)]]
    document = read(make_pdf(pages), "a.pdf")
    tables = [block for block in document.blocks if block.kind == "table"]
    assert [block.signature for block in tables] == ["", "Who | Low | High", "Who | Low | High"]
    assert text_of(document, tables[1]).startswith("Person 4 | 4.5 | 4.9\nPerson 5"), "no rule below a row"
    contexts = [draft.context for draft in chunk_document(document, minilm_tokenizer, max_tokens=256)]
    assert contexts == ["", "Who | Low | High", "Who | Low | High"]


@pytest.mark.parametrize(
    "second",
    [
        table(CELLS[:1] + CELLS[4:7]),  # repeats it
        table([("What", "From", "To"), *CELLS[4:7]], bold=True),  # has its own
        table(CELLS[4:7], shift=30),  # has other columns
        [Words(72, 80, PROSE), *table(CELLS[4:7])],  # comes after something else
    ],
)
def test_a_table_that_does_not_go_on_is_one_of_its_own(second: list[Words], read: Read) -> None:
    document = read(make_pdf([table(CELLS[:4], bold=True), second]), "a.pdf")
    assert [block.signature for block in document.blocks if block.kind == "table"] == ["", ""]


def test_a_table_of_numbers_alone_has_no_header_to_rule_off(read: Read) -> None:
    rows = [Words(72 + 120 * j, 100 + 14 * i, f"{i}{j}.5") for i in range(4) for j in range(3)]
    document = read(make_pdf([rows]), "a.pdf")
    (table,) = document.blocks
    assert (table.kind, text_of(document, table).count("\n")) == ("table", 3)


def test_ligatures_are_letters(read: Read) -> None:
    to_unicode = b"1 beginbfchar <01> <FB03> endbfchar"
    cmap = b"/CMapName /X def 1 begincodespacerange <00> <FF> endcodespacerange " + to_unicode
    content = b"BT /F1 12 Tf 72 700 Td (e\x01cient ferries cross the sound on every day of the week) Tj ET"
    objects = [
        b"<< /Type /Catalog /Pages 2 0 R >>",
        b"<< /Type /Pages /Kids [3 0 R] /Count 1 >>",
        LEAF.replace(b"<< >>", b"<< /Font << /F1 5 0 R >> >>"),
        b"<< /Length %d >>\nstream\n%s\nendstream" % (len(content), content),
        b"<< /Type /Font /Subtype /Type1 /BaseFont /Helvetica /ToUnicode 6 0 R >>",
        b"<< /Length %d >>\nstream\n%s\nendstream" % (len(cmap), cmap),
    ]
    assert "efficient" in read(assemble_pdf(objects, "/Root 1 0 R"), "a.pdf").text


def encrypted(password: str, owner: str = "owner") -> bytes:
    writer = pypdf.PdfWriter(clone_from=io.BytesIO(make_pdf([page()])))
    writer.encrypt(user_password=password, owner_password=owner, algorithm="RC4-128")
    buffer = io.BytesIO()
    writer.write(buffer)
    return buffer.getvalue()


def test_encrypted_pdfs_open_with_the_password_given_or_without_one(read: Read) -> None:
    assert LINES[0] in read(encrypted("secret"), "a.pdf", password="secret").text
    assert LINES[0] in read(encrypted(""), "a.pdf").text
    for password in (None, "wrong"):
        with pytest.raises(EncryptedPdf) as failure:
            parse(encrypted("secret"), name="a.pdf", options=ParseOptions(password=password))
        assert failure.value.code == "encrypted-pdf"
        assert "password" in str(failure.value)
        assert "secret" not in str(failure.value)


def test_a_password_is_never_shown() -> None:
    assert "secret" not in repr(ParseOptions(password="secret"))


def test_a_truncated_pdf_gives_what_can_be_read_with_a_warning_or_a_typed_failure(read: Read) -> None:
    data = make_pdf([page() for _ in range(20)])
    with pytest.raises(TruncatedFile) as failure:
        parse(data[: len(data) // 20], name="a.pdf")
    assert failure.value.hint
    for share in (0.6, 0.9, 0.99):
        document = read(data[: int(len(data) * share)], "a.pdf")
        assert 5 < len(document.blocks) <= 20
        assert "may be truncated" in document.warnings[-1]


def test_pypdf_may_stumble_over_its_own_assertions(read: Read, monkeypatch: pytest.MonkeyPatch) -> None:
    def stumble(self: pypdf.PdfReader) -> None:
        raise AssertionError

    monkeypatch.setattr(pypdf.PdfReader, "pages", property(stumble))
    with pytest.raises(MalformedFile):
        read(make_pdf([page()]).replace(b" obj", b" abj"), "a.pdf")


@pytest.mark.parametrize(
    "damage", [b"%PDF-1.7\nnothing of a PDF\n%%EOF", b"%PDF-1.7\n" + b"\xff" * 500 + b"\n%%EOF"]
)
def test_what_only_begins_like_a_pdf_is_a_typed_failure(damage: bytes) -> None:
    with pytest.raises(MalformedFile):
        parse(damage, name="a.pdf")


def test_a_pdf_with_the_wrong_extension_is_read_and_says_so(read: Read) -> None:
    assert read(make_pdf([page()]), "a.txt").format == "pdf"
    text = read("words that were never a PDF\n", "a.pdf")
    assert text.format == "text"
    assert text.metadata["named_as"] == "pdf"
    assert text.warnings == (), "nothing of it is missing"


def hostile(pages: bytes, *more: bytes, trailer: str = "/Root 1 0 R") -> bytes:
    return assemble_pdf([b"<< /Type /Catalog /Pages 2 0 R >>", pages, *more], trailer)


ONE_PAGE = b"<< /Type /Pages /Kids [3 0 R] /Count 1 >>"
LEAF = b"<< /Type /Page /Parent 2 0 R /MediaBox [0 0 612 792] /Contents 4 0 R /Resources << >> >>"
SWOLLEN = zlib.compress(b" " * 9_000_000)
HOSTILE = {
    "a page tree that contains itself": hostile(b"<< /Type /Pages /Kids [2 0 R 2 0 R] /Count 2 >>"),
    "a tree that claims a billion pages": hostile(
        b"<< /Type /Pages /Kids [3 0 R] /Count 1000000000 >>", LEAF, b"<< /Length 0 >>\nstream\n\nendstream"
    ),
    "a stream that claims to be endless": hostile(ONE_PAGE, LEAF, b"<< /Length 99999999999 >>\nstream\nBT"),
    "contents that are the page itself": hostile(ONE_PAGE, LEAF.replace(b"4 0 R", b"3 0 R")),
    "a stream that unpacks a thousandfold": hostile(
        ONE_PAGE,
        LEAF,
        b"<< /Length %d /Filter /FlateDecode >>\nstream\n%s\nendstream" % (len(SWOLLEN), SWOLLEN),
    ),
    "a cross-reference table that points at itself": make_pdf([[]]).replace(b"/Size", b"/Prev 9 /Size"),
}


@pytest.mark.parametrize("what", HOSTILE)
def test_a_pdf_that_never_ends_does(what: str) -> None:
    with pytest.raises(ParseError) as failure:
        parse(HOSTILE[what], name="a.pdf", options=ParseOptions(ocr=False, soft_seconds=5))
    assert failure.value.hint


def test_reading_stops_after_the_time_limit_and_keeps_what_it_has(
    monkeypatch: pytest.MonkeyPatch, read: Read
) -> None:
    clock = iter(range(0, 10_000, 30))
    monkeypatch.setattr("indexer.parsers.pdf.time.monotonic", lambda: float(next(clock)))
    document = read(make_pdf([page() for _ in range(9)]), "a.pdf", soft_seconds=90)
    assert {block.page for block in document.blocks} == {1, 2, 3}
    assert document.warnings == ("Reading stopped before page 4 of 9: it took too long.",)


def test_pages_beyond_the_limit_are_left_out_with_a_warning(read: Read) -> None:
    document = read(make_pdf([page() for _ in range(5)]), "a.pdf", max_pages=2)
    assert {block.page for block in document.blocks} == {1, 2}
    assert "first 2 of 5 pages" in document.warnings[0]


def test_a_blank_page_is_no_loss(read: Read) -> None:
    assert read(make_pdf([page(), [], page()]), "a.pdf").warnings == ()


def scans(num_pages: int, *, with_text: int = 0) -> bytes:
    """Pages that are pictures, after some that have text."""
    writer = pypdf.PdfWriter()
    if with_text:
        writer.append(io.BytesIO(make_pdf([page() for _ in range(with_text)])))
    buffer = io.BytesIO()
    pictures = [Image.linear_gradient("L").resize((300, 400)) for _ in range(num_pages)]
    pictures[0].save(buffer, "PDF", save_all=True, append_images=pictures[1:])
    writer.append(io.BytesIO(buffer.getvalue()))
    out = io.BytesIO()
    writer.write(out)
    return out.getvalue()


def test_pages_that_ocr_did_not_look_at_are_told_with_the_reason(
    monkeypatch: pytest.MonkeyPatch, read: Read
) -> None:
    data = scans(3, with_text=1)
    assert read(data, "a.pdf", ocr=False).warnings == ("Pages 2-4: not read by OCR, which is off.",)
    monkeypatch.setattr("indexer.parsers.pdf.picture_blocks", lambda *_, **__: [])
    document = read(data, "a.pdf", max_ocr_pages=1)
    assert document.warnings == (
        "Page 2: no text was found.",
        "Pages 3-4: not read by OCR, whose limit of 1 pages and pictures was reached.",
    )


def test_memory_of_waiting_pages_is_bounded_and_order_kept(read: Read) -> None:
    document = read(
        make_pdf([page([f"page number {i} has these many words on it"]) for i in range(60)]), "a.pdf"
    )
    assert [block.page for block in document.blocks] == list(range(1, 61))


def scanned(*, blank: bool = False) -> bytes:
    buffer = io.BytesIO()
    Image.new("L", (600, 800), 255 if blank else 90).save(buffer, "PDF")
    return buffer.getvalue()


@pytest.mark.parametrize("blank", [True, False])
def test_a_pdf_without_text_is_a_failure_with_a_remedy_and_not_an_empty_success(blank: bool) -> None:
    with pytest.raises(NoExtractableText) as failure:
        parse(scanned(blank=blank), name="a.pdf", options=ParseOptions(ocr=False))
    assert failure.value.code == "no-extractable-text"
    assert "OCR" in failure.value.hint


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
