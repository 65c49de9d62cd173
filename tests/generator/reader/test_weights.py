from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch
from safetensors.torch import save_file

from generator.reader.architecture import ReaderModel
from generator.reader.calibration import Calibration
from generator.reader.errors import EmbeddingsMismatch, ReaderFolderInvalid, ReaderWeightsDamaged
from generator.reader.reader import Reader
from generator.reader.weights import ReaderFiles, Storage, file_sha256, load_reader, save_reader

PASSAGES = [("a", "the blue boat is in the harbour"), ("b", "a captain of the island")]


@pytest.fixture
def saved(tmp_path: Path, model: ReaderModel, embeddings_folder: Path) -> Path:
    return save(tmp_path / "reader", model, embeddings_folder, "float32")


def save(folder: Path, model: ReaderModel, embeddings_folder: Path, storage: Storage) -> Path:
    files = ReaderFiles(
        architecture=model.config,
        calibration=Calibration(threshold=0.25),
        embeddings_sha256=file_sha256(embeddings_folder / "model.safetensors"),
        training={"questions": 7},
    )
    save_reader(folder, model, files, storage=storage)
    return folder


def test_a_saved_reader_answers_as_before(saved: Path, reader: Reader, embeddings_folder: Path) -> None:
    loaded = Reader.load(saved, device="cpu", dtype="float32", embeddings_folder=embeddings_folder)
    assert loaded.calibration.threshold == 0.25
    assert loaded.files is not None
    assert loaded.files.training == {"questions": 7}
    question = "where is the boat"
    assert loaded.rank(question, PASSAGES).drafts == reader.rank(question, PASSAGES).drafts


def test_word_embeddings_are_not_stored(saved: Path, model: ReaderModel) -> None:
    stored = (saved / "model.safetensors").stat().st_size
    total = sum(p.numel() for p in model.parameters()) * 4
    lent = model.transformer.embed_tokens.weight.numel() * 4
    assert stored < total - lent + 8192


def test_int8_keeps_matrices_within_half_a_step(
    tmp_path: Path, model: ReaderModel, embeddings_folder: Path
) -> None:
    folder = save(tmp_path / "int8", model, embeddings_folder, "int8")
    loaded, _ = load_reader(folder, embeddings_folder)
    for name, weight in loaded.state_dict().items():
        original = model.state_dict()[name]
        step = original.abs().amax(-1, keepdim=True) / 127 if original.ndim == 2 else torch.tensor(0.0)
        assert bool(((weight - original).abs() <= step / 2 + 1e-6).all()), name


def test_changed_weights_are_refused(saved: Path, embeddings_folder: Path) -> None:
    path = saved / "model.safetensors"
    content = bytearray(path.read_bytes())
    content[-1] ^= 1
    path.write_bytes(content)
    with pytest.raises(ReaderWeightsDamaged, match="sha256"):
        Reader.load(saved, embeddings_folder=embeddings_folder)


def test_truncated_weights_are_refused(saved: Path, embeddings_folder: Path) -> None:
    path = saved / "model.safetensors"
    path.write_bytes(path.read_bytes()[:-100])
    with pytest.raises(ReaderWeightsDamaged):
        Reader.load(saved, embeddings_folder=embeddings_folder)


def test_other_word_embeddings_are_refused(saved: Path, tmp_path: Path, model: ReaderModel) -> None:
    other = tmp_path / "other"
    other.mkdir()
    weight = torch.zeros_like(model.transformer.embed_tokens.weight)
    save_file({"embeddings.word_embeddings.weight": weight}, other / "model.safetensors")
    with pytest.raises(EmbeddingsMismatch, match="trained with") as caught:
        Reader.load(saved, embeddings_folder=other)
    assert "all-MiniLM-L6-v2" in caught.value.hint


def test_missing_word_embeddings_are_named(saved: Path, tmp_path: Path) -> None:
    with pytest.raises(EmbeddingsMismatch, match="cannot be read"):
        Reader.load(saved, embeddings_folder=tmp_path / "nowhere")


def test_weights_that_do_not_fit_the_config_are_refused(saved: Path, embeddings_folder: Path) -> None:
    path = saved / "config.json"
    config = json.loads(path.read_text())
    config["architecture"]["pointer_size"] += 1
    path.write_text(json.dumps(config))
    with pytest.raises(ReaderWeightsDamaged, match="do not fit"):
        Reader.load(saved, embeddings_folder=embeddings_folder)


@pytest.mark.parametrize(
    "content", ["", "{", "[]", "{}", '{"format": "other"}', '{"format": "ragserve-reader-1"}']
)
def test_a_config_that_describes_no_reader_is_refused(
    saved: Path, embeddings_folder: Path, content: str
) -> None:
    (saved / "config.json").write_text(content)
    with pytest.raises(ReaderFolderInvalid):
        Reader.load(saved, embeddings_folder=embeddings_folder)


def test_a_missing_folder_or_file_is_refused(saved: Path, tmp_path: Path, embeddings_folder: Path) -> None:
    with pytest.raises(ReaderFolderInvalid, match="holds no reader"):
        Reader.load(tmp_path / "nowhere", embeddings_folder=embeddings_folder)
    (saved / "model.safetensors").unlink()
    with pytest.raises(ReaderFolderInvalid, match="cannot be read"):
        Reader.load(saved, embeddings_folder=embeddings_folder)
