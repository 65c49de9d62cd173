from __future__ import annotations

import threading
import time
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
from tiny_bert import copy_of

from indexer import embedding, embedding_loading, hardware
from indexer.embedding import SentenceTransformerEmbedder
from indexer.embedding_bert import BertEncoder, bert_shape
from indexer.embedding_errors import (
    DeviceUnavailable,
    EmbeddingFailed,
    NotAnEmbedder,
)
from indexer.embedding_loading import bert_scores, load_model, rankings_agree


def test_a_half_written_weights_file_is_refused_when_it_is_read(plain_model: Path, tmp_path: Path) -> None:
    model = copy_of(plain_model, tmp_path)
    content = (model / "model.safetensors").read_bytes()
    (model / "model.safetensors").write_bytes(content[: len(content) // 2])
    embedder = SentenceTransformerEmbedder(str(model), device="cpu")
    with pytest.raises(NotAnEmbedder, match="cannot be read"):
        embedder.embed_queries(["x"])
    with pytest.raises(NotAnEmbedder, match="cannot be read"):
        embedder.embed_documents(["x"])
    with pytest.raises(NotAnEmbedder, match="cannot be loaded"):
        SentenceTransformerEmbedder(str(model), device="cpu", dtype="float16").embed_documents(["x"])


def test_weights_without_a_part_of_the_model_are_refused(plain_model: Path, tmp_path: Path) -> None:
    from safetensors.numpy import load_file, save_file

    model = copy_of(plain_model, tmp_path)
    tensors = load_file(model / "model.safetensors")
    del tensors["encoder.layer.1.output.dense.bias"]
    save_file(tensors, model / "model.safetensors")
    with pytest.raises(NotAnEmbedder, match=r"lack 'encoder\.layer\.1\.output\.dense\.bias'"):
        SentenceTransformerEmbedder(str(model), device="cpu").embed_documents(["x"])


def test_loading_in_the_background_is_shared_by_all_threads(
    tiny_model: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    calls = []

    def load(*arguments, **options):
        calls.append(1)
        time.sleep(0.05)
        return load_model(*arguments, **options)

    monkeypatch.setattr(embedding, "load_model", load)
    embedder = SentenceTransformerEmbedder(str(tiny_model), device="cpu")
    embedder.start_loading(documents=True)
    embedder.start_loading(documents=True)
    rows: list[np.ndarray] = []
    threads = [
        threading.Thread(target=lambda: rows.append(embedder.embed_documents(["fox"]))) for _ in range(4)
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(calls) == 1
    assert all(np.array_equal(row, rows[0]) for row in rows)


@pytest.mark.parametrize("model", ["tiny_model", "plain_model"])
def test_bfloat16_is_chosen_only_where_it_is_fast_and_ranks_alike(
    model: str, request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = request.getfixturevalue(model)

    def chosen(*, fast: bool, agree: bool) -> str:
        monkeypatch.setattr(embedding_loading, "has_fast_bfloat16", lambda device: fast)
        monkeypatch.setattr(embedding_loading, "rankings_agree", lambda *scores: agree)
        return SentenceTransformerEmbedder(str(folder), device="cpu").dtype

    assert chosen(fast=True, agree=True) == "bfloat16"
    assert chosen(fast=True, agree=False) == "float32"
    assert chosen(fast=False, agree=True) == "float32"


def test_the_default_model_ranks_alike_in_bfloat16(minilm: SentenceTransformerEmbedder) -> None:
    shape = bert_shape(minilm.description)
    assert shape is not None
    encoder = BertEncoder(minilm.description, shape)
    exact, other = (
        bert_scores(encoder, documents, minilm.description) for documents in (encoder, encoder.to("bfloat16"))
    )
    assert rankings_agree(exact, other)
    assert not np.array_equal(exact, other)


def test_rankings_agree_up_to_near_ties() -> None:
    exact = np.array([[0.9, 0.5, 0.495]])
    assert rankings_agree(exact, np.array([[0.8, 0.4, 0.41]]))
    assert not rankings_agree(exact, np.array([[0.3, 0.4, 0.41]]))
    assert not rankings_agree(exact, np.full((1, 3), np.nan))


def test_an_unknown_dtype_or_device_is_refused(tiny_model: Path) -> None:
    with pytest.raises(EmbeddingFailed, match="float32, bfloat16"):
        SentenceTransformerEmbedder(str(tiny_model), dtype="int3").warm_up()
    with pytest.raises(DeviceUnavailable, match="no device 'tpu'"):
        SentenceTransformerEmbedder(str(tiny_model), device="tpu").warm_up()
    with pytest.raises(DeviceUnavailable, match="torch sees"):
        SentenceTransformerEmbedder(str(tiny_model), device="cuda:99").warm_up()


@pytest.mark.parametrize(
    ("flags", "fast"),
    [("fpu avx2 fma", False), ("avx512f avx512_bf16", True), ("amx_tile amx_bf16", True), ("", False)],
)
def test_fast_bfloat16_is_read_from_the_processors_flags(
    monkeypatch: pytest.MonkeyPatch, flags: str, fast: bool
) -> None:
    content = f"processor : 0\nflags\t\t: {flags}\n"
    monkeypatch.setattr(hardware, "Path", lambda path: SimpleNamespace(read_text=lambda **options: content))
    assert hardware.has_fast_bfloat16("cpu") is fast
