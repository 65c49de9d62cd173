"""Texts into unit vectors. What calls this decides what to embed; how many at a time is decided here."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Literal, Protocol

from indexer.embedding_bert import BertEncoder, bert_shape
from indexer.embedding_errors import EmbeddingFailed, ModelNotFound, NotAnEmbedder, WeightsMismatch
from indexer.embedding_loading import in_fastest_dtype, load_model
from indexer.embedding_model import check_default_weights, default_embedder_folder, describe, find_model
from indexer.embedding_tokens import library_token_rows
from indexer.hardware import resolve_device
from indexer.lazy import Lazy
from indexer.tokenization import ChunkTokenizer

if TYPE_CHECKING:
    import numpy as np
    from sentence_transformers import SentenceTransformer

Encode = Callable[[list[str]], "np.ndarray"]
"""A batch of texts to (n, dimension) float32 rows, not yet normalised."""

__all__ = [
    "Embedder",
    "EmbeddingFailed",
    "ModelNotFound",
    "NotAnEmbedder",
    "SentenceTransformerEmbedder",
    "WeightsMismatch",
    "default_embedder_folder",
]

# Tokens a batch, padding included: enough to fill the hardware, few enough for its caches and memory.
_CPU_BATCH_TOKENS = 4096
_CUDA_BATCH_TOKENS = 65536
_BERT_DTYPES = ("auto", "float32", "bfloat16")  # that `BertEncoder` computes; float16 is slow on a CPU


class Embedder(Protocol):
    """What the index needs of an embedding model. Vectors compare if and only if fingerprints are equal."""

    @property
    def fingerprint(self) -> str:
        """Identifies the vectors: the same on every machine, device and dtype."""
        ...

    @property
    def dimension(self) -> int:
        """The width of a vector."""
        ...

    @property
    def max_tokens(self) -> int:
        """How many tokens of a document it reads, special tokens included."""
        ...

    @property
    def tokenizer_path(self) -> Path:
        """The tokenizer.json that counts them."""
        ...

    def embed_documents(self, texts: Sequence[str]) -> np.ndarray:
        """(n, dimension) float32 unit rows, in the order of the texts."""
        ...

    def embed_queries(self, texts: Sequence[str]) -> np.ndarray:
        """The same for questions; some models read them with another prompt."""
        ...


class SentenceTransformerEmbedder:
    """Any sentence-transformers model: None is the embedded default, else a folder or a hub name.

    Opening reads configuration files only; weights are read when the first text is embedded, or in the
    background after `start_loading()`. The library is imported only where `BertEncoder` does not do. Threads
    may share it.

    `device`: auto, cpu, cuda or cuda:n. `dtype`: auto, float32, bfloat16 or float16; auto is bfloat16 where
    the hardware is fast at it and rankings agree with float32 (`embedding_loading.rankings_agree`).
    """

    def __init__(
        self,
        name_or_path: str | None = None,
        *,
        device: str = "auto",
        dtype: str = "auto",
        batch_tokens: int | None = None,
    ) -> None:
        self._is_default = name_or_path is None
        self.name = "all-MiniLM-L6-v2 (embedded)" if name_or_path is None else name_or_path  # for messages
        folder = default_embedder_folder() if name_or_path is None else find_model(name_or_path)
        self.description = describe(folder)
        self._requested_device = device
        self._requested_dtype = dtype
        self._batch_tokens = batch_tokens
        self._tokenizer = ChunkTokenizer(self.tokenizer_path)
        self.max_tokens = self.description.max_length - self._tokenizer.count(
            self.description.document_prompt
        )
        self._library = Lazy(self._load_library)
        self._query_bert = Lazy(self._load_query_bert)
        self._document_bert = Lazy(self._load_document_bert)
        self._query_encoder = Lazy(lambda: self._load_encoder("query"))
        self._document_encoder = Lazy(lambda: self._load_encoder("document"))
        self._running = threading.Lock()  # one batch at a time: torch has its own threads

    @property
    def fingerprint(self) -> str:
        """Identifies model, tokenizer, prompts and length; independent of device, dtype and place."""
        return self.description.fingerprint

    @property
    def tokenizer_path(self) -> Path:
        """The model's tokenizer.json."""
        return self.description.tokenizer_path

    @property
    def dimension(self) -> int:
        """The width of a vector; only for unusual architectures does asking load the model."""
        return self.description.dimension or int(self._library.get().get_embedding_dimension())

    @property
    def dtype(self) -> str:
        """The dtype that documents are embedded in: "float32", "bfloat16" or "float16"; loads the model."""
        bert = self._document_bert.get()
        return bert.dtype if bert else str(self._library.get().dtype).removeprefix("torch.")

    def start_loading(self, *, documents: bool = False) -> None:
        """Begin in the background to load what questions need, or documents; failures show on first use."""
        (self._document_encoder if documents else self._query_encoder).start()

    def warm_up(self) -> None:
        """Load what questions need and run it once, so that the first one does not pay for it."""
        self.embed_queries(["warm up"])

    def embed_documents(self, texts: Sequence[str]) -> np.ndarray:
        """(n, dimension) float32 unit rows, in the order of the texts."""
        return self._embed(texts, self._document_encoder, self.description.document_prompt)

    def embed_queries(self, texts: Sequence[str]) -> np.ndarray:
        """(n, dimension) float32 unit rows, in the order of the questions."""
        return self._embed(texts, self._query_encoder, self.description.query_prompt)

    def embed_tokens(self, texts: Sequence[str], *, queries: bool = False) -> list[np.ndarray]:
        """(tokens, hidden size) float32 unit rows of each text: what is pooled into its one vector.

        Special tokens are left out, and so is what is beyond the length that the model reads.
        """
        import numpy as np

        prompt = self.description.query_prompt if queries else self.description.document_prompt
        found: list[np.ndarray] = [np.empty(0, np.float32)] * len(texts)
        if texts:
            encode = self._token_encoder()
            with self._running:
                for batch in batches_by_length(self._lengths(texts, prompt), self._tokens_per_batch()):
                    rows_by_text = encode([prompt + texts[index] for index in batch])
                    for index, rows in zip(batch, rows_by_text, strict=True):
                        norms = np.linalg.norm(rows, axis=1, keepdims=True)
                        found[index] = rows / np.maximum(norms, 1e-12)
        return found

    def _embed(self, texts: Sequence[str], encoder: Lazy[Encode], prompt: str) -> np.ndarray:
        import numpy as np

        vectors = np.empty((len(texts), self.dimension), dtype=np.float32)
        if texts:
            encode = encoder.get()
            with self._running:
                for batch in batches_by_length(self._lengths(texts, prompt), self._tokens_per_batch()):
                    vectors[batch] = run_batch(encode, [texts[index] for index in batch], vectors.shape[1])
        return vectors

    def _lengths(self, texts: Sequence[str], prompt: str) -> list[int]:
        """Tokens that the model will read of each text."""
        extra = self._tokenizer.num_special_tokens + self._tokenizer.count(prompt)
        limit = self.description.max_length
        # Text far beyond the limit is cut by the model; counting it to the end would only take time.
        return [min(limit, extra + self._tokenizer.estimate(text[: 24 * limit])) for text in texts]

    def _tokens_per_batch(self) -> int:
        usual = _CPU_BATCH_TOKENS if resolve_device(self._requested_device) == "cpu" else _CUDA_BATCH_TOKENS
        return self._batch_tokens or usual

    def _load_library(self) -> SentenceTransformer:
        self._check_weights()
        device = resolve_device(self._requested_device)
        return load_model(self.description, device=device, dtype=self._requested_dtype)

    def _load_query_bert(self) -> BertEncoder | None:
        """Our own forward pass where it does the same, so that nothing need wait for the library."""
        shape = bert_shape(self.description)
        if shape is None or self._requested_dtype not in _BERT_DTYPES:
            return None
        if resolve_device(self._requested_device) != "cpu":
            return None
        self._check_weights()
        bert = BertEncoder(self.description, shape)
        return bert.to(self._requested_dtype) if self._requested_dtype == "bfloat16" else bert

    def _load_document_bert(self) -> BertEncoder | None:
        bert = self._query_bert.get()
        if bert is None or self._requested_dtype != "auto":
            return bert
        return in_fastest_dtype(bert, self.description)

    def _load_encoder(self, task: Literal["query", "document"]) -> Encode:
        if task == "query":
            bert, prompt = self._query_bert.get(), self.description.query_prompt
        else:
            bert, prompt = self._document_bert.get(), self.description.document_prompt
        if bert is None:
            return self._library_encoder(task)
        return lambda texts: bert.encode([prompt + text for text in texts])

    def _token_encoder(self) -> Callable[[list[str]], list[np.ndarray]]:
        bert = self._query_bert.get()
        if bert is not None:
            return bert.encode_tokens
        model = self._library.get()
        return lambda texts: library_token_rows(model, texts)

    def _library_encoder(self, task: Literal["query", "document"]) -> Encode:
        model = self._library.get()
        encode = model.encode_query if task == "query" else model.encode_document
        return lambda texts: (
            encode(texts, batch_size=len(texts), show_progress_bar=False, convert_to_tensor=True)
            .float()
            .cpu()
            .numpy()
        )

    def _check_weights(self) -> None:
        if self._is_default:
            check_default_weights(self.description.folder)


def batches_by_length(lengths: Sequence[int], max_tokens: int) -> Iterator[list[int]]:
    """Indices in batches of texts of similar length, at most `max_tokens` tokens each with padding.

    The longest come first: if memory does not suffice, that shows at once.
    """
    order = sorted(range(len(lengths)), key=lambda index: (-lengths[index], index))
    start = 0
    while start < len(order):
        size = max(1, max_tokens // max(1, lengths[order[start]]))
        yield order[start : start + size]
        start += size


def run_batch(encode: Encode, texts: list[str], dimension: int) -> np.ndarray:
    """One batch as unit rows; halved and tried again when the device has too little memory for it."""
    import numpy as np
    import torch

    try:
        rows = encode(texts)
    except torch.OutOfMemoryError as error:
        if len(texts) == 1:
            raise EmbeddingFailed(
                "There is too little device memory to embed even one text.",
                hint="Use --device cpu or a smaller model.",
            ) from error
        half = len(texts) // 2
        parts = (texts[:half], texts[half:])
        return np.concatenate([run_batch(encode, part, dimension) for part in parts])
    if rows.shape != (len(texts), dimension):
        raise EmbeddingFailed(
            f"The model returned {rows.shape} numbers for {len(texts)} texts of dimension {dimension}.",
            hint="Its configuration files do not describe it; use another model.",
        )
    norms = np.linalg.norm(rows, axis=1, keepdims=True)
    if not (np.isfinite(norms).all() and (norms > 0).all()):
        raise EmbeddingFailed(
            "The model returned vectors that are zero or not finite.",
            hint="Use --dtype float32; if that does not help, the weights are damaged.",
        )
    return rows / norms
