"""Many clients at once, clients that stop reading, clients that leave: on an engine and on the reader."""

from __future__ import annotations

import asyncio
import dataclasses
import socket
import threading
from concurrent.futures import Future

import pytest
import torch
from asgi_client import AsgiClient, until

from generator.checkpoint import CheckpointGenerator
from generator.engine.engine import ContinuousBatchingEngine
from generator.errors import NonFiniteLogits, OutOfMemory
from generator.model.config import ModelConfig
from generator.model.transformer import Transformer
from generator.tokenizer import Tokenizer
from ragserve import Pipeline, ServerSettings, Settings
from ragserve.answering import final_answer
from ragserve.parts import open_generator
from ragserve.server import create_app
from ragserve.server.run import bind

QUESTION = "Who designed the Lantern bridge?"
NUM_CLIENTS = 64


def byte_tokenizer():
    """A token a byte."""
    import tokenizers
    from tokenizers import decoders, models, pre_tokenizers

    alphabet = sorted(pre_tokenizers.ByteLevel.alphabet())
    backend = tokenizers.Tokenizer(models.BPE({letter: n for n, letter in enumerate(alphabet)}, []))
    backend.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    backend.decoder = decoders.ByteLevel()
    return Tokenizer(backend)


@pytest.fixture(scope="module")
def model():
    config = ModelConfig(
        vocab_size=256,
        hidden_size=16,
        intermediate_size=16,
        num_layers=1,
        num_heads=2,
        num_kv_heads=1,
        head_dim=8,
        max_positions=2048,
    )
    model = Transformer(config).eval()
    model.initialise(std=0.3, generator=torch.Generator().manual_seed(0))
    return model


@pytest.fixture
def checkpoint(model):
    """A checkpoint with random weights, on an engine that a test may slow down."""
    tokenizer = byte_tokenizer()
    engine = ContinuousBatchingEngine(model, tokenizer, kv_bytes=2**22)
    return CheckpointGenerator(model, tokenizer, engine=engine)


@pytest.fixture
def serve(index, embedder):
    """Makes the application over a generator; its models are loaded."""
    opened = []

    def make(generator, *, max_new_tokens=6, score_band=0.05, **server):
        settings = Settings(
            generator="a-model",
            max_new_tokens=max_new_tokens,
            score_band=score_band,
            server=ServerSettings(**server),
        )
        pipeline = Pipeline.open(index, settings=settings, embedder=embedder, generator=generator)
        app = create_app(pipeline)
        opened.append((pipeline, app))
        app.state.service.start()
        app.state.service._loading.join()
        assert app.state.service.ready, app.state.service.failure
        return app

    yield make
    for pipeline, app in opened:
        app.state.service.close()
        pipeline.close()


class Gate:
    """Holds an engine's forward passes up, from before the first that begins after `close`."""

    def __init__(self, engine):
        self._run = engine.runner.run
        self._open = threading.Event()
        self._open.set()
        self.waiting = threading.Event()  # a pass has come to the gate
        engine.runner.run = self._pass

    def close(self):
        self._open.clear()
        self.waiting.clear()

    def open(self):
        self._open.set()

    def _pass(self, plan):
        if not self._open.is_set():
            self.waiting.set()
            self._open.wait()
        return self._run(plan)


@pytest.fixture
def gate(checkpoint):
    gate = Gate(checkpoint.engine)
    yield gate
    gate.open()


def ask(app, question=QUESTION, *, stream=True, patience=10**9, **fields):
    body = {"question": question, "stream": stream, **fields}
    return AsgiClient(app, "/ask", body, patience=patience)


def places_taken(app):
    return app.state.service.traffic.num_in_flight


def assert_idle(app, engine):
    """Nobody holds a place, a thread's work or memory."""
    assert places_taken(app) == 0
    assert not engine.has_pending_work
    engine.check_integrity()


# --- many at once


def test_sixty_four_clients_stream_from_one_engine_at_the_same_time(serve, checkpoint, gate):
    app = serve(checkpoint)
    steps_before = checkpoint.engine.stats.num_steps
    scheduler = checkpoint.engine.scheduler

    async def run():
        gate.close()
        clients = [ask(app, f"{QUESTION} {number}") for number in range(NUM_CLIENTS)]
        asking = asyncio.gather(*(client.ask() for client in clients))
        await until(lambda: len(scheduler.waiting) + len(scheduler.running) == NUM_CLIENTS)
        assert places_taken(app) == NUM_CLIENTS
        gate.open()
        return await asking

    clients = asyncio.run(run())
    for client in clients:
        names = [name for name, _ in client.events]
        assert (client.status, names[0], names[-1]) == (200, "retrieval", "final"), client.events[-1]
        final = client.events[-1][1]
        assert "".join(data["text"] for name, data in client.events if name == "token") == final["answer"]
        assert final["usage"]["num_output_tokens"] == 6
    assert checkpoint.engine.stats.num_steps - steps_before < NUM_CLIENTS * 6 / 2  # steps are shared
    assert checkpoint.engine.stats.prefix_hit_rate > 0.5  # and so are instructions and passages
    assert_idle(app, checkpoint.engine)


def test_sixty_four_clients_get_their_answers_from_the_shipped_reader(serve):
    app = serve(open_generator(Settings()), max_new_tokens=None, generation_slots=2)

    async def run():
        clients = [ask(app, k=1) for _ in range(NUM_CLIENTS)]
        return await asyncio.gather(*(client.ask() for client in clients))

    for client in asyncio.run(run()):
        assert client.events[-1][0] == "final"
        assert "Mara Ellison" in client.events[-1][1]["answer"]
    assert places_taken(app) == 0


def test_beyond_its_places_the_server_refuses_and_keeps_those_it_has(serve, checkpoint, gate):
    app = serve(checkpoint, max_requests=8)

    async def run():
        gate.close()
        clients = [ask(app) for _ in range(8)]
        asking = asyncio.gather(*(client.ask() for client in clients))
        await until(lambda: places_taken(app) == 8)
        refused = await asyncio.gather(*(ask(app).ask() for _ in range(100)))
        gate.open()
        return await asking, refused

    served, refused = asyncio.run(run())
    assert {client.status for client in refused} == {503}
    assert {client.events[-1][0] for client in served} == {"final"}


# --- clients that stop reading


def test_a_client_that_stops_reading_holds_up_nobody_and_is_hung_up_on(serve, checkpoint):
    app = serve(checkpoint, max_new_tokens=40, stall_seconds=0.5)

    async def run():
        stalled = ask(app, patience=2)
        gone = asyncio.ensure_future(stalled.ask())
        await stalled.stalled.wait()
        others = await asyncio.gather(*(ask(app).ask() for _ in range(4)))
        await gone
        return stalled, others

    stalled, others = asyncio.run(run())
    assert {client.events[-1][0] for client in others} == {"final"}
    assert [name for name, _ in stalled.events] == ["retrieval"]
    assert_idle(app, checkpoint.engine)


@pytest.mark.skipif(not hasattr(socket, "TCP_USER_TIMEOUT"), reason="only Linux closes such connections")
def test_what_a_client_leaves_unread_is_let_go_with_its_connection():
    with bind(ServerSettings(port=0, stall_seconds=0.2)) as listener, socket.socket() as client:
        client.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
        client.connect(("127.0.0.1", listener.port))
        accepted, _ = listener.socket.accept()
        with accepted, pytest.raises(TimeoutError):
            accepted.sendall(bytes(64 * 2**20))  # blocks once all buffers are full


def test_a_client_that_reads_late_gets_everything_in_few_events(serve, checkpoint):
    app = serve(checkpoint, max_new_tokens=40, stall_seconds=300.0)

    async def run():
        late = ask(app, patience=2)
        asking = asyncio.ensure_future(late.ask())
        await until(lambda: checkpoint.engine.stats.num_output_tokens >= 40 + warm_up)
        await until(lambda: not checkpoint.engine.has_pending_work)
        late.reading.set()
        return await asking

    warm_up = checkpoint.engine.stats.num_output_tokens
    late = asyncio.run(run())
    tokens = [data["text"] for name, data in late.events if name == "token"]
    assert late.events[-1][0] == "final"
    assert "".join(tokens) == late.events[-1][1]["answer"]
    assert len(tokens) < 20  # of 40


# --- clients that leave


@pytest.mark.parametrize("path", ["/ask", "/search"])
def test_a_client_that_leaves_while_its_search_waits_frees_its_place(serve, checkpoint, path, monkeypatch):
    app = serve(checkpoint)
    pending: Future = Future()
    batcher = app.state.service._batcher.result()
    monkeypatch.setattr(batcher, "submit", lambda query, **_: pending)
    prompts_before = checkpoint.engine.stats.num_prompt_tokens

    async def run():
        client = AsgiClient(app, path, {"query": QUESTION})
        asking = asyncio.ensure_future(client.ask())
        await until(lambda: places_taken(app) == 1)
        client.leave()
        await asking

    asyncio.run(run())
    assert pending.cancelled()
    assert checkpoint.engine.stats.num_prompt_tokens == prompts_before
    assert_idle(app, checkpoint.engine)


@pytest.mark.parametrize("stream", [True, False])
def test_a_client_that_leaves_while_it_waits_for_a_thread_never_reaches_the_generator(
    serve, checkpoint, gate, stream
):
    app = serve(checkpoint, generation_slots=1)

    async def run():
        gate.close()
        first, second = ask(app), ask(app, "What costs the crossing?", stream=stream)
        asking = asyncio.ensure_future(first.ask())
        await asyncio.to_thread(gate.waiting.wait)
        leaving = asyncio.ensure_future(second.ask())
        await until(lambda: app.state.service._generators._work_queue.qsize() == 1)
        second.leave()
        await leaving
        assert places_taken(app) == 1
        gate.open()
        return await asking

    submitted = []
    submit = checkpoint.engine.submit
    checkpoint.engine.submit = lambda request, listener: (
        submitted.append(request) or submit(request, listener)
    )
    assert asyncio.run(run()).events[-1][0] == "final"
    assert len(submitted) == 1
    assert_idle(app, checkpoint.engine)


@pytest.mark.parametrize("stream", [True, False])
def test_a_client_that_leaves_before_its_first_token_leaves_the_engine_at_once(
    serve, checkpoint, gate, stream
):
    app = serve(checkpoint)
    scheduler = checkpoint.engine.scheduler

    async def run():
        gate.close()
        first, second = ask(app), ask(app, "What costs the crossing?", stream=stream)
        asking = asyncio.ensure_future(first.ask())
        await asyncio.to_thread(gate.waiting.wait)
        leaving = asyncio.ensure_future(second.ask())
        await until(lambda: len(scheduler.waiting) == 1)
        second.leave()
        await leaving
        assert (len(scheduler.waiting), len(scheduler.running)) == (0, 1)  # though no step has ended yet
        assert places_taken(app) == 1
        gate.open()
        return await asking

    assert asyncio.run(run()).events[-1][0] == "final"
    assert_idle(app, checkpoint.engine)


def test_a_client_that_leaves_in_the_middle_frees_its_memory(serve, checkpoint):
    app = serve(checkpoint, max_new_tokens=1000)

    async def run():
        client = ask(app)
        asking = asyncio.ensure_future(client.ask())
        await until(lambda: any(name == "token" for name, _ in client.events))
        client.leave()
        await asking
        return client

    client = asyncio.run(run())
    assert client.events[-1][0] == "token"
    assert_idle(app, checkpoint.engine)
    assert checkpoint.engine.scheduler.memory.usage == 0


# --- requests that fail


def test_scores_that_are_no_numbers_fail_one_client_alone(serve, checkpoint):
    app = serve(checkpoint)
    run = checkpoint.engine.runner.run
    doomed = checkpoint.tokenizer.encode("doomed")

    def poisoned(plan):
        logits, row = run(plan).clone(), 0
        for piece in plan:
            if piece.samples:
                rows = 1 + piece.num_draft_tokens
                prompt = piece.sequence.token_ids
                if any(prompt[at : at + len(doomed)] == doomed for at in range(len(prompt))):
                    logits[row : row + rows] = float("nan")
                row += rows
        return logits

    checkpoint.engine.runner.run = poisoned

    async def run_all():
        clients = [ask(app, "Is this doomed?" if number == 3 else QUESTION) for number in range(6)]
        return await asyncio.gather(*(client.ask() for client in clients))

    clients = asyncio.run(run_all())
    ends = [client.events[-1] for client in clients]
    assert [name for name, _ in ends] == ["final"] * 3 + ["error"] + ["final"] * 2
    assert ends[3][1]["error"]["code"] == NonFiniteLogits.code
    assert_idle(app, checkpoint.engine)


def test_a_step_that_does_not_fit_fails_its_requests_and_the_next_is_served(serve, checkpoint):
    app = serve(checkpoint)
    run = checkpoint.engine.runner.run

    def full(plan):
        checkpoint.engine.runner.run = run
        raise torch.OutOfMemoryError("full")

    async def run_both():
        checkpoint.engine.runner.run = full
        failed = await ask(app, stream=False).ask()
        return failed, await ask(app).ask()

    failed, served = asyncio.run(run_both())
    assert failed.status == 500
    assert OutOfMemory.code in failed.received.decode()
    assert served.events[-1][0] == "final"


def test_memory_that_does_not_suffice_at_the_start_is_told_to_everyone_who_asks(index, embedder, model):
    class TooLarge(CheckpointGenerator):
        @property
        def engine(self):
            return ContinuousBatchingEngine(self.model, self.tokenizer, kv_bytes=10)

    generator = TooLarge(model, byte_tokenizer())
    settings = Settings(generator="a-model")
    with Pipeline.open(index, settings=settings, embedder=embedder, generator=generator) as pipeline:
        app = create_app(pipeline)
        app.state.service.start()
        app.state.service._loading.join()
        assert isinstance(app.state.service.failure, OutOfMemory)  # which ends `ragserve serve`
        client = asyncio.run(ask(app).ask())
        app.state.service.close()
    assert client.status == 500
    assert OutOfMemory.code in client.received.decode()


def test_a_question_too_long_for_the_model_is_its_own_senders_problem(serve, checkpoint):
    app = serve(checkpoint)

    async def run():
        return await asyncio.gather(ask(app, "why? " * 600, stream=False).ask(), ask(app).ask())

    refused, served = asyncio.run(run())
    assert refused.status == 422
    assert "prompt-too-long" in refused.received.decode()
    assert served.events[-1][0] == "final"


def test_fields_that_there_are_not_are_refused_and_the_server_goes_on(serve, checkpoint):
    app = serve(checkpoint)

    async def run():
        wrong = ({"max_tokens": 0}, {"max_new_tokens": -1}, {"stop": 5}, {"temperature": "hot"})
        refused = await asyncio.gather(*(ask(app, **fields).ask() for fields in wrong))
        return refused, await ask(app).ask()

    refused, served = asyncio.run(run())
    assert {client.status for client in refused} == {422}
    assert all(b"is not a field" in client.received for client in refused)
    assert served.events[-1][0] == "final"


# --- passages in the order of what is cached


@pytest.mark.parametrize("score_band", [1.0, 0.0])
def test_the_same_passages_in_another_order_are_not_computed_again_unless_order_matters(
    serve, checkpoint, score_band
):
    app = serve(checkpoint, score_band=score_band)
    pipeline = app.state.service.pipeline
    found = pipeline.search(QUESTION, k=3)
    swapped = dataclasses.replace(
        found,
        hits=tuple(
            dataclasses.replace(hit, rank=rank) for rank, hit in enumerate(reversed(found.hits), start=1)
        ),
    )
    stats = checkpoint.engine.stats
    final_answer(pipeline.answer_stream(QUESTION, found))
    before = stats.num_cached_tokens
    answer = final_answer(pipeline.answer_stream("Who planted the trees?", swapped))
    cached = stats.num_cached_tokens - before
    everything = answer.usage.num_prompt_tokens - len("Question: Who planted the trees?\n\nAnswer:") - 16
    assert (cached > everything) == (score_band > 0)
    assert [hit.rank for hit in answer.hits] == [1, 2, 3]
    assert answer.hits == swapped.hits  # the reader's list keeps its order


# --- what can be seen from outside


def test_the_metrics_tell_of_places_steps_and_prefix_hits(serve, checkpoint):
    app = serve(checkpoint)

    async def run():
        await ask(app).ask()
        await ask(app).ask()
        scrape = AsgiClient(app, "/metrics", {})
        scrape.method = "GET"
        return await scrape.ask()

    text = asyncio.run(run()).received.decode()
    lines = dict(line.split() for line in text.splitlines() if not line.startswith("#"))
    assert lines["ragserve_requests_in_flight"] == "0"
    stats = checkpoint.engine.stats
    assert int(lines["ragserve_generator_cached_tokens_total"]) == stats.num_cached_tokens > 0
    assert float(lines["ragserve_generator_prefix_hit_rate"]) == stats.prefix_hit_rate
    assert lines["ragserve_generator_running_sequences"] == "0"
    assert "# TYPE ragserve_generator_steps_total counter" in text.splitlines()
