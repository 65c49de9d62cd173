"""Every family and variant against Hugging Face transformers on the same random weights, in float32."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import torch

from generator import Generator
from generator.model.families import bert_config, bert_state, decoder_config
from generator.model.transformer import Transformer

LLAMA3 = {
    "rope_type": "llama3",
    "rope_theta": 500.0,
    "factor": 8.0,
    "low_freq_factor": 1.0,
    "high_freq_factor": 4.0,
    "original_max_position_embeddings": 16,
}
YARN = {
    "rope_type": "yarn",
    "rope_theta": 1000.0,
    "factor": 4.0,
    "original_max_position_embeddings": 16,
    "beta_fast": 8.0,
    "beta_slow": 1.0,
}
VARIANTS: dict[str, tuple[str, dict[str, Any]]] = {
    "llama-mha": ("llama", {"num_key_value_heads": 4}),
    "llama-gqa": ("llama", {}),
    "llama-mqa": ("llama", {"num_key_value_heads": 1}),
    "llama-wide-heads": ("llama", {"head_dim": 16}),
    "llama-tied": ("llama", {"tie_word_embeddings": True}),
    "llama-biases": ("llama", {"attention_bias": True, "mlp_bias": True}),
    "llama-theta": ("llama", {"rope_parameters": {"rope_type": "default", "rope_theta": 500.0}}),
    "llama-linear": (
        "llama",
        {"rope_parameters": {"rope_type": "linear", "rope_theta": 500.0, "factor": 4.0}},
    ),
    "llama-llama3": ("llama", {"rope_parameters": LLAMA3}),
    "llama-yarn": ("llama", {"rope_parameters": YARN}),
    "llama-yarn-factor": ("llama", {"rope_parameters": {**YARN, "attention_factor": 1.7}}),
    "llama-yarn-mscale": ("llama", {"rope_parameters": {**YARN, "mscale": 0.7, "mscale_all_dim": 1.3}}),
    "llama-yarn-untruncated": (
        "llama",
        {
            "head_dim": 32,
            "rope_parameters": {
                **YARN,
                "rope_theta": 100.0,
                "original_max_position_embeddings": 64,
                "truncate": False,
            },
        },
    ),
    "mistral-full": ("mistral", {"sliding_window": None}),
    "mistral-window": ("mistral", {"sliding_window": 5}),
    "mistral-wide-heads": ("mistral", {"sliding_window": 7, "head_dim": 12}),
    "qwen2": ("qwen2", {}),
    "qwen2-tied": ("qwen2", {"tie_word_embeddings": True}),
    "qwen2-windows": ("qwen2", {"use_sliding_window": True, "sliding_window": 5, "max_window_layers": 1}),
    "qwen2-layer-types": (
        "qwen2",
        {
            "use_sliding_window": True,
            "sliding_window": 4,
            "layer_types": ["sliding_attention", "full_attention", "sliding_attention"],
        },
    ),
    "qwen3": ("qwen3", {"head_dim": 16}),
    "qwen3-bias": ("qwen3", {"head_dim": 8, "attention_bias": True, "tie_word_embeddings": True}),
    "qwen3-windows": (
        "qwen3",
        {"head_dim": 16, "use_sliding_window": True, "sliding_window": 6, "max_window_layers": 2},
    ),
    "smollm3": ("smollm3", {"no_rope_layers": [1, 0, 1]}),
    "smollm3-interval": ("smollm3", {"no_rope_layer_interval": 2, "tie_word_embeddings": False}),
    "smollm3-windows": (
        "smollm3",
        {
            "no_rope_layers": [1, 0, 1],
            "use_sliding_window": True,
            "sliding_window": 5,
            "attention_bias": True,
        },
    ),
}


@pytest.mark.parametrize("variant", VARIANTS)
def test_logits_agree_with_transformers(variant: str, save_checkpoint: Any) -> None:
    family, changes = VARIANTS[variant]
    reference, folder = save_checkpoint(family, **changes)
    token_ids = torch.randint(0, 300, (2, 40), generator=torch.Generator().manual_seed(1))

    ours = Generator.load(folder, device="cpu", dtype="float32").logits(token_ids)

    with torch.no_grad():
        theirs = reference(token_ids).logits
    assert theirs.std() > 0.5, "the check would prove nothing on vanishing logits"
    torch.testing.assert_close(ours, theirs, atol=1e-4, rtol=1e-4)


@pytest.mark.parametrize("variant", VARIANTS)
def test_cached_greedy_generation_agrees_with_transformers(variant: str, save_checkpoint: Any) -> None:
    family, changes = VARIANTS[variant]
    reference, folder = save_checkpoint(family, **changes)
    prompt = torch.randint(0, 300, (1, 11), generator=torch.Generator().manual_seed(2))

    [completion] = Generator.load(folder, device="cpu", dtype="float32").generate(
        prompt.tolist(), max_new_tokens=20, ignore_eos=True
    )

    expected = reference.generate(prompt, max_new_tokens=20, do_sample=False, use_cache=True)
    assert list(completion.token_ids) == expected[0, 11:].tolist()


def test_the_older_layout_of_rope_settings_means_the_same(save_checkpoint: Any) -> None:
    _, folder = save_checkpoint(rope_parameters=LLAMA3)
    token_ids = torch.arange(30)[None]
    newer = Generator.load(folder, device="cpu", dtype="float32").logits(token_ids)
    config = json.loads((folder / "config.json").read_text())
    nested = config.pop("rope_parameters")
    config["rope_theta"] = nested.pop("rope_theta")
    config["rope_scaling"] = {**nested, "type": nested.pop("rope_type")}
    (folder / "config.json").write_text(json.dumps(config))

    older = Generator.load(folder, device="cpu", dtype="float32").logits(token_ids)

    assert torch.equal(older, newer)


@pytest.mark.parametrize(
    "variant", ["qwen2-windows", "qwen3-windows", "smollm3-windows", "smollm3-interval", "mistral-full"]
)
def test_older_files_leave_layer_kinds_unsaid_and_mean_the_same(variant: str, save_checkpoint: Any) -> None:
    family, changes = VARIANTS[variant]
    _, folder = save_checkpoint(family, **changes)
    data = json.loads((folder / "config.json").read_text())
    unsaid = {"layer_types"} if variant != "smollm3-interval" else {"layer_types", "no_rope_layers"}
    older = {key: value for key, value in data.items() if key not in unsaid}
    assert decoder_config(older) == decoder_config(data)
    assert any(decoder_config(data).windows) == variant.endswith("windows")


@pytest.mark.parametrize("activation", ["gelu", "gelu_new"])
def test_a_bert_encoder_agrees_with_transformers(activation: str, randomise: Any) -> None:
    from transformers import BertConfig, BertModel

    their_config = BertConfig(
        vocab_size=99,
        hidden_size=32,
        num_hidden_layers=2,
        num_attention_heads=4,
        intermediate_size=64,
        max_position_embeddings=64,
        hidden_act=activation,
    )
    reference = randomise(BertModel(their_config))
    config = bert_config(their_config.to_dict())
    model = Transformer(config).eval()
    model.load_state_dict(bert_state(reference.state_dict(), config))
    token_ids = torch.randint(0, 99, (3, 20), generator=torch.Generator().manual_seed(1))
    attended = torch.arange(20) < torch.tensor([20, 13, 1])[:, None]

    with torch.no_grad():
        ours = model(token_ids, mask=attended[:, None, None, :])
        theirs = reference(token_ids, attention_mask=attended.long()).last_hidden_state

    torch.testing.assert_close(ours[attended], theirs[attended], atol=1e-4, rtol=1e-4)


def test_sharded_weights_load_like_one_file(save_checkpoint: Any, tmp_path: Path) -> None:
    reference, folder = save_checkpoint()
    reference.save_pretrained(tmp_path / "sharded", max_shard_size="20KB")
    assert (tmp_path / "sharded" / "model.safetensors.index.json").is_file()
    token_ids = torch.arange(20)[None]

    whole = Generator.load(folder, device="cpu", dtype="float32").logits(token_ids)
    sharded = Generator.load(tmp_path / "sharded", device="cpu", dtype="float32").logits(token_ids)

    assert torch.equal(whole, sharded)


def test_a_bfloat16_checkpoint_loads_into_either_dtype(save_checkpoint: Any, tmp_path: Path) -> None:
    reference, _ = save_checkpoint()
    reference.to(torch.bfloat16).save_pretrained(tmp_path / "bf16")
    token_ids = torch.arange(20)[None]

    exact = Generator.load(tmp_path / "bf16", device="cpu", dtype="float32")
    rounded = Generator.load(tmp_path / "bf16", device="cpu", dtype="bfloat16")

    assert exact.model.dtype == torch.float32
    assert rounded.model.dtype == torch.bfloat16
    with torch.no_grad():  # read back, because casting a live model would round its rotary frequencies, too
        theirs = type(reference).from_pretrained(tmp_path / "bf16", dtype=torch.float32)(token_ids).logits
    torch.testing.assert_close(exact.logits(token_ids), theirs, atol=1e-4, rtol=1e-4)
    difference = (rounded.logits(token_ids) - theirs).abs().mean() / theirs.abs().mean()
    assert difference < 0.1
