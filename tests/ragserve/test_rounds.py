"""Answers in rounds: what a draft finds, when it ends, what a client sees, and that prefetching changes
nothing."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Iterator

import pytest
from asgi_client import AsgiClient
from fastapi.testclient import TestClient
from hypothesis import given, settings
from hypothesis import strategies as st
from ragserve_fakes import HashingEmbedder

from generator.cancellation import Cancellation
from generator.types import AnswerSpan, GroundedAnswer, TokenEvent, Usage
from indexer.lazy import Lazy
from indexer.types import Filters
from ragserve import Pipeline, RetrievalEvent, Settings
from ragserve import TokenEvent as AnswerToken
from ragserve.answering import Answerer, final_answer
from ragserve.errors import InvalidRounds
from ragserve.rounds import MAX_ROUNDS, IterativeAnswerer
from ragserve.server import create_app
from retriever.read_ahead import ReadAhead

DOCUMENTS = {
    "bridge": "Mara Ellison designed the Lantern bridge across the river.",
    "ellison": "Mara Ellison grew up in Tarrow, a village of weavers.",
    "tarrow": "Tarrow, a village of weavers, lies beside the Moss lake.",
    "garden": "The garden has forty apple trees and a pond.",
    "heron": "Herons nest by the pond every spring.",
    "tolls": "Crossing costs two crowns on weekdays.",
}
QUESTION = "Who designed the Lantern bridge across the river?"


class Scripted:
    """Gives the answers of a script, one a call. What begins like a passage cites it, anything else knows no
    answer."""

    def __init__(self, *script: str) -> None:
        self.script = list(script)
        self.read: list[list[str]] = []  # the passages of every call
        self.num_closed = 0
        self.before_token = lambda: None

    def answer_stream(self, question, passages, **options) -> Iterator[TokenEvent | GroundedAnswer]:
        text = self.script[len(self.read) % len(self.script)]
        self.read.append([passage for _, passage in passages])
        try:
            yield from self._say(text, passages)
        finally:
            self.num_closed += 1

    def _say(self, text, passages):
        cited = [n for n, (_, passage) in enumerate(passages, start=1) if text.startswith(passage[:12])]
        said = f"{text} [{cited[0]}]" if cited else text
        for number, word in enumerate(said.split(" ")):
            self.before_token()
            yield TokenEvent(f" {word}" if number else word)
        spans = tuple(AnswerSpan(passages[mark - 1][0], 0, 5) for mark in cited[:1])
        yield GroundedAnswer(said, bool(cited), 0.9, spans, (), Usage(10, 3))


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    folder = tmp_path_factory.mktemp("rounds")
    corpus = folder / "corpus"
    corpus.mkdir()
    for name, text in DOCUMENTS.items():
        (corpus / f"{name}.txt").write_text(text)
    with Pipeline.open(folder / ".ragserve", embedder=HashingEmbedder()) as pipeline:
        pipeline.ingest([corpus], jobs=1)
    return folder / ".ragserve"


@pytest.fixture
def generator():
    return Scripted(f"{DOCUMENTS['bridge']} Mara Ellison grew up elsewhere.", DOCUMENTS["ellison"])


@pytest.fixture
def pipeline(folder, generator):
    with Pipeline.open(
        folder, settings=Settings(k=2), embedder=HashingEmbedder(), generator=generator
    ) as opened:
        yield opened


def names(result) -> list[str]:
    return [hit.chunk.uri.rpartition("/")[2].removesuffix(".txt") for hit in result.hits]


def texts(result) -> list[str]:
    return [hit.chunk.text for hit in result.hits]


# --- what is found


def test_a_draft_finds_what_the_question_alone_does_not(pipeline, generator):
    assert "ellison" not in names(pipeline.search(QUESTION))
    answer = pipeline.ask(QUESTION, rounds=2)
    assert sorted(names(answer)) == ["bridge", "ellison"]
    assert generator.read[1] == texts(answer)
    assert answer.text.startswith("Mara Ellison grew up in Tarrow")
    assert answer.supported
    [further] = answer.retrieval.explanation["rounds"]
    assert further["query"] == f"{QUESTION} {DOCUMENTS['bridge']} Mara Ellison grew up elsewhere."
    assert further["new_chunks"] == 1


def test_rounds_end_where_nothing_new_is_found_and_the_draft_is_the_answer(pipeline, generator):
    answer = pipeline.ask(QUESTION, k=6, rounds=4)
    assert len(generator.read) == 1
    assert answer.text.endswith("elsewhere. [1]")
    assert [further["new_chunks"] for further in answer.retrieval.explanation["rounds"]] == [0]
    assert answer.hits == pipeline.search(QUESTION, k=6).hits


def test_a_draft_that_knows_no_answer_is_followed_by_what_lies_around_what_was_near(pipeline, generator):
    generator.script = ["No idea."]
    answer = pipeline.ask(QUESTION, rounds=2)
    assert not answer.supported
    [further] = answer.retrieval.explanation["rounds"]
    assert further["query"] == f"{QUESTION} {DOCUMENTS['bridge']}"


def test_what_a_draft_cites_stays_whatever_is_found_later(pipeline, generator):
    generator.script = [f"{DOCUMENTS['bridge']} {DOCUMENTS['garden']} {DOCUMENTS['heron']}"] * 3
    answer = pipeline.ask(QUESTION, k=1, rounds=4)
    assert names(answer) == ["bridge"]
    assert answer.supported


def test_without_any_passage_nothing_is_generated(pipeline, generator):
    answer = pipeline.ask(QUESTION, rounds=3, filters=Filters(path_glob="/nowhere/*"))
    assert not answer.supported
    assert generator.read == []


def test_many_questions_at_once_get_the_answers_that_each_gets_alone(pipeline, generator):
    together = pipeline.ask_batch([QUESTION, QUESTION], rounds=2)
    assert len(generator.read) == 4
    assert [answer.text for answer in together] == [pipeline.ask(QUESTION, rounds=2).text] * 2


@pytest.mark.parametrize("rounds", [0, -1, MAX_ROUNDS + 1, 1.5, True, "2"])
def test_rounds_are_a_few(pipeline, rounds):
    for ask in (pipeline.ask, pipeline.ask_stream):
        with pytest.raises(InvalidRounds, match=r"Use a whole number from 1 to 4\."):
            ask(QUESTION, rounds=rounds)
    with pytest.raises(InvalidRounds):
        pipeline.ask_batch([QUESTION], rounds=rounds)


# --- what is told of it


def test_a_stream_has_a_retrieval_for_every_list_that_is_read_then_the_last_answer_alone(pipeline, generator):
    events = list(pipeline.ask_stream(QUESTION, rounds=2))
    retrievals = [event for event in events if isinstance(event, RetrievalEvent)]
    tokens = [event for event in events if isinstance(event, AnswerToken)]
    final = events[-1]
    assert events == [*retrievals, *tokens, final]
    assert [texts(event.result) for event in retrievals] == generator.read
    assert "".join(token.text for token in tokens) == final.answer.text
    assert final.answer.retrieval is retrievals[-1].result


def test_time_and_tokens_are_those_of_all_rounds(pipeline):
    for k in (2, 6):  # the second ends with its draft
        answer = pipeline.ask(QUESTION, k=k, rounds=2)
        seconds = answer.timings
        parts = ("retrieval", "queue", "load", "generation")
        assert seconds["total"] == pytest.approx(sum(seconds[part] for part in parts))
        assert 0 < seconds["first_token"] <= seconds["generation"]
        assert answer.usage == (Usage(20, 6) if k == 2 else Usage(10, 3))


@pytest.mark.parametrize("num_events", [1, 2, 4])
def test_an_abandoned_stream_stops_the_generator(pipeline, generator, num_events):
    events = pipeline.ask_stream(QUESTION, rounds=2)
    for _ in range(num_events):
        next(events)
    events.close()
    assert generator.num_closed == len(generator.read)


def test_a_draft_that_nobody_waits_for_any_more_is_not_finished(pipeline, generator):
    cancellation, said = Cancellation(), []
    generator.before_token = lambda: said.append(1) or cancellation.cancel()
    result = pipeline.search(QUESTION)
    further = pipeline.further_rounds(2)
    assert list(pipeline.answer_stream(QUESTION, result, further=further, cancellation=cancellation)) == []
    assert len(said) == generator.num_closed == 1


# --- over HTTP


def test_rounds_over_http_are_those_of_the_pipeline(pipeline, generator):
    with TestClient(create_app(pipeline)) as client:
        client.post("/search", json={"query": "wait until ready"})
        generator.read.clear()
        document = client.post("/ask", json={"question": QUESTION, "rounds": 2}).json()
        assert document["answer"].startswith("Mara Ellison grew up in Tarrow")
        assert len(document["retrieval"]["explanation"]["rounds"]) == 1
        for rounds, code in [(0, "invalid-rounds"), (5, "invalid-rounds"), ("2", "invalid-request")]:
            response = client.post("/ask", json={"question": QUESTION, "rounds": rounds})
            assert (response.status_code, response.json()["error"]["code"]) == (422, code)


def test_rounds_over_http_stream_their_retrievals_and_search_through_the_batcher(pipeline, monkeypatch):
    pipeline.warm_up()
    app = create_app(pipeline)
    client = AsgiClient(app, "/ask", {"question": QUESTION, "rounds": 2, "stream": True})
    asyncio.run(client.ask())
    kinds = [name for name, _ in client.events]
    assert kinds[:2] == ["retrieval"] * 2
    assert kinds[-1] == "final"
    assert set(kinds[2:-1]) == {"token"}
    batcher = app.state.service._batcher.result()
    assert batcher.stats().searched >= 2
    app.state.service.close()


# --- prefetching


SENTENCES = st.lists(st.sampled_from([*DOCUMENTS.values(), "No idea.", "Perhaps"]), min_size=1, max_size=3)


def iterative(pipeline, generator, *, prefetch: bool, read) -> IterativeAnswerer:
    text_of = pipeline.index.document_text
    answerer = Answerer(Lazy(lambda: generator), text_of, max_new_tokens=None)
    return IterativeAnswerer(answerer, ReadAhead(read), prefetch=prefetch)


@settings(max_examples=20)
@given(st.lists(SENTENCES.map(" ".join), min_size=4, max_size=4), st.integers(1, 3), st.integers(2, 4))
def test_prefetching_changes_neither_hits_nor_answers(folder, drafts, k, rounds):
    answers = []
    for prefetch in (True, False):
        generator = Scripted(*drafts)
        with Pipeline.open(folder, embedder=HashingEmbedder(), generator=generator) as pipeline:
            answering = iterative(pipeline, generator, prefetch=prefetch, read=pipeline.retriever.read_ahead)
            further = pipeline.further_rounds(rounds, k=k)
            result = pipeline.search(QUESTION, k=k)
            answer = final_answer(answering.events(QUESTION, result, further=further, retrieval_seconds=0.0))
            queries = [one["query"] for one in answer.retrieval.explanation["rounds"]]
            answers.append((answer.text, answer.hits, answer.citations, queries, generator.read))
    assert answers[0] == answers[1]


@pytest.mark.parametrize("more", ["", " and so on" * 60])
def test_what_a_draft_leads_to_is_searched_for_while_it_is_written(pipeline, generator, monkeypatch, more):
    generator.script[0] += more
    searched, asked = [], threading.Event()
    search_batch = pipeline.retriever.search_batch

    def search(queries, **options):
        found = search_batch(queries, **options)
        searched.extend(queries)
        if any("elsewhere." in query for query in queries):
            asked.set()
        return found

    monkeypatch.setattr(pipeline.retriever, "search_batch", search)
    said = []

    def before_token():
        said.append(1)
        if len(generator.read) == 1 and len(said) == len(generator.script[0].split()) + 1:
            assert asked.wait(120)  # the draft is written but for its mark

    generator.before_token = before_token
    answer = pipeline.ask(QUESTION, rounds=2)
    [further] = answer.retrieval.explanation["rounds"]
    assert searched.count(further["query"]) == 1


@pytest.mark.parametrize("prefetch", [True, False])
def test_the_disk_is_read_while_a_draft_is_written_and_only_then(pipeline, generator, prefetch):
    reading, read = threading.Event(), []

    def read_ahead(query, max_bytes, *, stopped):
        read.append((query, len(generator.read)))
        reading.set()
        return 0

    generator.before_token = lambda: reading.wait(120) if prefetch else None
    answering = iterative(pipeline, generator, prefetch=prefetch, read=read_ahead)
    result, further = pipeline.search(QUESTION), pipeline.further_rounds(2)
    answer = final_answer(answering.events(QUESTION, result, further=further, retrieval_seconds=0.0))
    assert len(generator.read) == 2
    assert [query for query, _ in read] == ([QUESTION] if prefetch else [])
    assert all(drafts <= 1 for _, drafts in read)
    assert answer.supported


def test_while_a_draft_is_written_the_disk_is_read_near_what_is_written_so_far(pipeline, generator):
    generator.script[0] = f"{DOCUMENTS['bridge']} She drew it. Twice"
    read, begun = [], threading.Semaphore(0)

    def read_ahead(query, max_bytes, *, stopped):
        read.append(query)
        begun.release()
        return 1

    def before_token():
        said.append(1)
        if len(said) in (1, *sentence_ends):  # at first, and after the word that follows a sentence
            assert begun.acquire(timeout=120)

    said: list[int] = []
    first, second = len(DOCUMENTS["bridge"].split()), len(f"{DOCUMENTS['bridge']} She drew it.".split())
    sentence_ends = (first + 2, second + 2)
    generator.before_token = before_token
    answering = iterative(pipeline, generator, prefetch=True, read=read_ahead)
    result, further = pipeline.search(QUESTION), pipeline.further_rounds(2)
    final_answer(answering.events(QUESTION, result, further=further, retrieval_seconds=0.0))
    bridge = f"{QUESTION} {DOCUMENTS['bridge']}"
    assert read == [QUESTION, bridge, f"{bridge} She drew it."]
