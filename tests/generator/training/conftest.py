"""A tiny BERT folder to start from, and synthetic questions that a tiny model can learn."""

from __future__ import annotations

import json
import random
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import save_file
from tokenizers import Tokenizer, decoders, models, normalizers, pre_tokenizers

THINGS = ["boat", "car", "dog", "ferry", "lamp", "ring", "map", "bell"]
PLACES = ["harbour", "tower", "garden", "kitchen", "market", "forest", "school", "church"]
WORDS = ["where", "is", "the", "in", "?", ".", "a", "and", "so", *THINGS, *PLACES]
SHAPE = {
    "vocab_size": 5 + len(WORDS),
    "hidden_size": 32,
    "intermediate_size": 64,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "max_position_embeddings": 96,
    "hidden_act": "gelu",
    "layer_norm_eps": 1e-12,
    "model_type": "bert",
}


@pytest.fixture(scope="session")
def start_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A BERT checkpoint of random weights in the layout of all-MiniLM-L6-v2."""
    folder = tmp_path_factory.mktemp("start")
    vocabulary = {piece: i for i, piece in enumerate(["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", *WORDS])}
    tokenizer = Tokenizer(models.WordPiece(vocabulary, unk_token="[UNK]"))
    tokenizer.normalizer = normalizers.BertNormalizer(lowercase=True)
    tokenizer.pre_tokenizer = pre_tokenizers.BertPreTokenizer()
    tokenizer.decoder = decoders.WordPiece()
    tokenizer.save(str(folder / "tokenizer.json"))
    (folder / "config.json").write_text(json.dumps(SHAPE))
    save_file(bert_tensors(), folder / "model.safetensors")
    return folder


def bert_tensors() -> dict[str, torch.Tensor]:
    generator = torch.Generator().manual_seed(1)
    hidden, inner = SHAPE["hidden_size"], SHAPE["intermediate_size"]
    tensors: dict[str, torch.Tensor] = {}

    def matrix(name: str, rows: int, columns: int, std: float = 0.15) -> None:
        tensors[name + ".weight"] = torch.randn(rows, columns, generator=generator) * std
        tensors[name + ".bias"] = torch.zeros(rows)

    def norm(name: str) -> None:
        tensors[name + ".weight"], tensors[name + ".bias"] = torch.ones(hidden), torch.zeros(hidden)

    for name, rows in (("word", SHAPE["vocab_size"]), ("position", 96), ("token_type", 2)):
        weight = torch.randn(rows, hidden, generator=generator) * (1.0 if name == "word" else 0.1)
        tensors[f"embeddings.{name}_embeddings.weight"] = weight
    norm("embeddings.LayerNorm")
    for layer in range(SHAPE["num_hidden_layers"]):
        prefix = f"encoder.layer.{layer}."
        for part in ("query", "key", "value"):
            matrix(f"{prefix}attention.self.{part}", hidden, hidden)
        matrix(prefix + "attention.output.dense", hidden, hidden)
        norm(prefix + "attention.output.LayerNorm")
        matrix(prefix + "intermediate.dense", inner, hidden)
        matrix(prefix + "output.dense", hidden, inner)
        norm(prefix + "output.LayerNorm")
    return tensors


def facts(seed: int, count: int) -> list[dict[str, Any]]:
    """Questions whose answer is the place named right after the thing asked for."""
    rng = random.Random(seed)
    records = []
    for index in range(count):
        things, places = rng.sample(THINGS, 3), rng.sample(PLACES, 3)
        pairs = list(zip(things, places, strict=True))
        passage = " ".join(f"The {thing} is in the {place}." for thing, place in pairs)
        thing, place = rng.choice(pairs)
        records.append(
            {
                "id": f"q{index}",
                "source": "facts",
                "title": f"title {index % 50}",
                "question": f"Where is the {thing}?",
                "answers": [place],
                "answerable": True,
                "passage": passage,
            }
        )
    return records


WriteConfig = Callable[..., Path]


@pytest.fixture
def write_config(tmp_path: Path, start_folder: Path) -> WriteConfig:
    """Writes data and a TOML configuration; keyword arguments are overrides of `[run]` and `[task]`."""

    def write(*, count: int = 64, run: str = "", task: str = "", optimizer: str = "") -> Path:
        lines = [json.dumps(record) for record in facts(3, count)]
        (tmp_path / "facts.jsonl").write_text("\n".join(lines) + "\n")
        path = tmp_path / "config.toml"
        path.write_text(
            f"""
[run]
folder = "{tmp_path / "run"}"
seed = 5
threads = 1
{run or "log_steps = 1"}
flop_ceiling = 1e12
[optimizer]
learning_rate = 3e-3
{optimizer}
[task]
kind = "grounded-qa"
start_folder = "{start_folder}"
data_folder = "{tmp_path}"
questions = ["facts.jsonl"]
validation_share = 0.1
validation_questions = 30
validation_window = 48
weights = {{ facts = 1.0 }}
{task}
"""
        )
        return path

    return write
