"""What is loaded stays as it was when its files are overwritten, truncated, replaced or deleted."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from safetensors.torch import save_file

from generator import Generator
from generator.model.config import ModelConfig
from generator.model.transformer import Transformer
from generator.training.model_folder import llama_config, save_model_folder

TOKENS = torch.arange(12)[None]
HIDDEN = 16


def save_model(folder: Path, *, seed: int) -> Path:
    config = ModelConfig(
        vocab_size=40,
        hidden_size=HIDDEN,
        intermediate_size=24,
        num_layers=2,
        num_heads=2,
        num_kv_heads=1,
        head_dim=8,
        max_positions=32,
    )
    model = Transformer(config)
    model.initialise(std=0.3, generator=torch.Generator().manual_seed(seed))
    folder.mkdir()
    save_model_folder(
        model, folder, config=llama_config(config), dtype=torch.float32, text_files_of=folder.parent
    )
    return folder


def save_adapter(folder: Path) -> Path:
    chance = torch.Generator().manual_seed(5)
    module = "base_model.model.model.layers.0.self_attn.q_proj"
    factors = {
        f"{module}.lora_A.weight": torch.randn(2, HIDDEN, generator=chance),
        f"{module}.lora_B.weight": torch.randn(HIDDEN, 2, generator=chance),
    }
    folder.mkdir()
    save_file(factors, folder / "adapter_model.safetensors")
    (folder / "adapter_config.json").write_text(json.dumps({"peft_type": "LORA", "r": 2, "lora_alpha": 8}))
    return folder


def overwrite(folder: Path) -> None:
    """As a careless copy does it: into the same file, which a map of it sees."""
    for file in folder.glob("*.safetensors"):
        with file.open("r+b") as stream:
            stream.write(bytes(file.stat().st_size))


def truncate(folder: Path) -> None:
    for file in folder.glob("*.safetensors"):
        with file.open("r+b") as stream:
            stream.truncate(8)


def replace(folder: Path) -> None:
    shutil.move(folder, folder.with_suffix(".old"))
    save_model(folder, seed=9)


ACCIDENTS = [overwrite, truncate, replace, shutil.rmtree]


@pytest.mark.parametrize("happen", ACCIDENTS, ids=lambda accident: accident.__name__)
def test_a_loaded_model_needs_its_files_no_more(tmp_path: Path, happen: Callable[[Path], None]) -> None:
    folder = save_model(tmp_path / "model", seed=0)
    generator = Generator.load(folder, device="cpu", dtype="float32")
    scores = generator.logits(TOKENS)
    [before] = generator.generate([[1, 2, 3]], max_new_tokens=4)
    happen(folder)
    assert torch.equal(generator.logits(TOKENS), scores)
    [after] = generator.generate([[1, 2, 3]], max_new_tokens=4)
    assert after.token_ids == before.token_ids


@pytest.mark.parametrize("happen", [overwrite, shutil.rmtree], ids=lambda accident: accident.__name__)
def test_neither_does_an_adapter_beside_it(tmp_path: Path, happen: Callable[[Path], None]) -> None:
    generator = Generator.load(save_model(tmp_path / "model", seed=0), device="cpu", dtype="float32")
    plain = generator.logits(TOKENS)
    adapter = save_adapter(tmp_path / "adapter")
    generator.load_lora(adapter)
    scores = generator.logits(TOKENS)
    assert not torch.equal(scores, plain)
    happen(adapter)
    assert torch.equal(generator.logits(TOKENS), scores)


def test_what_takes_the_folder_s_place_is_what_is_loaded_next(tmp_path: Path) -> None:
    folder = save_model(tmp_path / "model", seed=0)
    first = Generator.load(folder, device="cpu", dtype="float32").logits(TOKENS)
    replace(folder)
    assert not torch.equal(Generator.load(folder, device="cpu", dtype="float32").logits(TOKENS), first)
