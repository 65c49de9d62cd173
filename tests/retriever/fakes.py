"""A corpus and an embedder in memory, small enough to check every answer by hand or by brute force."""

from __future__ import annotations

import hashlib
import threading
from collections import Counter
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import NamedTuple

import numpy as np

from indexer.lexical_terms import query_terms, term_counts
from indexer.scoring import exact_scores
from indexer.types import Chunk, Filters
from retriever import Retriever
from retriever.background import SAMPLE_SIZE, Background
from retriever.errors import EmptyQuery
from retriever.fusion import FusionInput, rank
from retriever.lists import Candidates, DenseList, LexicalList
from retriever.settings import RetrievalSettings
from retriever.types import SearchResult

DIMENSION = 16
PATIENCE = 120  # seconds until a hanging test fails; nothing waits for so long


class FakeVersion(NamedTuple):
    generation: int
    token: str


class Row(NamedTuple):
    chunk: Chunk
    vector: np.ndarray
    added: int  # generation
    terms: Counter[str]


class BruteText:
    """Scores by the share of the query's terms that a chunk has: not BM25, but as good an order."""

    def __init__(self, query: str, rows: dict[int, Row], k: int, allowed: np.ndarray | None) -> None:
        self._terms = query_terms(query)
        self._rows = rows
        numbers = np.array(sorted(rows if allowed is None else set(rows) & set(allowed.tolist())), np.int64)
        scores = self.scores_of(numbers)
        order = np.argsort(-scores, kind="stable")
        order = order[scores[order] > 0]
        if len(order) > k:
            order = order[scores[order] >= scores[order[k - 1]]]
        self.chunks, self.scores = numbers[order], scores[order]

    def scores_of(self, chunks: np.ndarray) -> np.ndarray:
        return np.array([self._score(int(number)) for number in chunks], np.float32)

    def _score(self, number: int) -> float:
        row = self._rows.get(number)
        if row is None:
            return 0.0
        return 10 * sum(min(row.terms[term], 3) for term in self._terms) / max(3 * self._terms.total(), 1)


class FakeView:
    is_exact = True

    def __init__(self, corpus: FakeCorpus) -> None:
        self.version = corpus.version
        self._corpus = corpus
        self._rows = dict(corpus.rows)

    def matching(self, filters: Filters | None) -> np.ndarray | None:
        if filters is None:
            return None
        numbers = [
            number
            for number, row in self._rows.items()
            if (filters.kinds is None or row.chunk.kind in filters.kinds)
            and (filters.document_ids is None or row.chunk.document_id in filters.document_ids)
        ]
        return np.array(sorted(numbers), np.int64)

    def count(self, allowed: np.ndarray | None) -> int:
        return len(self._rows) if allowed is None else len(set(self._rows) & set(allowed.tolist()))

    def nearest(self, vectors, k, *, allowed):
        self._corpus.log["nearest"].append((len(vectors), k))
        numbers = np.array(sorted(self._rows if allowed is None else set(allowed.tolist())), np.int64)
        if not len(numbers):
            return [(numbers, np.zeros(0, np.float32)) for _ in vectors]
        matrix = np.stack([self._rows[int(n)].vector for n in numbers])
        found = []
        for vector in vectors:
            scores = exact_scores(matrix, vector)
            order = np.lexsort((self.ids(numbers), -scores))[:k]
            found.append((numbers[order], scores[order]))
        return found

    def match(self, queries: Sequence[str], k: int, *, allowed: np.ndarray | None) -> list[BruteText]:
        self._corpus.log["match"].append((len(queries), k))
        return [BruteText(query, self._rows, k, allowed) for query in queries]

    def vectors(self, numbers: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        present = np.array([n for n in numbers.tolist() if n in self._rows], np.int64)
        vectors = [self._rows[int(n)].vector for n in present]
        return present, np.array(vectors, np.float32).reshape(len(present), DIMENSION)

    def ids(self, numbers: np.ndarray) -> np.ndarray:
        return np.array([self._rows[int(n)].chunk.id for n in numbers], "S32")

    def chunks(self, numbers: np.ndarray, *, filters: Filters | None = None) -> list[Chunk]:
        return [self._rows[int(n)].chunk for n in numbers]

    def around(self, chunk_id: str, before: int, after: int) -> list[Chunk]:
        chunks = sorted((row.chunk for row in self._rows.values()), key=lambda chunk: chunk.start)
        mine = [chunk for chunk in chunks if chunk.id == chunk_id]
        chunks = [chunk for chunk in chunks if mine and chunk.document_id == mine[0].document_id]
        at = chunks.index(mine[0]) if mine else 0
        return chunks[max(at - before, 0) : at + after + 1]

    def document_text(self, document_id: str) -> str:
        return self._corpus.documents[document_id]

    def sample(self, size: int) -> np.ndarray:
        rows = sorted(self._rows.values(), key=lambda row: row.chunk.id)[:size]
        return np.array([row.vector for row in rows], np.float32).reshape(len(rows), DIMENSION)

    def added_since(self, version: FakeVersion) -> np.ndarray | None:
        if version.token != self.version.token or version.generation < self._corpus.forgotten:
            return None
        return np.array([n for n, row in self._rows.items() if row.added > version.generation], np.int64)


class FakeCorpus:
    """Implements retriever.corpus.Corpus. Every change is a commit; `log` counts the searches."""

    def __init__(self) -> None:
        self.rows: dict[int, Row] = {}
        self.version = FakeVersion(1, "fake")
        self.documents: dict[str, str] = {}  # their texts, by id
        self.forgotten = 0  # generations before this one are no longer known
        self.log: dict[str, list] = {"nearest": [], "match": []}
        self._next = 1

    def refreshed_version(self) -> FakeVersion:
        return self.version

    @contextmanager
    def view(self) -> Iterator[FakeView]:
        yield FakeView(self)

    def add(
        self,
        text: str,
        vector: np.ndarray | None = None,
        *,
        document: str = "d",
        kind: str = "text",
        path: tuple[str, ...] = (),
    ) -> int:
        """A chunk at the end of a document; returns its number."""
        self._commit()
        number, self._next = self._next, self._next + 1
        id_ = hashlib.sha256(f"{number}{text}".encode()).hexdigest()[:32]
        start = len(self.documents.setdefault(document, ""))
        end = start + len(text)
        self.documents[document] += text + "\n\n"
        chunk = Chunk(id_, document, f"/{document}", text, start, end, None, (), path, kind)
        vector = embed(text) if vector is None else vector
        self.rows[number] = Row(chunk, vector, self.version.generation, term_counts(text))
        return number

    def remove(self, number: int) -> None:
        self._commit()
        self.rows.pop(number, None)

    def move(self, number: int, document: str) -> None:
        """What happens when a file that holds the chunk is renamed."""
        self._commit()
        row = self.rows[number]
        chunk = row.chunk
        moved = Chunk(
            chunk.id, document, f"/{document}", chunk.text, chunk.start, chunk.end, None, (), (), chunk.kind
        )
        self.rows[number] = row._replace(chunk=moved, added=self.version.generation)

    def _commit(self) -> None:
        self.version = FakeVersion(self.version.generation + 1, self.version.token)


def embed(text: str) -> np.ndarray:
    """Adds up a direction for every word, so texts that share words are near each other."""
    total = np.full(DIMENSION, 1e-3)
    for word, count in Counter(text.lower().split()).items():
        seed = int.from_bytes(hashlib.sha256(word.encode()).digest()[:8], "big")
        total += count * np.random.default_rng(seed).standard_normal(DIMENSION)
    return (total / np.linalg.norm(total)).astype(np.float32)


class FakeEmbedder:
    """Embeds as `embed` does, or as it is told for a text; keeps the batches that it was given."""

    fingerprint = "fake"

    def __init__(self, vectors: dict[str, np.ndarray] | None = None) -> None:
        self.vectors = vectors or {}
        self.batches: list[list[str]] = []
        self.gate = threading.Event()  # cleared: embedding waits
        self.gate.set()
        self.entered = threading.Semaphore(0)  # released at each call, before the gate
        self.fail_on: set[str] = set()

    def embed_queries(self, texts: Sequence[str]) -> np.ndarray:
        self.batches.append(list(texts))
        self.entered.release()
        assert self.gate.wait(PATIENCE)
        if self.fail_on & set(texts):
            raise RuntimeError(f"cannot embed {sorted(self.fail_on & set(texts))}")
        return np.stack([self.vectors[t] if t in self.vectors else embed(t) for t in texts])


def brute_force(
    corpus: FakeCorpus,
    query: str,
    vector: np.ndarray,
    k: int,
    settings: RetrievalSettings,
    filters: Filters | None,
) -> list[tuple[str, float]]:
    """Ids and scores of the k best chunks: every chunk is scored, nothing is bounded."""
    view = FakeView(corpus)
    allowed = view.matching(filters)
    numbers = np.array(sorted(corpus.rows if allowed is None else allowed.tolist()), np.int64)
    if not len(numbers):
        return []
    _, vectors = view.vectors(numbers)
    dense = exact_scores(vectors, vector)
    order = np.lexsort((view.ids(numbers), -dense))
    words = query if settings.ranking != "dense" else ""
    text = BruteText(words, view._rows, len(numbers), allowed)
    text_order = np.lexsort((view.ids(text.chunks), -text.scores))
    given = FusionInput(
        vector,
        max(settings.depth, k),
        Background(view.sample(SAMPLE_SIZE)),
        DenseList(numbers[order], dense[order], -np.inf, len(numbers)),
        LexicalList(text.chunks[text_order], text.scores[text_order], 0.0),
        Candidates(numbers, view.ids(numbers), dense, text.scores_of(numbers)),
    )
    ranked = rank(settings, given)
    keep = ranked.scores > 0 if settings.ranking in ("lexical", "rrf") else np.ones(len(numbers), bool)
    found = view.ids(ranked.chunks[keep][:k]).astype(str).tolist()
    return list(zip(found, ranked.scores[keep][:k].tolist(), strict=True))


def found(result) -> list[tuple[str, float]]:
    return [(hit.chunk.id, hit.score) for hit in result.hits]


def make_retriever(corpus: FakeCorpus, embedder: FakeEmbedder | None = None, **options) -> Retriever:
    return Retriever(corpus, embedder or FakeEmbedder(), **options)


class FakeIndex:
    """All that a prefetcher asks of an index."""

    def __init__(self) -> None:
        self.version = 1

    def refreshed_version(self) -> int:
        return self.version


class Call(NamedTuple):
    """One `search_batch`, and the name of the thread that made it."""

    thread: str
    queries: list[str]
    k: int
    filters: Filters | None
    use_cache: bool


class FakeRetriever:
    """Its result says what was searched for, and in which state; a query with "bad" in it raises.

    `gated` names the thread whose searches wait at the gate; None: every thread's do.
    """

    def __init__(self, *, gated: str | None = None) -> None:
        self.index = FakeIndex()
        self.now = 0.0  # seconds; every query takes one
        self.calls: list[Call] = []
        self.entered = threading.Semaphore(0)  # released at each gated call, before the gate
        self.gate = threading.Event()  # cleared: gated searches wait
        self.gate.set()
        self._gated = gated

    @property
    def batches(self) -> list[list[str]]:
        return [call.queries for call in self.calls]

    def search_batch(self, queries, *, k, filters, use_cache):
        thread = threading.current_thread().name
        self.calls.append(Call(thread, list(queries), k, filters, use_cache))
        version = self.index.version
        if self._gated in (None, thread):
            self.entered.release()
            assert self.gate.wait(PATIENCE)
        self.now += len(queries)
        if "exit" in queries:
            raise SystemExit
        if any("bad" in query for query in queries):
            raise EmptyQuery(f"{queries}")
        return [result_of(query, k, filters, use_cache, version) for query in queries]


def result_of(query, k=5, filters=None, use_cache=True, version=1) -> SearchResult:
    return SearchResult((), "miss", {}, {"of": (query, k, filters, use_cache), "version": version})
