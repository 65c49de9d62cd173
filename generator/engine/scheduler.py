"""Who runs how many tokens in the next step. Plain data: no tensor, no text, no clock.

Dynamic SplitFuse (DeepSpeed-FastGen, arXiv 2401.08671): a step has a budget of tokens; every decoding
sequence gets its one token, and what is left goes to pieces of prompts, so a long prompt delays nobody and no
step is larger than the budget. When memory runs out, the sequence that ranks last gives its memory up and is
computed again later; the first in rank therefore always gets on.
"""

from __future__ import annotations

from bisect import insort
from collections.abc import Sequence as Seq
from dataclasses import dataclass

from generator.cache.memory import KVMemory
from generator.engine.sequence import Piece, Sequence, SequenceState
from generator.errors import InvalidEngineConfig


@dataclass(frozen=True, slots=True)
class SchedulerLimits:
    """How much a step takes on, and who goes first."""

    max_num_sequences: int = 64  # that hold memory at the same time
    max_tokens_per_step: int = 512
    priority_steps: int = 256  # a priority higher by 1 is worth having come so many steps earlier
    prefill_first: bool = False  # run whole prompts before any decode, as a baseline for comparisons

    def __post_init__(self) -> None:
        for name in ("max_num_sequences", "max_tokens_per_step", "priority_steps"):
            if getattr(self, name) < 1:
                raise InvalidEngineConfig(f"{name} is {getattr(self, name)}, but must be at least 1.")
        if self.max_tokens_per_step < self.max_num_sequences:
            raise InvalidEngineConfig(
                f"max_tokens_per_step is {self.max_tokens_per_step}, which does not give each of "
                f"{self.max_num_sequences} sequences a token.",
                hint="Raise it, or lower max_num_sequences.",
            )


class Scheduler:
    """Sequences wait, run, and finish; `schedule` plans a step, `advance` records what came of it."""

    def __init__(self, memory: KVMemory, limits: SchedulerLimits) -> None:
        self.memory = memory
        self.limits = limits
        self.waiting: list[Sequence] = []  # in rank order, as running
        self.running: list[Sequence] = []
        self.num_steps = 0
        self.num_preemptions = 0

    @property
    def has_pending_work(self) -> bool:
        """Whether a sequence is unfinished."""
        return bool(self.waiting or self.running)

    def add(self, sequence: Sequence) -> None:
        """Let a sequence wait for its turn.

        Waiting and priority are one number, so every sequence is first some day, whatever keeps arriving.
        """
        arrival = self.num_steps - sequence.priority * self.limits.priority_steps
        sequence.rank = (arrival, sequence.sequence_id)
        self._wait(sequence)

    def fork(self, parent: Sequence, child: Sequence) -> None:
        """Add a sequence that shares what its running parent has computed, where memory allows."""
        child.rank = (parent.rank[0], child.sequence_id)
        child.num_cached_tokens = parent.num_cached_tokens
        has_place = len(self.running) < self.limits.max_num_sequences
        if has_place and self.memory.fork(parent.sequence_id, child.sequence_id):
            child.num_computed_tokens = parent.num_computed_tokens
            self._run(child)
        else:
            self._wait(child)

    def finish(self, sequence: Sequence) -> None:
        """Let a sequence go, whatever state it is in; its memory is free at once."""
        if sequence.state is SequenceState.RUNNING:
            self.running.remove(sequence)
            self.memory.free(sequence.sequence_id)
        elif sequence.state is SequenceState.WAITING:
            self.waiting.remove(sequence)
        sequence.state = SequenceState.FINISHED

    def schedule(self) -> list[Piece]:
        """The pieces of the next step, in rank order; empty only when nothing is left to do."""
        self.num_steps += 1
        if self.limits.prefill_first:
            plan = _Plan(budget=max(self.limits.max_tokens_per_step, self._longest_prompt()))
            self._plan_prompts(plan)
            if plan.pieces:
                return plan.in_order()
        plan = _Plan(budget=self.limits.max_tokens_per_step)
        self._plan_decodes(plan)
        if not self.limits.prefill_first:
            self._plan_prompts(plan)
        self._plan_drafts(plan)
        return plan.in_order()

    def advance(self, piece: Piece, new_token_ids: Seq[int]) -> None:
        """Record that a piece was run and which tokens came of it: accepted drafts, then a new one."""
        sequence = piece.sequence
        num_known = piece.num_tokens - piece.num_draft_tokens
        num_accepted = max(0, len(new_token_ids) - 1)
        sequence.token_ids += new_token_ids
        sequence.num_computed_tokens = piece.start + num_known + num_accepted
        sequence.draft_token_ids = []
        self.memory.commit(sequence.sequence_id, sequence.token_ids, sequence.num_computed_tokens)

    def check_integrity(self) -> None:
        """Raise AssertionError where the books do not balance. For tests."""
        for sequences, state in (
            (self.waiting, SequenceState.WAITING),
            (self.running, SequenceState.RUNNING),
        ):
            assert all(sequence.state is state for sequence in sequences)
            assert sequences == sorted(sequences, key=_rank)
        assert len(self.running) <= self.limits.max_num_sequences
        assert all(sequence.num_computed_tokens == 0 for sequence in self.waiting)
        assert all(sequence.num_uncomputed_tokens >= 1 for sequence in self.running)
        assert self.running or self.memory.usage == 0, "memory is held by nobody"
        self.memory.check_integrity()

    # --- planning -------------------------------------------------------------------------------

    def _plan_decodes(self, plan: _Plan) -> None:
        for sequence in list(self.running):
            if sequence.state is SequenceState.RUNNING and sequence.is_decoding:
                self._plan_piece(plan, sequence, 1)

    def _plan_prompts(self, plan: _Plan) -> None:
        """Go on with the prompts that were begun, then begin others, in rank order."""
        for sequence in list(self.running):
            if plan.budget < 1:
                return
            if sequence.state is SequenceState.RUNNING and sequence.num_uncomputed_tokens > 1:
                self._plan_piece(plan, sequence, min(plan.budget, sequence.num_uncomputed_tokens))
        # What was just preempted must not come straight back into the memory it was asked to leave.
        while plan.budget > 0 and not plan.preempted and (sequence := self._admit_first()):
            self._plan_piece(plan, sequence, min(plan.budget, sequence.num_uncomputed_tokens))

    def _plan_drafts(self, plan: _Plan) -> None:
        """Drafts take what is left over of budget and memory; nobody gives way to a guess."""
        for sequence in self.running:
            piece = plan.pieces.get(sequence.sequence_id)
            if piece is None or not sequence.draft_token_ids or not piece.samples:
                continue
            num_drafts = min(len(sequence.draft_token_ids), plan.budget)
            end = piece.start + piece.num_tokens + num_drafts
            if num_drafts > 0 and self.memory.reserve(sequence.sequence_id, end):
                plan.put(Piece(sequence, piece.start, piece.num_tokens + num_drafts, num_drafts))

    def _plan_piece(self, plan: _Plan, sequence: Sequence, num_tokens: int) -> None:
        start = sequence.num_computed_tokens
        while not self.memory.reserve(sequence.sequence_id, start + num_tokens):
            victim = self.running[-1]
            self._preempt(victim)
            plan.drop(victim)
            if victim is sequence:
                return
        plan.put(Piece(sequence, start, num_tokens))

    def _admit_first(self) -> Sequence | None:
        """Bring the first waiting sequence in. Nobody overtakes it, or a long prompt might wait for ever."""
        if not self.waiting or len(self.running) >= self.limits.max_num_sequences:
            return None
        sequence = self.waiting[0]
        num_cached = self.memory.admit(sequence.sequence_id, sequence.token_ids, namespace=sequence.namespace)
        if num_cached is None:
            return None
        sequence.num_computed_tokens = num_cached
        if sequence.num_preemptions == 0:
            sequence.num_cached_tokens = num_cached
        self.waiting.pop(0)
        self._run(sequence)
        return sequence

    def _preempt(self, sequence: Sequence) -> None:
        self.running.remove(sequence)
        self.memory.free(sequence.sequence_id)
        sequence.num_computed_tokens = 0
        sequence.num_preemptions += 1
        self.num_preemptions += 1
        self._wait(sequence)

    def _longest_prompt(self) -> int:
        return max((each.num_uncomputed_tokens for each in (*self.running, *self.waiting)), default=1)

    def _wait(self, sequence: Sequence) -> None:
        sequence.state = SequenceState.WAITING
        insort(self.waiting, sequence, key=_rank)

    def _run(self, sequence: Sequence) -> None:
        sequence.state = SequenceState.RUNNING
        insort(self.running, sequence, key=_rank)


class _Plan:
    """A step as it comes together."""

    def __init__(self, *, budget: int) -> None:
        self.budget = budget
        self.pieces: dict[int, Piece] = {}
        self.preempted = False

    def put(self, piece: Piece) -> None:
        """Add a piece, or put it in the place of a smaller one."""
        self._remove(piece.sequence)
        self.pieces[piece.sequence.sequence_id] = piece
        self.budget -= piece.num_tokens

    def drop(self, sequence: Sequence) -> None:
        """Take a sequence out that gave up its memory."""
        self._remove(sequence)
        self.preempted = True

    def in_order(self) -> list[Piece]:
        """The pieces in rank order."""
        return sorted(self.pieces.values(), key=lambda piece: piece.sequence.rank)

    def _remove(self, sequence: Sequence) -> None:
        piece = self.pieces.pop(sequence.sequence_id, None)
        if piece is not None:
            self.budget += piece.num_tokens


def _rank(sequence: Sequence) -> tuple[int, int]:
    return sequence.rank
