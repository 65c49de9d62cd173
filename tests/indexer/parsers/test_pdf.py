from __future__ import annotations

from collections.abc import Callable

import pytest
from parsing_samples import Words, assemble_pdf, make_pdf, outline_of, text_of
from pdf_samples import CELLS, LEAF, LINES, PROSE, page, table

from indexer.chunking import chunk_document
from indexer.tokenization import ChunkTokenizer
from indexer.types import ParsedDocument

Read = Callable[..., ParsedDocument]


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
