from __future__ import annotations

import asyncio
import dataclasses

import pytest
from asgi_client import AsgiClient
from stream_looks import QUESTION, ask

from ragserve.answering import final_answer


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
