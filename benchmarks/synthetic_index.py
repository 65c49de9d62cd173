"""An index of any size without ingesting files: sentences of the example corpus, varied.

A chunk is any three sentences; its vector is the mean of theirs, moved by noise. So vectors are as crowded
as real ones and the words as common, without embedding a hundred thousand texts.
"""

from __future__ import annotations

import hashlib
import re
import time
from collections.abc import Iterable, Iterator
from itertools import islice
from pathlib import Path

import numpy as np

from indexer import Index
from indexer.catalog_writer import Conversion, SourceFile
from indexer.chunking import ChunkDraft
from indexer.embedding import Embedder
from indexer.identity import embedding_key
from indexer.types import ParsedDocument

CORPUS = Path(__file__).parents[1] / "examples" / "corpus"
_CHUNKS_PER_DOCUMENT = 500
_NOISE = 0.5  # length of the displacement; the sentence's own vector has length 1


def sentences() -> list[str]:
    """The sentences of the text files among the examples."""
    texts = [path.read_text(encoding="utf-8") for path in sorted(CORPUS.rglob("*.md"))]
    texts += [path.read_text(encoding="utf-8") for path in sorted(CORPUS.rglob("*.txt"))]
    found = re.split(r"(?<=[.!?])\s+|\n{2,}", "\n\n".join(texts))
    return [" ".join(sentence.split()) for sentence in found if len(sentence.split()) >= 5]


def build(folder: Path, embedder: Embedder, num_chunks: int) -> Index:
    """An index with so many chunks, opened."""
    base = sentences()
    vectors = embedder.embed_documents(base)
    rng = np.random.default_rng(0)
    sizes = (min(_CHUNKS_PER_DOCUMENT, num_chunks - i) for i in range(0, num_chunks, _CHUNKS_PER_DOCUMENT))
    return build_of(folder, embedder, (one for size in sizes for one in _vary(base, vectors, size, rng)))


def build_of(folder: Path, embedder: Embedder, chunks: Iterable[tuple[str, np.ndarray]]) -> Index:
    """An index with these texts and vectors, opened."""
    index = Index.open(folder, embedder=embedder)
    index.catalog.add_hook(index.lexical)
    remaining, start = iter(chunks), 0
    while some := list(islice(remaining, _CHUNKS_PER_DOCUMENT)):
        _store(index, embedder, start, some)
        start += len(some)
    return index


def _vary(
    base: list[str], vectors: np.ndarray, count: int, rng: np.random.Generator
) -> Iterator[tuple[str, np.ndarray]]:
    chosen = rng.integers(0, len(base), (count, 3))
    noise = rng.standard_normal((count, vectors.shape[1])).astype(np.float32)
    noise *= _NOISE / np.linalg.norm(noise, axis=1, keepdims=True)
    moved = vectors[chosen].mean(axis=1)  # (count, d): about what the three together would be embedded as
    moved /= np.linalg.norm(moved, axis=1, keepdims=True)
    moved += noise
    moved /= np.linalg.norm(moved, axis=1, keepdims=True)
    for (one, two, three), vector in zip(chosen.tolist(), moved, strict=True):
        yield f"{base[one]} {base[two]} {base[three]}", vector


def _store(index: Index, embedder: Embedder, start: int, chunks: list[tuple[str, np.ndarray]]) -> None:
    text, drafts, keys = "", [], []
    for number, (body, _) in enumerate(chunks):
        text += "\n\n" if text else ""
        drafts.append(ChunkDraft(len(text), len(text) + len(body), None, (), (), "text", ""))
        text += body
        keys.append(embedding_key(embedder.fingerprint, f"{start + number} {body}"))
    name = f"/synthetic/{start}.txt"
    document = ParsedDocument(text, (), title=name, format="text", parser="synthetic")
    content_key = hashlib.sha256(name.encode()).digest()
    now = time.time_ns()
    with index.catalog.write() as writer:
        writer.set_meta("embedder", embedder.fingerprint)
        writer.set_meta("dimension", str(embedder.dimension))
        writer.add_embeddings(dict(zip(keys, (vector for _, vector in chunks), strict=True)))
        conversion = Conversion(content_key, "synthetic", document, drafts, keys)
        writer.store(SourceFile(name, name.encode(), len(text), now, now), conversion)
