from __future__ import annotations

import sys
from collections.abc import Callable
from pathlib import Path

import pytest
from tokenizers import Tokenizer

from indexer.chunking import ChunkDraft, chunk_document
from indexer.tokenization import ChunkTokenizer
from indexer.types import ParsedDocument

sys.path.insert(0, str(Path(__file__).parent))  # for chunked_documents and reference_splitting


@pytest.fixture
def chunk(minilm_tokenizer: ChunkTokenizer) -> Callable[..., list[ChunkDraft]]:
    def run(parsed: ParsedDocument, **options: int) -> list[ChunkDraft]:
        return chunk_document(
            parsed, minilm_tokenizer, **{"max_tokens": 256, "target_tokens": 192, **options}
        )

    return run


@pytest.fixture(scope="session")
def raw_tokenizer(minilm_tokenizer: ChunkTokenizer) -> Tokenizer:
    """What `minilm_tokenizer` counts like."""
    tokenizer = Tokenizer.from_file(str(minilm_tokenizer.path))
    tokenizer.no_truncation()
    tokenizer.no_padding()
    return tokenizer
