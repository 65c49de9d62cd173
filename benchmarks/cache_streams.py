"""Streams of questions through the cache and through other caches' rules, for cache_traffic.py."""

from __future__ import annotations

import hashlib
import time
from collections import defaultdict
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np
from cache_corpus import ChangingCorpus
from cache_rules import Rule
from cache_traffic_sets import Traffic

from indexer import SentenceTransformerEmbedder
from retriever import RetrievalCache, RetrievalSettings, Retriever

K, MIN_RECALL, BUDGET, EXPONENT = 5, 0.8, 0.01, 0.9
CANDIDATES = 1000
CACHE_BYTES = 1 << 30
DENSE = RetrievalSettings(ranking="dense")
_ALIKE = 0.8  # cosine from which a question is near one that was asked


class Asked(NamedTuple):
    """A question of a stream and what became of it."""

    tier: str  # "miss" where nothing was served
    recall: float  # of the true k; 1 for a miss
    seconds: float  # until the answer, without embedding
    repeated: bool  # these very words were asked before
    paraphrased: bool  # not these, but others of the same group
    near: bool  # not these, but others at a cosine of at least 0.8


class Outcome(NamedTuple):
    """What became of some questions."""

    queries: int
    served: int
    false_hits: int
    recall: float  # mean recall@k of what was served

    @property
    def hit_rate(self) -> float:
        return self.served / max(self.queries, 1)

    @property
    def false_hit_rate(self) -> float:
        return self.false_hits / max(self.served, 1)


def outcome(asked: Sequence[Asked], *, tiers: Sequence[str] | None = None) -> Outcome:
    """Of all that was served, or of what certain tiers have served."""
    served = [one for one in asked if (one.tier in tiers if tiers is not None else one.tier != "miss")]
    recalls = [one.recall for one in served]
    false_hits = sum(recall < MIN_RECALL for recall in recalls)
    return Outcome(len(asked), len(served), false_hits, float(np.mean(recalls)) if recalls else 1.0)


class Vectors:
    """Embeds each text once; kept in a folder."""

    def __init__(self, embedder: SentenceTransformerEmbedder, folder: Path) -> None:
        self.embedder, self._folder = embedder, folder
        self._by_text: dict[str, np.ndarray] = {}
        self.fingerprint = embedder.fingerprint
        self.dimension = embedder.dimension

    def of(self, name: str, texts: Sequence[str], *, documents: bool = False) -> np.ndarray:
        """(n, dimension) float32."""
        digest = hashlib.sha256("\n".join([self.fingerprint, *texts]).encode()).hexdigest()[:16]
        path = self._folder / f"cache-{name}-{digest}.npy"
        if path.exists():
            vectors = np.load(path, allow_pickle=False)
        else:
            embed = self.embedder.embed_documents if documents else self.embedder.embed_queries
            vectors = np.asarray(embed(list(texts)), np.float32)
            path.parent.mkdir(parents=True, exist_ok=True)
            np.save(path, vectors)
        if not documents:
            self._by_text |= dict(zip(texts, vectors, strict=True))
        return vectors

    def __contains__(self, text: str) -> bool:
        return text in self._by_text

    def embed_queries(self, texts: Sequence[str]) -> np.ndarray:
        """What the retriever asks for: vectors that are known already."""
        return np.stack([self._by_text[text] for text in texts])


class Stream(NamedTuple):
    """Questions in the order of their being asked, and what is new about each."""

    name: str
    texts: list[str]
    repeated: list[bool]
    paraphrased: list[bool]
    near: list[bool]

    @property
    def different(self) -> list[str]:
        """Each text once, in the order of its first coming."""
        return list(dict.fromkeys(self.texts))


def make_stream(traffic: Traffic, vectors: Vectors, length: int, *, seed: int = 1) -> Stream:
    """A stream of a set, its texts embedded."""
    texts = traffic.stream(length, exponent=EXPONENT, seed=seed)
    different = list(dict.fromkeys(texts))
    matrix = vectors.of(f"{traffic.name}-{length}", different)
    groups_of: dict[str, set[int]] = defaultdict(set)
    for number, group in enumerate(traffic.groups):
        for text in group:
            groups_of[text].add(number)
    place = {text: i for i, text in enumerate(different)}
    repeated, paraphrased, near = [], [], []
    known: set[str] = set()
    groups: set[int] = set()
    for text in texts:
        is_new = text not in known
        repeated.append(not is_new)
        paraphrased.append(is_new and not groups.isdisjoint(groups_of[text]))
        before = matrix[: len(known)] @ matrix[place[text]] if is_new and known else np.zeros(1)
        near.append(is_new and float(before.max()) >= _ALIKE)
        known.add(text)
        groups |= groups_of[text]
    return Stream(traffic.name, texts, repeated, paraphrased, near)


class Truth:
    """The true searches of all texts, made in batches; lists `length` long are left in the corpus."""

    def __init__(
        self, corpus: ChangingCorpus, vectors: Vectors, texts: Sequence[str], *, length: int = CANDIDATES
    ) -> None:
        import faiss

        flat = faiss.IndexFlatIP(corpus.matrix.shape[1])
        flat.add(corpus.matrix)
        matrix = vectors.embed_queries(texts)
        self.best: dict[str, np.ndarray] = {}
        for start in range(0, len(texts), 512):
            rows = matrix[start : start + 512]
            _, numbers = flat.search(rows, min(length + 8, len(corpus.matrix)))
            for text, row, number in zip(texts[start : start + 512], rows, numbers, strict=True):
                corpus.known[row.tobytes()] = corpus.ranked(number, row)
                self.best[text] = corpus.known[row.tobytes()][0][:K]

    def recall(self, text: str, served: np.ndarray) -> float:
        return float(np.isin(self.best[text], served).mean())


def run_cache(
    corpus: ChangingCorpus,
    vectors: Vectors,
    truth: Truth,
    stream: Stream,
    *,
    budget: float,
    candidates: int = CANDIDATES,
) -> tuple[list[Asked], Retriever]:
    """The cache itself, asked one question after the other."""
    cache = RetrievalCache(
        max_bytes=CACHE_BYTES,
        candidates=min(candidates, len(corpus.matrix) // 10),
        max_false_hit_rate=budget,
        min_recall=MIN_RECALL,
        audit_share=0.05,
    )
    asked = []
    with Retriever(corpus, vectors, settings=DENSE, cache=cache) as retriever:
        for text, *how in zip(*stream[1:], strict=True):
            started = time.perf_counter()
            result = retriever.search(text, k=K)
            seconds = time.perf_counter() - started
            found = np.array([int(hit.chunk.id) for hit in result.hits])
            recall = truth.recall(text, found) if result.tier != "miss" else 1.0
            asked.append(Asked(result.tier, recall, seconds, *how))
    return asked, retriever


def run_rule(rule: Rule, vectors: Vectors, truth: Truth, stream: Stream) -> list[Asked]:
    """Another cache's decision on the same stream."""
    asked = []
    for text, *how in zip(*stream[1:], strict=True):
        query = vectors.embed_queries([text])[0]
        served = rule.look_up(query)
        if served is None:
            rule.store(query, truth.best[text])
        recall = truth.recall(text, served) if served is not None else 1.0
        asked.append(Asked("miss" if served is None else "rule", recall, 0.0, *how))
    return asked
