"""Chunks know their page and their boxes."""

from __future__ import annotations

from chunked_documents import SENTENCE, document

from indexer.types import Box


def test_chunks_do_not_span_pages(chunk) -> None:
    parsed = document(*[("text", "A short paragraph.", {"page": page}) for page in (1, 1, 2, 3, 3)])
    assert [draft.page for draft in chunk(parsed)] == [1, 2, 3]


def test_a_paragraph_over_a_page_break_is_one_chunk_on_its_first_page(chunk) -> None:
    boxes = (Box(1, 50, 700, 500, 712), Box(2, 50, 50, 500, 62))
    parsed = document(
        ("text", "It starts here\nand ends there.", {"page": 1, "boxes": boxes}),
        ("text", "Next.", {"page": 2}),
    )
    drafts = chunk(parsed)
    assert [(draft.page, draft.boxes) for draft in drafts] == [(1, boxes), (2, ())]


def test_the_parts_of_a_long_paragraph_know_their_own_page_and_lines(chunk) -> None:
    lines = [(SENTENCE * 2).strip() for _ in range(20)]
    boxes = tuple(Box(1 + i // 10, 50, 20 * (i % 10), 500, 20 * (i % 10) + 12) for i in range(20))
    parsed = document(("text", "\n".join(lines), {"page": 1, "boxes": boxes}))
    drafts = chunk(parsed)
    assert drafts[0].page == 1
    assert drafts[-1].page == 2
    assert {box.page for box in drafts[-1].boxes} == {2}
    for draft in drafts:
        first = parsed.text.count("\n", 0, draft.start)
        last = parsed.text.count("\n", 0, draft.end)
        for box in boxes[first : last + 1]:
            assert any(
                u.page == box.page and u.x0 <= box.x0 and u.y0 <= box.y0 and u.x1 >= box.x1 and u.y1 >= box.y1
                for u in draft.boxes
            )


def test_lines_of_a_paragraph_make_one_box_and_columns_two(chunk) -> None:
    left = tuple(Box(1, 50, y, 250, y + 12) for y in range(100, 200, 14))
    right = tuple(Box(1, 300, y, 500, y + 12) for y in range(100, 200, 14))
    parsed = document(
        ("text", "\n".join("left" for _ in left), {"page": 1, "boxes": left}),
        ("text", "\n".join("right" for _ in right), {"page": 1, "boxes": right}),
    )
    (draft,) = chunk(parsed)
    assert draft.boxes == (Box(1, 50, 100, 250, 210), Box(1, 300, 100, 500, 210))
