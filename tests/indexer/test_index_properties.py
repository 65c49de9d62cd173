"""Any order of changes to a corpus, against a model that looks at every file anew each time."""

from __future__ import annotations

import os
import shutil
import tempfile
from pathlib import Path

import numpy as np
import pytest
from harness import operations
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, rule
from store_fakes import HashingEmbedder, InProcessReader

from indexer import reading
from indexer.chunking import chunk_document, embedding_text
from indexer.index import Index
from indexer.parsers import ParseError, parse
from indexer.scoring import exact_scores
from indexer.tokenization import ChunkTokenizer
from indexer.types import Filters
from indexer.vector_settings import VectorSettings

# One stem: a chunk's context may name the file, and which of two equal files is read is the index's choice.
NAMES = st.sampled_from(["a.txt", "a.md", "deep/a.txt", "deep/a.py", "deeper/a.txt"])
CONTENTS = st.sampled_from(
    [
        "heron",
        "heron\n\nferry",
        "# Toll\n\ntwo crowns\n\n# Tide\n\nrises at nine",
        "# Toll\n\nthree crowns\n\n# Tide\n\nrises at nine",
        "same\n\n" * 3,
        "def tide():\n    return 1\n",
        "",
    ]
)
QUERIES = ["heron ferry", "toll crowns", "tide"]
TOKENIZER = ChunkTokenizer(HashingEmbedder().tokenizer_path)


class Corpus(RuleBasedStateMachine):
    """Changes files, ingests now and then, and compares everything that can be asked."""

    @initialize()
    def start(self) -> None:
        self.folder = Path(tempfile.mkdtemp())
        self.corpus = self.folder / "corpus"
        (self.corpus / "deep").mkdir(parents=True)
        (self.corpus / "deeper").mkdir()
        self.embedder = HashingEmbedder()
        self.patch = pytest.MonkeyPatch()
        self.patch.setattr(
            reading, "open_reader", lambda settings, embedder: InProcessReader(settings, embedder, [])
        )
        self.index = Index.open(self.folder / "index", embedder=self.embedder)
        self.server = Index.open(self.folder / "index", read_only=True)
        self.searchable: dict[str, str] = {}  # by path: the content that is to be found
        self.cached: tuple[int, set[str]] = (0, set())  # chunk ids, maintained by changes alone

    def teardown(self) -> None:
        if hasattr(self, "index"):
            self.index.close()
            self.server.close()
            self.patch.undo()
            shutil.rmtree(self.folder)

    @rule(name=NAMES, content=CONTENTS)
    def write(self, name: str, content: str) -> None:
        (self.corpus / name).write_text(content)

    @rule(name=NAMES)
    def delete(self, name: str) -> None:
        (self.corpus / name).unlink(missing_ok=True)

    @rule(old=NAMES, new=NAMES)
    def move(self, old: str, new: str) -> None:
        if (self.corpus / old).exists():
            (self.corpus / old).replace(self.corpus / new)

    @rule(name=NAMES)
    def touch(self, name: str) -> None:
        if (self.corpus / name).exists():
            os.utime(self.corpus / name)

    @rule(prune=st.booleans())
    def ingest(self, prune: bool) -> None:
        report = self.index.ingest([self.corpus], prune=prune)
        present = {str(path): path.read_text() for path in self.corpus.rglob("*") if path.is_file()}
        assert report.found == len(present)
        readable = {path: text for path, text in present.items() if text}
        kept = {path: text for path, text in self.searchable.items() if path in present or not prune}
        self.searchable = kept | readable
        self._compare()

    @rule()
    def reopen(self) -> None:
        self.index.close()
        self.index = Index.open(self.folder / "index", embedder=self.embedder)

    @invariant()
    def caches_can_follow(self) -> None:
        if not hasattr(self, "server"):
            return
        generation, ids = self.cached
        changes = self.server.changes_since(generation)
        assert changes.complete
        ids = ids - set(changes.removed) | set(changes.added)
        self.cached = (changes.generation, ids)
        with self.server.catalog.read() as connection:
            assert ids == {id_ for (id_,) in connection.execute("SELECT id FROM chunks")}

    def _compare(self) -> None:
        """Dense search, on the server that was open all along, against brute force over the files."""
        expected = self._expected()
        queries = self.embedder.embed_queries(QUERIES)
        for k in (1, 3, 100):
            for query, hits in zip(queries, self.server.search(queries, k), strict=True):
                chunks = self.server.chunks([hit.chunk_id for hit in hits])
                vectors = np.array([vector for _, vector in expected], np.float32).reshape(-1, 32)
                scores = exact_scores(vectors, query) if expected else []
                assert [hit.score for hit in hits] == sorted(scores, reverse=True)[:k]
                if k == 100:
                    assert sorted(c.text for c in chunks) == sorted(text for text, _ in expected)
                    for chunk in chunks:
                        text = self.server.document_text(chunk.document_id)
                        assert text[chunk.start : chunk.end] == chunk.text
                        assert chunk.uri in self.searchable
        self._compare_filtered(queries[:1])
        report = self.server.verify()
        assert report.ok, report.findings

    def _compare_filtered(self, query: np.ndarray) -> None:
        deep = {path: text for path, text in self.searchable.items() if "/deep/" in path}
        filters = Filters(path_glob=str(self.corpus / "deep"))
        (hits,) = self.server.search(query, 100, filters=filters)
        texts = sorted(chunk.text for chunk in self.server.chunks([hit.chunk_id for hit in hits]))
        assert texts == sorted(text for text, _ in self._expected(deep))

    def _expected(self, files: dict[str, str] | None = None) -> list[tuple[str, np.ndarray]]:
        """Text and vector of every chunk; files of equal content and kind count once."""
        contents = {
            (content, Path(path).suffix): path for path, content in (files or self.searchable).items()
        }
        if files is not None and not files:
            return []
        chunks = []
        for (content, suffix), path in contents.items():
            document = parse(content.encode(), name=f"{Path(path).stem}{suffix}")
            for draft in chunk_document(document, TOKENIZER, max_tokens=self.embedder.max_tokens):
                text = document.text[draft.start : draft.end]
                chunks.append((text, self.embedder.vector(embedding_text(draft.context, text))))
        return chunks


def test_hundreds_of_random_operations_leave_no_ghost_and_hide_nothing(tmp_path: Path):
    """`make crash` takes a hundred thousand."""
    account = operations.run(tmp_path, num_operations=300, seed=1, most_at_once=40)
    assert account.operations == 300
    assert account.chunks > 50


def test_random_operations_on_an_approximate_index_leave_no_ghost_and_k_results_wherever_k_exist(
    tmp_path: Path,
):
    settings = VectorSettings(exact_chunks=40)
    account = operations.run(tmp_path, num_operations=240, seed=2, most_at_once=80, vectors=settings)
    assert account.approximate >= 3


def test_the_comparison_would_notice_a_ghost_a_wrong_score_and_a_missing_result():
    vectors, query = np.eye(3, dtype=np.float32), np.array([1, 0, 0], np.float32)
    compare = operations._compare_scores
    compare([1.0, 0.0], vectors, query, 2, is_exact=True)
    compare([0.0, 0.0], vectors, query, 2, is_exact=False)
    for found, is_exact in (([1.0], True), ([0.0, 0.0], True), ([0.0, 1.0], False), ([1.0, 1.0], False)):
        with pytest.raises(AssertionError):
            compare(found, vectors, query, 2, is_exact=is_exact)
    with pytest.raises(AssertionError, match="a ghost"):
        operations._compare_texts(["gone"], ["here", "there"], 1)
    with pytest.raises(AssertionError, match="not every chunk"):
        operations._compare_texts(["here"], ["here", "there"], 2)


def test_empty_files_have_no_document():
    with pytest.raises(ParseError):
        parse(b"", name="a.txt")


TestCorpus = Corpus.TestCase
TestCorpus.settings = settings(max_examples=15, stateful_step_count=14, deadline=None)
