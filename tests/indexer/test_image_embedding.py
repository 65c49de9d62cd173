"""The model that embeds pictures and texts, on a tiny random CLIP."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import numpy as np
import pytest
from tiny_clip import DIMENSION, save_tiny_clip, save_tiny_pair, save_with_modules

from indexer.embedding import ModelNotFound, default_embedder_folder
from indexer.embedding_errors import EmbeddingFailed, NotAnImageEmbedder
from indexer.image_embedding import ImageEmbedder
from indexer.types import Thumbnail


@pytest.fixture(scope="module")
def clip(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return save_tiny_clip(tmp_path_factory.mktemp("clip"))


@pytest.fixture(scope="module")
def embedder(clip: Path) -> ImageEmbedder:
    return ImageEmbedder(str(clip), device="cpu")


@pytest.fixture
def copied(clip: Path, tmp_path: Path) -> Path:
    """The model's folder, to be spoilt."""
    return Path(shutil.copytree(clip, tmp_path / "copied"))


def picture(seed: int, width: int = 40, height: int = 36) -> Thumbnail:
    pixels = np.random.default_rng(seed).integers(0, 256, (height, width, 3), np.uint8)
    return Thumbnail(width, height, pixels.tobytes())


def test_pictures_and_texts_become_unit_vectors_of_one_space(embedder):
    images = embedder.embed_images([picture(1), picture(2, 90, 30)])
    texts = embedder.embed_texts(["a heron", "a ferry", "tolls"])
    assert images.shape == (2, embedder.dimension) == (2, DIMENSION)
    assert texts.shape == (3, DIMENSION)
    assert images.dtype == texts.dtype == np.float32
    assert np.linalg.norm(np.concatenate([images, texts]), axis=1) == pytest.approx(np.ones(5), abs=1e-5)
    assert np.abs(images[0] - images[1]).max() > 1e-3
    assert np.abs(texts[0] - texts[1]).max() > 1e-3


def test_it_computes_what_transformers_computes(clip, embedder):
    import torch
    from PIL import Image
    from transformers import AutoProcessor, CLIPModel

    model, processor = CLIPModel.from_pretrained(clip), AutoProcessor.from_pretrained(clip)
    shown = picture(3)
    image = Image.frombytes("RGB", (shown.width, shown.height), shown.rgb)
    with torch.inference_mode():
        inputs = processor(text=["a heron"], images=[image], return_tensors="pt", padding=True)
        output = model(**inputs)
    expected = [output.image_embeds[0].numpy(), output.text_embeds[0].numpy()]
    found = [embedder.embed_images([shown])[0], embedder.embed_texts(["a heron"])[0]]
    np.testing.assert_allclose(found, expected, atol=1e-5)


def test_nothing_becomes_no_vectors(embedder):
    assert embedder.embed_images([]).shape == (0, DIMENSION)
    assert embedder.embed_texts([]).shape == (0, DIMENSION)


def test_more_than_a_batch_keeps_its_order(embedder):
    pictures = [picture(seed) for seed in range(18)]
    together = embedder.embed_images(pictures)
    alone = np.concatenate([embedder.embed_images([one]) for one in pictures])
    np.testing.assert_allclose(together, alone, atol=1e-5)


def test_a_question_longer_than_the_text_tower_is_cut(embedder):
    assert embedder.embed_texts(["where is the heron " * 200]).shape == (1, DIMENSION)


def test_the_folder_that_sentence_transformers_saves_gives_the_same_vectors(clip, embedder, tmp_path):
    other = ImageEmbedder(str(save_with_modules(clip, tmp_path / "saved")), device="cpu")
    np.testing.assert_allclose(
        other.embed_images([picture(1)]), embedder.embed_images([picture(1)]), atol=1e-5
    )
    np.testing.assert_allclose(other.embed_texts(["a heron"]), embedder.embed_texts(["a heron"]), atol=1e-5)


def test_the_form_of_the_first_clip_models_on_the_hub_is_read_too(clip, embedder, tmp_path):
    shutil.copytree(clip, tmp_path / "old" / "0_CLIPModel")
    module = {"idx": 0, "name": "0", "path": "0_CLIPModel", "type": "sentence_transformers.models.CLIPModel"}
    (tmp_path / "old" / "modules.json").write_text(json.dumps([module]))
    old = ImageEmbedder(str(tmp_path / "old"), device="cpu")
    np.testing.assert_allclose(old.embed_images([picture(1)]), embedder.embed_images([picture(1)]), atol=1e-5)
    np.testing.assert_allclose(old.embed_texts(["a heron"]), embedder.embed_texts(["a heron"]), atol=1e-5)


def test_towers_of_other_makes_serve_as_well(tmp_path):
    pair = ImageEmbedder(str(save_tiny_pair(tmp_path / "pair")), device="cpu")
    assert pair.embed_images([picture(1)]).shape == (1, DIMENSION)
    assert pair.embed_texts(["a heron", "where is the heron " * 200]).shape == (2, DIMENSION)


def test_a_cached_hub_model_of_either_form_needs_no_network(clip, tmp_path, monkeypatch):
    asked = []

    def snapshot(name: str, *, local_files_only: bool = False, **_) -> str:
        asked.append((name, local_files_only))
        return str(clip)  # it has a config.json and no modules.json

    monkeypatch.setattr("huggingface_hub.snapshot_download", snapshot)
    monkeypatch.delenv("HF_HUB_OFFLINE", raising=False)
    assert ImageEmbedder("someone/clip").folder == clip
    assert ImageEmbedder("clip-tiny").folder == clip
    assert asked == [("someone/clip", True), ("sentence-transformers/clip-tiny", True)]


def test_the_fingerprint_tells_models_apart_and_not_their_places(clip, embedder, copied, tmp_path):
    assert ImageEmbedder(str(copied)).fingerprint == embedder.fingerprint
    assert ImageEmbedder(str(save_tiny_clip(tmp_path / "other", seed=1))).fingerprint != embedder.fingerprint
    (preparation,) = copied.glob("*processor_config.json")  # its name differs between versions
    preparation.write_text(preparation.read_text() + "\n")
    assert ImageEmbedder(str(copied)).fingerprint != embedder.fingerprint


def test_a_missing_folder_is_said_to_be_missing(tmp_path):
    with pytest.raises(ModelNotFound, match="no model folder"):
        ImageEmbedder(str(tmp_path / "nowhere"))


def test_a_model_without_a_tower_for_pictures_is_refused():
    with pytest.raises(NotAnImageEmbedder, match="bert, without a tower for pictures"):
        ImageEmbedder(str(default_embedder_folder()))


def test_a_folder_of_something_else_is_refused(tmp_path):
    with pytest.raises(NotAnImageEmbedder, match="no transformer"):
        ImageEmbedder(str(tmp_path))


def test_weights_that_could_hold_code_are_refused(copied):
    for weights in copied.glob("*.safetensors"):
        weights.rename(weights.with_name("pytorch_model.bin"))
    with pytest.raises(NotAnImageEmbedder, match="no weights in safetensors format"):
        ImageEmbedder(str(copied))


def test_code_of_the_models_own_is_not_run(copied):
    (copied / "modules.json").write_text(json.dumps([{"path": "", "type": "towers.MyClip"}]))
    with pytest.raises(NotAnImageEmbedder, match=r"code of its own \(towers.MyClip\)"):
        ImageEmbedder(str(copied))


def test_an_unreadable_configuration_is_named(copied):
    (copied / "config.json").write_text("{")
    with pytest.raises(NotAnImageEmbedder, match=r"config\.json cannot be read"):
        ImageEmbedder(str(copied))


def test_weights_that_do_not_fit_their_configuration_fail_with_a_reason(copied):
    for weights in copied.glob("*.safetensors"):
        weights.write_bytes(weights.read_bytes()[:1000])
    with pytest.raises(NotAnImageEmbedder, match="cannot be loaded"):
        ImageEmbedder(str(copied), device="cpu").embed_texts(["a heron"])


def test_an_unknown_dtype_is_refused(clip):
    with pytest.raises(EmbeddingFailed, match="float8"):
        ImageEmbedder(str(clip), dtype="float8")
