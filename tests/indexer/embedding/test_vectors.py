from __future__ import annotations

import time
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from tiny_bert import TEXTS

from indexer import embedding
from indexer.embedding import SentenceTransformerEmbedder, batches_by_length
from indexer.embedding_errors import (
    EmbeddingFailed,
)


def test_the_default_model_ranks_by_meaning(minilm: SentenceTransformerEmbedder) -> None:
    texts = ["The cat sat on the mat.", "Interest rates rose again.", "A kitten rested."]
    documents = minilm.embed_documents(texts)
    (query,) = minilm.embed_queries(["a sleeping cat"])
    scores = documents @ query
    assert scores[2] > scores[1]
    assert scores[0] > scores[1]
    assert minilm.dtype == "float32"


def test_our_tokens_are_the_librarys_tokens(minilm: SentenceTransformerEmbedder) -> None:
    texts = [text[:200] for text in TEXTS]
    features = minilm._library.get().preprocess(texts)
    assert minilm._lengths(texts, "") == features["attention_mask"].sum(dim=1).tolist()


@pytest.mark.parametrize("embedder", ["tiny", "minilm"])
def test_rows_are_unit_float32_in_the_order_of_the_texts(
    embedder: str, request: pytest.FixtureRequest
) -> None:
    model = request.getfixturevalue(embedder)
    vectors = model.embed_documents(TEXTS)
    assert vectors.shape == (len(TEXTS), model.dimension)
    assert vectors.dtype == np.float32
    np.testing.assert_allclose(np.linalg.norm(vectors, axis=1), 1, atol=1e-5)
    for index, text in enumerate(TEXTS):
        np.testing.assert_allclose(vectors[index], model.embed_documents([text])[0], atol=1e-5)


def test_no_texts_give_no_rows(tiny: SentenceTransformerEmbedder) -> None:
    assert tiny.embed_documents([]).shape == (0, 24)
    assert tiny.embed_queries([]).shape == (0, 24)


def test_prompts_of_the_model_are_used(tiny: SentenceTransformerEmbedder, tiny_model: Path) -> None:
    plain = tiny._library.get()
    for embed, prompt in ((tiny.embed_queries, "question: "), (tiny.embed_documents, "text to be found: ")):
        expected = plain.encode([prompt + "foxes"], normalize_embeddings=True)
        np.testing.assert_allclose(embed(["foxes"]), expected, atol=1e-5)


@pytest.mark.parametrize("value", [float("nan"), float("inf"), 0.0])
def test_vectors_that_are_none_are_refused(value: float) -> None:
    with pytest.raises(EmbeddingFailed, match="zero or not finite"):
        embedding.run_batch(lambda texts: np.full((len(texts), 3), value), ["a", "b"], 3)


def test_a_batch_too_large_for_the_device_is_halved() -> None:
    import torch

    sizes = []

    def encode(texts: list[str]) -> np.ndarray:
        sizes.append(len(texts))
        if len(texts) > 2:
            raise torch.OutOfMemoryError
        return np.array([[float(text), 1.0] for text in texts])

    rows = embedding.run_batch(encode, ["0", "1", "2", "3", "4"], 2)
    assert sizes == [5, 2, 3, 1, 2]
    np.testing.assert_allclose(rows[:, 0] / rows[:, 1], [0, 1, 2, 3, 4], rtol=1e-6)


def test_the_dimension_is_checked_against_what_the_model_returns() -> None:
    with pytest.raises(EmbeddingFailed, match="dimension 4"):
        embedding.run_batch(lambda texts: np.ones((len(texts), 3)), ["a"], 4)


@given(lengths=st.lists(st.integers(1, 300), max_size=60), max_tokens=st.integers(1, 2000))
def test_batches_cover_each_text_once_within_the_token_budget(lengths: list[int], max_tokens: int) -> None:
    batches = list(batches_by_length(lengths, max_tokens))
    assert sorted(index for batch in batches for index in batch) == list(range(len(lengths)))
    for batch in batches:
        assert len(batch) == 1 or len(batch) * max(lengths[index] for index in batch) <= max_tokens
    longest = [lengths[index] for batch in batches for index in batch]
    assert longest == sorted(longest, reverse=True)


def test_text_far_beyond_the_limit_is_cut_like_the_library_cuts_it(tiny: SentenceTransformerEmbedder) -> None:
    long = "dogs and foxes " * 100_000
    start = time.process_time()
    vectors = tiny.embed_documents([long, "dogs and foxes " * 100])
    assert time.process_time() - start < 300  # in a time that grew with its square, it would be hours
    np.testing.assert_allclose(vectors[0], vectors[1], atol=1e-5)
