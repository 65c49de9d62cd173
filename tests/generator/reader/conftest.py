"""A reader small enough to build for every test: two layers, random weights, a small vocabulary."""

from __future__ import annotations

import json
import string
from pathlib import Path

import pytest
import torch
from safetensors.torch import save_file
from tokenizers import Tokenizer, decoders, models, normalizers, pre_tokenizers

from generator.model.config import ModelConfig
from generator.reader.architecture import ReaderConfig, ReaderModel
from generator.reader.reader import Reader
from generator.reader.tokens import ReaderTokenizer

WORDS = ["the", "a", "of", "is", "in", "where", "who", "what", "how", "why", "ferry", "island", "captain"]
WORDS += ["boat", "pounds", "road", "blue", "red", "green", "harbour"]


def build_tokenizer(path: Path) -> Path:
    """A BERT-style tokenizer.json that knows a few words and spells the rest."""
    characters = string.ascii_lowercase + string.digits + string.punctuation
    pieces = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", *WORDS, *characters]
    pieces += [f"##{c}" for c in string.ascii_lowercase + string.digits if f"##{c}" not in pieces]
    vocabulary = {piece: index for index, piece in enumerate(dict.fromkeys(pieces))}
    tokenizer = Tokenizer(models.WordPiece(vocabulary, unk_token="[UNK]", max_input_chars_per_word=100))
    tokenizer.normalizer = normalizers.BertNormalizer(lowercase=True)
    tokenizer.pre_tokenizer = pre_tokenizers.BertPreTokenizer()
    tokenizer.decoder = decoders.WordPiece()
    tokenizer.add_special_tokens(["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]"])
    tokenizer.save(str(path))
    return path


def tiny_model_config(vocab_size: int, max_positions: int = 96) -> ModelConfig:
    """MiniLM's shape, much smaller."""
    return ModelConfig(
        vocab_size=vocab_size,
        hidden_size=24,
        intermediate_size=48,
        num_layers=2,
        num_heads=3,
        num_kv_heads=3,
        head_dim=8,
        max_positions=max_positions,
        norm="layernorm",
        norm_placement="post",
        norm_eps=1e-12,
        embedding_norm=True,
        positions="learned",
        mlp_gated=False,
        activation="gelu",
        qkv_bias=True,
        output_bias=True,
        mlp_bias=True,
        tied_embeddings=True,
    )


def tiny_model(vocab_size: int, *, seed: int = 0) -> ReaderModel:
    generator = torch.Generator().manual_seed(seed)
    config = ReaderConfig(
        tiny_model_config(vocab_size), pointer_size=8, max_question_tokens=16, max_answer_tokens=8
    )
    model = ReaderModel(config)
    model.transformer.initialise(std=0.3, generator=generator)
    model.initialise_heads(std=0.5, generator=generator)
    return model.eval()


@pytest.fixture(scope="session")
def tokenizer(tmp_path_factory: pytest.TempPathFactory) -> ReaderTokenizer:
    return ReaderTokenizer(build_tokenizer(tmp_path_factory.mktemp("tokenizer") / "tokenizer.json"))


@pytest.fixture(scope="session")
def model(tokenizer: ReaderTokenizer) -> ReaderModel:
    return tiny_model(tokenizer.size)


@pytest.fixture(scope="session")
def reader(model: ReaderModel, tokenizer: ReaderTokenizer) -> Reader:
    return Reader(model, tokenizer)


@pytest.fixture(scope="session")
def embeddings_folder(
    tmp_path_factory: pytest.TempPathFactory, model: ReaderModel, tokenizer: ReaderTokenizer
) -> Path:
    """A folder that lends the tiny reader's word embeddings, as the embedding model's folder does."""
    folder = tmp_path_factory.mktemp("embeddings")
    build_tokenizer(folder / "tokenizer.json")
    weight = model.transformer.embed_tokens.weight.detach().clone()
    save_file({"embeddings.word_embeddings.weight": weight}, folder / "model.safetensors")
    (folder / "config.json").write_text(json.dumps({"model_type": "bert"}))
    return folder
