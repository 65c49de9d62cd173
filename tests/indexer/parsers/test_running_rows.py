from __future__ import annotations

import io
from collections.abc import Callable

import pytest
from parsing_samples import Words, make_pdf, outline_of
from PIL import Image

from indexer.chunking import ChunkDraft, chunk_document
from indexer.parsers.layout import PlacedBlock
from indexer.tokenization import ChunkTokenizer
from indexer.types import Box, ParsedDocument

Read = Callable[..., ParsedDocument]
Chunk = Callable[[ParsedDocument], list[ChunkDraft]]


def body(page: int) -> list[Words]:
    lines = [f"On day {page} the ferry carried {page * 7 + i} people across the sound." for i in range(9)]
    return [Words(72, 120 + 12 * i, line) for i, line in enumerate(lines)]


def furniture(document: ParsedDocument) -> list[tuple[int | None, str]]:
    return [
        (block.page, document.text[block.start : block.end])
        for block in document.blocks
        if block.kind == "furniture"
    ]


@pytest.fixture
def chunk(minilm_tokenizer: ChunkTokenizer) -> Chunk:
    return lambda document: chunk_document(document, minilm_tokenizer, max_tokens=256)


def test_running_heads_and_page_numbers_stay_in_the_document_and_out_of_its_chunks(
    read: Read, chunk: Chunk
) -> None:
    pages = [
        [Words(72, 40, "Ferry handbook, 3rd edition"), *body(n), Words(300, 770, f"Page {n} of 5")]
        for n in range(1, 6)
    ]
    document = read(make_pdf(pages), "a.pdf")
    expected = [(n, text) for n in range(1, 6) for text in ("Ferry handbook, 3rd edition", f"Page {n} of 5")]
    assert furniture(document) == expected
    drafts = chunk(document)
    chunks = [document.text[draft.start : draft.end] for draft in drafts]
    assert len(chunks) >= 5
    assert not any("handbook" in text or "Page" in text for text in chunks)
    for page in range(1, 6):
        for words in body(page):
            assert sum(words.text in text for text in chunks) == 1
    for draft in drafts:
        assert all(100 < box.y0 < box.y1 < 240 for box in draft.boxes)


def test_left_and_right_pages_have_heads_of_their_own(read: Read) -> None:
    def head(n: int) -> list[Words]:
        if n % 2:
            return [Words(72, 40, "2 Boarding"), Words(530, 40, str(n + 16))]
        return [Words(72, 40, str(n + 16)), Words(400, 40, "Ferry handbook")]

    document = read(make_pdf([[*head(n), *body(n)] for n in range(1, 9)]), "a.pdf")
    assert [page for page, _ in furniture(document)] == list(range(1, 9))


def test_a_counting_number_marks_a_row_whose_words_change_with_every_chapter(read: Read) -> None:
    titles = ["Piers", "Piers", "Boats", "Tides", "Tides", "Fares"]
    pages = [
        [Words(72, 40, f"Chapter about {title}"), Words(530, 40, str(n)), *body(n)]
        for n, title in enumerate(titles, start=7)
    ]
    assert len(furniture(read(make_pdf(pages), "a.pdf"))) == 6


def test_roman_numbers_count_too(read: Read) -> None:
    pages = [[*body(n), Words(300, 770, roman)] for n, roman in enumerate(["ii", "iii", "iv", "v"])]
    assert [text for _, text in furniture(read(make_pdf(pages), "a.pdf"))] == ["ii", "iii", "iv", "v"]


def nothing_runs(read: Read, pages: list[list[Words]], **options: object) -> None:
    document = read(make_pdf(pages, **options), "a.pdf")
    assert furniture(document) == []
    shown = [line for _, text in outline_of(document) for line in text.split("\n")]
    assert len(shown) >= sum(len({words.y for words in page}) for page in pages)


def test_two_pages_are_too_few_to_know(read: Read) -> None:
    nothing_runs(read, [[Words(72, 40, "Ferry handbook"), *body(n)] for n in (1, 2)])


def test_what_says_something_else_on_every_page_is_text(read: Read) -> None:
    totals = ["Total 12.50", "Total 99.10", "Total 7.00", "Total 31.20"]  # bills, one to a page
    nothing_runs(read, [[*body(n), Words(400, 750, total)] for n, total in enumerate(totals)])


def test_what_is_repeated_amid_the_page_is_text(read: Read) -> None:
    nothing_runs(read, [[*body(n), Words(72, 400, "The same on every page")] for n in range(5)])


def test_the_header_of_a_table_over_several_pages_stays_with_its_rows(read: Read) -> None:
    def table(n: int) -> list[Words]:
        rows = [("Pier", "Low", "High"), *((f"pier {n}{i}", f"{n}.{i}", f"{n + i}.5") for i in range(6))]
        return [
            Words(72 + 120 * j, 40 + 14 * i, cell) for i, row in enumerate(rows) for j, cell in enumerate(row)
        ]

    document = read(make_pdf([table(n) for n in range(1, 5)]), "a.pdf")
    assert furniture(document) == []
    tables = [text for kind, text in outline_of(document) if kind == "table"]
    assert len(tables) == 4
    assert all(text.startswith("Pier | Low | High") for text in tables)


def test_the_title_of_some_slides_is_a_heading_and_that_of_all_is_furniture(read: Read) -> None:
    def slide(n: int, title: str) -> list[Words]:
        return [
            Words(60, 40, title, 24),
            *(Words(60, 200 + 20 * i, f"Point {n} {i} of the talk") for i in range(5)),
        ]

    some = [slide(n, "Results" if 3 <= n <= 5 else f"Slide about {n}0") for n in range(9)]
    document = read(make_pdf(some, size=(960, 540)), "a.pdf")
    assert ("heading", "Results") in outline_of(document)
    every = [slide(n, "Harbour Board") for n in range(9)]
    assert len(furniture(read(make_pdf(every, size=(960, 540)), "a.pdf"))) == 9


def test_a_chapter_that_the_outline_names_is_a_heading_and_runs_only_afterwards(read: Read) -> None:
    pages = [[Words(72, 40, "Boarding"), *body(n)] for n in range(1, 6)]
    document = read(make_pdf(pages, outline=[("Boarding", 2)]), "a.pdf")
    assert [page for page, _ in furniture(document)] == [1, 3, 4, 5]
    assert ("heading", "Boarding") in outline_of(document)


def test_a_page_read_otherwise_does_not_part_the_pages_around_it(read: Read) -> None:
    pages = [[Words(72, 40, "Ferry handbook"), *body(n)] if n != 2 else [] for n in range(1, 5)]
    document = read(make_pdf(pages), "a.pdf", ocr=False)
    assert [page for page, _ in furniture(document)] == [1, 3, 4]


def scans(num_pages: int) -> bytes:
    """Pages of 600 x 800 points that are pictures."""
    buffer = io.BytesIO()
    pictures = [Image.linear_gradient("L").resize((300, 400)) for _ in range(num_pages)]
    pictures[0].save(buffer, "PDF", resolution=36, save_all=True, append_images=pictures[1:])
    return buffer.getvalue()


def test_scans_have_running_heads_and_broken_words_too(
    read: Read, chunk: Chunk, monkeypatch: pytest.MonkeyPatch
) -> None:
    def picture_blocks(image: object, *, page: int, **_: object) -> list[PlacedBlock]:
        height = 9 + page % 3  # the boxes of lines vary with their letters
        head = ("Ferry handbook, 3rd edition", Box(page, 72, 40, 300, 40 + height))
        text = [
            (f"On day {page} the ferry carried passen-", Box(page, 72, 120, 400, 132)),
            ("gers across the sound.", Box(page, 72, 134, 300, 146)),
        ]
        foot = (str(page + 16), Box(page, 290, 770, 310, 780))
        return [PlacedBlock("text", (head, *text)), PlacedBlock("text", (foot,))]

    monkeypatch.setattr("indexer.parsers.pdf.picture_blocks", picture_blocks)
    document = read(scans(5), "a.pdf")
    expected = [(n, text) for n in range(1, 6) for text in ("Ferry handbook, 3rd edition", str(n + 16))]
    assert furniture(document) == expected
    chunks = [document.text[draft.start : draft.end] for draft in chunk(document)]
    assert chunks == [f"On day {n} the ferry carried passengers\nacross the sound." for n in range(1, 6)]
