"""Commands run in this process, with the small parts in place of the models."""

from __future__ import annotations

import json
import shutil
import sys
from io import BytesIO, TextIOWrapper
from typing import NamedTuple

import pytest

from ragserve.cli import main


class Outcome(NamedTuple):
    code: int
    out: str
    err: str

    @property
    def document(self):
        assert self.out, self.err
        return json.loads(self.out)


@pytest.fixture
def filled(capsys, monkeypatch, home, embedder, generator):
    """Runs a command in the folder of the small corpus, with the small parts in place of the models."""
    monkeypatch.chdir(home)
    monkeypatch.setattr("ragserve.parts.open_embedder", lambda settings: embedder)
    monkeypatch.setattr("ragserve.parts.open_generator", lambda settings: generator)

    def run(*arguments: str, stdin: bytes = b"") -> Outcome:
        monkeypatch.setattr(sys, "stdin", TextIOWrapper(BytesIO(stdin)))
        capsys.readouterr()
        code = main(list(arguments))
        captured = capsys.readouterr()
        return Outcome(code, captured.out, captured.err)

    return run


@pytest.fixture
def ragserve(filled, index):
    """The same without an index."""
    shutil.rmtree(index)
    return filled
