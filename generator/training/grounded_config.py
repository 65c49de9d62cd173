"""The keys of `[task]` for the grounded-QA task."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

from generator.training.config import require_positive
from generator.training.errors import InvalidTrainingConfig


@dataclass(frozen=True, slots=True)
class Stage:
    """A stretch of the curriculum: so many questions with windows of so many word pieces (from, to)."""

    questions: int  # drawn by the weights of their sources
    windows: tuple[int, int]  # the shortest and the longest, in word pieces


@dataclass(frozen=True, slots=True)
class UnanswerableConfig:
    """Share of rows without an answer, and how they are made (relative weights)."""

    share: float = 0.18  # of all rows
    similar_passage: float = 0.3  # weight: a passage of the same title that shares the question's words
    searched_passage: float = 0.2  # weight: a hard negative from `references`
    left_out: float = 0.2  # weight: the right passage without the sentences that answer
    changed_question: float = 0.3  # weight: the right passage, and a word or name of the question replaced
    changed_passage: float = 0.0  # weight: the right passage with a word of the question replaced in it
    changed_both: float = 0.0  # share of the rows with an answer in which a word is replaced in both


@dataclass(frozen=True, slots=True)
class LossConfig:
    """Weights of the three losses."""

    span: float = 1.0  # where the answer begins and ends
    writing: float = 0.5  # the answer's tokens under the mixture of both heads
    pointer: float = 0.25  # where each token is copied from


@dataclass(frozen=True, slots=True)
class GroundedQAConfig:
    """Keys of `[task]` with `kind = "grounded-qa"`."""

    start_folder: str  # a MiniLM (BERT) folder: model.safetensors, config.json, tokenizer.json
    data_folder: str  # of all data files
    questions: tuple[str, ...]  # jsonl files in data_folder
    stages: tuple[Stage, ...]  # one after the other
    kind: str = "grounded-qa"  # what this table configures
    reader_folder: str = ""  # an exported reader to train on; empty: fresh heads on start_folder
    references: str = ""  # jsonl with hard negatives by question id, and the passages they name
    reference_passages: str = ""  # jsonl with those passages
    weights: Mapping[str, float] = field(default_factory=dict)  # by source; unnamed sources are left out
    validation_share: float = 0.05  # of titles
    validation_shares: Mapping[str, float] = field(default_factory=dict)  # by source, where it differs
    validation_questions: int = 256  # of those held out
    validation_window: int = 256  # word pieces
    max_answer_words: int = 40  # longer ones are left out
    tokens_per_batch: int = 4096  # padding included
    batches_per_step: int = 1  # gradients of so many batches make one step
    unanswerable: UnanswerableConfig = field(default_factory=UnanswerableConfig)  # see below
    losses: LossConfig = field(default_factory=LossConfig)  # see below

    def __post_init__(self) -> None:
        require_positive(self, "task", "tokens_per_batch", "batches_per_step")
        if not 0 <= self.unanswerable.changed_both <= 1:
            raise InvalidTrainingConfig("'task.unanswerable.changed_both' is no share from 0 to 1.")
        if not sum(stage.questions for stage in self.stages):
            raise InvalidTrainingConfig("'task.stages' holds no question.")
