"""`--image-embedder` from the flag to the hit, on a tiny random CLIP and with real parse workers."""

from __future__ import annotations

import json
import sys
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from ragserve_fakes import HashingEmbedder

from indexer.errors import EmbedderMismatch
from indexer.image_embedding import ImageEmbedder
from indexer.index import Index
from indexer.scoring import exact_scores
from indexer.types import Filters
from ragserve import Pipeline, Settings
from ragserve.cli import main
from ragserve.settings import ParsingSettings
from retriever import RetrievalSettings, Retriever
from retriever.pictures import PROBES

sys.path.insert(0, str(Path(__file__).parents[1] / "indexer"))

from tiny_clip import save_tiny_clip

# Pictures before texts, in the order of their likeness: weights that are random know of no other.
PICTURES_FIRST = RetrievalSettings(image_weight=1.0, image_midpoint=-50.0, image_scale=10.0)


@pytest.fixture(scope="module")
def clip(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return save_tiny_clip(tmp_path_factory.mktemp("clip"))


@pytest.fixture(scope="module")
def gallery(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with a text and four pictures without one."""
    folder = tmp_path_factory.mktemp("gallery")
    (folder / "ferry.md").write_text("# Ferry\n\nThe ferry leaves at nine.\n")
    for seed in range(4):
        pixels = np.random.default_rng(seed).integers(0, 256, (6, 8, 3), np.uint8)
        image = Image.fromarray(pixels).resize((80, 60), Image.Resampling.NEAREST)
        image.save(folder / f"view-{seed}.png")
    return folder


def settings(clip: Path | None) -> Settings:
    return Settings(
        image_embedder=str(clip) if clip else None, jobs=1, device="cpu", parsing=ParsingSettings(ocr=False)
    )


@pytest.fixture(scope="module")
def filled(clip: Path, gallery: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """An index of the gallery."""
    folder = tmp_path_factory.mktemp("filled") / "index"
    with Pipeline.open(folder, settings=settings(clip), embedder=HashingEmbedder()) as pipeline:
        report = pipeline.ingest([gallery])
        assert (report.indexed, report.failed) == (5, ())
    return folder


def test_a_question_finds_the_pictures_that_are_nearest_to_it(clip, filled):
    model = ImageEmbedder(str(clip), device="cpu")
    question = "a heron by the pond"
    with Index.open(filled, embedder=HashingEmbedder(), image_embedder=model) as index:
        with index.view() as view:
            numbers, vectors = view.images()
            ids = view.ids(numbers).astype(str)
        ordinary = np.mean([exact_scores(vectors, probe) for probe in model.embed_texts(PROBES)], axis=0)
        likeness = exact_scores(vectors, model.embed_texts([question])[0]) - ordinary
        with Retriever(index, HashingEmbedder(), settings=PICTURES_FIRST, image_embedder=model) as retriever:
            result = retriever.search(question, k=4)
    assert [hit.chunk.id for hit in result.hits] == ids[np.argsort(-likeness)].tolist()
    assert {hit.chunk.kind for hit in result.hits} == {"image"}


def test_the_vectors_are_those_of_the_files_pixels(clip, filled, gallery):
    from indexer.types import Thumbnail

    model = ImageEmbedder(str(clip), device="cpu")
    with Index.open(filled, embedder=HashingEmbedder(), image_embedder=model) as index, index.view() as view:
        numbers, vectors = view.images()
        names = [Path(chunk.uri).name for chunk in view.chunks(numbers)]
    for name, vector in zip(names, vectors, strict=True):
        with Image.open(gallery / name) as image:
            pixels = Thumbnail(*image.size, image.convert("RGB").tobytes())
        np.testing.assert_allclose(vector, model.embed_images([pixels])[0], atol=1e-5)


def test_the_settings_lead_from_the_index_to_the_search(clip, filled):
    with Pipeline.open(filled, settings=settings(clip), embedder=HashingEmbedder()) as pipeline:
        assert pipeline.stats().images == 4
        result = pipeline.search("a heron by the pond", filters=Filters(kinds=frozenset({"image"})))
        assert len(result.hits) == 4
        assert "by_picture" in result.explanation
        assert pipeline.retriever.settings.image_embedder == ImageEmbedder(str(clip)).fingerprint


def test_without_the_setting_the_same_index_is_searched_by_text(filled):
    with Pipeline.open(filled, settings=settings(None), embedder=HashingEmbedder()) as pipeline:
        result = pipeline.search("When does the ferry leave?")
        assert Path(result.hits[0].chunk.uri).name == "ferry.md"
        assert "by_picture" not in result.explanation


def test_another_model_is_refused_by_name(filled, tmp_path):
    other = save_tiny_clip(tmp_path / "other-clip", seed=1)
    with pytest.raises(EmbedderMismatch, match="other-clip"):
        Pipeline.open(filled, settings=settings(other), embedder=HashingEmbedder())


def test_the_flag_is_the_setting(clip, filled, capsys, monkeypatch, tmp_path):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr("ragserve.parts.open_embedder", lambda settings: HashingEmbedder())
    arguments = ["search", "a heron", "--index", str(filled), "--image-embedder", str(clip), "--json"]
    assert main([*arguments, "--device", "cpu", "--explain"]) == 0
    assert "by_picture" in json.loads(capsys.readouterr().out)["explanation"]


def test_a_folder_that_is_not_there_is_a_mistake_with_a_remedy(filled, capsys, monkeypatch, tmp_path):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr("ragserve.parts.open_embedder", lambda settings: HashingEmbedder())
    assert main(["search", "a heron", "--index", str(filled), "--image-embedder", "./no-clip"]) == 2
    assert "no model folder" in capsys.readouterr().err
