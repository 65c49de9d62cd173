"""The keys of `[task]` for the grounded-QA task."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field


@dataclass(frozen=True, slots=True)
class Stage:
    """A stretch of the curriculum: so many questions with windows of so many word pieces (from, to)."""

    questions: int
    windows: tuple[int, int]


@dataclass(frozen=True, slots=True)
class UnanswerableConfig:
    """Share of rows without an answer, and how they are made (relative weights)."""

    share: float = 0.18
    similar_passage: float = 0.3
    searched_passage: float = 0.2
    left_out: float = 0.2
    changed_question: float = 0.3


@dataclass(frozen=True, slots=True)
class LossConfig:
    """Weights of the three losses."""

    span: float = 1.0
    writing: float = 0.5
    pointer: float = 0.25


@dataclass(frozen=True, slots=True)
class GroundedQAConfig:
    """Keys of `[task]` with `kind = "grounded-qa"`."""

    start_folder: str  # a MiniLM (BERT) folder: model.safetensors, config.json, tokenizer.json
    data_folder: str
    questions: tuple[str, ...]  # jsonl files in data_folder
    stages: tuple[Stage, ...]
    kind: str = "grounded-qa"
    references: str = ""  # jsonl with hard negatives by question id, and the passages they name
    reference_passages: str = ""
    weights: Mapping[str, float] = field(default_factory=dict)  # by source; unnamed sources are left out
    validation_share: float = 0.05  # of titles
    validation_shares: Mapping[str, float] = field(default_factory=dict)  # by source, where it differs
    validation_questions: int = 256
    validation_window: int = 256
    max_answer_words: int = 40  # longer ones are left out
    tokens_per_batch: int = 4096
    batches_per_step: int = 1
    unanswerable: UnanswerableConfig = field(default_factory=UnanswerableConfig)
    losses: LossConfig = field(default_factory=LossConfig)
