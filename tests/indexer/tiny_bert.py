"""A random BERT of two layers, as sentence-transformers saves it."""

from __future__ import annotations

import shutil
from pathlib import Path

from indexer.embedding import default_embedder_folder

TEXTS = ["a red fox", "", "dogs and foxes " * 40, "the river bank", "a red fox", "x" * 400, "日本語 👩‍👩‍👧"]


def save_tiny_bert(folder: Path, *, dense: bool, prompts: dict[str, str]) -> Path:
    """A random two-layer BERT, saved by sentence-transformers itself."""
    import torch
    from sentence_transformers import SentenceTransformer
    from sentence_transformers.base.modules import Dense, Normalize, Transformer
    from sentence_transformers.sentence_transformer.modules import Pooling
    from transformers import BertConfig, BertModel, BertTokenizerFast

    torch.manual_seed(0)
    base = folder / "bert"
    base.mkdir()
    shutil.copy(default_embedder_folder() / "vocab.txt", base / "vocab.txt")
    BertTokenizerFast(str(base / "vocab.txt")).save_pretrained(base)
    sizes = {
        "hidden_size": 32,
        "num_attention_heads": 2,
        "intermediate_size": 64,
        "max_position_embeddings": 64,
    }
    BertModel(BertConfig(num_hidden_layers=2, **sizes)).save_pretrained(base)
    modules = [Transformer(str(base), max_seq_length=48), Pooling(32)]
    modules += [Dense(32, 24), Normalize()] if dense else []
    model = SentenceTransformer(modules=modules, prompts=prompts, device="cpu")
    model.save(str(folder / "model"), create_model_card=False)
    return folder / "model"


def copy_of(model: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(model, tmp_path / "copy"))
