"""LoRA adapters against PEFT itself, on tiny random weights."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file, save_file

from generator import Generator
from generator.errors import InvalidAdapter, UnsupportedModel
from generator.lora import LoraLinear

ALL_LINEAR = ["q_proj", "k_proj", "v_proj", "o_proj", "gate_proj", "up_proj", "down_proj"]
VARIANTS: dict[str, dict[str, Any]] = {
    "query and value": {"r": 4, "lora_alpha": 8, "target_modules": ["q_proj", "v_proj"]},
    "all layers": {"r": 3, "lora_alpha": 5, "target_modules": ALL_LINEAR},
    "head": {"r": 2, "lora_alpha": 2, "target_modules": ["lm_head", "k_proj"]},
    "rank-stabilised": {"r": 8, "lora_alpha": 4, "target_modules": ["up_proj", "o_proj"], "use_rslora": True},
    "patterns": {
        "r": 4,
        "lora_alpha": 8,
        "target_modules": ALL_LINEAR,
        "rank_pattern": {"q_proj": 2, "layers.1.mlp.down_proj": 6},
        "alpha_pattern": {"q_proj": 16, ".*layers.0.*gate_proj": 3},
    },
}
TOKENS = torch.arange(24).reshape(2, 12)


def train_adapter(reference: Any, folder: Path, **config: Any) -> torch.Tensor:
    """Save a random PEFT adapter; returns the adapted model's logits."""
    from peft import LoraConfig, get_peft_model

    adapted = get_peft_model(reference, LoraConfig(**config))
    generator = torch.Generator().manual_seed(3)
    with torch.no_grad():
        for name, weight in adapted.named_parameters():
            if "lora_" in name:
                weight.copy_(0.3 * torch.randn(weight.shape, generator=generator))
        adapted.save_pretrained(folder)
        return adapted.eval()(TOKENS).logits


def edit(file: Path, **changes: Any) -> None:
    file.write_text(json.dumps({**json.loads(file.read_text()), **changes}))


@pytest.mark.parametrize("variant", VARIANTS)
@pytest.mark.parametrize("family", ["llama", "qwen2"])
def test_an_adapter_acts_as_in_peft_beside_the_weights_and_merged(
    variant: str, family: str, save_checkpoint: Any, tmp_path: Path
) -> None:
    reference, folder = save_checkpoint(family)
    plain = Generator.load(folder, device="cpu", dtype="float32")
    before = plain.logits(TOKENS)
    expected = train_adapter(reference, tmp_path / "adapter", **VARIANTS[variant])
    assert (expected - before).abs().max() > 0.1

    plain.load_lora(tmp_path / "adapter")
    torch.testing.assert_close(plain.logits(TOKENS), expected, atol=1e-4, rtol=1e-4)

    assert plain.merge_lora() > 0
    assert not any(isinstance(module, LoraLinear) for module in plain.model.modules())
    torch.testing.assert_close(plain.logits(TOKENS), expected, atol=1e-4, rtol=1e-4)

    loaded_merged = Generator.load(folder, device="cpu", dtype="float32", adapter=tmp_path / "adapter")
    assert torch.equal(loaded_merged.logits(TOKENS), plain.logits(TOKENS))


def test_two_adapters_add_up(save_checkpoint: Any, tmp_path: Path) -> None:
    reference, folder = save_checkpoint()
    train_adapter(reference, tmp_path / "adapter", **VARIANTS["query and value"])
    model = Generator.load(folder, device="cpu", dtype="float32")
    before = model.model.layers[0].attention.qkv.weight.detach().clone()
    for _ in range(2):
        model.load_lora(tmp_path / "adapter")
    model.merge_lora()
    once = Generator.load(folder, device="cpu", dtype="float32", adapter=tmp_path / "adapter")
    change_once = once.model.layers[0].attention.qkv.weight - before
    change_twice = model.model.layers[0].attention.qkv.weight - before
    torch.testing.assert_close(change_twice, 2 * change_once, atol=1e-5, rtol=1e-4)


@pytest.fixture
def adapter(save_checkpoint: Any, tmp_path: Path) -> tuple[Path, Path]:
    reference, folder = save_checkpoint()
    train_adapter(reference, tmp_path / "adapter", **VARIANTS["query and value"])
    return folder, tmp_path / "adapter"


@pytest.mark.parametrize(
    ("changes", "error", "message"),
    [
        ({"peft_type": "IA3"}, UnsupportedModel, "'IA3'"),
        ({"bias": "all"}, UnsupportedModel, "biases"),
        ({"use_dora": True}, UnsupportedModel, "use_dora"),
        ({"modules_to_save": ["lm_head"]}, UnsupportedModel, "modules_to_save"),
        ({"lora_alpha": None}, InvalidAdapter, "lora_alpha"),
    ],
)
def test_an_adapter_of_another_kind_is_refused(
    adapter: tuple[Path, Path], changes: dict[str, Any], error: type[Exception], message: str
) -> None:
    folder, adapter_folder = adapter
    edit(adapter_folder / "adapter_config.json", **changes)
    with pytest.raises(error, match=message):
        Generator.load(folder, device="cpu", dtype="float32", adapter=adapter_folder)


@pytest.mark.parametrize("name", ["adapter_config.json", "adapter_model.safetensors"])
def test_an_unfinished_adapter_folder_is_a_typed_error(adapter: tuple[Path, Path], name: str) -> None:
    folder, adapter_folder = adapter
    (adapter_folder / name).unlink()
    with pytest.raises(InvalidAdapter, match=name):
        Generator.load(folder, device="cpu", dtype="float32", adapter=adapter_folder)


PREFIX = "base_model.model.model.layers.0.self_attn.q_proj"


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({f"{PREFIX}.lora_A.weight": None}, "does not hold two matrices"),
        ({f"{PREFIX}.lora_A.weight": torch.ones(3, 32)}, "differ in rank"),
        ({f"{PREFIX}.lora_B.weight": torch.ones(64, 4)}, "is 64 x 32, the layer 32 x 32"),
        ({f"{PREFIX}.lora_magnitude_vector": torch.ones(3)}, "no LoRA factor"),
        ({"base_model.model.lm_head.weight": torch.ones(300, 32)}, "brings lm_head of its own"),
        ({"base_model.model.model.embed_tokens.weight": torch.ones(301, 32)}, "brings model.embed_tokens"),
    ],
)
def test_factors_that_do_not_fit_are_named(
    adapter: tuple[Path, Path], changes: dict[str, torch.Tensor | None], message: str
) -> None:
    folder, adapter_folder = adapter
    file = adapter_folder / "adapter_model.safetensors"
    tensors = {**load_file(file), **changes}
    save_file({name: tensor for name, tensor in tensors.items() if tensor is not None}, file)
    with pytest.raises(InvalidAdapter, match=message):
        Generator.load(folder, device="cpu", dtype="float32", adapter=adapter_folder)


def test_an_adapter_for_a_deeper_model_changes_nothing(
    adapter: tuple[Path, Path], save_checkpoint: Any
) -> None:
    _, shallow = save_checkpoint(seed=1, num_hidden_layers=2)
    model = Generator.load(shallow, device="cpu", dtype="float32")
    with pytest.raises(InvalidAdapter, match=r"layers\.2\.self_attn"):
        model.load_lora(adapter[1])
    assert not any(isinstance(module, LoraLinear) for module in model.model.modules())
