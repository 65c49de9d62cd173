"""Model folders: found or fetched, and refused with a remedy when something is wrong with them."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file, save_file

from generator import Generator
from generator.errors import (
    GeneratorError,
    HubUnavailable,
    InvalidModelConfig,
    ModelNotFound,
    OutOfMemory,
    PickledWeights,
    UnsupportedModel,
    WeightsCorrupt,
    WeightsMismatch,
    WeightsMissing,
)
from generator.loading import ModelFolder, allocate, resolve_folder
from generator.model.config import ModelConfig


@pytest.fixture
def folder(save_checkpoint: Any) -> Path:
    return save_checkpoint()[1]


@pytest.fixture
def sharded(save_checkpoint: Any, tmp_path: Path) -> Path:
    save_checkpoint()[0].save_pretrained(tmp_path / "sharded", max_shard_size="20KB")
    return tmp_path / "sharded"


def load(folder: Path) -> Generator:
    return Generator.load(folder, device="cpu", dtype="float32")


def edit(file: Path, **changes: Any) -> None:
    """Change fields of a JSON file; None removes one."""
    data = {**json.loads(file.read_text()), **changes}
    file.write_text(json.dumps({key: value for key, value in data.items() if value is not None}))


def edit_tensors(folder: Path, **changes: torch.Tensor | None) -> None:
    file = folder / "model.safetensors"
    tensors = {**load_file(file), **{name.replace("__", "."): tensor for name, tensor in changes.items()}}
    save_file({name: tensor for name, tensor in tensors.items() if tensor is not None}, file)


def test_a_missing_path_is_not_looked_up_on_the_hub(tmp_path: Path) -> None:
    with pytest.raises(ModelNotFound, match="no folder"):
        resolve_folder(tmp_path / "nothing")
    with pytest.raises(ModelNotFound, match="no folder"):
        resolve_folder("./models/nothing")


def test_a_hub_name_offline_says_what_to_do(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    import huggingface_hub.constants

    monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_OFFLINE", True)
    monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_CACHE", str(tmp_path))
    with pytest.raises(HubUnavailable, match="'nobody/nothing' is no folder") as caught:
        Generator.load("nobody/nothing")
    assert "downloaded model folder" in caught.value.hint


def test_only_the_files_that_are_needed_are_fetched(monkeypatch: pytest.MonkeyPatch, folder: Path) -> None:
    import fnmatch

    import huggingface_hub

    asked: dict[str, Any] = {}

    def snapshot_download(name: str, *, allow_patterns: list[str]) -> str:
        asked.update(name=name, patterns=allow_patterns)
        return str(folder)

    monkeypatch.setattr(huggingface_hub, "snapshot_download", snapshot_download)
    assert resolve_folder("owner/model-1.5") == folder
    assert asked["name"] == "owner/model-1.5"
    offered = ["model.safetensors", "model-00001-of-00002.safetensors", "tokenizer.json", "config.json"]
    refused = ["pytorch_model.bin", "consolidated.safetensors", "model.gguf", "code.py", "onnx/model.onnx"]
    fetched = [name for name in offered + refused if any(fnmatch.fnmatch(name, p) for p in asked["patterns"])]
    assert fetched == offered


def test_a_file_is_not_a_folder(folder: Path) -> None:
    with pytest.raises(ModelNotFound, match="is a file"):
        load(folder / "config.json")


def test_a_folder_without_config_is_no_model(tmp_path: Path) -> None:
    with pytest.raises(ModelNotFound, match=r"no config\.json"):
        load(tmp_path)


def test_an_adapter_folder_is_recognised(tmp_path: Path) -> None:
    (tmp_path / "adapter_config.json").write_text("{}")
    with pytest.raises(ModelNotFound, match="LoRA adapter"):
        load(tmp_path)


@pytest.mark.parametrize("content", ['{"model_type": "llama"', "[]", "\udcff", ""])
def test_an_unreadable_config_is_a_typed_error(folder: Path, content: str) -> None:
    (folder / "config.json").write_bytes(content.encode("utf-8", "surrogateescape"))
    with pytest.raises(InvalidModelConfig, match=r"config\.json"):
        load(folder)


@pytest.mark.parametrize(
    ("changes", "error", "message"),
    [
        ({"model_type": "bert"}, UnsupportedModel, "'bert' is not supported"),
        ({"model_type": None}, UnsupportedModel, "does not say its model_type"),
        ({"hidden_act": "relu"}, UnsupportedModel, "relu"),
        ({"quantization_config": {"bits": 4}}, UnsupportedModel, "quantised"),
        ({"rope_parameters": {"rope_type": "longrope"}}, UnsupportedModel, "longrope"),
        (
            {"rope_parameters": {"rope_theta": 1e4, "partial_rotary_factor": 0.5}},
            UnsupportedModel,
            "only 0.5",
        ),
        ({"rope_parameters": "none"}, InvalidModelConfig, "'rope_parameters'.*not an object"),
        ({"hidden_size": None}, InvalidModelConfig, "no field 'hidden_size'"),
        ({"hidden_size": "wide"}, InvalidModelConfig, "'hidden_size'.*'wide', not a whole number"),
        ({"vocab_size": -5}, InvalidModelConfig, "vocab_size is -5"),
        ({"num_attention_heads": 0}, InvalidModelConfig, "num_heads is 0"),
        ({"rms_norm_eps": "tiny"}, InvalidModelConfig, "'rms_norm_eps'"),
        ({"tie_word_embeddings": 1}, InvalidModelConfig, "true or false"),
    ],
)
def test_a_foreign_config_is_refused_with_its_field(
    folder: Path, changes: dict[str, Any], error: type[GeneratorError], message: str
) -> None:
    edit(folder / "config.json", **changes)
    with pytest.raises(error, match=message):
        load(folder)


def test_qwen_windows_and_smollm3_flags_must_fit_the_layers(save_checkpoint: Any) -> None:
    _, folder = save_checkpoint("smollm3", no_rope_layers=[1, 0, 1])
    edit(folder / "config.json", no_rope_layers=[1, 0])
    with pytest.raises(InvalidModelConfig, match="rope_layers has 2 entries for 3 layers"):
        load(folder)


@pytest.mark.parametrize("size", [0, 4, 200, 20_000])
def test_truncated_weights_are_noticed(folder: Path, size: int) -> None:
    file = folder / "model.safetensors"
    file.write_bytes(file.read_bytes()[:size])
    with pytest.raises(WeightsCorrupt, match="truncated"):
        load(folder)


def test_a_git_lfs_pointer_is_recognised(folder: Path) -> None:
    (folder / "model.safetensors").write_text("version https://git-lfs.github.com/spec/v1\noid sha256:0\n")
    with pytest.raises(WeightsCorrupt, match="git-lfs pointer") as caught:
        load(folder)
    assert "git lfs pull" in caught.value.hint


def test_a_folder_without_weights_is_unfinished(folder: Path) -> None:
    (folder / "model.safetensors").unlink()
    with pytest.raises(WeightsMissing, match="neither"):
        load(folder)


@pytest.mark.parametrize("name", ["pytorch_model.bin", "model.pt", "model.pth"])
def test_pickled_weights_are_never_opened(folder: Path, name: str) -> None:
    (folder / "model.safetensors").rename(folder / name)
    with pytest.raises(PickledWeights, match="can run code") as caught:
        load(folder)
    assert "safe_serialization=True" in caught.value.hint


def test_a_missing_tensor_is_named(folder: Path) -> None:
    edit_tensors(folder, model__layers__1__mlp__up_proj__weight=None)
    with pytest.raises(WeightsMissing, match=r"1 of 30 tensors .* model\.layers\.1\.mlp\.up_proj\.weight"):
        load(folder)


def test_a_surplus_tensor_is_named_rather_than_ignored(folder: Path) -> None:
    edit_tensors(folder, model__layers__0__self_attn__q_norm__weight=torch.ones(8))
    with pytest.raises(WeightsMismatch, match=r"self_attn\.q_norm\.weight"):
        load(folder)


def test_a_tensor_of_another_shape_is_named(folder: Path) -> None:
    edit_tensors(folder, model__norm__weight=torch.ones(33))
    with pytest.raises(
        WeightsMismatch, match=r"model\.norm\.weight as \[33\], but config\.json calls for \[32\]"
    ):
        load(folder)


def test_integer_weights_are_refused_as_quantised(folder: Path) -> None:
    edit_tensors(folder, model__norm__weight=torch.ones(32, dtype=torch.int8))
    with pytest.raises(UnsupportedModel, match="stored as I8"):
        load(folder)


def test_redundant_tensors_are_ignored(save_checkpoint: Any) -> None:
    _, folder = save_checkpoint(tie_word_embeddings=True)
    expected = load(folder).logits([[1, 2, 3]])
    edit_tensors(
        folder,
        lm_head__weight=torch.zeros(300, 32),
        model__layers__0__self_attn__rotary_emb__inv_freq=torch.ones(4),
    )
    assert torch.equal(load(folder).logits([[1, 2, 3]]), expected)


def test_a_missing_shard_is_named(sharded: Path) -> None:
    [first, *_] = sorted(sharded.glob("model-*.safetensors"))
    first.unlink()
    with pytest.raises(WeightsMissing, match=first.name):
        load(sharded)


def test_an_index_that_promises_a_tensor_its_shard_lacks_is_refused(sharded: Path) -> None:
    index = sharded / "model.safetensors.index.json"
    weight_map = json.loads(index.read_text())["weight_map"]
    name, file = next(iter(weight_map.items()))
    other = next(candidate for candidate in weight_map.values() if candidate != file)
    edit(index, weight_map={**weight_map, name: other})
    with pytest.raises(WeightsMissing, match=f"does not hold the tensor {name}"):
        load(sharded)


@pytest.mark.parametrize(
    "name", ["../model.safetensors", "/etc/passwd", "sub/model.safetensors", "model.bin", 7]
)
def test_an_index_cannot_point_outside_its_folder(sharded: Path, name: Any) -> None:
    edit(sharded / "model.safetensors.index.json", weight_map={"lm_head.weight": name})
    with pytest.raises(InvalidModelConfig, match="not a safetensors file of its folder"):
        load(sharded)


@pytest.mark.parametrize("weight_map", [{}, "none", None])
def test_an_index_without_map_is_refused(sharded: Path, weight_map: Any) -> None:
    edit(sharded / "model.safetensors.index.json", weight_map=weight_map)
    with pytest.raises(InvalidModelConfig, match="no weight_map"):
        load(sharded)


def test_a_model_larger_than_memory_says_how_large_it_is() -> None:
    config = ModelConfig(
        vocab_size=2**40,
        hidden_size=2**12,
        intermediate_size=8,
        num_layers=1,
        num_heads=2,
        num_kv_heads=1,
        head_dim=8,
        max_positions=16,
    )
    with pytest.raises(OutOfMemory, match="GB in bfloat16"):
        allocate(config, device=torch.device("cpu"), dtype=torch.bfloat16)


def test_end_tokens_are_gathered_from_all_files(folder: Path) -> None:
    edit(folder / "config.json", eos_token_id=5)
    (folder / "generation_config.json").write_text(json.dumps({"eos_token_id": [7, 9]}))
    assert ModelFolder.open(folder).eos_token_ids == {5, 7, 9}
    (folder / "generation_config.json").unlink()
    assert ModelFolder.open(folder).eos_token_ids == {5}


def test_yarn_extends_the_context_beyond_the_stated_pretraining_length(save_checkpoint: Any) -> None:
    yarn = {"rope_type": "yarn", "rope_theta": 1e4, "factor": 4.0, "original_max_position_embeddings": 128}
    _, folder = save_checkpoint("qwen2", rope_parameters=yarn)
    assert load(folder).context_length == 512
