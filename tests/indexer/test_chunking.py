from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import replace

import pytest

from indexer.chunking import ChunkDraft, chunk_document, context, embedding_text
from indexer.chunking.context import heading_title
from indexer.tokenization import ChunkTokenizer, TokenUnit
from indexer.types import Block, Box, Import, ParsedDocument

SENTENCE = "The quick brown fox jumps over the lazy dog near the old river bank today. "


def document(*parts: tuple[str, str] | tuple[str, str, dict], **fields: object) -> ParsedDocument:
    """A document from (kind, text[, block fields]) parts, two newlines between them."""
    text, blocks = "", []
    for kind, content, *rest in parts:
        text += "\n\n" if text else ""
        blocks.append(
            Block(kind=kind, start=len(text), end=len(text) + len(content), **(rest[0] if rest else {}))
        )
        text += content
    return ParsedDocument(text, tuple(blocks), **fields)


def texts(parsed: ParsedDocument, drafts: Sequence[ChunkDraft]) -> list[str]:
    return [parsed.text[draft.start : draft.end] for draft in drafts]


@pytest.fixture
def chunk(minilm_tokenizer: ChunkTokenizer):
    def run(parsed: ParsedDocument, **options) -> list[ChunkDraft]:
        return chunk_document(
            parsed, minilm_tokenizer, **{"max_tokens": 256, "target_tokens": 192, **options}
        )

    return run


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


def test_long_text_is_cut_between_sentences(chunk) -> None:
    parsed = document(("text", (SENTENCE * 60).strip()))
    drafts = chunk(parsed)
    assert len(drafts) > 3
    assert all(text.startswith("The quick") and text.endswith("today.") for text in texts(parsed, drafts))


def test_abbreviations_and_decimals_do_not_end_sentences(chunk) -> None:
    sentence = "Dr. Smith paid approx. 3.50 euros to J. Doe in Fig. 3 of vol. 2 by the old river "
    parsed = document(("text", (sentence * 40).strip()))
    for text in texts(parsed, chunk(parsed, max_tokens=64, target_tokens=62))[:-1]:
        assert not text.endswith(("Dr.", "approx.", "J.", "Fig.", "vol."))


def test_long_text_without_sentences_is_cut_at_lines_then_clauses_then_words(chunk) -> None:
    lines = "\n".join(f"record {number} of the log file holds nothing" for number in range(60))
    clauses = "one two three four five, " * 100
    for content, ending in ((lines, "nothing"), (clauses, ",")):
        parsed = document(("text", content.strip()))
        assert all(text.endswith(ending) for text in texts(parsed, chunk(parsed)))


def test_a_long_list_is_cut_between_items(chunk) -> None:
    items = "\n".join(f"- item {number} is about foxes.\n  It has a second line, too" for number in range(60))
    parsed = document(("list", items))
    assert all(text.startswith("- item") for text in texts(parsed, chunk(parsed)))


def test_a_long_table_repeats_its_header_row_in_the_context(chunk) -> None:
    rows = "\n".join(f"| fox {number} | {number * 7} | red |" for number in range(80))
    parsed = document(("table", f"| name | weight | colour |\n|---|---|---|\n{rows}"))
    drafts = chunk(parsed)
    assert len(drafts) > 2
    assert drafts[0].context == ""
    assert {draft.context for draft in drafts[1:]} == {"| name | weight | colour |"}
    assert all(text.startswith("|") and text.endswith("|") for text in texts(parsed, drafts))
    assert {draft.kind for draft in drafts} == {"table"}


def test_a_table_from_the_page_before_has_that_pages_header_in_the_context_of_all_its_parts(chunk) -> None:
    rows = "\n".join(f"fox {number} | {number * 7} | red" for number in range(80))
    parsed = document(("table", rows, {"signature": "name | weight | colour"}))
    drafts = chunk(parsed)
    assert len(drafts) > 2
    assert {draft.context for draft in drafts} == {"name | weight | colour"}


def test_a_header_row_too_long_to_repeat_is_shortened(chunk) -> None:
    header = " | ".join(f"column {number}" for number in range(200))
    rows = "\n".join(f"| {number} | 2 |" for number in range(200))
    parsed = document(("table", f"{header}\n{rows}"))
    last = chunk(parsed)[-1]
    assert header.startswith(last.context)
    assert 0 < len(last.context) < 300


def test_long_code_is_cut_at_its_least_indented_lines(chunk) -> None:
    functions = "\n\n".join(
        f"    def method_{number}(self):\n        value = {number}\n\n"
        f"        if value:\n            return value"
        for number in range(30)
    )
    parsed = document(("code", f"class Fox:\n{functions}", {"name": "Fox"}))
    drafts = chunk(parsed)
    assert len(drafts) > 2
    assert all(text.startswith("def method_") for text in texts(parsed, drafts)[1:])
    assert {draft.context for draft in drafts[1:]} == {"Fox\nclass Fox:"}
    assert {draft.heading_path for draft in drafts} == {("Fox",)}


def test_further_parts_of_a_function_say_its_signature_and_what_it_is_for(chunk) -> None:
    body = "\n".join(f"    call_number_{number}()" for number in range(120))
    code = f"@cached\ndef load(path):\n{body}"
    parsed = document(("code", code, {"name": "load", "signature": "def load(path): Reads the tide table."}))
    first, *others = chunk(parsed)
    assert first.context == "load"
    assert {draft.context for draft in others} == {"load\ndef load(path): Reads the tide table."}


def code_with_imports(*sources: str, body: str) -> ParsedDocument:
    head = "\n".join(f"import {source}" for source in sources)
    imports = tuple(
        Import(source.rpartition(" ")[2].rpartition(".")[2], source.partition(" as ")[0], head.index(source))
        for source in sources
    )
    filler = "\n".join(f"line_{number} = {number}" for number in range(60))
    return document(("code", f"{head}\n{filler}"), ("code", body, {"name": "f"}), imports=imports)


def test_code_has_the_imports_that_it_uses_and_does_not_show_in_its_context(chunk) -> None:
    body = "def f(x):\n    return np.zeros(x) + tide.table(x) + os_like\n" + "    # more\n" * 30
    parsed = code_with_imports("os", "numpy as np", "harbour.tide", body=body)
    head, *others = chunk(parsed)
    assert head.context == "", "it shows them"
    assert others[-1].context == "f\nimports numpy as np, harbour.tide"


def test_as_many_imports_are_named_as_there_is_room_left_for(chunk, minilm_tokenizer) -> None:
    sources = [f"harbour.part_{number}" for number in range(12)]
    used = "\n".join(f"    part_{number}()" for number in range(12))
    for num_lines in range(20, 60, 4):
        body = f"def f():\n{used}\n" + "    wait()\n" * num_lines
        drafts = chunk(code_with_imports(*sources, body=body), target_tokens=250)
        whole = [draft for draft in drafts if draft.heading_path == ("f",)]
        if len(whole) == 1 and 0 < whole[0].context.count("harbour.part_") < 12:
            return
    pytest.fail("no function left room for some of them")


def test_imports_never_change_where_code_is_cut_nor_take_more_than_a_quarter(chunk, minilm_tokenizer) -> None:
    sources = [f"package_number_{number}.module_{number}" for number in range(60)]
    body = "def f():\n" + "\n".join(f"    module_{number}.call({number})" for number in range(60))
    parsed = code_with_imports(*sources, body=body)
    with_imports, without = chunk(parsed), chunk(replace(parsed, imports=()))
    assert [(d.start, d.end, d.heading_path) for d in with_imports] == [
        (d.start, d.end, d.heading_path) for d in without
    ]
    assert any("imports package_number_" in draft.context for draft in with_imports)
    for draft, plain in zip(with_imports, without, strict=True):
        assert draft.context.startswith(plain.context)
        assert minilm_tokenizer.count(draft.context) <= 256 // 4


def test_code_is_not_cut_before_a_closing_bracket(chunk) -> None:
    body = "\n".join("call(\n    argument_one,\n    argument_two,\n)" for _ in range(60))
    parsed = document(("code", body))
    assert all(text.startswith("call(") for text in texts(parsed, chunk(parsed)))


def test_small_functions_are_merged_under_the_name_they_share(chunk) -> None:
    parsed = document(
        ("code", "class Fox:", {"name": "Fox"}),
        ("code", "    def run(self): ...", {"name": "Fox.run", "level": 1}),
        ("code", "    def eat(self): ...", {"name": "Fox.eat", "level": 1}),
        title="fox.py",
    )
    (draft,) = chunk(parsed)
    assert (draft.heading_path, draft.context, draft.kind) == (("Fox",), "fox.py > Fox", "code")


def test_unrelated_functions_share_no_name(chunk) -> None:
    parsed = document(
        ("code", "def run(): ...", {"name": "run"}), ("code", "def runner(): ...", {"name": "runner"})
    )
    (draft,) = chunk(parsed)
    assert (draft.heading_path, draft.context) == ((), "")


def test_a_chunk_has_the_kind_of_most_of_its_text(chunk) -> None:
    parsed = document(("text", "Run this:"), ("code", "pip install ragserve && ragserve ingest ./corpus"))
    assert [draft.kind for draft in chunk(parsed)] == ["code"]
    parsed = document(("text", SENTENCE), ("code", "pip install x"))
    assert [draft.kind for draft in chunk(parsed)] == ["text"]


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


def test_a_document_without_blocks_is_chunked_as_text(chunk) -> None:
    (draft,) = chunk(ParsedDocument("  Just text. ", ()))
    assert (draft.start, draft.end) == (2, 12)


@pytest.mark.parametrize("text", ["", " \n\t ", "\u2003\n"])
def test_a_blank_document_has_no_chunks(chunk, text: str) -> None:
    assert chunk(ParsedDocument(text, ())) == []
    assert chunk(ParsedDocument(text, (Block("text", 0, len(text)),))) == []


def test_endless_heading_paths_leave_room_for_text(chunk, minilm_tokenizer: ChunkTokenizer) -> None:
    headings = [
        ("heading", f"Section {number} " + "long title " * 30, {"level": number}) for number in range(1, 9)
    ]
    parsed = document(*headings, *[("text", SENTENCE * 9)] * 4, title="T " * 400)
    for draft in chunk(parsed):
        assert minilm_tokenizer.count(draft.context) <= 256 // 4


def test_an_edit_moves_only_the_chunks_around_it(chunk) -> None:
    words = [
        f"Sentence {number} is about {number % 7} foxes and {number % 11} dogs." for number in range(800)
    ]
    before = ParsedDocument(" ".join(words), ())
    after = ParsedDocument(" ".join([*words[:100], "A new sentence in between.", *words[100:]]), ())
    old, new = set(texts(before, chunk(before))), set(texts(after, chunk(after)))
    assert len(new - old) <= 0.3 * len(new)


def test_an_embedder_that_reads_much_does_not_make_chunks_long(
    chunk, minilm_tokenizer: ChunkTokenizer
) -> None:
    parsed = document(("text", (SENTENCE * 100).strip()))
    lengths = [minilm_tokenizer.count(text) for text in texts(parsed, chunk(parsed, max_tokens=8192))]
    assert max(lengths) <= 192


def test_too_small_a_limit_is_refused(chunk) -> None:
    with pytest.raises(ValueError, match="at least 16"):
        chunk(ParsedDocument("text", ()), max_tokens=8)


@pytest.mark.parametrize(
    "unit",
    [
        "A",
        "Zm9vYmFyCg",
        "漢字仮名",
        "。",
        "👩‍👩‍👧",
        "🇩🇪",
        "a\u0301\u0302",
        "\u0301",
        " \n",
        "x \n\n\n",
        "|a|b|\n",
        "a,",
        "#",
    ],
)
@pytest.mark.parametrize("kind", ["text", "code", "table"])
def test_pathological_text_is_cut_safely(
    chunk, minilm_tokenizer: ChunkTokenizer, unit: str, kind: str
) -> None:
    text = unit * (20_000 // len(unit))
    parsed = ParsedDocument(text, (Block(kind, 0, len(text)),))
    drafts = chunk(parsed)
    assert "".join("".join(texts(parsed, drafts)).split()) == "".join(text.split())
    for draft in drafts:
        tokens = minilm_tokenizer.count(embedding_text(draft.context, text[draft.start : draft.end]))
        assert tokens <= 254
        assert draft.end - draft.start <= 24 * 256


class CountingTokenizer(ChunkTokenizer):
    """Adds up the characters that it is asked about: a measure of work that no busy machine disturbs."""

    work = 0

    def count(self, text: str) -> int:
        self.work += len(text)
        return super().count(text)

    def estimate(self, text: str) -> int:
        self.work += len(text)
        return super().estimate(text)

    def units(self, text: str, start: int, end: int) -> Iterator[TokenUnit]:
        for unit in super().units(text, start, end):
            self.work += unit.end - unit.start
            yield unit


@pytest.mark.parametrize("unit", [SENTENCE, "A", "漢", "x ", "a\n\n", "# \n", "👩‍👩‍👧"])
@pytest.mark.parametrize("kind", ["text", "code", "table", "heading"])
def test_chunking_reads_the_text_a_bounded_number_of_times(
    minilm_tokenizer: ChunkTokenizer, unit: str, kind: str
) -> None:
    tokenizer = CountingTokenizer(minilm_tokenizer.path)
    text = unit * (60_000 // len(unit))
    blocks = tuple(Block(kind, start, start + 20_000) for start in (0, 20_000, 40_000))
    chunk_document(ParsedDocument(text, blocks), tokenizer, max_tokens=256)
    assert tokenizer.work < 8 * len(text)


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


def test_kinds_of_blocks_are_told_apart(chunk) -> None:
    kinds = ["text", "list", "table", "code", "image"]
    parsed = document(*[(kind, f"{kind} block", {"page": page}) for page, kind in enumerate(kinds, 1)])
    assert [draft.kind for draft in chunk(parsed)] == ["text", "text", "table", "code", "image"]


def test_offsets_ignore_whitespace_inside_a_blocks_ends(chunk) -> None:
    parsed = document(("text", "  padded \n"))
    parsed = replace(parsed, blocks=(Block("text", 0, len(parsed.text)),))
    assert texts(parsed, chunk(parsed)) == ["padded"]
