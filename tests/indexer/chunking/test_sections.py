"""Headings open sections; what is under them knows it."""

from __future__ import annotations

import pytest
from chunked_documents import SENTENCE, document, texts

from indexer.chunking import context
from indexer.chunking.context import heading_title
from indexer.tokenization import ChunkTokenizer
from indexer.types import Block, ParsedDocument


def test_a_short_document_is_one_chunk_with_its_heading(chunk) -> None:
    parsed = document(("heading", "# Install", {"level": 1}), ("text", "Use pip."), ("list", "- one\n- two"))
    (draft,) = chunk(parsed)
    assert texts(parsed, [draft]) == [parsed.text]
    assert (draft.heading_path, draft.kind, draft.context) == (("Install",), "text", "")


def test_headings_make_the_path_and_the_context_of_what_is_below_them(chunk) -> None:
    parsed = document(
        ("heading", "Guide", {"level": 1}),
        ("text", SENTENCE.strip()),
        ("heading", "Linux", {"level": 2}),
        ("text", SENTENCE.strip()),
        ("heading", "Debian", {"level": 3}),
        ("text", SENTENCE.strip()),
        ("heading", "Windows", {"level": 2}),
        ("text", SENTENCE.strip()),
        title="Manual",
    )
    drafts = chunk(parsed)
    assert [draft.heading_path for draft in drafts] == [
        ("Guide",),
        ("Guide", "Linux"),
        ("Guide", "Linux", "Debian"),
        ("Guide", "Windows"),
    ]
    assert [draft.context for draft in drafts] == [
        "Manual",
        "Manual > Guide",
        "Manual > Guide > Linux",
        "Manual > Guide",
    ]


def test_a_later_chunk_of_a_section_has_the_heading_in_its_context(chunk) -> None:
    parsed = document(("heading", "Foxes", {"level": 1}), *[("text", SENTENCE * 8) for _ in range(3)])
    drafts = chunk(parsed)
    assert len(drafts) > 1
    assert drafts[0].context == ""
    assert {draft.context for draft in drafts[1:]} == {"Foxes"}


def test_a_heading_is_never_left_behind_by_a_paragraph_that_fills_a_chunk(chunk) -> None:
    parsed = document(("heading", "Foxes and dogs", {"level": 1}), ("text", (SENTENCE * 15).strip()))
    drafts = chunk(parsed)
    assert texts(parsed, drafts)[0].startswith("Foxes and dogs\n\nThe quick")


def test_headings_without_text_of_their_own_go_with_what_follows(chunk) -> None:
    parsed = document(
        ("heading", "Part", {"level": 1}), ("heading", "Chapter", {"level": 2}), ("text", "It was night.")
    )
    (draft,) = chunk(parsed)
    assert texts(parsed, [draft]) == ["Part\n\nChapter\n\nIt was night."]
    assert draft.heading_path == ("Part", "Chapter")


def test_a_line_above_the_first_heading_goes_with_what_follows(chunk) -> None:
    parsed = document(
        ("text", ".. module:: fox"), ("heading", "Foxes", {"level": 1}), ("text", (SENTENCE * 15).strip())
    )
    drafts = chunk(parsed)
    assert texts(parsed, drafts)[0].startswith(".. module:: fox\n\nFoxes\n\nThe quick")
    assert {draft.heading_path for draft in drafts} == {("Foxes",)}


def test_a_tiny_section_is_not_mixed_with_the_one_beside_it(chunk) -> None:
    parsed = document(
        ("heading", "A", {"level": 1}),
        ("text", "One."),
        ("heading", "B", {"level": 1}),
        ("text", "Two."),
    )
    assert [draft.heading_path for draft in chunk(parsed)] == [("A",), ("B",)]


def test_endless_heading_paths_leave_room_for_text(chunk, minilm_tokenizer: ChunkTokenizer) -> None:
    headings = [
        ("heading", f"Section {number} " + "long title " * 30, {"level": number}) for number in range(1, 9)
    ]
    parsed = document(*headings, *[("text", SENTENCE * 9)] * 4, title="T " * 400)
    for draft in chunk(parsed):
        assert minilm_tokenizer.count(draft.context) <= 256 // 4


def test_of_a_heading_without_end_the_beginning_is_looked_at(chunk, monkeypatch: pytest.MonkeyPatch) -> None:
    looked_at: list[int] = []

    def recording(text: str) -> str:
        looked_at.append(len(text))
        return heading_title(text)

    monkeypatch.setattr(context, "heading_title", recording)
    text = "# No end " + "cell format " * 5_000
    drafts = chunk(ParsedDocument(text, (Block("heading", 0, len(text), level=1),)))
    assert len(drafts) > 40
    assert max(looked_at) <= 1024
    assert drafts[1].heading_path[0].startswith("No end cell format")
