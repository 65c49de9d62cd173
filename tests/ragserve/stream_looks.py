"""A tiny model on an engine that can be held up, and clients of a server that asks it."""

from __future__ import annotations

import threading

from asgi_client import AsgiClient

from generator.tokenizer import Tokenizer

QUESTION = "Who designed the Lantern bridge?"


def byte_tokenizer():
    """A token a byte."""
    import tokenizers
    from tokenizers import decoders, models, pre_tokenizers

    alphabet = sorted(pre_tokenizers.ByteLevel.alphabet())
    backend = tokenizers.Tokenizer(models.BPE({letter: n for n, letter in enumerate(alphabet)}, []))
    backend.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    backend.decoder = decoders.ByteLevel()
    return Tokenizer(backend)


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
