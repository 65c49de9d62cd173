"""The example scripts do what they say, here with the small corpus and the small parts."""

from __future__ import annotations

import importlib.util
import sys
from pathlib import Path

import pytest
from ragserve_fakes import BestLineGenerator, HashingEmbedder

EXAMPLES = Path(__file__).parents[2] / "examples"


@pytest.fixture
def run_example(home, monkeypatch, capsys):
    """Runs an example as if it lay beside the small corpus; returns what it prints."""
    monkeypatch.setattr("ragserve.parts.open_embedder", lambda settings: HashingEmbedder())
    monkeypatch.setattr("ragserve.parts.open_generator", lambda settings: BestLineGenerator())

    def run(name: str, *arguments: str) -> str:
        spec = importlib.util.spec_from_file_location(name, EXAMPLES / f"{name}.py")
        module = importlib.util.module_from_spec(spec)
        spec.loader.exec_module(module)
        monkeypatch.setattr(module, "HERE", home, raising=False)
        monkeypatch.setattr(sys, "argv", [f"{name}.py", *arguments])
        module.main()
        return capsys.readouterr().out

    return run


def test_python_api_searches_answers_and_checks_a_quote(run_example):
    printed = run_example("python_api")
    assert "0 files indexed, 3 unchanged, 0 failed" in printed
    assert "1. " in printed


def test_streaming_prints_the_answer_in_pieces(run_example):
    printed = run_example("streaming", "Who designed the Lantern bridge?")
    assert "(3 passages)\nMara Ellison designed the Lantern bridge in 1931. [1]\n" in printed
    assert "1 citations, supported: True" in printed
