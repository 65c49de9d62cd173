from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from tiny_bert import TEXTS, copy_of, save_tiny_bert
from tokenizers import Tokenizer

from indexer.embedding import SentenceTransformerEmbedder
from indexer.embedding_bert import bert_shape
from indexer.embedding_model import describe
from indexer.packed_linear import Linear


def test_the_default_models_vectors_are_the_librarys(minilm: SentenceTransformerEmbedder) -> None:
    assert bert_shape(minilm.description) is not None
    expected = minilm._library.get().encode(TEXTS, normalize_embeddings=True)
    np.testing.assert_allclose(minilm.embed_documents(TEXTS), expected, atol=1e-5)
    np.testing.assert_allclose(minilm.embed_queries(TEXTS), expected, atol=1e-5)  # read like documents


@pytest.mark.parametrize("copies", [1, 40])
def test_in_bfloat16_vectors_are_close_to_those_of_float32(
    minilm: SentenceTransformerEmbedder, copies: int
) -> None:
    half = SentenceTransformerEmbedder(device="cpu", dtype="bfloat16")
    texts = [f"{text} {number}" for number in range(copies) for text in TEXTS]
    cosines = (half.embed_documents(texts) * minilm.embed_documents(texts)).sum(axis=1)
    assert half.dtype == "bfloat16"
    assert cosines.min() > 0.999


def test_a_length_is_never_rounded_beyond_the_models_positions(plain_model: Path, tmp_path: Path) -> None:
    from safetensors.numpy import load_file, save_file

    model = copy_of(plain_model, tmp_path)
    tensors = load_file(model / "model.safetensors")
    name = "embeddings.position_embeddings.weight"
    tensors[name] = tensors[name][:40].copy()
    save_file(tensors, model / "model.safetensors")
    for path, key in (
        ("config.json", "max_position_embeddings"),
        ("sentence_bert_config.json", "max_seq_length"),
    ):
        config = json.loads((model / path).read_text())
        (model / path).write_text(json.dumps({**config, key: 40}))
    texts = ["dogs and foxes " * 40, "dogs"]
    exact, other = (
        SentenceTransformerEmbedder(str(model), device="cpu", dtype=dtype).embed_documents(texts)
        for dtype in ("float32", "bfloat16")
    )
    assert ((exact * other).sum(axis=1) > 0.99).all()


@pytest.mark.parametrize("task", ["queries", "documents"])
def test_embedding_does_not_import_the_library(task: str) -> None:
    code = (
        "import sys; from indexer.embedding import SentenceTransformerEmbedder as E; e = E(device='cpu');"
        f"assert e.embed_{task}(['a red fox']).shape == (1, 384); assert e.dtype in ('float32', 'bfloat16');"
        "assert not {'sentence_transformers', 'transformers'} & set(sys.modules)"
    )
    subprocess.run([sys.executable, "-c", code], check=True)


@pytest.mark.parametrize("mode", ["mean", "cls"])
@pytest.mark.parametrize("prefix", ["", "bert."])
def test_a_bert_of_any_shape_and_form_gives_the_librarys_vectors(
    plain_model: Path, tmp_path: Path, mode: str, prefix: str
) -> None:
    from safetensors.numpy import load_file, save_file

    model = copy_of(plain_model, tmp_path)
    tensors = load_file(model / "model.safetensors")
    save_file({prefix + name: tensor for name, tensor in tensors.items()}, model / "model.safetensors")
    config = json.loads((model / "1_Pooling/config.json").read_text())
    (model / "1_Pooling/config.json").write_text(json.dumps({**config, "pooling_mode": mode}))
    embedder = SentenceTransformerEmbedder(str(model), device="cpu", dtype="float32")
    assert bert_shape(embedder.description) is not None
    library = embedder._library.get()
    for embed, encode in (
        (embedder.embed_queries, library.encode_query),
        (embedder.embed_documents, library.encode_document),
    ):
        np.testing.assert_allclose(embed(TEXTS), encode(TEXTS, normalize_embeddings=True), atol=1e-5)


def test_token_vectors_are_what_is_pooled_and_the_same_by_either_way(
    minilm: SentenceTransformerEmbedder,
) -> None:
    texts = ["a red fox", "the bank of the river, dogs and foxes", ""]
    own = minilm.embed_tokens(texts)
    assert [len(rows) for rows in own[::2]] == [3, 0]  # without [CLS] and [SEP]
    assert all(rows.dtype == np.float32 for rows in own)
    assert np.allclose(np.linalg.norm(np.concatenate(own), axis=1), 1, atol=1e-5)
    from indexer.embedding_tokens import library_token_rows

    library = library_token_rows(minilm._library.get().float(), texts)
    for rows, others in zip(own, library, strict=True):
        norms = np.linalg.norm(others, axis=1, keepdims=True)
        np.testing.assert_allclose(rows, others / norms, atol=1e-4)


def test_token_vectors_read_the_prompts_and_do_not_depend_on_the_batch(tmp_path: Path) -> None:
    prompted = SentenceTransformerEmbedder(
        str(save_tiny_bert(tmp_path, dense=False, prompts={"query": "find the "})), device="cpu"
    )
    (asked,) = prompted.embed_tokens(["red fox"], queries=True)
    (plain,) = prompted.embed_tokens(["find the red fox"])
    np.testing.assert_allclose(asked, plain, atol=1e-6)
    assert prompted.embed_tokens([]) == []
    together = prompted.embed_tokens(["red", "a much longer text about foxes and rivers", "red"])
    np.testing.assert_allclose(together[0], together[2], atol=1e-6)
    np.testing.assert_allclose(together[0], prompted.embed_tokens(["red"])[0], atol=1e-5)


@pytest.mark.parametrize(
    ("name", "key", "value"),
    [
        ("config.json", "model_type", "roberta"),
        ("config.json", "hidden_act", "relu"),
        ("config.json", "position_embedding_type", "relative_key"),
        ("1_Pooling/config.json", "pooling_mode", "max"),
        ("1_Pooling/config.json", "include_prompt", False),
    ],
)
def test_other_architectures_go_through_the_library(
    plain_model: Path, tmp_path: Path, name: str, key: str, value: object
) -> None:
    model = copy_of(plain_model, tmp_path)
    config = json.loads((model / name).read_text())
    (model / name).write_text(json.dumps({**config, key: value}))
    assert bert_shape(describe(model)) is None
    assert bert_shape(describe(plain_model)) is not None


@pytest.fixture
def num_rows(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """Of every product that is computed."""
    counted: list[int] = []
    linear = Linear.__call__
    monkeypatch.setattr(
        Linear, "__call__", lambda layer, rows: counted.append(len(rows)) or linear(layer, rows)
    )
    return counted


@pytest.mark.parametrize("dtype", ["float32", "bfloat16"])
def test_padding_is_not_computed(
    minilm: SentenceTransformerEmbedder, num_rows: list[int], dtype: str
) -> None:
    encoder = minilm._query_bert.get().to(dtype)
    short, long = "a word", "many more words " * 20
    together = encoder.encode([short, long, short])
    tokenizer = Tokenizer.from_file(str(minilm.tokenizer_path))
    num_tokens = sum(sum(tokenizer.encode(text).attention_mask) for text in (short, long, short))
    assert set(num_rows) == {num_tokens if dtype == "float32" else 128}
    tolerance = 1e-5 if dtype == "float32" else 0.05
    np.testing.assert_allclose(together[0], encoder.encode([short])[0], atol=tolerance)
    np.testing.assert_array_equal(together[0], together[2])


@pytest.mark.parametrize("dtype", ["float32", "bfloat16"])
def test_a_little_padding_is_computed_and_counts_for_nothing(
    minilm: SentenceTransformerEmbedder, num_rows: list[int], dtype: str
) -> None:
    encoder = minilm._query_bert.get().to(dtype)
    texts = [" ".join(["word"] * count) for count in (62, 61, 58, 62)]
    together = encoder.encode(texts)
    assert set(num_rows) == {256}  # 64 a text with the special tokens
    for row, text in zip(together, texts, strict=True):
        alone = encoder.encode([text])[0]
        np.testing.assert_allclose(row, alone, atol=1e-5 if dtype == "float32" else 0.05)


def test_a_packed_layer_computes_what_a_plain_one_does(monkeypatch: pytest.MonkeyPatch) -> None:
    generator = torch.Generator().manual_seed(0)
    weight, bias, rows = (torch.randn(*shape, generator=generator) for shape in ((96, 64), (96,), (33, 64)))
    exact = rows @ weight.T + bias
    low = Linear(weight, bias).to(torch.bfloat16)
    torch.testing.assert_close(low(rows.bfloat16()).float(), exact, atol=0.3, rtol=0.03)
    torch.testing.assert_close(low.to(torch.float32)(rows), exact, atol=0.3, rtol=0.03)  # and unpacks
    monkeypatch.setattr(torch.backends.mkldnn, "is_available", lambda: False)
    plain = Linear(weight, bias).to(torch.bfloat16)
    low_rows, residual = rows.bfloat16(), exact.bfloat16().flip(0)
    for layer in (low, plain):
        torch.testing.assert_close(layer(low_rows), plain(low_rows), atol=0.1, rtol=0.02)
        gelu = torch.nn.functional.gelu(exact)
        torch.testing.assert_close(layer.gelu(low_rows).float(), gelu, atol=0.3, rtol=0.03)
        added = exact + exact.flip(0)
        torch.testing.assert_close(layer.plus(low_rows, residual).float(), added, atol=0.3, rtol=0.03)


def test_nothing_is_packed_for_a_processor_without_bfloat16(monkeypatch: pytest.MonkeyPatch) -> None:
    def refused(*_: object) -> torch.Tensor:
        raise RuntimeError("bf16 path needs the cpu support avx512bw, avx512vl and avx512dq")

    monkeypatch.setattr(torch.ops.mkldnn, "_is_mkldnn_bf16_supported", lambda: False)
    monkeypatch.setattr(torch.ops.mkldnn, "_reorder_linear_weight", refused)
    low = Linear(torch.eye(32), torch.ones(32)).to(torch.bfloat16)
    assert torch.equal(low(torch.eye(32).bfloat16()), (torch.eye(32) + 1).bfloat16())
