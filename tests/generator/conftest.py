"""Tiny random checkpoints, made by transformers itself, and a tiny tokenizer."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch

VOCAB = 300
TRAINING_TEXT = (
    "the a of is was not in on by red blue tower bridge river built tall metres year old city who what when "
    "passages do answer this question question: cite numbers hello world it and"
)
CHAT_TEMPLATE = (
    "{% for message in messages %}"
    "<|start|>{{ message['role'] }}\n{{ message['content'] }}<|end|>\n"
    "{% endfor %}"
    "{% if add_generation_prompt %}<|start|>assistant\n{% endif %}"
)
SHAPE = {
    "vocab_size": VOCAB,
    "hidden_size": 32,
    "intermediate_size": 48,
    "num_hidden_layers": 3,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "max_position_embeddings": 128,
    "bos_token_id": None,
    "eos_token_id": None,
    "pad_token_id": None,
}

SaveCheckpoint = Callable[..., tuple[Any, Path]]


def _randomise(model: torch.nn.Module, seed: int = 0) -> torch.nn.Module:
    """Weights large enough that a wrong sum shows, norms and biases included."""
    generator = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for name, weight in model.named_parameters():
            spread = torch.randn(weight.shape, generator=generator)
            weight.copy_(1 + 0.3 * spread if "norm" in name.lower() and "bias" not in name else 0.3 * spread)
    return model.eval()


@pytest.fixture(autouse=True)
def the_same_random_numbers() -> None:
    """Whatever tests ran before, and in whichever order."""
    torch.manual_seed(0)


@pytest.fixture
def randomise() -> Callable[..., torch.nn.Module]:
    """Fill a module with random weights."""
    return _randomise


@pytest.fixture
def save_checkpoint(tmp_path: Path) -> SaveCheckpoint:
    """Save a random tiny checkpoint of a family; returns the transformers model and the folder."""

    def save(family: str = "llama", *, seed: int = 0, **changes: Any) -> tuple[Any, Path]:
        import transformers

        name = {
            "llama": "Llama",
            "mistral": "Mistral",
            "qwen2": "Qwen2",
            "qwen3": "Qwen3",
            "smollm3": "SmolLM3",
        }
        config = getattr(transformers, f"{name[family]}Config")(**{**SHAPE, **changes})
        model = _randomise(getattr(transformers, f"{name[family]}ForCausalLM")(config), seed)
        folder = tmp_path / f"{family}-{seed}"
        model.save_pretrained(folder)
        return model, folder

    return save


def _build_tokenizer() -> Any:
    """A byte-level BPE whose first 256 tokens are the bytes, then a few merged words."""
    import tokenizers
    from tokenizers import decoders, models, pre_tokenizers, trainers

    tokenizer = tokenizers.Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=VOCAB - 3,
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
        show_progress=False,
    )
    tokenizer.train_from_iterator([TRAINING_TEXT] * 3, trainer)
    tokenizer.add_special_tokens(["<|start|>", "<|end|>", "<|eos|>"])
    return tokenizer


@pytest.fixture
def add_tokenizer() -> Callable[..., None]:
    """Put the tiny tokenizer's files into a model folder."""
    return _add_tokenizer


def _add_tokenizer(folder: Path, *, chat: bool = True, eos: str = "<|eos|>") -> None:
    _build_tokenizer().save(str(folder / "tokenizer.json"))
    settings: dict[str, Any] = {"eos_token": eos}
    if chat:
        settings["chat_template"] = CHAT_TEMPLATE
    (folder / "tokenizer_config.json").write_text(json.dumps(settings))
