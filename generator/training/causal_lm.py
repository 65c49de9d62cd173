"""The causal-LM task: from scratch or from a checkpoint, all weights or LoRA, texts or grounded questions."""

from __future__ import annotations

import math
import random
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from torch.nn import functional as F

from generator.errors import TokenizerMissing
from generator.hardware import DTYPES
from generator.loading import ModelFolder, read_json, resolve_folder
from generator.loading_weights import open_safetensors
from generator.model.config import ModelConfig
from generator.model.transformer import Transformer
from generator.tokenizer import Tokenizer
from generator.training.adapters import attach_fresh_lora, save_adapter
from generator.training.attention import training_attention
from generator.training.causal_config import CausalLMConfig
from generator.training.causal_rows import CausalBatch, Row, RowMaker, collate_rows
from generator.training.ceiling import layer_flops_per_token
from generator.training.config import parse_dataclass
from generator.training.devices import to_device
from generator.training.errors import InvalidTrainingConfig, InvalidTrainingData
from generator.training.grounded_prompts import GroundedPromptRow, GroundedPrompts, judge_answers
from generator.training.model_folder import llama_config, replace_folder, save_model_folder
from generator.training.plan import token_budget_batches
from generator.training.records import QuestionSet, held_out
from generator.training.task import StepBatches, Task

_STORED_DTYPES = {"F32": torch.float32, "BF16": torch.bfloat16, "F16": torch.float16}


class CausalLMTask(Task[Transformer, CausalBatch]):
    """See the module's first line. `batches(step)` depends on configuration, data and seed alone."""

    def __init__(self, config: CausalLMConfig, *, seed: int) -> None:
        self.config = config
        self.seed = seed
        if bool(config.start) == bool(config.model):
            raise InvalidTrainingConfig(
                "The task needs either 'task.start' or 'task.model'.",
                hint="Name a model folder to start from, or the dimensions of a new model.",
            )
        if config.lora is not None and not config.start:
            raise InvalidTrainingConfig("'task.lora' needs 'task.start': there are no weights to adapt.")
        self.folder = resolve_folder(config.start or config.tokenizer_folder or "tokenizer_folder")
        tokenizer = Tokenizer.from_folder(self.folder)
        if tokenizer is None:
            raise TokenizerMissing(
                f"The folder {self.folder} has no tokenizer.json, and text cannot be learned without one.",
                hint="Add the tokenizer's files; from scratch, name their folder in task.tokenizer_folder.",
            )
        self.model_config = self._model_config(tokenizer)
        max_tokens = min(config.max_tokens, self.model_config.max_positions)
        ends = ModelFolder.open(self.folder).eos_token_ids if config.start else frozenset()
        self.maker = RowMaker(tokenizer, max_tokens=max_tokens, end_token_ids=ends)
        self.rows: list[Row] = []
        self.validation_rows: list[Row] = []
        self.validation_prompts: list[GroundedPromptRow] = []
        (self._read_grounded if config.format == "grounded" else self._read_records)()
        if not self.rows:
            raise InvalidTrainingData(
                f"The data holds no row of at most {max_tokens} tokens to train on.",
                hint=f"{self.maker.num_left_out} rows were too long; raise task.max_tokens, or add data.",
            )
        self._steps = self._plan()

    @property
    def num_steps(self) -> int:
        """Optimiser steps that the epochs amount to."""
        return len(self._steps)

    @property
    def micro_batches_per_step(self) -> int:
        """See `Task`; the last step may have fewer."""
        return self.config.batches_per_step

    def build_model(self) -> Transformer:
        """Fresh weights, or the checkpoint's in float32, with an adapter beside them for LoRA."""
        generator = torch.Generator().manual_seed(self.seed)
        if not self.config.start:
            model = Transformer(self.model_config, kernel=training_attention)
            model.initialise(generator=generator)
            return model
        model = ModelFolder.open(self.folder).load_weights(device=torch.device("cpu"), dtype=torch.float32)
        model.kernel = training_attention
        if self.config.lora is not None:
            attach_fresh_lora(model, self.config.lora, generator=generator)
        return model

    def batches(self, step: int, *, rank: int = 0, num_processes: int = 1) -> StepBatches[CausalBatch]:
        """The micro-batches of one optimiser step; its loss is the mean over all their target tokens."""
        groups = self._steps[step]
        return StepBatches(
            [collate_rows([self.rows[i] for i in group]) for group in groups[rank::num_processes]],
            divisor=sum(self.rows[i].num_targets for group in groups for i in group),
        )

    def names(self, step: int) -> list[list[str]]:
        """How the rows of a step begin."""
        return [[self.rows[i].name for i in group] for group in self._steps[step]]

    def loss(self, model: Transformer, batch: CausalBatch) -> tuple[torch.Tensor, dict[str, float]]:
        """Sum of the target tokens' negative log probabilities; only they meet the vocabulary."""
        hidden = model(batch.token_ids)
        logits = model.project(hidden[batch.target_mask]).float()  # (N, vocabulary)
        loss = F.cross_entropy(logits, batch.targets[batch.target_mask], reduction="sum")
        return loss, {
            "examples": float(len(batch.token_ids)),
            "tokens": float(batch.token_ids.numel()),
            "target_tokens": float(len(logits)),
        }

    def flops(self, model: Transformer, sums: Mapping[str, float]) -> float:
        """The layers run over all tokens, the head over those that are learned."""
        factor = 4.0 if self.config.lora is not None else 6.0
        head = factor * self.model_config.vocab_size * self.model_config.hidden_size
        layers = layer_flops_per_token(model) - (0 if model.lm_head is None else head)
        return layers * sums.get("tokens", 0.0) + head * sums.get("target_tokens", 0.0)

    def validate(self, model: Transformer) -> dict[str, float]:
        """Loss a token and perplexity on held-out rows; scores of the answers where the data is grounded."""
        total, tokens = 0.0, 0
        for begin in range(0, len(self.validation_rows), 8):
            rows = self.validation_rows[begin : begin + 8]
            loss, _ = self.loss(model, to_device(collate_rows(rows), model.device))
            total += float(loss)
            tokens += sum(row.num_targets for row in rows)
        if not tokens:
            return {}
        figures = {"loss": total / tokens, "perplexity": math.exp(min(total / tokens, 700.0))}
        answered = self.validation_prompts[: self.config.validation_answers]
        return figures | (judge_answers(model, answered, self.maker) if answered else {})

    def save_model(self, model: Transformer, folder: Path) -> Path:
        """A model folder, or a PEFT adapter folder with LoRA."""
        lora = self.config.lora
        if lora is not None:
            base = self.config.start
            return replace_folder(folder / "adapter", lambda into: save_adapter(model, lora, into, base=base))
        data = read_json(self.folder / "config.json") if self.config.start else self._scratch_config()
        dtype = self._save_dtype()
        return replace_folder(
            folder / "model",
            lambda into: save_model_folder(model, into, config=data, dtype=dtype, text_files_of=self.folder),
        )

    def _model_config(self, tokenizer: Tokenizer) -> ModelConfig:
        if self.config.start:
            return ModelFolder.open(self.folder).config
        given = dict(self.config.model)
        heads, hidden = given.get("num_heads"), given.get("hidden_size")
        if isinstance(heads, int) and isinstance(hidden, int) and heads > 0:
            given = {"num_kv_heads": heads, "head_dim": hidden // heads, **given}
        given = {"vocab_size": tokenizer.vocab_size, **given}
        config = parse_dataclass(ModelConfig, given, where="task.model")
        if config.vocab_size < tokenizer.vocab_size:
            raise InvalidTrainingConfig(
                f"'task.model.vocab_size' is {config.vocab_size}, but the tokenizer has "
                f"{tokenizer.vocab_size} tokens.",
                hint="Leave it out to take the tokenizer's.",
            )
        llama_config(config)  # what could not be saved at the end is refused now
        return config

    def _scratch_config(self) -> dict[str, Any]:
        end = self.maker.end
        return llama_config(self.model_config) | ({"eos_token_id": end[0]} if end else {})

    def _save_dtype(self) -> torch.dtype:
        if self.config.save_dtype != "auto":
            return DTYPES[self.config.save_dtype]
        if not self.config.start:
            return torch.float32
        file = next(iter(ModelFolder.open(self.folder).weight_files()))
        with open_safetensors(file) as tensors:
            stored = tensors.get_slice(next(iter(tensors.keys()))).get_dtype()
        return _STORED_DTYPES.get(stored, torch.float32)

    def _read_records(self) -> None:
        for name in self.config.data:
            path = Path(self.config.data_folder) / name
            count = len(self.rows) + len(self.validation_rows) + self.maker.num_left_out
            for record, row in self.maker.read(path):
                kept_back = held_out(record, self.config.validation_share)
                (self.validation_rows if kept_back else self.rows).append(row)
            if len(self.rows) + len(self.validation_rows) + self.maker.num_left_out == count:
                raise InvalidTrainingData(f"{path} is empty.")
        rng = random.Random(f"validation-{self.seed}")
        rng.shuffle(self.validation_rows)
        del self.validation_rows[self.config.validation_rows :]

    def _read_grounded(self) -> None:
        questions = QuestionSet()
        for name in self.config.data:
            questions.read_questions(Path(self.config.data_folder) / name)
        prompts = GroundedPrompts(self.maker, questions, self.config.grounded)
        train, validation = [], []
        for question in questions.questions:
            kept_back = held_out(question.title or question.question, self.config.validation_share)
            (validation if kept_back else train).append(question)
        random.Random(f"validation-{self.seed}").shuffle(validation)
        del validation[self.config.validation_rows :]
        self.rows = [prompt.row for prompt in prompts.rows(train, seed=self.seed)]
        self.validation_prompts = list(prompts.rows(validation, seed=self.seed + 1))
        self.validation_rows = [prompt.row for prompt in self.validation_prompts]

    def _plan(self) -> list[list[list[int]]]:
        """Row numbers of each micro-batch, by step."""
        rng = random.Random(f"plan-{self.seed}")
        each, total = self.config.batches_per_step, round(self.config.epochs * len(self.rows))
        steps: list[list[list[int]]] = []
        while total > 0:
            items = rng.sample(range(len(self.rows)), min(total, len(self.rows)))
            total -= len(items)
            batches = token_budget_batches(
                items,
                lambda i: len(self.rows[i].token_ids),
                budget=self.config.tokens_per_batch,
                rng=rng,
                noise=0.03,
            )
            steps += [batches[i : i + each] for i in range(0, len(batches), each)]
        if not steps:
            raise InvalidTrainingConfig(f"'task.epochs' is {self.config.epochs}: that is no step at all.")
        return steps
