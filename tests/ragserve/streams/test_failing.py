from __future__ import annotations

import asyncio

import torch
from stream_looks import QUESTION, ask, assert_idle, byte_tokenizer

from generator.checkpoint import CheckpointGenerator
from generator.engine.engine import ContinuousBatchingEngine
from generator.errors import NonFiniteLogits, OutOfMemory
from ragserve import Pipeline, Settings
from ragserve.server import create_app


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
