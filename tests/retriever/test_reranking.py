"""Rerankers: what they compute, what they keep, and what they refuse."""

from __future__ import annotations

import shutil
import socket
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from indexer.embedding import default_embedder_folder
from indexer.types import Chunk
from retriever.cross_encoder import CrossEncoderReranker
from retriever.errors import InvalidRetrievalSettings, RerankerNotFound, RerankingFailed
from retriever.late_interaction import LateInteractionReranker, TokenVectorCache, max_sim
from retriever.reranking import passage_text, reranked_scores

DIRECTIONS = {word: np.eye(6, dtype=np.float32)[i] for i, word in enumerate("abcdef")}


class LetterEmbedder:
    """A vector a letter, each its own direction; keeps what it was asked for."""

    fingerprint = "letters"

    def __init__(self):
        self.asked = []

    def embed_tokens(self, texts, *, queries=False):
        self.asked.append((list(texts), queries))
        return [
            np.array([DIRECTIONS[word] for word in text.split()], np.float32).reshape(-1, 6) for text in texts
        ]


def chunk_of(text, path=()):
    return Chunk("c", "d", "/d", text, 0, len(text), None, (), path, "text")


# --- late interaction


def test_every_word_of_the_query_counts_with_its_best_match():
    reranker = LateInteractionReranker(LetterEmbedder())
    assert reranker.scores("a b", ["a c", "b a", "d", "a a a"]).tolist() == [0.5, 1.0, 0.0, 0.5]


def test_a_text_without_a_token_scores_least_and_no_texts_no_score():
    reranker = LateInteractionReranker(LetterEmbedder())
    assert reranker.scores("a", ["", "a"]).tolist() == [-1, 1]
    assert reranker.scores("", ["a"]).tolist() == [-1]
    assert reranker.scores("a", []).tolist() == []


@settings(max_examples=30, deadline=None)
@given(st.integers(0, 5), st.lists(st.integers(0, 6), max_size=6), st.integers(0, 1000))
def test_max_sim_is_the_mean_of_the_best_similarities(num_query, lengths, seed):
    rng = np.random.default_rng(seed)
    query, passages = rng.random((num_query, 3)), [rng.random((length, 3)) for length in lengths]
    expected = [
        np.mean([max(q @ row for row in rows) for q in query]) if len(query) and len(rows) else -1
        for rows in passages
    ]
    np.testing.assert_allclose(max_sim(query, passages), expected, rtol=1e-5)


def test_passages_are_embedded_once_in_one_batch_and_queries_always():
    embedder = LetterEmbedder()
    reranker = LateInteractionReranker(embedder)
    reranker.scores("a", ["a b", "c", "a b"])
    reranker.scores("b", ["c", "d"])
    assert embedder.asked == [(["a"], True), (["a b", "c"], False), (["b"], True), (["d"], False)]


def test_without_room_to_keep_anything_the_scores_are_the_same():
    roomy, cramped = (LateInteractionReranker(LetterEmbedder(), max_bytes=size) for size in (1 << 20, 0))
    texts = ["a b c", "d", "c b"]
    for _ in range(2):
        np.testing.assert_array_equal(roomy.scores("a c", texts), cramped.scores("a c", texts))


def test_the_budget_of_bytes_holds_and_what_was_not_used_for_longest_goes():
    array = np.zeros(100, np.float16)  # 200 bytes, and 300 of bookkeeping
    cache = TokenVectorCache(1000)
    cache.put(b"1", array)
    cache.put(b"2", array)
    assert cache.get(b"1") is not None
    cache.put(b"3", array)
    assert (cache.get(b"2"), len(cache), cache.bytes) == (None, 2, 1000)
    cache.put(b"3", array)
    cache.put(b"huge", np.zeros(1000, np.float16))
    assert (cache.get(b"huge"), cache.bytes) == (None, 1000)
    with pytest.raises(InvalidRetrievalSettings, match="max_bytes"):
        TokenVectorCache(-1)


def test_an_embedder_without_token_vectors_is_refused_at_once():
    class Plain:
        fingerprint = "plain"

    with pytest.raises(InvalidRetrievalSettings, match="token vectors"):
        LateInteractionReranker(Plain())


def test_another_embedder_is_another_reranker():
    other = LetterEmbedder()
    other.fingerprint = "others"
    one = LateInteractionReranker(LetterEmbedder()).fingerprint
    assert (
        one
        == LateInteractionReranker(LetterEmbedder()).fingerprint
        != LateInteractionReranker(other).fingerprint
    )


# --- the scores that decide


class Fixed:
    name = fingerprint = "fixed"

    def __init__(self, scores):
        self.found = scores

    def scores(self, query, texts):
        self.texts = texts
        return self.found


def test_headings_are_read_with_the_passage():
    reranker = Fixed(np.zeros(1))
    chunk = chunk_of("Two crowns.", ("Bridge", "Tolls"))
    reranked_scores(reranker, "q", [chunk], np.zeros(1), weight=1)
    assert reranker.texts == [passage_text(chunk)] == ["Bridge\nTolls\nTwo crowns."]


def test_a_weight_mixes_two_opinions_of_different_scale():
    chunks, old = [chunk_of(text) for text in "abc"], np.array([0.9, 0.5, 0.1])
    reranker = Fixed(np.array([-1000.0, 0.0, 1000.0]))  # the very opposite
    assert reranked_scores(reranker, "q", chunks, old, weight=1).tolist() == [-1000, 0, 1000]
    np.testing.assert_array_equal(reranked_scores(reranker, "q", chunks, old, weight=0.5), [0, 0, 0])
    mixed = reranked_scores(reranker, "q", chunks, old, weight=0.25)
    assert mixed[0] > mixed[1] > mixed[2]
    agreeing = reranked_scores(Fixed(np.zeros(3)), "q", chunks, old, weight=0.5)
    assert agreeing[0] > agreeing[1] > agreeing[2]  # one that cannot tell leaves it to the other


@pytest.mark.parametrize("scores", [np.zeros(2), np.array([0, np.nan, 1]), np.array([0, np.inf, 1])])
def test_what_is_no_score_for_each_candidate_is_an_error(scores):
    with pytest.raises(RerankingFailed, match="fixed did not give a number"):
        reranked_scores(Fixed(scores), "q", [chunk_of(text) for text in "abc"], np.zeros(3), weight=1)


# --- cross-encoders


@pytest.fixture(scope="module")
def cross_encoder(tmp_path_factory):
    """A random two-layer cross-encoder, saved by sentence-transformers itself."""
    return save_cross_encoder(tmp_path_factory.mktemp("cross-encoder"), num_labels=1)


def save_cross_encoder(folder, *, num_labels):
    import torch
    from sentence_transformers import CrossEncoder
    from transformers import BertConfig, BertForSequenceClassification, BertTokenizerFast

    torch.manual_seed(0)
    shutil.copy(default_embedder_folder() / "vocab.txt", folder / "vocab.txt")
    BertTokenizerFast(str(folder / "vocab.txt")).save_pretrained(folder / "bert")
    sizes = {
        "hidden_size": 32,
        "num_attention_heads": 2,
        "intermediate_size": 64,
        "max_position_embeddings": 64,
    }
    config = BertConfig(num_hidden_layers=2, num_labels=num_labels, **sizes)
    BertForSequenceClassification(config).save_pretrained(folder / "bert")
    CrossEncoder(str(folder / "bert"), device="cpu").save_pretrained(str(folder / "model"))
    return folder / "model"


def test_a_cross_encoder_gives_the_librarys_scores_without_the_network(cross_encoder, monkeypatch):
    from sentence_transformers import CrossEncoder

    def refuse(*args, **options):
        raise AssertionError("the network was used")

    monkeypatch.setattr(socket, "create_connection", refuse)
    monkeypatch.setattr(socket, "getaddrinfo", refuse)
    reranker = CrossEncoderReranker(str(cross_encoder), device="cpu")
    texts = ["a red fox", "the river bank and much more " * 40, ""]
    expected = CrossEncoder(str(cross_encoder), device="cpu").predict([("fox?", text) for text in texts])
    found = reranker.scores("fox?", texts)
    np.testing.assert_allclose(found, expected, atol=1e-5)
    assert found.dtype == np.float32
    assert reranker.scores("fox?", []).shape == (0,)
    with ThreadPoolExecutor(3) as threads:
        for other in threads.map(lambda _: reranker.scores("fox?", texts), range(3)):
            np.testing.assert_allclose(other, found, atol=1e-5)


def test_opening_a_cross_encoder_reads_no_weights_and_tells_models_apart(cross_encoder, tmp_path):
    reranker = CrossEncoderReranker(str(cross_encoder))
    assert not reranker.is_loaded
    copied = shutil.copytree(cross_encoder, tmp_path / "copy")
    assert CrossEncoderReranker(str(copied)).fingerprint == reranker.fingerprint
    shorter = CrossEncoderReranker(str(copied), max_length=16)
    assert shorter.fingerprint != reranker.fingerprint
    rounded = CrossEncoderReranker(str(copied), dtype="bfloat16")
    assert rounded.fingerprint != reranker.fingerprint  # its scores are others
    (copied / "config.json").write_text((copied / "config.json").read_text().replace("1e-12", "1e-5"))
    assert CrossEncoderReranker(str(copied)).fingerprint != reranker.fingerprint


@pytest.mark.parametrize("dtype", ["float23", "int8", "nn", ""])
def test_a_dtype_that_is_none_is_refused_before_the_first_search(cross_encoder, dtype):
    with pytest.raises(InvalidRetrievalSettings, match="Choose one of auto, float32"):
        CrossEncoderReranker(str(cross_encoder), dtype=dtype)


def test_a_model_that_cannot_rank_is_refused_with_the_reason(tmp_path, monkeypatch):
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    with pytest.raises(RerankerNotFound, match="no model folder"):
        CrossEncoderReranker(str(tmp_path / "nowhere"))
    with pytest.raises(RerankerNotFound, match="cross-encoder/not-there is not in the local hub cache"):
        CrossEncoderReranker("not-there")
    with pytest.raises(RerankerNotFound, match="has no config"):
        CrossEncoderReranker(str(tmp_path))
    (tmp_path / "config.json").write_text("{}")
    with pytest.raises(RerankerNotFound, match="no weights"):
        CrossEncoderReranker(str(tmp_path))
    (tmp_path / "many").mkdir()
    classifier = CrossEncoderReranker(str(save_cross_encoder(tmp_path / "many", num_labels=3)), device="cpu")
    with pytest.raises(RerankerNotFound, match="3 scores a pair"):
        classifier.scores("q", ["text"])
