"""The grounded-QA task: teach a reader to find the answer, to write it, and to see that there is none."""

from __future__ import annotations

import random
from pathlib import Path
from typing import NamedTuple

import torch

from generator.reader.architecture import ReaderModel
from generator.reader.sentences import sentence_spans
from generator.reader.start import continue_reader, start_reader, starting_config
from generator.reader.tokens import ReaderTokenizer
from generator.training.attention import training_attention
from generator.training.errors import InvalidTrainingConfig
from generator.training.examples import (
    Example,
    ReaderBatch,
    collate,
    cut_window,
    find_answers,
    likeliest_occurrence,
)
from generator.training.grounded_config import GroundedQAConfig
from generator.training.plan import mixture, token_budget_batches
from generator.training.reader_loss import reader_loss
from generator.training.records import GroundedQuestion, QuestionSet, held_out, read_hard_negatives
from generator.training.substitutes import Substitutes
from generator.training.task import StepBatches, Task
from generator.training.unanswerable import UnanswerableMaker
from generator.training.validation import validate


class Draw(NamedTuple):
    """What becomes one example: a question, a window size, and a number that seeds every further choice."""

    question: GroundedQuestion
    window: int
    seed: int


class GroundedQATask(Task[ReaderModel, ReaderBatch]):
    """See the module's first line. `batches(step)` depends on configuration, seed and step alone."""

    def __init__(self, config: GroundedQAConfig, *, seed: int) -> None:
        self.config = config
        self.seed = seed
        start = Path(config.start_folder)
        self.tokenizer = ReaderTokenizer(start / "tokenizer.json")
        self.questions = QuestionSet()
        self._read(Path(config.data_folder))
        self.reader_config = starting_config(start)
        self.unanswerable = UnanswerableMaker(self.questions, self._substitutes())
        self._train, self.held_out = self._split()
        self._validation = self._draw_validation()
        self._steps = self._plan()

    @property
    def num_steps(self) -> int:
        """Optimiser steps that the curriculum amounts to."""
        return len(self._steps)

    @property
    def micro_batches_per_step(self) -> int:
        """See `Task`; a stage's last step may have fewer."""
        return self.config.batches_per_step

    def build_model(self) -> ReaderModel:
        """The MiniLM start with fresh heads, or a reader to go on with; word embeddings stay as they are."""
        if self.config.reader_folder:
            return continue_reader(
                Path(self.config.reader_folder), Path(self.config.start_folder), kernel=training_attention
            )
        generator = torch.Generator().manual_seed(self.seed)
        return start_reader(Path(self.config.start_folder), kernel=training_attention, generator=generator)

    def batches(self, step: int, *, rank: int = 0, num_processes: int = 1) -> StepBatches[ReaderBatch]:
        """The micro-batches of one optimiser step."""
        draws = self._steps[step]
        mine = [[self.example(draw) for draw in batch] for batch in draws[rank::num_processes]]
        return StepBatches(
            [collate(batch, self.tokenizer, self.reader_config) for batch in mine],
            divisor=sum(map(len, draws)),
        )

    def names(self, step: int) -> list[list[str]]:
        """The questions of a step."""
        return [[draw.question.question for draw in batch] for batch in self._steps[step]]

    def loss(self, model: ReaderModel, batch: ReaderBatch) -> tuple[torch.Tensor, dict[str, float]]:
        """See `reader_loss`."""
        return reader_loss(model, batch, self.config.losses)

    def validate(self, model: ReaderModel) -> dict[str, float]:
        """See `validation.validate`."""
        pairs = [(self.example(draw), draw.question.answers) for draw in self._validation]
        return validate(model, self.tokenizer, pairs, loss=self.loss)

    def example(self, draw: Draw) -> Example:
        """Make one example; some become unanswerable."""
        rng = random.Random(draw.seed)
        question = draw.question
        if rng.random() < self.config.unanswerable.share:
            negative = self._negative(question, draw.window, rng)
            if negative is not None:
                return negative
        wording, passage_text = question.question, self.questions.passages[question.passage]
        if rng.random() < self.config.unanswerable.changed_both:
            change = self.unanswerable.shared_change(question, rng)
            if change is not None and find_answers(change.made_in(passage_text), question.answers):
                wording, passage_text = change.made_in(wording), change.made_in(passage_text)
        passage = self.tokenizer.encode(passage_text)
        question_ids = self._question_ids(wording)
        characters = find_answers(passage_text, question.answers)
        spans = [span for s, e in characters if (span := passage.covering(s, e)) is not None]
        centre = likeliest_occurrence(passage, question_ids, spans)
        ids, inside, here = cut_window(passage, spans, centre=centre, window=draw.window, rng=rng)
        first, last = inside[here]
        return Example(question_ids, ids, inside, ids[first : last + 1])

    def _negative(self, question: GroundedQuestion, window: int, rng: random.Random) -> Example | None:
        kinds = self.config.unanswerable
        (kind,) = rng.choices(
            ("similar", "searched", "left out", "question", "passage"),
            (
                kinds.similar_passage,
                kinds.searched_passage,
                kinds.left_out,
                kinds.changed_question,
                kinds.changed_passage,
            ),
        )
        wording, passage = question.question, self.questions.passages[question.passage]
        if kind == "question":
            changed = self.unanswerable.changed_question(question, rng)
            if changed is None:
                return None
            wording = changed
        elif kind == "passage":
            change = self.unanswerable.shared_change(question, rng)
            if change is None or not find_answers(change.made_in(passage), question.answers):
                return None
            passage = change.made_in(passage)
        else:
            makers = {
                "similar": self.unanswerable.similar_passage,
                "searched": self.unanswerable.searched_passage,
                "left out": self._without_answer,
            }
            other = makers[kind](question, rng) or self.unanswerable.similar_passage(question, rng)
            if other is None:
                return None
            passage = other
        tokens = self.tokenizer.encode(passage)
        begin = rng.randint(0, max(0, len(tokens) - window))
        if kind in ("question", "passage"):
            # The window still holds what was asked for before the change: that is what makes it hard.
            spans = [
                s for c in find_answers(passage, question.answers) if (s := tokens.covering(*c)) is not None
            ]
            ids, _, _ = cut_window(tokens, spans, centre=0, window=window, rng=rng)
            return Example(self._question_ids(wording), ids, [], [])
        return Example(self._question_ids(wording), tokens.ids[begin : begin + window], [], [])

    def _without_answer(self, question: GroundedQuestion, rng: random.Random) -> str | None:
        """The question's own passage without the sentences that hold the answer."""
        text = self.questions.passages[question.passage]
        kept = [
            text[start:end]
            for start, end in sentence_spans(text)
            if not any(answer.lower() in text[start:end].lower() for answer in question.answers)
        ]
        return " ".join(kept) if len(kept) >= 2 else None

    def _substitutes(self) -> Substitutes:
        kinds = self.config.unanswerable
        if not kinds.share * (kinds.changed_question + kinds.changed_passage) + kinds.changed_both:
            return Substitutes({})
        start = Path(self.config.start_folder)
        return Substitutes.from_transformer(start_reader(start).transformer, start / "tokenizer.json")

    def _question_ids(self, text: str) -> list[int]:
        return self.tokenizer.encode(text).ids[: self.reader_config.max_question_tokens]

    def _read(self, folder: Path) -> None:
        negatives = None
        if self.config.references:
            references, passages = folder / self.config.references, folder / self.config.reference_passages
            negatives = read_hard_negatives(references, passages)
        for name in self.config.questions:
            self.questions.read_questions(folder / name, negatives)

    def _split(self) -> tuple[dict[str, list[GroundedQuestion]], list[GroundedQuestion]]:
        """Training questions by source, and those under the titles that are held out."""
        train: dict[str, list[GroundedQuestion]] = {source: [] for source in self.config.weights}
        validation: list[GroundedQuestion] = []
        for question in self.questions.questions:
            if question.source not in train:
                continue
            share = self.config.validation_shares.get(question.source, self.config.validation_share)
            if held_out(question.title, share):
                validation.append(question)
            elif max(len(a.split()) for a in question.answers) <= self.config.max_answer_words:
                train[question.source].append(question)
        empty = [source for source, questions in train.items() if not questions]
        if empty or not train:
            found = ", ".join(sorted({question.source for question in self.questions.questions}))
            raise InvalidTrainingConfig(
                f"No training question comes from the source {empty[0]!r}."
                if empty
                else "'task.weights' is empty.",
                hint=f"Sources in the data: {found}.",
            )
        return train, validation

    def _draw_validation(self) -> list[Draw]:
        rng = random.Random(f"validation-{self.seed}")
        chosen = rng.sample(self.held_out, min(self.config.validation_questions, len(self.held_out)))
        return [Draw(q, self.config.validation_window, rng.getrandbits(48)) for q in chosen]

    def _plan(self) -> list[list[list[Draw]]]:
        """Micro-batches of draws, by step."""
        rng = random.Random(f"plan-{self.seed}")
        sources = list(self._train)
        total = sum(stage.questions for stage in self.config.stages)
        drawn = mixture(
            [len(self._train[source]) for source in sources],
            [self.config.weights[source] for source in sources],
            count=total,
            rng=rng,
        )
        steps: list[list[list[Draw]]] = []
        begin = 0
        for stage in self.config.stages:
            draws = [
                Draw(self._train[sources[group]][index], rng.randint(*stage.windows), rng.getrandbits(48))
                for group, index in drawn[begin : begin + stage.questions]
            ]
            begin += stage.questions
            lengths = [self._estimated_tokens(draw) for draw in draws]
            batches = token_budget_batches(
                range(len(draws)),
                lengths.__getitem__,
                budget=self.config.tokens_per_batch,
                rng=rng,
                noise=0.03,
            )
            named = [[draws[i] for i in batch] for batch in batches]
            each = self.config.batches_per_step
            steps += [named[i : i + each] for i in range(0, len(named), each)]
        return steps

    def _estimated_tokens(self, draw: Draw) -> int:
        """Row length from character counts: a word piece is about 4.4 characters of English."""
        question = draw.question
        passage = min(draw.window, len(self.questions.passages[question.passage]) / 4.4)
        answer = min(16, len(question.answers[0]) / 4.4)
        return round(passage + len(question.question) / 4.4 + answer) + 5
