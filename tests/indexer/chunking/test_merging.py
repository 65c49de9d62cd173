"""Blocks are kept whole if they fit, and small neighbours merged."""

from __future__ import annotations

from dataclasses import replace

import pytest
from chunked_documents import SENTENCE, document, texts

from indexer.types import Block, ParsedDocument


def test_words_that_introduce_a_block_stay_with_its_first_part(chunk) -> None:
    parsed = document(("text", "These are they:"), ("text", (SENTENCE * 15).strip()))
    assert texts(parsed, chunk(parsed))[0].startswith("These are they:\n\nThe quick")


def test_small_neighbours_are_merged_and_sections_are_not(chunk) -> None:
    parsed = document(
        ("heading", "A", {"level": 1}),
        *[("text", SENTENCE.strip()) for _ in range(4)],
        ("heading", "B", {"level": 1}),
        ("text", SENTENCE.strip()),
    )
    assert [text[0] for text in texts(parsed, chunk(parsed))] == ["A", "B"]


def test_a_paragraph_that_fits_is_kept_whole_beyond_the_target(chunk) -> None:
    paragraph = (SENTENCE * 15).strip()  # 240 tokens: over the target of 192, within 256
    parsed = document(("text", SENTENCE * 2), ("text", paragraph), ("text", SENTENCE * 6))
    assert any(paragraph in text for text in texts(parsed, chunk(parsed)))


def test_a_small_last_block_joins_the_chunk_before_it(chunk) -> None:
    parsed = document(
        ("text", (SENTENCE * 11).strip()), ("text", "A last word on foxes and more on river banks.")
    )
    assert len(chunk(parsed)) == 1


def test_a_chunk_has_the_kind_of_most_of_its_text(chunk) -> None:
    parsed = document(("text", "Run this:"), ("code", "pip install ragserve && ragserve ingest ./corpus"))
    assert [draft.kind for draft in chunk(parsed)] == ["code"]
    parsed = document(("text", SENTENCE), ("code", "pip install x"))
    assert [draft.kind for draft in chunk(parsed)] == ["text"]


def test_kinds_of_blocks_are_told_apart(chunk) -> None:
    kinds = ["text", "list", "table", "code", "image"]
    parsed = document(*[(kind, f"{kind} block", {"page": page}) for page, kind in enumerate(kinds, 1)])
    assert [draft.kind for draft in chunk(parsed)] == ["text", "text", "table", "code", "image"]


def test_a_document_without_blocks_is_chunked_as_text(chunk) -> None:
    (draft,) = chunk(ParsedDocument("  Just text. ", ()))
    assert (draft.start, draft.end) == (2, 12)


@pytest.mark.parametrize("text", ["", " \n\t ", "\u2003\n"])
def test_a_blank_document_has_no_chunks(chunk, text: str) -> None:
    assert chunk(ParsedDocument(text, ())) == []
    assert chunk(ParsedDocument(text, (Block("text", 0, len(text)),))) == []


def test_offsets_ignore_whitespace_inside_a_blocks_ends(chunk) -> None:
    parsed = document(("text", "  padded \n"))
    parsed = replace(parsed, blocks=(Block("text", 0, len(parsed.text)),))
    assert texts(parsed, chunk(parsed)) == ["padded"]
