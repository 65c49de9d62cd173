"""Reranking by late interaction: every word of the query looks for its best match in the passage.

score(q, d) = mean over the tokens i of q of max over the tokens j of d of <q_i, d_j>, with unit vectors: the
MaxSim of ColBERT (Khattab and Zaharia, 2020, section 3.3), as a mean so that long queries score no higher.
The token vectors are those that the embedder pools into its one vector a text. It was not trained for this,
so whether it helps is a question for a measurement; nothing has to be downloaded for it.
"""

from __future__ import annotations

import hashlib
import threading
from collections import OrderedDict
from collections.abc import Sequence
from typing import Protocol

import numpy as np

from retriever.errors import InvalidRetrievalSettings

_BYTES_PER_ENTRY = 300  # of bookkeeping


class TokenEmbedder(Protocol):
    """What late interaction needs of an embedder; SentenceTransformerEmbedder has it."""

    fingerprint: str

    def embed_tokens(self, texts: Sequence[str], *, queries: bool = False) -> list[np.ndarray]:
        """(tokens, dimension) float32 unit rows of each text, special tokens left out."""
        ...


class LateInteractionReranker:
    """Scores by MaxSim. Passages' token vectors are kept, in float16, under a budget of bytes.

    A token takes 2 bytes a dimension: with MiniLM a passage of 200 tokens is 150 KiB. Threads may share it.
    """

    name = "late interaction"

    def __init__(self, embedder: TokenEmbedder, *, max_bytes: int = 256 << 20) -> None:
        """Raises InvalidRetrievalSettings for an embedder that has no token vectors."""
        if not hasattr(embedder, "embed_tokens"):
            raise InvalidRetrievalSettings(
                "This embedder has no token vectors, which late interaction compares.",
                hint="Use a cross-encoder, or an embedder with embed_tokens().",
            )
        self._embedder = embedder
        self._kept = TokenVectorCache(max_bytes)
        self.fingerprint = f"late-interaction-{embedder.fingerprint}"

    def scores(self, query: str, texts: Sequence[str]) -> np.ndarray:
        """(n,) float32 in [-1, 1]; a text without a token scores -1."""
        if not texts:
            return np.zeros(0, np.float32)
        (asked,) = self._embedder.embed_tokens([query], queries=True)
        return max_sim(asked, self._vectors(texts))

    def _vectors(self, texts: Sequence[str]) -> list[np.ndarray]:
        """(tokens, dimension) float16 of each text; those that are not kept in one batch."""
        keys = [hashlib.sha256(text.encode("utf-8", "surrogatepass")).digest() for text in texts]
        found = {key: kept for key in keys if (kept := self._kept.get(key)) is not None}
        new = {key: text for key, text in zip(keys, texts, strict=True) if key not in found}
        if new:
            embedded = self._embedder.embed_tokens(list(new.values()))
            for key, vectors in zip(new, embedded, strict=True):
                found[key] = vectors.astype(np.float16)
                self._kept.put(key, found[key])
        return [found[key] for key in keys]


def max_sim(query: np.ndarray, passages: Sequence[np.ndarray]) -> np.ndarray:
    """(n,) float32 scores of n passages' (tokens, dimension) rows for a query's (tokens, dimension) rows."""
    scores = np.full(len(passages), -1, np.float32)
    lengths = np.array([len(rows) for rows in passages])
    filled = np.flatnonzero(lengths)
    if not len(filled) or not len(query):
        return scores
    rows = np.concatenate([passages[i] for i in filled]).astype(np.float32)  # (all tokens, dimension)
    similarities = query.astype(np.float32) @ rows.T  # (query tokens, all tokens)
    starts = np.concatenate([[0], np.cumsum(lengths[filled])[:-1]])
    scores[filled] = np.maximum.reduceat(similarities, starts, axis=1).mean(axis=0)
    return scores


class TokenVectorCache:
    """Arrays by key, those not used for longest dropped beyond a budget of bytes."""

    def __init__(self, max_bytes: int) -> None:
        if max_bytes < 0:
            raise InvalidRetrievalSettings(f"max_bytes is {max_bytes}.", hint="It has to be at least 0.")
        self.max_bytes = max_bytes
        self.bytes = 0
        self._arrays: OrderedDict[bytes, np.ndarray] = OrderedDict()  # last used last
        self._lock = threading.Lock()

    def __len__(self) -> int:
        return len(self._arrays)

    def get(self, key: bytes) -> np.ndarray | None:
        """The array, if it is still there."""
        with self._lock:
            if key not in self._arrays:
                return None
            self._arrays.move_to_end(key)
            return self._arrays[key]

    def put(self, key: bytes, array: np.ndarray) -> None:
        """Keeps an array, unless it alone exceeds the budget."""
        with self._lock:
            if key in self._arrays or _size(array) > self.max_bytes:
                return
            self._arrays[key] = array
            self.bytes += _size(array)
            while self.bytes > self.max_bytes:
                _, dropped = self._arrays.popitem(last=False)
                self.bytes -= _size(dropped)


def _size(array: np.ndarray) -> int:
    return array.nbytes + _BYTES_PER_ENTRY
