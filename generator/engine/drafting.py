"""Drafts for the next step, each as long as it has paid so far."""

from __future__ import annotations

from collections.abc import Mapping
from collections.abc import Sequence as Seq

from generator.engine.sample import Sample
from generator.engine.sequence import Piece, Sequence
from generator.engine.speculation import StepCost


class Drafter:
    """Guesses what decoding sequences will say next, and learns what wider steps cost."""

    def __init__(self) -> None:
        self._step_cost = StepCost()

    def draft(self, running: Seq[Sequence], samples: Mapping[int, Sample]) -> None:
        """Give the decoding sequences their drafts; `samples` are by sequence id."""
        decoding = [each for each in running if each.is_decoding]
        for sequence in decoding:
            sample = samples[sequence.sequence_id]
            if sample.lookup is not None:
                wanted = sample.draft_policy.draft_tokens(self._step_cost, num_sequences=len(decoding))
                # The last token needs no draft: verifying one yields a token on top.
                wanted = min(wanted, sample.num_remaining_tokens - 1)
                sequence.draft_token_ids = sample.lookup.propose(wanted)

    def observe(self, plan: Seq[Piece], seconds: float) -> None:
        """Learn what a decode step costs; drafts are weighed against it."""
        if all(piece.num_tokens == 1 + piece.num_draft_tokens for piece in plan):
            self._step_cost.observe(sum(piece.num_tokens for piece in plan), seconds)
