"""Grounded questions as prompts of numbered passages, with answers that cite: data for the causal-LM task."""

from __future__ import annotations

import random
import re
from collections.abc import Iterator
from dataclasses import dataclass

import torch

from generator.engine.generate import batch_generate
from generator.errors import PromptTooLong
from generator.model.transformer import Transformer
from generator.prompting import UNANSWERABLE, build_prompt
from generator.training.causal_config import GroundedPromptConfig
from generator.training.causal_rows import Row, RowMaker
from generator.training.records import GroundedQuestion, QuestionSet
from generator.training.scoring import word_f1
from generator.types import SamplingOptions

_CITATION = re.compile(r"\s*\[\d+\]")
_MAX_NEW_TOKENS = 48
_ROWS_PER_BATCH = 8


@dataclass(frozen=True, slots=True)
class GroundedPromptRow:
    """A row with what its answer is judged by."""

    row: Row
    answers: tuple[str, ...]  # empty: the passages do not answer
    rank: int  # of the passage that does, from 1; 0: none


class GroundedPrompts:
    """Makes the prompt that `Generator.answer` would give a checkpoint, and the answer it should write."""

    def __init__(self, maker: RowMaker, questions: QuestionSet, config: GroundedPromptConfig) -> None:
        self.maker = maker
        self.questions = questions
        self.config = config

    def rows(self, questions: list[GroundedQuestion], *, seed: int) -> Iterator[GroundedPromptRow]:
        """A row for each question whose passages fit; every choice follows from the seed."""
        for index, question in enumerate(questions):
            row = self._row(question, random.Random(f"grounded-{seed}-{index}"))
            if row is not None:
                yield row

    def _row(self, question: GroundedQuestion, rng: random.Random) -> GroundedPromptRow | None:
        answerable = rng.random() >= self.config.unanswerable_share
        chosen = self._others(question, rng, count=self.config.num_passages - answerable)
        rank = 0
        if answerable:
            rank = rng.randint(1, len(chosen) + 1)
            chosen.insert(rank - 1, question.passage)
        elif not chosen:
            return None
        answer = question.answers[0]
        text = f"{answer} [{rank}]" if answerable else UNANSWERABLE
        tokenizer = self.maker.tokenizer
        if tokenizer.chat_template is None:
            text = f" {text}"  # the prompt ends in "Answer:"
        room = self.maker.max_tokens - len(tokenizer.encode(text, add_special_tokens=False)) - 1
        passages = [(str(passage), self.questions.passages[passage]) for passage in chosen]
        try:
            prompt = build_prompt(tokenizer, question.question, passages, max_tokens=room)
        except PromptTooLong:
            self.maker.num_left_out += 1
            return None
        if answerable and (len(prompt.passages) < rank or answer not in prompt.passages[rank - 1][1]):
            self.maker.num_left_out += 1  # the answer has been cut off with the end of its passage
            return None
        row = self.maker.answered(prompt.token_ids, text, question.question)
        return None if row is None else GroundedPromptRow(row, question.answers if answerable else (), rank)

    def _others(self, question: GroundedQuestion, rng: random.Random, *, count: int) -> list[int]:
        """Passages without the answer: hard negatives, then neighbours of the article, then any."""
        everything = range(len(self.questions.passages))
        pools = [
            list(question.hard_negatives),
            list(self.questions.passages_by_title.get(question.title, ())),
            rng.sample(everything, min(len(everything), 8 * max(count, 1))),
        ]
        chosen: list[int] = []
        for pool in pools:
            rng.shuffle(pool)
            for passage in pool:
                if len(chosen) < count and passage not in (*chosen, question.passage):
                    text = self.questions.passages[passage].lower()
                    if not any(answer.lower() in text for answer in question.answers):
                        chosen.append(passage)
        return chosen


@torch.no_grad()
def judge_answers(model: Transformer, rows: list[GroundedPromptRow], maker: RowMaker) -> dict[str, float]:
    """Write answers greedily: word F1, share of right citations, and what is said of unanswerable ones."""
    f1 = cited = refused = 0.0
    for begin in range(0, len(rows), _ROWS_PER_BATCH):
        group = rows[begin : begin + _ROWS_PER_BATCH]
        prompts = [row.row.token_ids[: row.row.num_given] for row in group]
        room = max(1, model.config.max_positions - max(map(len, prompts)))
        options = SamplingOptions(max_new_tokens=min(_MAX_NEW_TOKENS, room))
        with torch.autocast(model.device.type, enabled=False):  # the cache holds float32, as the weights
            written = batch_generate(model, prompts, options, eos_token_ids=maker.end)
        for row, token_ids in zip(group, written, strict=True):
            text = maker.tokenizer.decode(token_ids)
            if not row.answers:
                refused += UNANSWERABLE in text
                continue
            f1 += word_f1(_CITATION.sub("", text), row.answers)
            cited += f"[{row.rank}]" in text
    answerable = sum(bool(row.answers) for row in rows)
    return {
        "f1": 100 * f1 / max(answerable, 1),
        "cited_right": 100 * cited / max(answerable, 1),
        "abstention_recall": 100 * refused / max(len(rows) - answerable, 1),
    }
