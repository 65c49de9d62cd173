from __future__ import annotations

from dataclasses import dataclass, replace

from hypothesis import given
from hypothesis import strategies as st

from generator.types import AnswerSpan
from indexer.errors import UnknownDocument
from indexer.types import Chunk, LineRange
from ragserve.grounding import cite
from retriever.types import PassagePart


@dataclass(frozen=True)
class HitLike:
    chunk: Chunk
    rank: int
    parts: tuple[PassagePart, ...] = ()


def chunk_of(document: str, start: int, end: int, *, chunk_id: str = "c", document_id: str = "d") -> Chunk:
    text = document[start:end]
    return Chunk(chunk_id, document_id, "/notes.txt", text, start, end, 3, (), (), "text")


@given(
    document=st.text(min_size=1, max_size=60),
    cut=st.tuples(st.integers(0, 60), st.integers(0, 60)),
    spans=st.lists(
        st.tuples(st.sampled_from(["c", "x"]), st.integers(-5, 70), st.integers(-5, 70)), max_size=8
    ),
    now=st.one_of(st.none(), st.text(max_size=60)),
)
def test_every_citation_is_verbatim_and_every_other_span_is_counted(document, cut, spans, now):
    start, end = sorted(cut)
    chunk = chunk_of(document, start, end)
    current = document if now is None else now
    spans = [AnswerSpan(*span) for span in spans]
    citations, num_dropped = cite(spans, [HitLike(chunk, 2)], {"d": current}.__getitem__)

    def holds(span: AnswerSpan) -> bool:
        inside = span.passage_id == "c" and 0 <= span.start < span.end <= len(chunk.text)
        moved = slice(start + span.start, start + span.end)
        return inside and current[moved] == chunk.text[span.start : span.end]

    assert all(current[citation.start : citation.end] == citation.quote != "" for citation in citations)
    assert num_dropped == sum(not holds(span) for span in spans)
    assert len(citations) == len({span for span in spans if holds(span)})
    assert all((citation.mark, citation.page, citation.uri) == (2, 3, "/notes.txt") for citation in citations)


def test_a_document_that_is_gone_has_nothing_left_to_quote():
    def gone(document_id: str) -> str:
        raise UnknownDocument(f"No document {document_id}.")

    chunk = chunk_of("hello world", 6, 11)
    assert cite([AnswerSpan("c", 0, 5)], [HitLike(chunk, 1)], gone) == ((), 1)


def test_a_citation_names_every_file_that_says_it():
    chunk = replace(chunk_of("hello world", 6, 11), other_uris=("/old/notes.txt", "/x/notes.txt"))
    ((citation,), _) = cite([AnswerSpan("c", 0, 5)], [HitLike(chunk, 1)], lambda _: "hello world")
    assert citation.uri == "/notes.txt"
    assert citation.to_dict()["uris"] == ["/notes.txt", "/old/notes.txt", "/x/notes.txt"]


def test_a_quote_from_a_longer_passage_names_the_chunk_and_the_page_that_it_begins_on():
    document = "on page four. on page five. on page six."
    passage = chunk_of(document, 0, len(document), chunk_id="passage")
    parts = (PassagePart("a", 0, 13, 4), PassagePart("b", 14, 27, 5), PassagePart("c", 28, 40, 6))
    spans = [AnswerSpan("passage", *span) for span in ((0, 13), (14, 27), (22, 36), (13, 20), (28, 40))]
    citations, num_dropped = cite(spans, [HitLike(passage, 1, parts)], {"d": document}.__getitem__)
    found = [(citation.chunk_id, citation.page) for citation in citations]
    assert found == [("a", 4), ("b", 5), ("b", 5), ("a", 4), ("c", 6)]
    assert num_dropped == 0


def test_citations_keep_the_order_of_the_evidence():
    document = "one two three four"
    hits = [
        HitLike(chunk_of(document, 0, 7, chunk_id="a"), 1),
        HitLike(chunk_of(document, 8, 18, chunk_id="b"), 2),
    ]
    spans = [AnswerSpan("b", 6, 10), AnswerSpan("a", 4, 7), AnswerSpan("b", 6, 10)]
    citations, num_dropped = cite(spans, hits, lambda _: document)
    assert [(citation.mark, citation.quote) for citation in citations] == [(2, "four"), (1, "two")]
    assert num_dropped == 0


def test_a_citation_names_the_lines_of_its_quote_where_the_chunk_has_lines():
    document = "one\ntwo\nthree is\nfour\nfive"
    chunk = chunk_of(document, 4, len(document))
    spans = [AnswerSpan("c", 4, 17), AnswerSpan("c", 0, 3)]  # "three is\nfour", "two"

    def lines(chunk: Chunk) -> list:
        citations, _ = cite(spans, [HitLike(chunk, 1)], {"d": document}.__getitem__)
        return [citation.lines for citation in citations]

    assert lines(chunk) == [None, None]
    assert lines(replace(chunk, lines=LineRange(2, 5))) == [(3, 4), (2, 2)]
