"""Random changes to a corpus, ingested now and then, against a model that knows what must be found.

    PYTHONPATH=tests/indexer python -m harness.operations --operations 100000 [--seed N] [--record]

Files are written, rewritten, copied, moved, touched, emptied and deleted. After every ingest a reader that
has been open all along is asked, and must give the very scores of a brute-force comparison with every chunk
that the model holds: no ghost, nothing missing, and k results wherever k exist, with a filter and without, by
meaning and by words. Then the same with an index that is so small that searches are approximate: these may
miss one of the nearest, and must keep all else.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import os
import random
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from store_fakes import HashingEmbedder, InProcessReader

from harness import figures
from indexer import ingest, reading
from indexer.chunking import chunk_document, embedding_text
from indexer.index import Index
from indexer.parsers import parse
from indexer.scoring import exact_scores
from indexer.tokenization import ChunkTokenizer
from indexer.types import Filters
from indexer.vector_settings import VectorSettings

WORDS = [f"{first}{second}" for first in ("fer", "her", "ti", "cro", "mil") for second in ("ry", "on", "de")]
QUERIES = ("ferry crode", "milde tion heron", "cron")
FOLDERS = ("east", "west")
_KS = (1, 10)
_MOST_OPERATIONS = 200  # between two ingests
_WINDOWS = (2, 16, 512)  # files: in small ones commits overtake what was decided ahead of them
_VERIFY_EVERY = 50  # ingests
_PATHS_A_FOLDER = 100
VISIBLE_SECONDS = 1.0  # until a server's answers are those of the ingest that has just ended
_APPROXIMATE_SHARE = 0.05  # of the operations, once more
_EXACT_CHUNKS = 128  # in an approximate index, about a fifth of its chunks


@dataclass(slots=True)
class Account:
    """What was done and looked at."""

    operations: int = 0
    ingests: int = 0
    answers: int = 0  # that were compared
    chunks: int = 0  # at the end
    approximate: int = 0  # ingests after which searches did not compare all vectors
    slowest_seconds: float = 0.0  # from the end of an ingest to the first answers


class Corpus:
    """Files on disk, what they hold, and what must be found: by path, the last content that has text."""

    def __init__(self, folder: Path, rng: random.Random) -> None:
        self.folder = folder
        self._rng = rng
        self._paths = [
            folder / name / f"{number:03}" / f"a.{suffix}"
            for name in FOLDERS
            for number in range(_PATHS_A_FOLDER)
            for suffix in ("txt", "md")
        ]
        for path in self._paths:
            path.parent.mkdir(parents=True, exist_ok=True)
        self.present: dict[Path, str] = {}
        self.searchable: dict[Path, str] = {}

    def change(self) -> None:
        """One random operation."""
        path = self._rng.choice(self._paths)
        what = self._rng.choices(
            (self._write, self._copy, self._move, self._touch, self._empty, self._delete), (8, 2, 2, 1, 1, 6)
        )[0]
        what(path)

    def ingested(self, *, prune: bool) -> None:
        """What must be found from now on. A file that has become unreadable keeps its last good version."""
        kept = {path: text for path, text in self.searchable.items() if path in self.present or not prune}
        self.searchable = kept | {path: text for path, text in self.present.items() if text}

    def _write(self, path: Path) -> None:
        paragraphs = (" ".join(self._rng.choices(WORDS, k=12)) for _ in range(self._rng.randint(1, 4)))
        self._put(path, "\n\n".join(paragraphs))

    def _copy(self, path: Path) -> None:
        if self.present:
            self._put(path, self.present[self._rng.choice(list(self.present))])

    def _move(self, path: Path) -> None:
        if self.present:
            old = self._rng.choice(list(self.present))
            old.replace(path)
            self.present[path] = self.present.pop(old)

    def _touch(self, path: Path) -> None:
        if path in self.present:
            os.utime(path)

    def _empty(self, path: Path) -> None:
        self._put(path, "")

    def _delete(self, path: Path) -> None:
        if self.present.pop(path, None) is not None:
            path.unlink()

    def _put(self, path: Path, content: str) -> None:
        path.write_text(content)
        self.present[path] = content


class BruteForce:
    """Every chunk of every document, compared with the query one by one."""

    def __init__(self, embedder: HashingEmbedder) -> None:
        self._embedder = embedder
        self._tokenizer = ChunkTokenizer(embedder.tokenizer_path)
        self._chunks: dict[tuple[str, str], tuple[list[str], np.ndarray]] = {}  # by content and kind of file

    def expected(self, files: Iterable[tuple[Path, str]]) -> tuple[list[str], np.ndarray]:
        """Texts and (n, dimension) vectors; files of equal content and kind count once."""
        parts = [self._of(content, suffix) for content, suffix in {(text, p.suffix) for p, text in files}]
        texts = [text for texts, _ in parts for text in texts]
        empty = np.zeros((0, self._embedder.dimension), np.float32)
        return texts, np.concatenate([empty, *(vectors for _, vectors in parts)])

    def _of(self, content: str, suffix: str) -> tuple[list[str], np.ndarray]:
        key = (content, suffix)
        if key not in self._chunks:
            document = parse(content.encode(), name=f"a{suffix}")
            drafts = chunk_document(document, self._tokenizer, max_tokens=self._embedder.max_tokens)
            texts = [document.text[draft.start : draft.end] for draft in drafts]
            embedded = (embedding_text(d.context, text) for d, text in zip(drafts, texts, strict=True))
            self._chunks[key] = texts, np.stack([self._embedder.vector(text) for text in embedded])
        return self._chunks[key]


def run(
    folder: Path,
    *,
    num_operations: int,
    seed: int,
    most_at_once: int = _MOST_OPERATIONS,
    vectors: VectorSettings | None = None,
) -> Account:
    """Change, ingest and compare. AssertionError at the first answer that is not the model's."""
    rng = random.Random(seed)
    corpus, account = Corpus(folder / "corpus", rng), Account()
    embedder = HashingEmbedder()
    model = BruteForce(embedder)
    with (
        _parsing_in_process(),
        contextlib.closing(Index.open(folder / "index", embedder=embedder, vectors=vectors)) as index,
        contextlib.closing(Index.open(folder / "index", read_only=True, vectors=vectors)) as server,
    ):
        while account.operations < num_operations:
            for _ in range(min(rng.randint(1, most_at_once), num_operations - account.operations)):
                corpus.change()
                account.operations += 1
            prune = rng.random() < 0.8
            ingest.WINDOW_FILES = rng.choice(_WINDOWS)
            report = index.ingest([corpus.folder], prune=prune)
            account.ingests += 1
            assert report.found == len(corpus.present), "a file is not accounted for"
            corpus.ingested(prune=prune)
            account.slowest_seconds = max(account.slowest_seconds, _first_answer_seconds(server, embedder))
            account.approximate += not _is_exact(server)
            account.answers += _compare(server, corpus, model, embedder)
            if account.ingests % _VERIFY_EVERY == 0:
                _verify(server)
        _verify(server)
        account.chunks = index.stats().chunks
    return account


def _first_answer_seconds(server: Index, embedder: HashingEmbedder) -> float:
    """How long the server takes over the first question after an ingest. What it answers is compared next."""
    queries = embedder.embed_queries(QUERIES)
    started = time.perf_counter()
    server.search(queries, max(_KS))
    return time.perf_counter() - started


def _is_exact(server: Index) -> bool:
    with server.view() as view:
        return view.is_exact


def _compare(server: Index, corpus: Corpus, model: BruteForce, embedder: HashingEmbedder) -> int:
    """Ask with and without a filter; the number of answers that were compared."""
    queries = embedder.embed_queries(QUERIES)
    is_exact = _is_exact(server)
    num_answers = 0
    for name in (None, *FOLDERS):
        folder = corpus.folder / name if name else corpus.folder
        files = [(path, text) for path, text in corpus.searchable.items() if path.is_relative_to(folder)]
        texts, vectors = model.expected(files)
        filters = Filters(path_glob=str(folder)) if name else None
        for k in (*_KS, len(texts) + 5):
            for query, hits in zip(queries, server.search(queries, k, filters=filters), strict=True):
                _compare_scores([hit.score for hit in hits], vectors, query, k, is_exact=is_exact)
                found = [chunk.text for chunk in server.chunks([hit.chunk_id for hit in hits])]
                _compare_texts(found, texts, k)
                num_answers += 1
        if name is None:
            num_answers += _compare_words(server, texts)
    return num_answers


def _compare_scores(
    found: list[float], vectors: np.ndarray, query: np.ndarray, k: int, *, is_exact: bool
) -> None:
    """The k best scores; of an approximate search, any k, in order."""
    scores = sorted(exact_scores(vectors, query), reverse=True) if len(vectors) else []
    assert len(found) == min(k, len(scores)), f"{len(found)} results of {min(k, len(scores))}"
    if is_exact or k >= len(scores):
        assert found == scores[:k], "the scores are not those of a comparison with every chunk"
    else:
        assert found == sorted(found, reverse=True), "the best does not come first"
        assert not Counter(found) - Counter(scores), "a score that no chunk has"


def _compare_texts(found: list[str], texts: list[str], k: int) -> None:
    ghosts = set(found) - set(texts)
    assert not ghosts, f"a ghost: {ghosts}"
    assert k < len(texts) or sorted(found) == sorted(texts), "not every chunk is found"


def _compare_words(server: Index, texts: list[str]) -> int:
    """By words: every chunk that has one of the query's, and no ghost."""
    k = len(texts) + 5
    for query, hits in zip(QUERIES, server.search_text(QUERIES, k), strict=True):
        found = [chunk.text for chunk in server.chunks([hit.chunk_id for hit in hits])]
        ghosts = set(found) - set(texts)
        assert not ghosts, f"a ghost, by words: {ghosts}"
        missing = {text for text in texts if set(query.split()) & set(text.split())} - set(found)
        assert not missing, f"not found by its words: {missing}"
    return len(QUERIES)


def _verify(server: Index) -> None:
    report = server.verify()
    assert report.ok, report.findings


@contextlib.contextmanager
def _parsing_in_process() -> Iterator[None]:
    """And in windows that `run` chooses."""
    reader, window = reading.open_reader, ingest.WINDOW_FILES
    reading.open_reader = lambda settings, embedder: InProcessReader(settings, embedder, [])
    try:
        yield
    finally:
        reading.open_reader, ingest.WINDOW_FILES = reader, window


def main() -> int:
    parser = argparse.ArgumentParser(prog="harness.operations", description=__doc__.splitlines()[0])
    parser.add_argument("--operations", type=int, default=100_000)
    parser.add_argument("--seed", type=int, default=None, help="default: a new one, which is printed")
    parser.add_argument("--record", action="store_true", help="write the figures into docs/reliability.md")
    arguments = parser.parse_args()
    seed = arguments.seed if arguments.seed is not None else random.SystemRandom().randrange(1 << 32)
    print(f"seed {seed}", flush=True)
    started = time.perf_counter()
    with tempfile.TemporaryDirectory() as folder:
        account = run(Path(folder), num_operations=arguments.operations, seed=seed)
    num_approximate = int(_APPROXIMATE_SHARE * arguments.operations)
    with tempfile.TemporaryDirectory() as folder:
        settings = VectorSettings(exact_chunks=_EXACT_CHUNKS)
        other = run(Path(folder), num_operations=num_approximate, seed=seed, vectors=settings)
    slowest = max(account.slowest_seconds, other.slowest_seconds)
    lines = [
        f"{account.operations:,} operations in {account.ingests:,} ingests, {account.answers:,} answers"
        f" compared: no ghost, none missing. {account.chunks:,} chunks at the end.",
        f"{other.operations:,} more on an approximate index (after {other.approximate:,} of"
        f" {other.ingests:,} ingests), {other.answers:,} answers: no ghost, k results wherever k exist.",
        f"A reader that was open all along showed every change in its first answers after the ingest, which"
        f" took {slowest:.2f} s at most; allowed {VISIBLE_SECONDS:g} s.",
        f"Seed {seed}, {time.perf_counter() - started:,.0f} s.",
    ]
    print(*lines, sep="\n")
    summary = {"operations": account.operations + other.operations, "slowest_s": round(slowest, 3)}
    print(json.dumps({"harness": "operations", "seed": seed, **summary}))
    if arguments.record:
        figures.record("operations", lines)
    return 1 if slowest > VISIBLE_SECONDS else 0


if __name__ == "__main__":
    sys.exit(main())
