"""Retrieval sets, their metrics, and a corpus in memory: what the retrieval benchmarks share."""

from __future__ import annotations

import hashlib
import json
import sqlite3
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

import numpy as np

from indexer import lexical_segments
from indexer.embedding import Embedder
from indexer.lexical import LexicalHits, LexicalIndex
from indexer.scoring import exact_scores
from indexer.types import Chunk, Filters

METRICS = ("nDCG@10", "R@1", "R@5")


@dataclass(frozen=True)
class RetrievalSet:
    """Texts to find, questions, and for each question the grades of the texts that answer it."""

    name: str
    texts: list[str]
    questions: list[str]
    relevant: list[dict[int, int]]  # text number -> grade > 0


def load(data: Path, name: str) -> RetrievalSet:
    """A folder in BEIR's layout below `data`, or one of the sets that are cut here from other files."""
    cut = {"medquad": _medquad, "sentence_pairs": _sentence_pairs, "grounded_qa": _grounded_qa}
    found = cut[name](data) if name in cut else _beir(data / name)
    asked = [i for i, grades in enumerate(found.relevant) if grades]
    return RetrievalSet(
        name, found.texts, [found.questions[i] for i in asked], [found.relevant[i] for i in asked]
    )


def scores_of(found: Sequence[Sequence[int]], relevant: Sequence[dict[int, int]]) -> np.ndarray:
    """(3, questions): METRICS of rankings, question by question."""
    discounts = 1 / np.log2(np.arange(10) + 2)
    rows = []
    for ranking, grades in zip(found, relevant, strict=True):
        gains = np.array([grades.get(text, 0) for text in ranking[:10]])
        ideal = np.sort(list(grades.values()))[::-1][:10]
        rows.append(
            (
                gains @ discounts[: len(gains)] / (ideal @ discounts[: len(ideal)]),
                sum(text in grades for text in ranking[:1]) / len(grades),
                sum(text in grades for text in ranking[:5]) / len(grades),
            )
        )
    return np.array(rows).T


def interval(differences: np.ndarray, *, rounds: int = 2000) -> tuple[float, float]:
    """The 95% bootstrap interval of a mean."""
    rng = np.random.default_rng(0)
    means = [differences[rng.integers(0, len(differences), len(differences))].mean() for _ in range(rounds)]
    return float(np.quantile(means, 0.025)), float(np.quantile(means, 0.975))


class Vectors(NamedTuple):
    """(n, dimension) float32 each."""

    texts: np.ndarray
    questions: np.ndarray


def embed(chosen: RetrievalSet, embedder: Embedder, folder: Path | None) -> Vectors:
    """The vectors of a set, kept in a folder if one is given."""
    return Vectors(
        _kept(folder, chosen.name, chosen.texts, embedder.fingerprint, embedder.embed_documents),
        _kept(folder, chosen.name, chosen.questions, embedder.fingerprint, embedder.embed_queries),
    )


def kept_path(folder: Path, name: str, texts: Sequence[str], fingerprint: str) -> Path:
    """Where the vectors of these texts are kept."""
    digest = hashlib.sha256(json.dumps([fingerprint, list(texts)]).encode()).hexdigest()
    return folder / f"{name}-{digest[:16]}.npy"


class ArrayCorpus:
    """Texts and vectors in memory as a retriever.corpus.Corpus; the lexical side is the product's own."""

    version = None
    is_exact = True  # `nearest` compares all vectors

    def __init__(self, texts: Sequence[str], vectors: np.ndarray) -> None:
        self._texts = texts
        self._vectors = vectors
        self._ids = np.array([f"{i:032d}" for i in range(len(texts))], "S32")
        self._connection = sqlite3.connect(":memory:")
        lexical_segments.create_tables(self._connection)
        lexical_segments.add_chunks(self._connection, enumerate(texts))
        self._lexical = LexicalIndex()

    @contextmanager
    def view(self) -> Iterator[ArrayCorpus]:
        """Itself: nothing ever changes."""
        yield self

    def matching(self, filters: object) -> None:
        """All of them."""

    def count(self, allowed: object) -> int:
        return len(self._texts)

    def nearest(self, vectors: np.ndarray, k: int, *, allowed: object) -> list[tuple[np.ndarray, np.ndarray]]:
        found = []
        for similarities, vector in zip(vectors @ self._vectors.T, vectors, strict=True):
            best = np.argpartition(-similarities, min(k, len(similarities) - 1))[: k + 8]
            scores = exact_scores(self._vectors[best], vector)
            order = np.lexsort((best, -scores))[:k]
            found.append((best[order].astype(np.int64), scores[order]))
        return found

    def match(self, queries: Sequence[str], k: int, *, allowed: object) -> list[LexicalHits]:
        return self._lexical.search(self._connection, queries, k)

    def vectors(self, numbers: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        return numbers, self._vectors[numbers]

    def ids(self, numbers: np.ndarray) -> np.ndarray:
        return self._ids[numbers]

    def chunks(self, numbers: np.ndarray, *, filters: Filters | None = None) -> list[Chunk]:
        return [Chunk(str(n), "", "", "", 0, 0, None, (), (), "text") for n in numbers]

    def sample(self, size: int) -> np.ndarray:
        chosen = np.random.default_rng(0).permutation(len(self._texts))[:size]
        return self._vectors[np.sort(chosen)]


def _kept(folder: Path | None, name: str, texts: Sequence[str], fingerprint: str, embed_texts) -> np.ndarray:  # noqa: ANN001
    path = kept_path(folder, name, texts, fingerprint) if folder else None
    if path and path.exists():
        return np.load(path, allow_pickle=False)
    vectors = np.asarray(embed_texts(texts), np.float32)
    if path:
        path.parent.mkdir(parents=True, exist_ok=True)
        np.save(path, vectors)
    return vectors


def _lines(path: Path) -> list[dict]:
    with path.open(encoding="utf-8") as file:
        return [json.loads(line) for line in file]


def _beir(folder: Path) -> RetrievalSet:
    corpus, queries = _lines(folder / "corpus.jsonl"), _lines(folder / "queries.jsonl")
    numbers = {row["_id"]: i for i, row in enumerate(corpus)}
    asked = {row["_id"]: i for i, row in enumerate(queries)}
    relevant: list[dict[int, int]] = [{} for _ in queries]
    for line in (folder / "qrels.tsv").read_text(encoding="utf-8").splitlines()[1:]:
        query, text, grade = line.split("\t")
        if query in asked and text in numbers and int(grade) > 0:
            relevant[asked[query]][numbers[text]] = int(grade)
    texts = [f"{row.get('title', '')}\n{row['text']}".strip() for row in corpus]
    return RetrievalSet(folder.name, texts, [row["text"] for row in queries], relevant)


def _pairs(name: str, pairs: Sequence[tuple[str, str]], every: int) -> RetrievalSet:
    """One answer a question; every so many-th question is asked, all answers are there to be found."""
    numbers: dict[str, int] = {}
    for _, answer in pairs:
        numbers.setdefault(answer, len(numbers))
    asked = pairs[::every]
    return RetrievalSet(name, list(numbers), [q for q, _ in asked], [{numbers[a]: 1} for _, a in asked])


def _medquad(data: Path) -> RetrievalSet:
    rows = [row for row in _lines(data / "medquad.jsonl") if row.get("answer")][::3]
    return _pairs("medquad", [(row["question"], row["answer"]) for row in rows], 5)


def _sentence_pairs(data: Path) -> RetrievalSet:
    rows = _lines(data / "retrieval_pairs_squadtrain_test.jsonl")
    return _pairs("sentence_pairs", [(row["query"], row["text"]) for row in rows], 8)


def _grounded_qa(data: Path) -> RetrievalSet:
    passages, asked = _lines(data / "qa_train_passages.jsonl"), _lines(data / "qa_train_refs.jsonl")[::12]
    numbers = {row["pid"]: i for i, row in enumerate(passages)}
    texts = [f"{row.get('title') or ''}\n{row['text']}".strip() for row in passages]
    relevant = [{numbers[row["gold"]]: 1} for row in asked]
    return RetrievalSet("grounded_qa", texts, [row["question"] for row in asked], relevant)
