"""How much of what answers a question do five retrieved chunks hold, and how much else?

    python benchmarks/chunking_quality.py DATA/chunking_evaluation [--strategies NAME ...] [--cache FOLDER]

Token-level retrieval quality as in Chroma's "Evaluating Chunking Strategies for Retrieval" (2024), on its
472 questions with exact reference spans over five corpora: recall is the share of the reference characters
that the five best chunks of all corpora hold, precision the share of those chunks that is reference, IoU both
at once. The ceiling is what the best five chunks of the same cutting could reach. Five large chunks are more
text than five small ones, so recall is also told for equal amounts: of the first 1,000 tokens retrieved, the
last chunk cut off. Baselines are written here from the report's descriptions and embedded with the same model
in the same run. Then, question by question, ours against each of them: means and 95% bootstrap intervals.
"""

from __future__ import annotations

import argparse
import csv
import hashlib
import json
import re
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import asdict, dataclass
from itertools import pairwise
from pathlib import Path
from typing import NamedTuple

import numpy as np

from indexer.chunking import chunk_document, embedding_text
from indexer.chunking.chunker import DEFAULT_TARGET_TOKENS
from indexer.embedding import SentenceTransformerEmbedder
from indexer.parsers import parse
from indexer.tokenization import ChunkTokenizer
from ragserve.evaluation.bootstrap import interval

NUM_RETRIEVED = 5
NUM_TOKENS = 1000  # retrieved, whatever number of chunks that is
COMPARED = (f"ours-{DEFAULT_TARGET_TOKENS}", "ours-128")
THREE, FOUR = "{:+.3f} ({:+.3f} to {:+.3f})", "{:+.4f} ({:+.4f} to {:+.4f})"  # a mean and its interval
SEPARATORS = ("\n\n", "\n", ".", "?", "!", " ", "")


class Chunk(NamedTuple):
    corpus: str
    start: int
    end: int
    embedded: str


@dataclass(frozen=True)
class Question:
    text: str
    corpus: str
    spans: tuple[tuple[int, int], ...]


@dataclass(frozen=True)
class Scores:
    strategy: str
    recall: float
    precision: float
    iou: float
    recall_ceiling: float
    precision_omega: float
    recall_of_tokens: float  # the first NUM_TOKENS retrieved
    chunks: int
    mean_tokens: float
    seconds: float


class Embeddings:
    """Vectors by text, kept on disk if a folder is given, so that strategies share them and runs resume."""

    def __init__(self, embedder: SentenceTransformerEmbedder, folder: Path | None) -> None:
        self._embedder = embedder
        self._path = folder / f"{embedder.fingerprint}.npz" if folder else None
        self._known: dict[str, np.ndarray] = {}
        if self._path and self._path.exists():
            with np.load(self._path, allow_pickle=False) as saved:
                self._known = dict(zip(saved["keys"].tolist(), saved["vectors"], strict=True))

    def __call__(self, texts: Sequence[str]) -> np.ndarray:
        keys = [hashlib.sha256(text.encode()).hexdigest()[:24] for text in texts]
        new = {key: text for key, text in zip(keys, texts, strict=True) if key not in self._known}
        if new:
            self._known.update(zip(new, self._embedder.embed_documents(list(new.values())), strict=True))
            if self._path:
                self._path.parent.mkdir(parents=True, exist_ok=True)
                np.savez(
                    self._path, keys=np.array(list(self._known)), vectors=np.stack(list(self._known.values()))
                )
        return np.stack([self._known[key] for key in keys])


Strategy = Callable[[str, str, ChunkTokenizer, Embeddings], Iterator[Chunk]]


def ours(*, target: int, context: bool = True, max_tokens: int = 256) -> Strategy:
    def run(corpus: str, text: str, tokenizer: ChunkTokenizer, _: Embeddings) -> Iterator[Chunk]:
        document = parse(text.encode(), name=f"{corpus}.md")
        if document.text != text:
            raise SystemExit(f"The parser changed {corpus}: reference offsets no longer hold.")
        for draft in chunk_document(document, tokenizer, max_tokens=max_tokens, target_tokens=target):
            piece = text[draft.start : draft.end]
            yield Chunk(
                corpus, draft.start, draft.end, embedding_text(draft.context if context else "", piece)
            )

    return run


def fixed_tokens(*, size: int, overlap: int) -> Strategy:
    """Every `size` tokens, wherever that falls."""

    def run(corpus: str, text: str, tokenizer: ChunkTokenizer, _: Embeddings) -> Iterator[Chunk]:
        units = list(tokenizer.units(text, 0, len(text)))
        starts = np.cumsum([0, *(unit.tokens for unit in units)])
        for first in range(0, int(starts[-1]), size - overlap):
            inside = [u for u, begin in zip(units, starts, strict=False) if first <= begin < first + size]
            if inside:
                start, end = inside[0].start, inside[-1].end
                yield Chunk(corpus, start, end, text[start:end])

    return run


def recursive(*, size: int) -> Strategy:
    """Split at the first separator that occurs, again inside what is too long, then merge neighbours."""

    def run(corpus: str, text: str, tokenizer: ChunkTokenizer, _: Embeddings) -> Iterator[Chunk]:
        for start, end in recursive_spans(text, tokenizer, size):
            yield Chunk(corpus, start, end, text[start:end])

    return run


def recursive_spans(text: str, tokenizer: ChunkTokenizer, size: int) -> list[tuple[int, int]]:
    def pieces(start: int, end: int, level: int) -> Iterator[tuple[int, int]]:
        if tokenizer.count(text[start:end]) <= size or level == len(SEPARATORS) - 1:
            yield start, end
            return
        separator = SEPARATORS[level]
        cuts = [
            match.start() for match in re.finditer(re.escape(separator), text[start:end]) if match.start()
        ]
        edges = [start, *(start + cut for cut in cuts), end]
        for left, right in pairwise(edges):
            yield from pieces(left, right, level + 1)

    merged: list[list[int]] = []
    tokens = 0
    for start, end in pieces(0, len(text), 0):
        count = tokenizer.count(text[start:end])
        if merged and tokens + count <= size:
            merged[-1][1] = end
            tokens += count
        else:
            merged.append([start, end])
            tokens = count
    return [strip(text, start, end) for start, end in merged if text[start:end].strip()]


def cluster_semantic(*, size: int) -> Strategy:
    """Pieces of 50 tokens, grouped so that the similarity inside groups of `size` tokens is largest."""

    def run(corpus: str, text: str, tokenizer: ChunkTokenizer, embed: Embeddings) -> Iterator[Chunk]:
        spans = recursive_spans(text, tokenizer, 50)
        vectors = embed([text[start:end] for start, end in spans])
        similarity = vectors @ vectors.T
        np.fill_diagonal(similarity, 0)
        off_diagonal = similarity.sum() / max(1, len(spans) * (len(spans) - 1))
        reward = np.pad(np.cumsum(np.cumsum(similarity - off_diagonal, axis=0), axis=1), ((1, 0), (1, 0)))
        longest = max(1, size // 50)
        best, previous = np.zeros(len(spans) + 1), [0] * (len(spans) + 1)
        for end in range(1, len(spans) + 1):
            starts = range(max(0, end - longest), end)
            block = [reward[end, end] - reward[s, end] - reward[end, s] + reward[s, s] for s in starts]
            gains = [best[s] + gain for s, gain in zip(starts, block, strict=True)]
            best[end], previous[end] = max(gains), starts[int(np.argmax(gains))]
        end, groups = len(spans), []
        while end:
            groups.append((previous[end], end))
            end = previous[end]
        for first, last in reversed(groups):
            start, stop = spans[first][0], spans[last - 1][1]
            yield Chunk(corpus, start, stop, text[start:stop])

    return run


def strip(text: str, start: int, end: int) -> tuple[int, int]:
    piece = text[start:end]
    return start + len(piece) - len(piece.lstrip()), end - (len(piece) - len(piece.rstrip()))


STRATEGIES: dict[str, Strategy] = {
    **{f"ours-{target}": ours(target=target) for target in (96, 128, 160, 192, 224, 254)},
    "recursive-200": recursive(size=200),
    "recursive-400": recursive(size=400),
    "fixed-200": fixed_tokens(size=200, overlap=0),
    "fixed-250-overlap-125": fixed_tokens(size=250, overlap=125),
    "cluster-200": cluster_semantic(size=200),
    "cluster-400": cluster_semantic(size=400),
}


def overlap(one: tuple[int, int], other: tuple[int, int]) -> int:
    return max(0, min(one[1], other[1]) - max(one[0], other[0]))


def covered(chunks: Sequence[Chunk], question: Question) -> int:
    """Reference characters in the chunks, each counted once."""
    inside = np.zeros(sum(end - start for start, end in question.spans), dtype=bool)
    offset = 0
    for start, end in question.spans:
        for chunk in chunks:
            if chunk.corpus == question.corpus and overlap((start, end), chunk[1:3]):
                inside[offset + max(start, chunk.start) - start : offset + min(end, chunk.end) - start] = True
        offset += end - start
    return int(inside.sum())


def score(question: Question, chunks: Sequence[Chunk], retrieved: Sequence[Chunk]) -> tuple[float, ...]:
    """(recall, precision, IoU, recall of the best five chunks, precision of all that hold reference)."""
    wanted = sum(end - start for start, end in question.spans)
    found, size = covered(retrieved, question), sum(chunk.end - chunk.start for chunk in retrieved)
    touching = [
        c for c in chunks if c.corpus == question.corpus and any(overlap(s, c[1:3]) for s in question.spans)
    ]
    touching.sort(key=lambda c: -sum(overlap(s, c[1:3]) for s in question.spans))
    total = sum(chunk.end - chunk.start for chunk in touching)
    ceiling = covered(touching[:NUM_RETRIEVED], question)
    return (
        found / wanted,
        found / size,
        found / (size + wanted - found),
        ceiling / wanted,
        covered(touching, question) / max(1, total),
    )


def first_tokens(ranked: Sequence[Chunk], sizes: Sequence[int]) -> Iterator[Chunk]:
    """The first NUM_TOKENS tokens of ranked chunks of these sizes; of the last one its beginning."""
    left = NUM_TOKENS
    for chunk, size in zip(ranked, sizes, strict=True):
        if left <= 0:
            return
        share = min(1.0, left / max(1, size))
        yield chunk._replace(end=chunk.start + round(share * (chunk.end - chunk.start)))
        left -= size


def evaluate(
    name: str,
    texts: dict[str, str],
    questions: Sequence[Question],
    tokenizer: ChunkTokenizer,
    embed: Embeddings,
) -> tuple[Scores, np.ndarray]:
    """The means, and (questions, 3): recall, IoU, and recall of the first tokens."""
    start = time.perf_counter()
    chunks = [c for corpus, text in texts.items() for c in STRATEGIES[name](corpus, text, tokenizer, embed)]
    vectors = embed([chunk.embedded for chunk in chunks])
    similarity = embed([question.text for question in questions]) @ vectors.T
    sizes = [tokenizer.count(texts[chunk.corpus][chunk.start : chunk.end]) for chunk in chunks]
    rows = []
    for question, order in zip(questions, np.argsort(-similarity, axis=1, kind="stable"), strict=True):
        ranked = [chunks[i] for i in order[:NUM_TOKENS]]
        beginning = list(first_tokens(ranked, [sizes[i] for i in order[:NUM_TOKENS]]))
        wanted = sum(end - begin for begin, end in question.spans)
        found = covered(beginning, question) / wanted
        rows.append((*score(question, chunks, ranked[:NUM_RETRIEVED]), found))
    scores = Scores(
        name,
        *(round(float(value), 4) for value in np.mean(rows, axis=0)),
        len(chunks),
        round(float(np.mean(sizes)), 1),
        round(time.perf_counter() - start, 1),
    )
    return scores, np.array(rows)[:, [0, 2, 5]]


def compare(by_strategy: dict[str, np.ndarray]) -> dict[str, list[float]]:
    """Ours against the others: mean differences of what `evaluate` gives of each question, with intervals."""
    differences: dict[str, list[float]] = {}
    for ours in [name for name in COMPARED if name in by_strategy]:
        print(f"{ours + ' minus':25} {'recall':>26} {'IoU':>30} {f'of {NUM_TOKENS:,} tokens':>26}")
        for name in [name for name in by_strategy if not name.startswith("ours")]:
            better = (by_strategy[ours] - by_strategy[name]).T
            figures = [(float(kind.mean()), *interval(kind)) for kind in better]
            differences[f"{ours} - {name}"] = [round(value, 4) for figure in figures for value in figure]
            print(
                f"  {name:23} {THREE.format(*figures[0]):>26} {FOUR.format(*figures[1]):>30}"
                f" {THREE.format(*figures[2]):>26}"
            )
    return differences


def read_questions(path: Path) -> list[Question]:
    with path.open(newline="", encoding="utf-8") as file:
        rows = list(csv.DictReader(file))
    return [
        Question(
            row["question"],
            row["corpus_id"],
            tuple((int(r["start_index"]), int(r["end_index"])) for r in json.loads(row["references"])),
        )
        for row in rows
    ]


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("data", type=Path, help="the folder chunking_evaluation")
    parser.add_argument("--strategies", nargs="+", choices=STRATEGIES, default=list(STRATEGIES))
    parser.add_argument("--corpora", nargs="+", help="only these, and the questions on them")
    parser.add_argument("--cache", type=Path, help="keep vectors here")
    arguments = parser.parse_args()
    questions = [
        question
        for question in read_questions(arguments.data / "questions_df.csv")
        if not arguments.corpora or question.corpus in arguments.corpora
    ]
    paths = sorted((arguments.data / "corpora").glob("*.md"))
    texts = {
        p.stem: p.read_text("utf-8") for p in paths if not arguments.corpora or p.stem in arguments.corpora
    }
    embedder = SentenceTransformerEmbedder()
    tokenizer = ChunkTokenizer(embedder.tokenizer_path)
    embed = Embeddings(embedder, arguments.cache)
    print(f"{len(questions)} questions, {', '.join(texts)}")
    print(
        f"{'strategy':30} recall  of ceiling  precision    IoU  P-omega  of {NUM_TOKENS:,} tokens"
        "  chunks  tokens"
    )
    results = []
    by_strategy: dict[str, np.ndarray] = {}
    for name in arguments.strategies:
        result, by_strategy[name] = evaluate(name, texts, questions, tokenizer, embed)
        results.append(asdict(result))
        share = result.recall / result.recall_ceiling
        print(
            f"{name:30} {result.recall:6.3f}  {share:10.3f}  {result.precision:9.4f} {result.iou:6.4f}"
            f" {result.precision_omega:8.3f} {result.recall_of_tokens:16.3f} {result.chunks:7d}"
            f" {result.mean_tokens:7.1f}",
            flush=True,
        )
    figures = {"questions": len(questions), "results": results, "differences": compare(by_strategy)}
    print(json.dumps({"benchmark": "chunking_quality", **figures}))


if __name__ == "__main__":
    main()
