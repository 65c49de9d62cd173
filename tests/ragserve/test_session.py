"""One person's questions: what comes next is there already, over Python, the shell and HTTP; nothing else
changes."""

from __future__ import annotations

import threading
import time
from dataclasses import replace

import pytest
import torch
from fastapi.testclient import TestClient

from ragserve import Pipeline, RetrievalEvent, Session, Settings
from ragserve.errors import EmptyQuestion, InvalidK
from ragserve.server import create_app
from ragserve.server.sessions import Sessions
from retriever.errors import RetrieverClosed

PATIENCE = 120
FIRST, SECOND, THIRD = "Who designed the bridge?", "What does crossing cost?", "Which trees has the garden?"
BOTH = "Who designed the bridge and what does crossing cost?"


@pytest.fixture
def searched(pipeline, monkeypatch):
    """The queries of every search, with the name of the thread that made it."""
    calls: list[tuple[str, str]] = []
    search_batch = pipeline.retriever.search_batch

    def search(queries, **options):
        calls.extend((query, threading.current_thread().name) for query in queries)
        return search_batch(queries, **options)

    monkeypatch.setattr(pipeline.retriever, "search_batch", search)
    return calls


@pytest.fixture
def session(pipeline, searched):
    with pipeline.session() as session:
        yield session


def ahead(searched) -> list[str]:
    return [query for query, thread in searched if thread == "retriever-lookahead"]


def hits_of(result) -> list[tuple[str, float]]:
    return [(hit.chunk.id, hit.score) for hit in result.hits]


def test_questions_that_are_expected_are_retrieved_ahead_and_answered_the_same(pipeline, session, searched):
    session.expect([FIRST, SECOND])
    assert session.wait_until_idle(PATIENCE)
    assert ahead(searched) == [FIRST, SECOND]
    answer, found = session.ask(FIRST), session.search(SECOND)
    assert not [query for query, thread in searched if thread != "retriever-lookahead"]
    assert (answer.text, hits_of(answer)) == (pipeline.ask(FIRST).text, hits_of(pipeline.search(FIRST)))
    assert hits_of(found) == hits_of(pipeline.search(SECOND))
    assert session.stats().used == 2


def test_an_answer_is_streamed_while_the_next_question_is_looked_for(session, searched, generator):
    retrieved = threading.Event()

    def before_token():  # the answer goes on only once the next question was looked for
        assert session.wait_until_idle(PATIENCE)
        if SECOND in ahead(searched):
            retrieved.set()

    generator.before_token = before_token
    session.expect([FIRST, SECOND], k=2)
    events = list(session.ask_stream(FIRST, k=2))
    assert isinstance(events[0], RetrievalEvent)
    assert events[-1].answer.supported
    assert retrieved.is_set()


def test_beside_an_answer_made_on_the_cpu_nothing_is_looked_for_until_it_is_there(
    session, searched, generator
):
    generator.device = torch.device("cpu")
    session.ask(THIRD)  # where a generator computes shows when it is there
    assert session.wait_until_idle(PATIENCE)
    searched.clear()
    meanwhile = []

    def before_token():
        assert session.wait_until_idle(PATIENCE)
        meanwhile.extend(ahead(searched))

    generator.before_token = before_token
    assert session.ask(BOTH).supported
    assert session.wait_until_idle(PATIENCE)
    assert meanwhile == []
    assert FIRST in ahead(searched)


def test_the_parts_of_a_question_are_expected_after_it(session, searched):
    session.search(BOTH)
    assert session.wait_until_idle(PATIENCE)
    assert {"Who designed the bridge?", "what does crossing cost?"} <= set(ahead(searched))


def test_what_is_typed_is_looked_for_and_so_are_past_questions_that_begin_so(session, searched):
    session.search(FIRST)
    assert session.wait_until_idle(PATIENCE)
    searched.clear()
    session.typing("who  des")
    assert session.wait_until_idle(PATIENCE)
    assert ahead(searched)[:2] == [FIRST, "who des"]
    assert session.suggestions()[0] == FIRST
    session.typing("x" * 100_000)  # a text that is no question yet is none to look for
    assert session.wait_until_idle(PATIENCE)


def test_headings_near_the_last_hits_are_suggested_and_looked_for(session, searched):
    session.search("Mara Ellison Lantern bridge")
    assert session.wait_until_idle(PATIENCE)
    suggestions = session.suggestions()
    assert suggestions
    assert suggestions[0] in ahead(searched)


def test_without_guesses_only_what_is_expected_is_looked_for(pipeline, searched):
    with pipeline.session(guesses=False) as session:
        session.search(BOTH)
        session.typing("who designed")
        session.expect([FIRST])
        assert session.wait_until_idle(PATIENCE)
        assert ahead(searched) == [FIRST]
        assert session.suggestions() == []


def test_what_is_no_question_is_refused_like_by_the_pipeline(session):
    for call in (session.search, session.ask, lambda query: session.expect([query])):
        with pytest.raises(EmptyQuestion):
            call(" ")
    with pytest.raises(InvalidK):
        session.search(FIRST, k=0)


def test_further_rounds_work_in_a_session(pipeline, session):
    assert session.ask(FIRST, rounds=2).text == pipeline.ask(FIRST, rounds=2).text


# --- over HTTP


@pytest.fixture
def client(pipeline, searched):
    with TestClient(create_app(pipeline)) as opened:
        opened.post("/search", json={"query": "wait until ready"})
        searched.clear()
        yield opened


def wait_until_idle(client, name: str) -> None:
    assert client.app.state.service._sessions.named(name).wait_until_idle(PATIENCE)


def test_what_a_client_expects_is_there_when_it_asks(client, searched):
    response = client.post("/expect", json={"session": "s", "queries": [FIRST, SECOND], "k": 2})
    assert (response.status_code, response.json()) == (202, {"suggestions": []})
    wait_until_idle(client, "s")
    assert sorted(query for query, _ in searched) == sorted([FIRST, SECOND])
    body = {"session": "s", "k": 2}
    with_session = client.post("/search", json={"query": FIRST, **body}).json()
    answer = client.post("/ask", json={"question": SECOND, **body}).json()
    assert (
        [query for query, _ in searched].count(FIRST) == [query for query, _ in searched].count(SECOND) == 1
    )
    plain = client.post("/search", json={"query": FIRST, "k": 2}).json()
    assert with_session["hits"] == plain["hits"]
    assert answer["supported"]
    assert client.app.state.service._sessions.named("s").stats().used == 2


def test_a_client_whose_answer_is_made_on_the_cpu_waits_for_nothing_else(client, searched, generator):
    generator.device = torch.device("cpu")
    client.post("/ask", json={"question": THIRD})
    meanwhile = []

    def before_token():
        wait_until_idle(client, "s")
        meanwhile.extend(query for query, _ in searched)

    generator.before_token = before_token
    assert client.post("/ask", json={"question": BOTH, "session": "s"}).json()["supported"]
    for _ in range(PATIENCE * 100):  # it begins when the client has its answer
        if FIRST in [query for query, _ in searched]:
            break
        time.sleep(0.01)
    assert FIRST in [query for query, _ in searched]
    assert BOTH in meanwhile
    assert FIRST not in meanwhile


def test_an_answer_opens_no_session_again_that_was_closed_meanwhile(client, generator):
    generator.device = torch.device("cpu")
    client.post("/ask", json={"question": THIRD})
    sessions = client.app.state.service._sessions

    def before_token():
        for number in range(32):  # as many as are kept
            sessions.named(str(number))

    generator.before_token = before_token
    with client.stream("POST", "/ask", json={"question": FIRST, "session": "s", "stream": True}) as answer:
        assert "event: final" in answer.read().decode()
    assert sessions.find("s") is None
    assert sessions.find("31") is not None


def test_typing_brings_suggestions_of_the_session_and_of_no_other(client):
    client.post("/search", json={"query": FIRST, "session": "mine"})
    mine, other = (
        client.post("/expect", json={"session": name, "typed": "Who des"}).json()
        for name in ("mine", "other")
    )
    assert FIRST in mine["suggestions"]
    assert other["suggestions"] == []


@pytest.mark.parametrize(
    ("body", "code"),
    [
        ({}, "invalid-request"),
        ({"session": ""}, "invalid-request"),
        ({"session": "s" * 65}, "invalid-request"),
        ({"session": "s", "queries": ["x"] * 33}, "invalid-request"),
        ({"session": "s", "queries": [" "]}, "empty-question"),
        ({"session": "s", "queries": ["x" * 10_001]}, "question-too-long"),
        ({"session": "s", "k": 0}, "invalid-k"),
        ({"session": "s", "k": 1000}, "invalid-k"),
    ],
)
def test_what_cannot_be_expected_is_refused(client, body, code):
    response = client.post("/expect", json=body)
    assert (response.status_code, response.json()["error"]["code"]) == (422, code)


def test_sessions_are_a_few_and_leave_no_thread(pipeline):
    before = set(threading.enumerate())
    opened: list[Session] = []

    def open_session():
        opened.append(pipeline.session())
        return opened[-1]

    sessions = Sessions(open_session, max_sessions=2)
    for name in ("a", "b", "a", "c"):  # "b" was used least lately
        sessions.named(name).search(FIRST)
    assert len(sessions) == 2
    with pytest.raises(RetrieverClosed):
        opened[1].search(FIRST)
    assert sessions.named("a") is opened[0]
    sessions.close()
    with pytest.raises(RetrieverClosed):
        sessions.named("d").search(FIRST)
    assert len(sessions) == 0
    assert {thread for thread in threading.enumerate() if thread.name == "retriever-lookahead"} <= before


@pytest.mark.parametrize("on_cpu", [True, False])
def test_an_answer_comes_to_its_end_when_its_session_is_closed_meanwhile(
    pipeline, session, monkeypatch, on_cpu
):
    monkeypatch.setattr(type(pipeline), "generates_on_cpu", property(lambda _: on_cpu))
    events = session.ask_stream(FIRST)
    assert isinstance(next(events), RetrievalEvent)
    session.close()
    *_, final = events
    assert final.answer.text == pipeline.ask(FIRST).text


@pytest.mark.parametrize("most", [0, 1])
def test_a_server_keeps_as_many_sessions_as_its_settings_say(index, embedder, generator, most):
    settings = replace(Settings(), server=replace(Settings().server, max_sessions=most))
    opened = Pipeline.open(index, settings=settings, embedder=embedder, generator=generator)
    with opened as pipeline, TestClient(create_app(pipeline)) as client:
        found = [
            client.post("/search", json={"query": FIRST} | more).json()["hits"]
            for more in ({}, {"session": "a"}, {"session": "b"})
        ]
        assert found[0] == found[1] == found[2]
        assert len(client.app.state.service._sessions) == most


def test_a_session_that_was_closed_under_a_request_costs_it_nothing_but_what_was_prepared(client):
    service = client.app.state.service
    service._sessions.named("s").close()
    hits = client.post("/search", json={"query": FIRST, "session": "s"}).json()["hits"]
    assert hits == client.post("/search", json={"query": FIRST}).json()["hits"]
    assert client.post("/expect", json={"session": "s", "typed": "who"}).json() == {"suggestions": []}


def test_what_is_searched_together_and_ahead_is_counted(client):
    client.post("/expect", json={"session": "s", "queries": [FIRST]})
    wait_until_idle(client, "s")
    lines = client.get("/metrics").text.splitlines()
    figures = dict(line.removeprefix("ragserve_").split() for line in lines if not line.startswith("#"))
    assert figures["sessions"] == "1"
    assert int(figures["searches_total"]) >= int(figures["search_batches_total"]) >= 2
    assert figures["searches_waiting"] == figures["searches_shared_total"] == "0"
