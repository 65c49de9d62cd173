"""From the scores of a step to what each request came to: sample, verify drafts, fork, finish."""

from __future__ import annotations

from collections.abc import Sequence as Seq

import torch

from generator.engine.books import Books
from generator.engine.intake import Intake
from generator.engine.requests import RequestProgress
from generator.engine.sample import Sample
from generator.engine.sampling import SampledToken, sample
from generator.engine.scheduler import Scheduler
from generator.engine.sequence import Piece, SequenceState
from generator.engine.speculation import count_accepted
from generator.engine.stats import EngineStats
from generator.errors import GeneratorError

Chosen = SampledToken | GeneratorError


class TokenTaker:
    """Gives the samples of a plan their tokens, and books the outcome."""

    def __init__(self, scheduler: Scheduler, books: Books, intake: Intake, stats: EngineStats) -> None:
        self._scheduler = scheduler
        self._books = books
        self._intake = intake
        self._stats = stats

    def take(self, plan: Seq[Piece], logits: torch.Tensor) -> list[RequestProgress]:
        """Choose tokens by the scores (rows, V) of a plan; returns the progress of the samples that moved."""
        self._stats.num_steps += 1
        turns = self._turns(plan)
        rows = [row for _, own_rows in turns for row in own_rows]
        chosen = iter(
            sample(
                logits if rows == list(range(len(logits))) else logits[rows],
                [taker.state for taker, own_rows in turns for _ in own_rows],
                ahead=[ahead for _, own_rows in turns for ahead in range(len(own_rows))],
            )
        )
        tokens = {taker: [next(chosen) for _ in own_rows] for taker, own_rows in turns}
        moved: list[Sample] = []
        for piece in plan:
            if piece.sequence.state is SequenceState.RUNNING:  # else it was cancelled meanwhile
                moved += self._advance(piece, tokens)
        return [each.progress() for each in moved]

    def _turns(self, plan: Seq[Piece]) -> list[tuple[Sample, range]]:
        """Who samples from which rows of the scores: a piece's own sample, and siblings yet to be forked."""
        turns: list[tuple[Sample, range]] = []
        row = 0
        for piece in plan:
            if piece.samples:
                own_rows = range(row, row + 1 + piece.num_draft_tokens)
                row = own_rows.stop
                if piece.sequence.state is SequenceState.RUNNING:
                    first = self._books.samples[piece.sequence.sequence_id]
                    turns += [(taker, own_rows) for taker in (first, *self._new_siblings(first))]
        return turns

    def _new_siblings(self, first: Sample) -> list[Sample]:
        """The other samples of a request, made once its prompt is computed."""
        request = first.request
        known = self._books.of_request(request.request_id)
        if len(known) == request.n:
            return []
        prompt = first.sequence.token_ids
        known += [self._intake.sample(request, index, prompt) for index in range(1, request.n)]
        return known[1:]

    def _advance(self, piece: Piece, tokens: dict[Sample, list[Chosen]]) -> list[Sample]:
        """Give a piece's samples their tokens; returns the samples that moved."""
        own = self._books.samples[piece.sequence.sequence_id]
        if not piece.samples:
            self._scheduler.advance(piece, [])
            return []
        if own.num_remaining_tokens == own.max_new_tokens:
            self._stats.num_prompt_tokens += own.num_prompt_tokens
            self._stats.num_cached_tokens += own.sequence.num_cached_tokens
        siblings = [
            each
            for each in self._books.of_request(own.request.request_id)
            if each in tokens and not each.finished and each.sequence.sequence_id not in self._books.samples
        ]
        draft = piece.sequence.draft_token_ids[: piece.num_draft_tokens]
        self._scheduler.advance(piece, self._accept(own, tokens[own], draft))
        # Fork before the parent may finish: what it has computed is shared as long as it is there.
        for each in siblings if own.error is None else ():
            each.sequence.token_ids += self._accept(each, tokens[each], [])
            if not each.finished:
                self._books.fork(own, each)
        for each in (own, *siblings):
            if own.error is not None and not each.finished:
                each.fail(own.error)
            if each.finished:
                self._books.retire(each)
        return [own, *siblings]

    def _accept(self, taker: Sample, chosen: Seq[Chosen], draft: Seq[int]) -> list[int]:
        """Give a sample the tokens that stand, up to its end; returns them."""
        num_accepted = 0
        if draft:
            ids = [-1 if isinstance(token, GeneratorError) else token.token_id for token in chosen]
            num_accepted = count_accepted(draft, ids)
            taker.draft_policy.observe_draft(len(draft), num_accepted)
            self._stats.num_drafted_tokens += len(draft)
            self._stats.num_accepted_tokens += num_accepted
        else:
            taker.draft_policy.observe_plain()
        taken: list[int] = []
        for token in chosen[: num_accepted + 1]:
            if isinstance(token, GeneratorError):
                taker.fail(token)
            else:
                taker.take(token)
                taken.append(token.token_id)
            if taker.finished:
                break
        self._stats.num_output_tokens += len(taken)
        return taken
