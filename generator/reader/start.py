"""Where a reader's training starts: MiniLM's weights under fresh heads, or an earlier reader."""

from __future__ import annotations

import json
from pathlib import Path

import torch
from safetensors.torch import load_file

from generator.model.attention import AttentionKernel, sdpa
from generator.model.families import bert_config, bert_state
from generator.reader.architecture import ReaderConfig, ReaderModel
from generator.reader.weights import load_reader


def start_reader(
    folder: Path, *, kernel: AttentionKernel = sdpa, generator: torch.Generator | None = None
) -> ReaderModel:
    """A reader on a BERT folder's transformer; its word embeddings are frozen, its heads are fresh."""
    config = starting_config(folder)
    reader = ReaderModel(config, kernel=kernel)
    state = bert_state(load_file(folder / "model.safetensors"), config.model)
    reader.transformer.load_state_dict(state)
    reader.initialise_heads(generator=generator)
    reader.transformer.embed_tokens.weight.requires_grad_(False)
    return reader


def continue_reader(folder: Path, embeddings_folder: Path, *, kernel: AttentionKernel = sdpa) -> ReaderModel:
    """A reader that `save_reader` wrote, ready to be trained on; its word embeddings stay frozen."""
    loaded, files = load_reader(folder, embeddings_folder)
    reader = ReaderModel(files.architecture, kernel=kernel)
    reader.load_state_dict(loaded.state_dict())
    reader.transformer.embed_tokens.weight.requires_grad_(False)
    return reader


def starting_config(folder: Path) -> ReaderConfig:
    """Shape of a reader on a BERT folder's transformer."""
    return ReaderConfig(model=bert_config(json.loads((folder / "config.json").read_text(encoding="utf-8"))))
