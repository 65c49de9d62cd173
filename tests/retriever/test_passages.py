"""Longer passages are the document's own text, whichever chunks they are made of."""

from __future__ import annotations

from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import settings as examples
from hypothesis import strategies as st

from indexer.types import Box, Chunk, Filters, LineRange
from retriever.passages import expand
from retriever.settings import RetrievalSettings
from retriever.types import Hit

PATHS = [("A",), ("A", "x"), ("A", "x"), ("A", "y"), ("B",), ("B",), ("B", "z"), ("C",), ("C",), ("C",)]


class Documents:
    """Two documents of ten chunks with the headings of PATHS; pages of three chunks."""

    def __init__(self, separators=("\n\n",)):
        self.texts, self.chunks = {}, {}
        for document in ("d", "e"):
            text, chunks = "", []
            for i, path in enumerate(PATHS):
                words = f"{document}{i} " + "word " * i
                start, page = len(text), 1 + i // 3
                end = start + len(words.strip())
                text += words.strip() + separators[i % len(separators)]
                kind = "code" if i == 5 else "text"
                box = Box(page, i, 0, i + 1, 1)
                chunks.append(
                    Chunk(
                        f"{document}{i}",
                        document,
                        f"/{document}",
                        text[start:end],
                        start,
                        end,
                        page,
                        (box,),
                        path,
                        kind,
                        lines=LineRange(10 * i + 1, 10 * i + 9),
                    )
                )
            self.texts[document], self.chunks[document] = text, chunks

    def around(self, chunk_id, before, after):
        for chunks in self.chunks.values():
            for at, chunk in enumerate(chunks):
                if chunk.id == chunk_id:
                    return chunks[max(at - before, 0) : at + after + 1]
        return []

    def document_text(self, document_id):
        return self.texts[document_id]

    def hits(self, *ids):
        chunks = {chunk.id: chunk for document in self.chunks.values() for chunk in document}
        return [Hit(chunks[id_], 1 / rank, rank) for rank, id_ in enumerate(ids, start=1)]


def expanded(documents, ids, *, filters=None, **settings):
    return expand(documents, documents.hits(*ids), RetrievalSettings(**settings), filters)


def covered(hit):
    return [part.chunk_id for part in hit.parts] or [hit.chunk.id]


@pytest.fixture
def documents():
    return Documents()


# --- neighbours


def test_a_hit_is_returned_with_the_chunks_before_and_after_it(documents):
    (hit,), ((explained),) = expanded(documents, ["d4"], neighbours=1)
    assert covered(hit) == ["d3", "d4", "d5"]
    assert hit.chunk.text == documents.texts["d"][hit.chunk.start : hit.chunk.end]
    assert (hit.rank, hit.score, hit.chunk.uri) == (1, 1.0, "/d")
    assert (hit.chunk.page, [box.page for box in hit.chunk.boxes]) == (2, [2, 2, 2])
    assert (hit.chunk.kind, hit.chunk.heading_path) == ("text", ())
    assert hit.chunk.lines == (31, 59)
    assert [part.page for part in hit.parts] == [2, 2, 2]
    assert explained == {"rank": 1, "how": "neighbours", "chunks": 3, "hits": [1]}


def test_the_passage_ends_where_the_document_does(documents):
    hits, _ = expanded(documents, ["d0", "e9"], neighbours=2)
    assert [covered(hit) for hit in hits] == [["d0", "d1", "d2"], ["e7", "e8", "e9"]]
    assert hits[0].chunk.heading_path == ("A",)


def test_hits_whose_passages_share_a_chunk_become_one_at_the_better_rank(documents):
    hits, explained = expanded(documents, ["d7", "e1", "d5", "d2"], neighbours=1)
    assert [covered(hit) for hit in hits] == [
        ["d4", "d5", "d6", "d7", "d8"],
        ["e0", "e1", "e2"],
        ["d1", "d2", "d3"],
    ]
    assert [hit.rank for hit in hits] == [1, 2, 3]
    assert [hit.score for hit in hits] == [1, 1 / 2, 1 / 4]
    assert explained[0]["hits"] == [1, 3]


def test_a_hit_between_two_others_joins_all_three(documents):
    (hit,), _ = expanded(documents, ["d1", "d5", "d3"], neighbours=1)
    assert covered(hit) == [f"d{i}" for i in range(7)]


def test_what_the_filters_exclude_does_not_come_in_as_a_neighbour(documents):
    (hit,), _ = expanded(documents, ["d4"], neighbours=2, filters=Filters(kinds=frozenset({"text"})))
    assert covered(hit) == ["d2", "d3", "d4"]


def test_a_hit_whose_chunk_is_gone_stays_as_it_is(documents):
    (hit,) = documents.hits("d4")
    gone = replace(hit, chunk=replace(hit.chunk, id="gone"))
    assert expand(documents, [gone], RetrievalSettings(neighbours=1, section_min_hits=2), None) == (
        (gone,),
        [],
    )


# --- sections


def test_the_section_of_several_hits_is_returned_in_place_of_them(documents):
    hits, explained = expanded(documents, ["d9", "e1", "d7"], section_min_hits=2)
    assert [covered(hit) for hit in hits] == [["d7", "d8", "d9"], ["e1"]]
    assert hits[0].chunk.heading_path == ("C",)
    assert explained == [{"rank": 1, "how": "section", "chunks": 3, "hits": [1, 3]}]
    assert hits[1].parts == ()


def test_the_deepest_section_that_holds_enough_hits_is_taken(documents):
    (hit,), _ = expanded(documents, ["d1", "d2"], section_min_hits=2)
    assert covered(hit) == ["d1", "d2"]
    (hit,), _ = expanded(documents, ["d1", "d3"], section_min_hits=2)
    assert covered(hit) == ["d0", "d1", "d2", "d3"]


def test_a_section_that_is_too_long_is_not_returned(documents):
    length = documents.chunks["d"][9].end - documents.chunks["d"][7].start
    fitting, _ = expanded(documents, ["d9", "d7"], section_min_hits=2, section_max_chars=length)
    assert [covered(hit) for hit in fitting] == [["d7", "d8", "d9"]]
    kept, explained = expanded(documents, ["d9", "d7"], section_min_hits=2, section_max_chars=length - 1)
    assert ([covered(hit) for hit in kept], explained) == ([["d9"], ["d7"]], [])


def test_a_section_is_not_expanded_further_but_single_hits_are(documents):
    hits, _ = expanded(documents, ["d9", "d8", "e3"], section_min_hits=2, neighbours=1)
    assert [covered(hit) for hit in hits] == [["d7", "d8", "d9"], ["e2", "e3", "e4"]]


# --- both


@examples(max_examples=60, deadline=None)
@given(
    ids=st.lists(st.sampled_from([f"{d}{i}" for d in "de" for i in range(10)]), unique=True, max_size=8),
    separators=st.lists(st.sampled_from(["\n\n", " ", "\n | \n", ""]), min_size=1, max_size=4),
    neighbours=st.integers(0, 3),
    section_min_hits=st.sampled_from([None, 2, 3]),
    section_max_chars=st.integers(1, 300),
    kinds=st.sampled_from([None, frozenset({"text"}), frozenset({"text", "code"})]),
)
def test_passages_are_verbatim_share_nothing_and_hold_every_hit_once(
    ids, separators, neighbours, section_min_hits, section_max_chars, kinds
):
    documents = Documents(separators)
    filters = Filters(kinds=kinds)
    hits = [hit for hit in documents.hits(*ids) if kinds is None or hit.chunk.kind in kinds]
    settings = RetrievalSettings(
        neighbours=neighbours, section_min_hits=section_min_hits, section_max_chars=section_max_chars
    )
    found, explained = expand(documents, hits, settings, filters)
    again, _ = expand(documents, hits, settings, filters)
    assert found == again
    for hit in found:
        chunk, text = hit.chunk, documents.texts[hit.chunk.document_id]
        assert text[chunk.start : chunk.end] == chunk.text
        for part in hit.parts:
            assert chunk.start <= part.start < part.end <= chunk.end
    whole = [id_ for hit in found for id_ in covered(hit)]
    assert len(set(whole)) == len(whole)
    assert {hit.chunk.id for hit in hits} <= set(whole)
    assert len({hit.chunk.id for hit in found}) == len(found) <= len(hits)
    assert [hit.rank for hit in found] == list(range(1, len(found) + 1))
    assert [hit.score for hit in found] == sorted((hit.score for hit in found), reverse=True)
    if kinds == {"text"}:
        assert not {"d5", "e5"} & set(whole)
    assert sum(len(one["hits"]) for one in explained) + sum(not hit.parts for hit in found) == len(hits)
