"""A server over a tiny checkpoint on the engine."""

from __future__ import annotations

import pytest
import torch
from stream_looks import Gate, byte_tokenizer

from generator.checkpoint import CheckpointGenerator
from generator.engine.engine import ContinuousBatchingEngine
from generator.model.config import ModelConfig
from generator.model.transformer import Transformer
from ragserve import Pipeline, ServerSettings, Settings
from ragserve.server import create_app


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


@pytest.fixture
def gate(checkpoint):
    gate = Gate(checkpoint.engine)
    yield gate
    gate.open()
