"""Weight-only int8: each kernel against the float product of the same quantised weights."""

from __future__ import annotations

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn

from generator.checkpoint import CheckpointGenerator
from generator.errors import InvalidAdapter, UnknownQuantization, UnsupportedOperation
from generator.generator import Generator
from generator.lora import LoraAdapter, LoraLinear, LowRank, attach_lora
from generator.model.config import ModelConfig
from generator.model.transformer import Transformer
from generator.quantization import (
    AtenProduct,
    ConvertingProduct,
    Int8Linear,
    Int8Product,
    IntegerProduct,
    fastest_product,
    quantize_int8,
    quantize_rows,
    weight_bytes,
)

CPU = torch.device("cpu")
KINDS = {ConvertingProduct, AtenProduct, fastest_product(CPU)}
ROUNDING = {torch.float32: 5e-4, torch.bfloat16: 2**-7}


@pytest.fixture(params=sorted(KINDS, key=lambda kind: kind.__name__))
def kind(request: pytest.FixtureRequest) -> type[Int8Product]:
    return request.param


def random(*shape: int, seed: int = 0) -> torch.Tensor:
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed))


def model(*, tied: bool = True, bias: bool = False) -> Transformer:
    config = ModelConfig(
        vocab_size=96, hidden_size=48, intermediate_size=64, num_layers=2, num_heads=4, num_kv_heads=2,
        head_dim=12, max_positions=64, tied_embeddings=tied, qkv_bias=bias,
    )  # fmt: skip
    built = Transformer(config).eval()
    built.initialise(std=0.15, generator=torch.Generator().manual_seed(1))
    if bias:
        for layer in built.layers:
            nn.init.normal_(layer.attention.qkv.bias, generator=torch.Generator().manual_seed(2))
    return built


@given(rows=st.integers(1, 9), columns=st.integers(1, 40), seed=st.integers(0, 99))
@settings(max_examples=30, deadline=None)
def test_a_quantised_row_is_within_half_a_step_of_the_row(rows: int, columns: int, seed: int) -> None:
    weight = random(rows, columns, seed=seed) * torch.logspace(-6, 3, rows)[:, None]
    quantized, scale = quantize_rows(weight)
    assert quantized.dtype == torch.int8
    error = (quantized.float() * scale[:, None] - weight).abs()
    assert (error <= 0.5001 * scale[:, None]).all()


def test_a_row_of_zeros_stays_zero() -> None:
    quantized, scale = quantize_rows(torch.zeros(2, 5))
    assert not quantized.any()
    assert torch.isfinite(scale).all()


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
@pytest.mark.parametrize("num_rows", [1, 4, 5, 64, 65, 130])
@pytest.mark.parametrize(("outputs", "inputs"), [(96, 64), (33, 70), (5, 3)])
def test_a_product_is_that_of_the_dequantised_weights(
    kind: type[Int8Product], dtype: torch.dtype, num_rows: int, outputs: int, inputs: int
) -> None:
    quantized, scale = quantize_rows(random(outputs, inputs))
    hidden = random(num_rows, inputs, seed=1)
    hidden[:, 0] *= 40  # an outlier, such as language models have
    hidden = hidden.to(dtype)
    found = kind(quantized, scale)(hidden)
    expected = hidden.double() @ (quantized.double() * scale[:, None]).T
    assert found.dtype == dtype
    assert ((found - expected).norm(dim=1) <= ROUNDING[dtype] * expected.norm(dim=1)).all()


def test_integer_sums_make_a_rows_result_independent_of_its_neighbours() -> None:
    if fastest_product(CPU) is not IntegerProduct:
        pytest.skip("this CPU has no int8 dot products")
    product = IntegerProduct(*quantize_rows(random(96, 80)))
    hidden = random(150, 80, seed=1).bfloat16()
    together = product(hidden)
    for size in (1, 3, 16, 100):
        alone = torch.cat([product(block) for block in hidden.split(size)])
        assert torch.equal(alone, together)


def test_leading_dimensions_and_bias_are_kept(kind: type[Int8Product]) -> None:
    weight, bias, hidden = random(10, 16), random(10), random(2, 3, 16, seed=2)
    found = Int8Linear(weight, bias, kind)(hidden)
    quantized, scale = quantize_rows(weight)
    assert found.shape == (2, 3, 10)
    torch.testing.assert_close(found, hidden @ (quantized * scale[:, None]).T + bias, rtol=1e-3, atol=1e-3)


@pytest.mark.parametrize("tied", [False, True])
@pytest.mark.parametrize("bias", [False, True])
def test_a_quantised_model_scores_as_one_with_dequantised_weights(tied: bool, bias: bool) -> None:
    ours, reference = model(tied=tied, bias=bias), model(tied=tied, bias=bias)
    head = nn.Linear(48, 96, bias=False)
    head.weight.data = (reference.embed_tokens if tied else reference.lm_head).weight.detach().clone()
    reference.lm_head = head
    for module in reference.modules():
        if isinstance(module, nn.Linear):
            quantized, scale = quantize_rows(module.weight)
            module.weight.data = quantized * scale[:, None]
    assert quantize_int8(ours) == 4 * 2 + 1
    token_ids = torch.arange(12)[None]
    with torch.inference_mode():
        found, expected = (one.project(one(token_ids)) for one in (ours, reference))
    torch.testing.assert_close(found, expected, rtol=2e-3, atol=2e-3)


def test_a_quantised_model_is_about_half_of_its_bfloat16() -> None:
    plain = model(tied=False).bfloat16()
    before, embeddings = weight_bytes(plain), plain.embed_tokens.weight.nbytes
    quantize_int8(plain)
    assert weight_bytes(plain) - embeddings < 0.6 * (before - embeddings)
    assert not any(isinstance(module, nn.Linear) for module in plain.modules())
    assert plain.dtype == torch.bfloat16


def test_adapters_come_before_quantisation() -> None:
    update = LowRank(down=random(2, 48), up=random(48, 2), scale=1.0)
    adapter = LoraAdapter({"model.layers.0.self_attn.q_proj": update}, {})
    attached = model()
    attach_lora(attached, adapter)
    assert any(isinstance(module, LoraLinear) for module in attached.modules())
    with pytest.raises(UnsupportedOperation, match="Merge"):
        quantize_int8(attached)
    quantized = model()
    quantize_int8(quantized)
    with pytest.raises(InvalidAdapter, match="before the model is quantised"):
        attach_lora(quantized, adapter)


def test_a_checkpoint_loads_quantised(save_checkpoint) -> None:
    _, folder = save_checkpoint("llama")
    loaded = Generator.load(folder, device="cpu", dtype="float32", quantization="int8")
    plain = Generator.load(folder, device="cpu", dtype="float32")
    assert isinstance(loaded, CheckpointGenerator)
    assert isinstance(loaded.model.lm_head, Int8Linear)
    difference = (loaded.logits([[1, 2, 3]]) - plain.logits([[1, 2, 3]])).abs().max()
    assert 0 < difference < 0.1 * plain.logits([[1, 2, 3]]).abs().max()
    assert len(loaded.generate([[1, 2, 3]], max_new_tokens=4, ignore_eos=True)[0].token_ids) == 4


def test_quantising_forgets_what_was_computed_with_the_weights_as_they_were(save_checkpoint) -> None:
    _, folder = save_checkpoint("llama")
    loaded = Generator.load(folder, device="cpu", dtype="float32")
    assert isinstance(loaded, CheckpointGenerator)
    prompt = list(range(5, 45))
    loaded.generate([prompt], max_new_tokens=2, ignore_eos=True)
    assert loaded.engine.num_cached_tokens(prompt) > 0
    loaded.quantize_int8()
    assert loaded.engine.num_cached_tokens(prompt) == 0


def test_an_unknown_quantisation_is_named(tmp_path) -> None:
    with pytest.raises(UnknownQuantization, match=r"int3.*none, int8"):
        Generator.load(tmp_path, device="cpu", quantization="int3")


def test_the_reader_is_not_quantised() -> None:
    with pytest.raises(UnsupportedOperation, match="reader is not quantised"):
        Generator.load("reader", device="cpu", quantization="int8")
