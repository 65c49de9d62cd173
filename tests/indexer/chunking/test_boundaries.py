"""Long text is cut where it hurts least."""

from __future__ import annotations

from chunked_documents import SENTENCE, document, texts

from indexer.tokenization import ChunkTokenizer
from indexer.types import ParsedDocument


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


def test_code_is_not_cut_before_a_closing_bracket(chunk) -> None:
    body = "\n".join("call(\n    argument_one,\n    argument_two,\n)" for _ in range(60))
    parsed = document(("code", body))
    assert all(text.startswith("call(") for text in texts(parsed, chunk(parsed)))


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
