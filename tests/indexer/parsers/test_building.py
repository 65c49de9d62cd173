from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st
from parsing_samples import assert_promises, text_of

from indexer.parsers import ParseOptions
from indexer.parsers.building import DocumentBuilder
from indexer.parsers.errors import DocumentTooLarge, NoExtractableText
from indexer.types import Box

KINDS = st.sampled_from(["heading", "text", "list", "table", "code", "image"])


@given(st.lists(st.tuples(KINDS, st.text(max_size=40)), max_size=20))
def test_whatever_is_added_the_blocks_keep_the_promises(pieces: list[tuple[str, str]]) -> None:
    builder = DocumentBuilder(name="a.txt", options=ParseOptions())
    for kind, text in pieces:
        builder.add(kind, text)
    if builder.is_empty:
        with pytest.raises(NoExtractableText):
            builder.build(format="text", parser="test")
        return
    document = builder.build(format="text", parser="test")
    assert_promises(document)
    between = [
        document.text[a.end : b.start] for a, b in zip(document.blocks, document.blocks[1:], strict=False)
    ]
    assert set(between) <= {"\n\n"}


def test_placed_lines_lose_their_box_with_their_text() -> None:
    builder = DocumentBuilder(name="a.pdf", options=ParseOptions())
    boxes = [Box(1, 0, y, 10, y + 1) for y in range(3)]
    builder.add_lines("text", zip(["first", " \x00", "third"], boxes, strict=True))
    document = builder.build(format="pdf", parser="test")
    assert text_of(document, document.blocks[0]) == "first\nthird"
    assert document.blocks[0].boxes == (boxes[0], boxes[2])


def test_text_beyond_the_limit_is_a_typed_failure() -> None:
    builder = DocumentBuilder(name="a.txt", options=ParseOptions(max_characters=100))
    for _ in range(8):
        builder.add("text", "0123456789")
    with pytest.raises(DocumentTooLarge):
        builder.add("text", "0123456789")


def test_the_title_is_the_only_heading_of_the_highest_level_and_never_the_files_name() -> None:
    def title(*headings: tuple[str, int]) -> str:
        builder = DocumentBuilder(name="folder/a.txt", options=ParseOptions())
        builder.add("text", "before")
        for text, level in headings:
            builder.heading(text, level=level)
        return builder.build(format="text", parser="test").title

    assert title(("Small", 2), ("Whole", 1), ("Small", 2)) == "Whole"
    assert title(("One", 1), ("Two", 1)) == ""
    assert title() == ""
