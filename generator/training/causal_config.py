"""The keys of `[task]` for the causal-LM task."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Literal

from generator.training.config import require_positive
from generator.training.errors import InvalidTrainingConfig

SaveDtype = Literal["auto", "float32", "bfloat16", "float16"]


@dataclass(frozen=True, slots=True)
class LoraConfig:
    """Train a low-rank update beside frozen weights instead of the weights."""

    rank: int = 16  # of each update
    alpha: float = 32.0  # the update is scaled by alpha / rank
    dropout: float = 0.0  # on the update's input
    targets: tuple[str, ...] = (  # names of the layers that get one
        "q_proj",
        "k_proj",
        "v_proj",
        "o_proj",
        "gate_proj",
        "up_proj",
        "down_proj",
    )


@dataclass(frozen=True, slots=True)
class GroundedPromptConfig:
    """How a question becomes a prompt of numbered passages, with `format = "grounded"`."""

    num_passages: int = 3  # in each prompt, where there are enough
    unanswerable_share: float = 0.15  # of prompts, whose passages lack the answer


@dataclass(frozen=True, slots=True)
class CausalLMConfig:
    """Keys of `[task]` with `kind = "causal-lm"`."""

    data: tuple[str, ...]  # jsonl files in data_folder
    kind: str = "causal-lm"  # what this table configures
    format: Literal["records", "grounded"] = "records"  # grounded: question, passage, answers a line
    data_folder: str = "."  # where the files of `data` are
    start: str = ""  # model folder or hub name; empty: from scratch, with task.model
    tokenizer_folder: str = ""  # from scratch: the folder with tokenizer.json
    model: Mapping[str, Any] = field(default_factory=dict)  # from scratch: the fields of ModelConfig
    lora: LoraConfig | None = None  # absent: all weights are trained
    epochs: float = 1.0  # times that each row is learned
    max_tokens: int = 1024  # of a row; longer texts are split, longer conversations left out
    tokens_per_batch: int = 4096  # padding included
    batches_per_step: int = 1  # gradients of so many batches make one step
    validation_share: float = 0.05  # of records (of titles, with format = "grounded")
    validation_rows: int = 256  # of those held out
    validation_answers: int = 32  # with format = "grounded": written and scored at each validation
    save_dtype: SaveDtype = "auto"  # of the finished model; auto: as the start, or float32 from scratch
    grounded: GroundedPromptConfig = field(default_factory=GroundedPromptConfig)  # see below

    def __post_init__(self) -> None:
        require_positive(self, "task", "epochs", "tokens_per_batch", "batches_per_step")
        if self.max_tokens < 2:
            raise InvalidTrainingConfig(f"'task.max_tokens' is {self.max_tokens}, but must be at least 2.")
