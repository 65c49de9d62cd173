"""The transformer's own promises, beyond agreeing with other implementations."""

from __future__ import annotations

import pytest
import torch
from torch.nn import functional as F

from generator.errors import InvalidModelConfig
from generator.model.config import ModelConfig, RopeScaling
from generator.model.masks import prefix_visibility
from generator.model.rope import RotaryEmbedding, rotate
from generator.model.transformer import Transformer

BASE = {
    "vocab_size": 50,
    "hidden_size": 32,
    "intermediate_size": 48,
    "num_layers": 2,
    "num_heads": 4,
    "num_kv_heads": 2,
    "head_dim": 8,
    "max_positions": 64,
}


def plain_attention(
    query: torch.Tensor, key: torch.Tensor, value: torch.Tensor, *, mask: torch.Tensor | None, causal: bool
) -> torch.Tensor:
    groups = query.shape[1] // key.shape[1]
    key, value = key.repeat_interleave(groups, 1), value.repeat_interleave(groups, 1)
    scores = query @ key.transpose(-1, -2) / query.shape[-1] ** 0.5
    if causal:
        mask = torch.ones(scores.shape[-2:], dtype=torch.bool).tril()
    if mask is not None:
        scores = scores.masked_fill(~mask, float("-inf"))
    return scores.softmax(-1) @ value


def build(**changes: object) -> Transformer:
    model = Transformer(ModelConfig(**{**BASE, **changes}))
    model.initialise(std=0.3, generator=torch.Generator().manual_seed(0))
    return model


def test_a_kernel_of_ones_own_sees_what_the_reference_sees_and_trains() -> None:
    model = build(windows=(None, 3))
    token_ids = torch.arange(20).reshape(2, 10)
    expected = model(token_ids)
    model.kernel = plain_attention

    states = model(token_ids)
    states.square().sum().backward()

    torch.testing.assert_close(states, expected, atol=1e-5, rtol=1e-5)
    gradients = [weight.grad for name, weight in model.named_parameters() if name != "lm_head.weight"]
    assert all(gradient is not None and gradient.abs().sum() > 0 for gradient in gradients)


def test_a_prefix_mask_lets_the_prefix_see_itself_and_the_rest_only_backwards() -> None:
    mask = prefix_visibility(torch.tensor([3, 1]), torch.tensor([5, 4]), 5)
    assert mask.shape == (2, 1, 5, 5)
    assert mask[0, 0].int().tolist() == [
        [1, 1, 1, 0, 0],
        [1, 1, 1, 0, 0],
        [1, 1, 1, 0, 0],
        [1, 1, 1, 1, 0],
        [1, 1, 1, 1, 1],
    ]
    assert mask[1, 0].int().tolist() == [
        [1, 0, 0, 0, 0],
        [1, 1, 0, 0, 0],
        [1, 1, 1, 0, 0],
        [1, 1, 1, 1, 0],
        [1, 1, 1, 1, 0],
    ]


def test_a_token_of_the_prefix_feels_a_later_one_of_the_prefix_only() -> None:
    model = build().eval()
    token_ids = torch.arange(8)[None]
    mask = prefix_visibility(torch.tensor([4]), torch.tensor([8]), 8)
    changed_prefix, changed_rest = token_ids.clone(), token_ids.clone()
    changed_prefix[0, 3], changed_rest[0, 6] = 40, 40
    with torch.no_grad():
        base, first = model(token_ids, mask=mask), model(changed_prefix, mask=mask)
        second = model(changed_rest, mask=mask)
    assert not torch.allclose(base[0, 0], first[0, 0], atol=1e-4)
    torch.testing.assert_close(base[0, :6], second[0, :6], atol=1e-6, rtol=1e-6)


def test_dropout_acts_in_training_only() -> None:
    model = build(dropout=0.5)
    token_ids = torch.arange(10)[None]
    assert not torch.equal(model(token_ids), model(token_ids))
    model.eval()
    assert torch.equal(model(token_ids), model(token_ids))


def test_layers_can_be_run_in_two_halves() -> None:
    from generator.model.attention import DenseContext

    model = build().eval()
    token_ids, positions = torch.arange(10)[None], torch.arange(10)[None]
    with torch.no_grad():
        context = DenseContext(model.config, model.kernel)
        lower = model.run_layers(model.embed(token_ids, positions), positions, context, last=1)
        upper = model.run_layers(lower, positions, context, first=1)
        assert torch.equal(model.finish(upper), model(token_ids))


def test_rotation_depends_on_distance_alone() -> None:
    config = ModelConfig(**BASE)
    rope = RotaryEmbedding(config)
    query, key = torch.randn(2, 1, 4, 1, 8, generator=torch.Generator().manual_seed(0)).unbind()

    def score(query_at: int, key_at: int) -> torch.Tensor:
        turned = rotate(query, rope.rotation(torch.tensor([[query_at]])))
        return (turned * rotate(key, rope.rotation(torch.tensor([[key_at]])))).sum(-1)

    torch.testing.assert_close(score(7, 3), score(29, 25), atol=1e-5, rtol=1e-5)
    assert not torch.allclose(score(7, 3), score(7, 4), atol=1e-3)


def test_rotary_frequencies_stay_exact_in_a_bfloat16_model() -> None:
    model = build().to(torch.bfloat16)
    assert model.rope is not None
    assert model.rope.frequencies.dtype == torch.float32


def test_projection_uses_the_embeddings_when_they_are_tied() -> None:
    model = build(tied_embeddings=True)
    hidden = torch.randn(1, 3, 32)
    assert torch.equal(model.project(hidden), F.linear(hidden, model.embed_tokens.weight))


def test_a_configuration_survives_a_round_trip_through_json() -> None:
    import json

    config = ModelConfig(
        **BASE,
        windows=(None, 5),
        rope_layers=(True, False),
        rope_scaling=RopeScaling("yarn", 4.0, original_max_positions=16),
    )
    assert ModelConfig.from_dict(json.loads(json.dumps(config.to_dict()))) == config


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"num_layers": 0}, "num_layers is 0"),
        ({"num_kv_heads": 3}, "not a multiple of num_kv_heads"),
        ({"head_dim": 7}, "even"),
        ({"windows": (3,)}, "windows has 1 entries for 2 layers"),
        ({"windows": (3, 0)}, "at least 1 token wide"),
        ({"rope_layers": (True,) * 3}, "rope_layers has 3 entries"),
        ({"rope_theta": 1.0}, "above 1"),
    ],
)
def test_a_contradictory_configuration_is_a_typed_error(changes: dict[str, object], message: str) -> None:
    with pytest.raises(InvalidModelConfig, match=message):
        ModelConfig(**{**BASE, **changes})


@pytest.mark.parametrize(
    ("scaling", "message"),
    [
        ({"kind": "linear", "factor": 0.0}, "above 0"),
        ({"kind": "yarn", "factor": 2.0}, "original_max_positions"),
        (
            {"kind": "llama3", "factor": 2.0, "original_max_positions": 8, "high_freq_factor": 1.0},
            "high_freq_factor",
        ),
    ],
)
def test_an_impossible_rotary_scaling_is_a_typed_error(scaling: dict[str, object], message: str) -> None:
    with pytest.raises(InvalidModelConfig, match=message):
        RopeScaling(**scaling)


def test_unknown_and_missing_configuration_keys_are_named() -> None:
    with pytest.raises(InvalidModelConfig, match="Unknown model configuration keys: colour"):
        ModelConfig.from_dict({**BASE, "colour": "red"})
    with pytest.raises(InvalidModelConfig, match="num_heads"):
        ModelConfig.from_dict({key: value for key, value in BASE.items() if key != "num_heads"})
