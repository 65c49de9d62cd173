"""The application by itself, without a socket."""

from __future__ import annotations

import asyncio
import dataclasses
import json
import re
import threading
import time
from types import SimpleNamespace

import pytest
from asgi_client import AsgiClient
from fastapi.testclient import TestClient
from ragserve_fakes import BestLineGenerator

from generator.errors import NonFiniteLogits
from ragserve import Pipeline, ServerSettings, Settings
from ragserve.server import create_app
from ragserve.server.middleware import BodyLimit, HostGuard
from ragserve.server.run import Listener, bind, known_hosts
from ragserve.server.schemas import AskResponse, ErrorResponse, SearchResponse

QUESTION = "Who designed the Lantern bridge?"


@pytest.fixture
def client(pipeline):
    with TestClient(create_app(pipeline)) as opened:
        yield opened


def server_events(response):
    blocks = [block for block in response.text.split("\n\n") if block and not block.startswith(":")]
    pattern = re.compile(r"event: (\w+)\ndata: (.*)")
    return [(match[1], json.loads(match[2])) for match in map(pattern.fullmatch, blocks)]


def error_of(response):
    document = response.json()
    ErrorResponse.model_validate(document)
    assert set(document) == {"error"}
    assert set(document["error"]) == {"code", "message", "hint"}
    assert document["error"]["message"].endswith(".")
    return document["error"]


# --- answers


def test_ask_answers_with_the_documented_names(client, corpus):
    document = client.post("/ask", json={"question": QUESTION}).json()
    assert set(document) == set(AskResponse.model_fields)
    AskResponse.model_validate(document, extra="forbid")
    assert "Mara Ellison" in document["answer"]
    assert document["supported"] is True
    (citation,) = document["citations"]
    assert citation["quote"] in (corpus / "bridge.md").read_text()
    assert document["hits"][citation["mark"] - 1]["chunk"]["id"] == citation["chunk_id"]


def test_search_finds_with_the_documented_names(client):
    document = client.post("/search", json={"query": "apple trees", "k": 2}).json()
    SearchResponse.model_validate(document, extra="forbid")
    assert [hit["rank"] for hit in document["hits"]] == [1, 2]
    assert "apple" in document["hits"][0]["chunk"]["text"]


def test_a_stream_is_one_retrieval_then_tokens_then_the_final_answer(client):
    response = client.post("/ask", json={"question": QUESTION, "stream": True})
    assert response.headers["content-type"].startswith("text/event-stream")
    assert response.headers["cache-control"] == "no-cache"
    events = server_events(response)
    names = [name for name, _ in events]
    assert names[0] == "retrieval"
    assert names[-1] == "final"
    assert set(names[1:-1]) == {"token"}
    assert SearchResponse.model_validate(events[0][1], extra="forbid").hits
    final = events[-1][1]
    assert "".join(data["text"] for name, data in events if name == "token") == final["answer"]
    plain = client.post("/ask", json={"question": QUESTION, "use_cache": False}).json()
    assert {**final, "timings": 0, "retrieval": 0} == {**plain, "timings": 0, "retrieval": 0}


def test_an_unsupported_answer_still_lists_the_nearest_passages(client):
    document = client.post("/ask", json={"question": "Quidditch?"}).json()
    assert document["supported"] is False
    assert document["citations"] == []
    assert document["hits"]


def test_filters_narrow_what_is_found(client):
    for filters in ({"kinds": ["code"]}, {"path_glob": "*.py"}):
        hits = client.post("/search", json={"query": "tide", "filters": filters}).json()["hits"]
        assert hits
        assert all(hit["chunk"]["uri"].endswith("tide.py") for hit in hits)
    document_id = hits[0]["chunk"]["document_id"]
    filters = {"document_ids": [document_id]}
    hits = client.post("/search", json={"query": "bridge", "filters": filters}).json()["hits"]
    assert {hit["chunk"]["document_id"] for hit in hits} == {document_id}


def test_what_json_has_no_word_for_is_null(client, monkeypatch):
    retriever = client.app.state.service.pipeline.retriever
    search = retriever.search_batch
    explanation = {"bound": float("-inf"), "nested": [{"similarity": float("nan")}], "depth": 3}

    def with_infinity(*args, **options):
        return [dataclasses.replace(result, explanation=explanation) for result in search(*args, **options)]

    monkeypatch.setattr(retriever, "search_batch", with_infinity)
    expected = {"bound": None, "nested": [{"similarity": None}], "depth": 3}
    assert client.post("/search", json={"query": "bridge"}).json()["explanation"] == expected
    events = server_events(client.post("/ask", json={"question": QUESTION, "stream": True}))
    assert events[0][1]["explanation"] == expected


def test_a_question_may_be_called_query_and_the_other_way_round(client):
    assert client.post("/ask", json={"query": QUESTION}).json()["supported"]
    assert client.post("/search", json={"question": QUESTION}).json()["hits"]


def test_more_passages_than_there_are_is_all_of_them(client, pipeline):
    hits = client.post("/search", json={"query": "bridge", "k": 100}).json()["hits"]
    assert len(hits) == pipeline.stats().chunks


def test_lone_surrogates_in_a_question_do_no_harm(client):
    response = client.post("/ask", content=b'{"question": "Who designed the \\ud800 bridge?"}', headers=JSON)
    assert response.status_code == 200
    assert response.json()["question"] == "Who designed the ? bridge?"


def test_every_retrieval_goes_through_the_batcher(pipeline, monkeypatch):
    from ragserve.server import service

    seen = []
    open_batcher = service.open_batcher

    def recording(retriever, settings):
        batcher = open_batcher(retriever, settings)
        submit = batcher.submit
        monkeypatch.setattr(batcher, "submit", lambda query, **_: seen.append(query) or submit(query, **_))
        return batcher

    monkeypatch.setattr(service, "open_batcher", recording)
    with TestClient(create_app(pipeline)) as client:
        client.post("/search", json={"query": "one"})
        client.post("/ask", json={"question": "two"})
        client.post("/ask", json={"question": "three", "stream": True})
    assert seen == ["one", "two", "three"]


# --- requests that are wrong

JSON = {"Content-Type": "application/json"}
WRONG = [
    (b"{}", "invalid-request", "question: Field required."),
    (b'{"question": 3}', "invalid-request", "question: "),
    (b'{"questoin": "x"}', "invalid-request", "questoin is not a field."),
    (b'{"question": "x", "k": "5"}', "invalid-request", "k: "),
    (b'{"question": "x", "k": 1.5}', "invalid-request", "k: "),
    (b'{"question": "x", "filters": {"kinds": ["poem"]}}', "invalid-request", "filters.kinds: "),
    (b'{"question": "x", "filters": {"path": "y"}}', "invalid-request", "filters.path is not a field."),
    (b"{", "invalid-request", "The body is not JSON."),
    (b"\xff\xfe", "invalid-request", "The body"),
    (b'{"question": "\xff"}', "invalid-request", "The body is not JSON."),
    pytest.param(b"[" * 100_000, "invalid-request", "The body is not JSON.", id="brackets"),
    pytest.param(b'{"k": %s}' % (b"5" * 5_000), "invalid-request", "The body is not JSON.", id="digits"),
    (b"[]", "invalid-request", "The body is not a JSON object"),
    (b"", "invalid-request", "The body is not a JSON object"),
    (b'{"question": ""}', "empty-question", "The question is empty."),
    (b'{"question": " \\n "}', "empty-question", "The question is empty."),
    (json.dumps({"question": "x" * 10_001}).encode(), "question-too-long", "10,001 characters"),
    (b'{"question": "x", "k": 0}', "invalid-k", "k is 0"),
    (b'{"question": "x", "k": -1}', "invalid-k", "k is -1"),
    (b'{"question": "x", "k": 101}', "invalid-k", "limit is 100"),
]


@pytest.mark.parametrize(("body", "code", "said"), WRONG)
@pytest.mark.parametrize("path", ["/ask", "/search"])
def test_a_wrong_request_is_a_422_with_cause_and_remedy(client, path, body, code, said):
    response = client.post(path, content=body, headers=JSON)
    if path == "/search" and said == "question: Field required.":
        said = "query: Field required."
    error = error_of(response)
    assert (response.status_code, error["code"]) == (422, code)
    assert said.replace("question: ", "") in error["message"]
    assert error["hint"]


def test_a_misspelt_field_gets_a_suggestion(client):
    error = error_of(client.post("/ask", json={"question": "x", "straem": True}))
    assert error["hint"] == "Did you mean stream?"


def test_a_body_beyond_the_limit_is_a_413_whether_declared_or_not(client):
    big = json.dumps({"question": "x" * 1_000_000}).encode()

    def in_pieces():
        for start in range(0, len(big), 65536):
            yield big[start : start + 65536]

    for content in (big, in_pieces()):
        response = client.post("/ask", content=content, headers=JSON)
        assert (response.status_code, error_of(response)["code"]) == (413, "request-too-large")


class SilentClient(AsgiClient):
    """Sends the first byte of its body, and no other."""

    async def _receive(self):
        if self._sent:
            return await super()._receive()
        self._sent = True
        return {"type": "http.request", "body": self._body[:1], "more_body": True}

    async def _send(self, message):
        if message["type"] == "http.response.start":
            self.headers = dict(message["headers"])
        await super()._send(message)


def test_a_body_that_does_not_come_is_a_408_and_gives_its_place_back(index, embedder, generator):
    settings = Settings(server=ServerSettings(stall_seconds=0.1))
    with Pipeline.open(index, settings=settings, embedder=embedder, generator=generator) as opened:
        app = create_app(opened)
        client = SilentClient(app, "/ask", {"question": QUESTION})
        asyncio.run(asyncio.wait_for(client.ask(), 120))
        assert client.status == 408
        assert json.loads(client.received)["error"]["code"] == "request-too-slow"
        assert client.headers[b"connection"] == b"close"
        assert app.state.service.traffic.num_in_flight == 0


def test_a_client_whose_body_has_come_may_wait_for_its_answer_for_as_long_as_it_takes():
    received = []

    async def application(scope, receive, send):
        received.extend([await receive(), await receive()])

    async def receive():
        if not received:
            received.append("begun")
            return {"type": "http.request", "body": b"whole"}
        await asyncio.sleep(0)  # the time is up already
        return {"type": "http.disconnect"}

    bounded = BodyLimit(application, max_bytes=10, max_seconds=0.0)
    asyncio.run(bounded({"type": "http", "headers": []}, receive, None))
    assert [message["type"] for message in received[1:]] == ["http.request", "http.disconnect"]


def test_unknown_paths_and_methods_have_the_same_form(client):
    assert (client.get("/nowhere").status_code, error_of(client.get("/nowhere"))["code"]) == (
        404,
        "not-found",
    )
    response = client.get("/ask")
    assert (response.status_code, error_of(response)["code"]) == (405, "method-not-allowed")
    assert response.headers["allow"] == "POST"


# --- failures


class FailingGenerator(BestLineGenerator):
    def __init__(self, error):
        super().__init__()
        self.error = error

    def answer_stream(self, question, passages, **options):
        stream = super().answer_stream(question, passages, **options)
        yield next(stream)
        if question != "warm up":
            raise self.error
        yield from stream


@pytest.mark.parametrize(
    ("error", "code"),
    [
        (NonFiniteLogits("The model computed NaN.", hint="Use float32."), "non-finite-logits"),
        (ZeroDivisionError("secret path /home/me"), "internal-error"),
    ],
)
def test_an_answer_that_fails_is_an_error_event_or_a_500(pipeline, error, code):
    failing = Pipeline.open(
        pipeline.index.folder, embedder=pipeline._embedder, generator=FailingGenerator(error)
    )
    with failing, TestClient(create_app(failing), raise_server_exceptions=False) as client:
        events = server_events(client.post("/ask", json={"question": QUESTION, "stream": True}))
        assert [name for name, _ in events] == ["retrieval", "token", "error"]
        assert events[-1][1]["error"]["code"] == code
        response = client.post("/ask", json={"question": QUESTION})
        assert (response.status_code, error_of(response)["code"]) == (500, code)
        assert "secret" not in response.text


def test_what_gets_a_500_is_in_the_log_with_its_cause_and_once(pipeline, caplog):
    damaged = NonFiniteLogits("The model computed NaN.", hint="Use float32.")
    damaged.__cause__ = OSError("bit rot")
    failing = Pipeline.open(
        pipeline.index.folder, embedder=pipeline._embedder, generator=FailingGenerator(damaged)
    )
    with failing, TestClient(create_app(failing)) as client:
        for stream in (True, False):
            caplog.clear()
            client.post("/ask", json={"question": QUESTION, "stream": stream})
            assert [record.name for record in caplog.records if record.exc_info] == ["ragserve.server"]
            assert "The model computed NaN." in caplog.text
            assert "OSError: bit rot" in caplog.text
        caplog.clear()
        assert client.post("/ask", json={"question": ""}).status_code == 422
        assert not [record for record in caplog.records if record.name == "ragserve.server"]


def test_what_uvicorn_logs_is_not_logged_again(pipeline, caplog):
    failing = Pipeline.open(
        pipeline.index.folder, embedder=pipeline._embedder, generator=FailingGenerator(ZeroDivisionError())
    )
    with failing, TestClient(create_app(failing)) as client:
        with pytest.raises(ZeroDivisionError):  # as it would reach uvicorn
            client.post("/ask", json={"question": QUESTION})
        assert not [record for record in caplog.records if record.exc_info]


def test_models_that_cannot_be_loaded_are_an_error_for_whoever_asks(pipeline, monkeypatch):
    def fail():
        raise NonFiniteLogits("The weights are damaged.", hint="Download them again.")

    monkeypatch.setattr(pipeline, "warm_up", fail)
    with TestClient(create_app(pipeline)) as client:
        response = client.post("/ask", json={"question": QUESTION})
        assert (response.status_code, error_of(response)["message"]) == (500, "The weights are damaged.")
        response = client.get("/readyz")
        assert response.status_code == 503
        assert "The weights are damaged." in error_of(response)["message"]


# --- life


def test_ready_means_that_the_models_are_loaded(pipeline, monkeypatch):
    loaded, warm_up = threading.Event(), pipeline.warm_up
    monkeypatch.setattr(pipeline, "warm_up", lambda: loaded.wait(120) and warm_up())
    with TestClient(create_app(pipeline)) as client:
        assert client.get("/healthz").json()["status"] == "ok"
        response = client.get("/readyz")
        assert (response.status_code, error_of(response)["code"]) == (503, "server-not-ready")
        assert response.headers["retry-after"]
        loaded.set()
        assert client.post("/search", json={"query": "bridge"}).status_code == 200  # waits for the models
        assert client.get("/readyz").json() == {"status": "ready"}


def test_a_draining_server_takes_no_new_work(client):
    client.app.state.service.traffic.drain(60)
    for response in (client.get("/readyz"), client.post("/ask", json={"question": QUESTION})):
        assert (response.status_code, error_of(response)["code"]) == (503, "server-draining")
    assert client.get("/healthz").status_code == 200


def test_beyond_its_places_the_server_says_come_back(pipeline):
    go_on = threading.Event()
    go_on.set()
    held = BestLineGenerator(before_token=go_on.wait)
    settings = dataclasses.replace(pipeline.settings, server=ServerSettings(max_requests=1))
    opened = Pipeline.open(
        pipeline.index.folder, settings=settings, embedder=pipeline._embedder, generator=held
    )
    with opened, TestClient(create_app(opened)) as client:
        client.post("/search", json={"query": "wait until ready"})
        go_on.clear()
        first = threading.Thread(target=lambda: client.post("/ask", json={"question": QUESTION}))
        first.start()
        try:
            while client.app.state.service.traffic.num_in_flight == 0:
                time.sleep(0.001)
            response = client.post("/ask", json={"question": QUESTION})
            assert (response.status_code, error_of(response)["code"]) == (503, "server-busy")
            assert response.headers["retry-after"] == "1"
            assert client.get("/healthz").status_code == 200
        finally:
            go_on.set()
        first.join()
        assert client.post("/ask", json={"question": QUESTION}).status_code == 200


@pytest.mark.parametrize("stream", [True, False])
def test_a_client_that_leaves_stops_its_answer(pipeline, stream):
    generator = BestLineGenerator()
    opened = Pipeline.open(pipeline.index.folder, embedder=pipeline._embedder, generator=generator)
    with opened:
        app = create_app(opened)
        app.state.service.start()
        app.state.service._loading.join()
        before, left = generator.num_tokens, threading.Event()
        generator.before_token = lambda: generator.num_tokens < before + 2 or left.wait(60)
        body = json.dumps({"question": QUESTION, "stream": stream}).encode()
        asyncio.run(leave_early(app, body, generator))
        left.set()
        app.state.service.close()
        assert generator.num_closed == generator.num_calls
        assert generator.num_tokens - before == 3  # of nine: the one in the making when the client left


async def leave_early(app, body, generator):
    """Sends a request and goes away once the answer has begun."""
    begun = generator.num_tokens
    messages = [{"type": "http.request", "body": body, "more_body": False}]

    async def receive():
        if messages:
            return messages.pop()
        while generator.num_tokens < begun + 2:
            await asyncio.sleep(0.01)
        return {"type": "http.disconnect"}

    async def send(message):
        pass

    scope = {
        "type": "http",
        "asgi": {"version": "3.0", "spec_version": "2.3"},
        "http_version": "1.1",
        "method": "POST",
        "scheme": "http",
        "path": "/ask",
        "raw_path": b"/ask",
        "query_string": b"",
        "headers": [(b"content-type", b"application/json"), (b"host", b"127.0.0.1")],
        "client": ("127.0.0.1", 1),
        "server": ("127.0.0.1", 80),
    }
    await app(scope, receive, send)


# --- pages


@pytest.mark.parametrize("path", ["/", "/docs"])
def test_the_pages_load_nothing_from_elsewhere(client, path):
    response = client.get(path)
    assert response.headers["content-type"].startswith("text/html")
    assert "default-src 'none'" in response.headers["content-security-policy"]
    assert not re.search(r"""(src|href)\s*=\s*["']?(https?:)?//""", response.text)
    assert "import(" not in response.text


def test_the_api_describes_itself(client):
    paths = client.get("/openapi.json").json()["paths"]
    assert {(path, verb) for path, verbs in paths.items() for verb in verbs} == {
        ("/ask", "post"),
        ("/search", "post"),
        ("/expect", "post"),
        ("/healthz", "get"),
        ("/readyz", "get"),
        ("/metrics", "get"),
    }


# --- who may ask


@pytest.mark.parametrize(
    ("host", "status"),
    [
        ("127.0.0.1:8000", 200),
        ("localhost", 200),
        ("LOCALHOST:1", 200),
        ("[::1]:8000", 200),
        ("evil.example", 421),
        ("evil.example:8000", 421),
        ("127.0.0.1.evil.example", 421),
        ("", 421),
    ],
)
def test_only_known_hosts_are_answered_for(client, host, status):
    guarded = HostGuard(client.app, hosts={"127.0.0.1", "localhost", "::1"})
    response = TestClient(guarded).get("/healthz", headers={"Host": host})
    assert response.status_code == status
    if status == 421:
        assert error_of(response)["code"] == "host-not-allowed"


@pytest.mark.parametrize(
    ("host", "bound"),
    [
        ("127.0.0.1", "127.0.0.1"),
        ("127.1", "127.0.0.1"),
        ("localhost", "::1"),
        ("my-machine", "127.0.1.1"),
        ("::ffff:127.0.0.1", "::ffff:127.0.0.1"),
    ],
)
def test_on_loopback_however_it_is_spelt_only_its_own_names_are_known(host, bound):
    listener = Listener(SimpleNamespace(getsockname=lambda: (bound, 8000)), host, 8000)
    assert known_hosts(listener, ()) == {"localhost", "127.0.0.1", "::1", host, bound}


def test_a_network_address_answers_for_any_host_unless_told_which():
    listener = Listener(SimpleNamespace(getsockname=lambda: ("192.0.2.7", 8000)), "my-machine", 8000)
    assert known_hosts(listener, ()) == frozenset()
    assert known_hosts(listener, ("proxy.example",)) >= {"proxy.example", "my-machine", "localhost"}


def test_a_socket_knows_loopback_by_its_one_spelling():
    with bind(ServerSettings(host="127.1", port=0)) as listener:
        assert listener.socket.getsockname()[0] == "127.0.0.1"
