from __future__ import annotations

import functools
from pathlib import Path

from hypothesis import given, settings
from hypothesis import strategies as st
from tokenizers import Tokenizer

from indexer.chunking import ChunkDraft, chunk_document, embedding_text
from indexer.tokenization import ChunkTokenizer
from indexer.types import Block, Box, ParsedDocument

FRAGMENTS = st.one_of(
    st.sampled_from(
        [
            "A sentence about foxes. ",
            "word ",
            "Zm9vYmFyCg==",
            "漢字かな。",
            "👩‍👩‍👧",
            "🇩🇪",
            "e\u0301",
            "\n",
            "\n\n",
            "  ",
        ]
    ),
    st.sampled_from(
        [
            "| a | b |\n",
            "- item\n",
            "def f(x):\n    return x\n",
            "}\n",
            "[SEP]",
            "\x85",
            "\u2028",
            "ﷺ",
            "\u200b",
        ]
    ),
    st.text(max_size=30),
    st.text(alphabet="abcDEF012+/", min_size=60, max_size=200),
)
CONTENT = st.lists(st.tuples(FRAGMENTS, st.integers(1, 12)), min_size=1, max_size=4).map(
    lambda parts: "".join(fragment * times for fragment, times in parts)
)
BOXES = st.lists(
    st.builds(
        Box,
        page=st.integers(1, 2),
        x0=st.just(0),
        y0=st.integers(0, 9),
        x1=st.just(9),
        y1=st.integers(10, 20),
    ),
    max_size=4,
).map(tuple)


@st.composite
def documents(draw: st.DrawFn) -> ParsedDocument:
    text, blocks, page = "", [], 1
    for _ in range(draw(st.integers(0, 6))):
        text += draw(st.sampled_from(["", "\n\n", " ", "\n \t\n", "\n## ", "> " * 40]))
        content = draw(CONTENT)
        page += draw(st.integers(0, 1))
        blocks.append(
            Block(
                kind=draw(st.sampled_from(["heading", "text", "list", "table", "code", "image"])),
                start=len(text),
                end=len(text) + len(content),
                level=draw(st.integers(0, 4)),
                page=draw(st.sampled_from([None, page])),
                name=draw(st.sampled_from(["", "Fox", "Fox.run", "Fox::eat"])),
                boxes=draw(BOXES),
            )
        )
        text += content
    return ParsedDocument(text, tuple(blocks), title=draw(st.sampled_from(["", "Title", "long title " * 60])))


@functools.cache
def reference(path: Path) -> Tokenizer:
    tokenizer = Tokenizer.from_file(str(path))
    tokenizer.no_truncation()
    tokenizer.no_padding()
    return tokenizer


def check(
    parsed: ParsedDocument, drafts: list[ChunkDraft], tokenizer: ChunkTokenizer, max_tokens: int
) -> None:
    position, covered = 0, set()
    for draft in drafts:
        text = parsed.text[draft.start : draft.end]
        assert text
        assert text == text.strip()
        assert draft.start >= position
        assert len(reference(tokenizer.path).encode(embedding_text(draft.context, text)).ids) <= max_tokens
        position = draft.end
        covered.update(range(draft.start, draft.end))
    for block in parsed.blocks:
        lost = set(range(block.start, block.end)) - covered
        assert all(parsed.text[position].isspace() for position in lost)


@given(parsed=documents(), max_tokens=st.sampled_from([16, 32, 64, 256]))
@settings(deadline=None, max_examples=50)
def test_chunks_are_ordered_cover_all_text_and_fit_the_embedder(
    minilm_tokenizer: ChunkTokenizer, parsed: ParsedDocument, max_tokens: int
) -> None:
    check(
        parsed, chunk_document(parsed, minilm_tokenizer, max_tokens=max_tokens), minilm_tokenizer, max_tokens
    )


@given(parsed=documents(), max_tokens=st.sampled_from([16, 64, 256]))
@settings(deadline=None, max_examples=50)
def test_chunks_fit_an_embedder_with_a_byte_level_tokenizer(
    byte_level_tokenizer: ChunkTokenizer, parsed: ParsedDocument, max_tokens: int
) -> None:
    drafts = chunk_document(parsed, byte_level_tokenizer, max_tokens=max_tokens)
    check(parsed, drafts, byte_level_tokenizer, max_tokens)


@given(parsed=documents())
@settings(deadline=None, max_examples=50)
def test_chunks_stay_on_the_page_of_their_blocks(
    minilm_tokenizer: ChunkTokenizer, parsed: ParsedDocument
) -> None:
    for draft in chunk_document(parsed, minilm_tokenizer, max_tokens=64):
        touched = [b for b in parsed.blocks if b.start < draft.end and b.end > draft.start]
        touched = [
            b for b in touched if parsed.text[max(b.start, draft.start) : min(b.end, draft.end)].strip()
        ]
        pages = {block.page for block in touched}
        own = {box.page for block in touched for box in block.boxes}
        assert draft.page in pages | own
        assert len(pages) == 1 or (touched[0].boxes and draft.page in own)
        assert {box.page for box in draft.boxes} <= own


@given(parsed=documents())
@settings(deadline=None, max_examples=50)
def test_chunking_is_deterministic(minilm_tokenizer: ChunkTokenizer, parsed: ParsedDocument) -> None:
    fresh = ChunkTokenizer(minilm_tokenizer.path) if len(parsed.blocks) == 1 else minilm_tokenizer
    assert chunk_document(parsed, minilm_tokenizer, max_tokens=64) == chunk_document(
        parsed, fresh, max_tokens=64
    )
