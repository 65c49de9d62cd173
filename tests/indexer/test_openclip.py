"""Image embedders in OpenCLIP's form, such as MobileCLIP: read where open_clip is installed."""

from __future__ import annotations

import json
import shutil
import sys
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
import pytest
from tiny_clip import save_tiny_clip

from indexer import openclip
from indexer.embedding import ModelNotFound
from indexer.embedding_errors import NotAnImageEmbedder
from indexer.image_embedding import ImageEmbedder
from indexer.types import Thumbnail

CONTEXT = 12
CONFIG: dict[str, Any] = {
    "model_cfg": {
        "embed_dim": 16,
        "vision_cfg": {"image_size": 32, "layers": 1, "width": 32, "head_width": 16, "patch_size": 8},
        "text_cfg": {"context_length": CONTEXT, "vocab_size": 49408, "width": 16, "heads": 2, "layers": 1},
    },
    "preprocess_cfg": {"mean": [0.5, 0.5, 0.5], "std": [0.5, 0.5, 0.5]},
}


def save(folder: Path, config: object = CONFIG, *, weights: str = "open_clip_model.safetensors") -> Path:
    folder.mkdir(parents=True, exist_ok=True)
    (folder / openclip.CONFIG_NAME).write_text(json.dumps(config))
    (folder / weights).write_bytes(b"no weights at all")
    return folder


def text_cfg(**more: object) -> dict[str, Any]:
    model = CONFIG["model_cfg"]
    return {**CONFIG, "model_cfg": {**model, "text_cfg": {**model["text_cfg"], **more}}}


def vision_cfg(**more: object) -> dict[str, Any]:
    model = CONFIG["model_cfg"]
    return {**CONFIG, "model_cfg": {**model, "vision_cfg": {**model["vision_cfg"], **more}}}


def picture(seed: int) -> Thumbnail:
    pixels = np.random.default_rng(seed).integers(0, 256, (36, 40, 3), np.uint8)
    return Thumbnail(40, 36, pixels.tobytes())


@pytest.mark.parametrize(
    "name", ["apple/MobileCLIP-S1-OpenCLIP", "apple/MobileCLIP2-S0", "timm/ViT-B-16-SigLIP"]
)
def test_a_hub_name_that_is_not_cached_says_offline_what_to_do(
    name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_CACHE", str(tmp_path))
    with pytest.raises(ModelNotFound) as missing:
        ImageEmbedder(name)
    assert name in missing.value.message
    assert "HF_HUB_OFFLINE" in missing.value.hint


def test_a_cached_hub_name_is_known_by_its_configuration_and_needs_no_network(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    asked = []

    def snapshot(name: str, *, local_files_only: bool = False, **_: object) -> str:
        asked.append((name, local_files_only))
        return str(save(tmp_path / "cached"))

    monkeypatch.setattr("huggingface_hub.snapshot_download", snapshot)
    monkeypatch.delenv("HF_HUB_OFFLINE", raising=False)
    monkeypatch.setattr(openclip, "is_installed", lambda: True)
    assert ImageEmbedder("apple/MobileCLIP-S1-OpenCLIP").folder == tmp_path / "cached"
    assert asked == [("apple/MobileCLIP-S1-OpenCLIP", True)]


def test_without_the_library_the_error_says_what_to_install(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(openclip, "is_installed", lambda: False)
    with pytest.raises(
        NotAnImageEmbedder, match="OpenCLIP's form, and open_clip is not installed"
    ) as refused:
        ImageEmbedder(str(save(tmp_path / "model")))
    assert "pip install 'ragserve[openclip]'" in refused.value.hint


@pytest.mark.parametrize(
    ("config", "reason"),
    [
        ({}, "no tower for texts"),
        ([], "no tower for texts"),
        ({"model_cfg": {"text_cfg": {}}}, "no tower for texts"),
        (text_cfg(hf_model_name="org/roberta"), "another repository .org/roberta."),
        (
            vision_cfg(timm_model_name="hf-hub:org/tower"),
            "pictures is one of another repository .hf-hub:org/",
        ),
        (text_cfg(hf_tokenizer_name="org/words"), "tokenizer is in another repository .org/words."),
        (text_cfg(tokenizer_kwargs={"trust_remote_code": True}), "code of its own, which is not run"),
    ],
)
def test_what_would_have_to_be_fetched_or_is_no_such_model_is_refused(
    config: object, reason: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setattr(openclip, "is_installed", lambda: True)
    with pytest.raises(NotAnImageEmbedder, match=reason):
        ImageEmbedder(str(save(tmp_path / "model", config)))


def test_pickled_weights_are_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(openclip, "is_installed", lambda: True)
    with pytest.raises(NotAnImageEmbedder, match="no weights in safetensors format"):
        ImageEmbedder(str(save(tmp_path / "model", weights="open_clip_pytorch_model.bin")))


def test_of_a_folder_in_both_forms_the_other_is_read(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(openclip, "is_installed", lambda: False)
    both = save_tiny_clip(tmp_path / "both")
    (both / openclip.CONFIG_NAME).write_text(json.dumps(CONFIG))
    assert ImageEmbedder(str(both)).folder == both


class StandIn(ModuleType):
    """In place of the library: pictures are three numbers, their mean colour, and texts the same by name."""

    def __init__(self) -> None:
        super().__init__("open_clip")
        self.asked: list[tuple[str, str]] = []

    def create_model_from_pretrained(self, place: str, *, device: str, precision: str) -> tuple[Any, Any]:
        import torch

        self.asked.append((place, precision))

        class Model:
            def eval(self) -> None:
                pass

            def encode_image(self, pictures: torch.Tensor) -> torch.Tensor:
                return pictures.mean(dim=(2, 3))

            def encode_text(self, tokens: torch.Tensor) -> torch.Tensor:
                return torch.nn.functional.one_hot(tokens[:, 0], 3).to(torch.float32)

        def prepare(image: Any) -> torch.Tensor:
            return torch.from_numpy(np.asarray(image, np.float32).transpose(2, 0, 1))

        return Model(), prepare

    def get_tokenizer(self, place: str) -> Any:
        import torch

        colours = ["red", "green", "blue"]
        return lambda texts: torch.tensor(
            [[next((colours.index(c) for c in colours if c in t), 0)] for t in texts]
        )


def test_a_text_finds_the_picture_that_it_describes(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    library = StandIn()
    monkeypatch.setitem(sys.modules, "open_clip", library)
    monkeypatch.setattr(openclip, "is_installed", lambda: True)
    folder = save(tmp_path / "model")
    embedder = ImageEmbedder(str(folder), device="cpu")
    assert library.asked == [], "nothing is loaded before it is needed"
    colours = [bytes(200 if i == number else 20 for i in range(3)) for number in range(3)]
    images = embedder.embed_images([Thumbnail(8, 8, 64 * colour) for colour in colours * 9])
    texts = embedder.embed_texts(["a red pier", "green water", "the blue hour"])
    assert images.shape == (27, 3)
    assert np.linalg.norm(images, axis=1) == pytest.approx(np.ones(27))
    assert (texts @ images.T).argmax(axis=0).tolist() == [0, 1, 2] * 9
    assert library.asked == [(f"local-dir:{folder}", "fp32")]
    other = ImageEmbedder(str(shutil.copytree(folder, tmp_path / "moved")))
    assert other.fingerprint == embedder.fingerprint


TOWERS: dict[str, dict[str, Any]] = {
    "ViT": CONFIG["model_cfg"]["vision_cfg"],
    "FastViT": {
        "timm_model_name": "fastvit_t8",
        "timm_pool": "avg",
        "timm_proj": None,
        "image_size": 64,
    },
    "EfficientFormer": {"timm_model_name": "efficientformerv2_s0", "timm_pool": "avg", "image_size": 224},
}


@pytest.mark.parametrize("tower", TOWERS)
def test_it_computes_what_the_library_computes(tower: str, tmp_path: Path):
    """Where it is installed: with towers for pictures of several makes, all with random weights."""
    open_clip = pytest.importorskip("open_clip")
    import torch
    from PIL import Image
    from safetensors.torch import save_file

    vision = {
        **TOWERS[tower],
        **({"timm_model_pretrained": True} if "timm_model_name" in TOWERS[tower] else {}),
    }
    model_cfg = {**CONFIG["model_cfg"], "vision_cfg": TOWERS[tower]}
    if tower == "FastViT":
        model_cfg["embed_dim"] = 768  # what its tower gives without a projection
    torch.manual_seed(0)
    model = open_clip.model.CLIP(**model_cfg).eval()
    config = {
        **CONFIG,
        "model_cfg": {**model_cfg, "vision_cfg": vision},
    }  # which asks for more weights: not fetched
    folder = save(tmp_path / "model", config)
    weights = {name: tensor.clone().contiguous() for name, tensor in model.state_dict().items()}
    save_file(weights, folder / "open_clip_model.safetensors")
    _, prepare = open_clip.create_model_from_pretrained(f"local-dir:{folder}")
    shown = [picture(seed) for seed in range(3)]
    images = torch.stack([prepare(Image.frombytes("RGB", (40, 36), one.rgb)) for one in shown])
    texts = ["a heron", "where is the heron " * 200]
    with torch.inference_mode():
        expected = [
            model.encode_image(images, normalize=True).numpy(),
            model.encode_text(open_clip.get_tokenizer(f"local-dir:{folder}")(texts), normalize=True).numpy(),
        ]
    embedder = ImageEmbedder(str(folder), device="cpu")
    np.testing.assert_allclose(embedder.embed_images(shown), expected[0], atol=1e-4)
    np.testing.assert_allclose(embedder.embed_texts(texts), expected[1], atol=1e-4)
