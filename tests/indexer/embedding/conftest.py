from __future__ import annotations

from pathlib import Path

import pytest
from tiny_bert import save_tiny_bert

from indexer.embedding import SentenceTransformerEmbedder


@pytest.fixture(scope="session")
def tiny_model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """With a Dense layer and prompts for both tasks."""
    prompts = {"query": "question: ", "document": "text to be found: "}
    return save_tiny_bert(tmp_path_factory.mktemp("tiny"), dense=True, prompts=prompts)


@pytest.fixture(scope="session")
def plain_model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Such that `BertEncoder` can compute it."""
    return save_tiny_bert(tmp_path_factory.mktemp("plain"), dense=False, prompts={"query": "question: "})


@pytest.fixture(scope="session")
def tiny(tiny_model: Path) -> SentenceTransformerEmbedder:
    return SentenceTransformerEmbedder(str(tiny_model), device="cpu", dtype="float32")


@pytest.fixture(scope="session")
def minilm() -> SentenceTransformerEmbedder:
    return SentenceTransformerEmbedder(device="cpu", dtype="float32")
