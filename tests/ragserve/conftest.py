"""A folder with a small corpus and its index, and pipelines on it with parts that are fast and repeatable."""

from __future__ import annotations

import shutil
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from ragserve import Pipeline, Settings

# Fakes that a test server in a process of its own shares.
sys.path.insert(0, str(Path(__file__).parent))

from ragserve_fakes import BestLineGenerator, HashingEmbedder, write_corpus


@pytest.fixture(scope="session")
def ingested(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    """A folder with `corpus` and its index `.ragserve`, and a copy of that folder to restore it from."""
    folder = tmp_path_factory.mktemp("small")
    home, copy = folder / "home", folder / "copy"
    corpus = write_corpus(home / "corpus")
    with Pipeline.open(home / ".ragserve", embedder=HashingEmbedder()) as pipeline:
        assert pipeline.ingest([corpus], jobs=1).indexed == 3
    shutil.copytree(home, copy)
    return home, copy


@pytest.fixture
def home(ingested: tuple[Path, Path]) -> Path:
    """The folder as it was at first, always at the same path because the index knows its files by theirs."""
    folder, copy = ingested
    shutil.rmtree(folder)
    shutil.copytree(copy, folder)
    return folder


@pytest.fixture
def corpus(home: Path) -> Path:
    return home / "corpus"


@pytest.fixture
def index(home: Path) -> Path:
    return home / ".ragserve"


@pytest.fixture
def embedder() -> HashingEmbedder:
    return HashingEmbedder()


@pytest.fixture
def generator() -> BestLineGenerator:
    return BestLineGenerator()


@pytest.fixture
def pipeline(index: Path, embedder: HashingEmbedder, generator: BestLineGenerator) -> Iterator[Pipeline]:
    with Pipeline.open(index, settings=Settings(jobs=1), embedder=embedder, generator=generator) as opened:
        yield opened
