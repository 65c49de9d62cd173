"""Speculation by prompt lookup: answers copy from their passages, so the context itself drafts them for free.

A draft is what followed the last occurrence of the newest n-gram (prompt lookup decoding, Saxena 2023). The
model reads a draft in one wider step and keeps what it would have said anyway, so outputs never change; the
question is only whether the wider step pays. Plain data throughout: nothing here touches a tensor.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

_PRIOR_ACCEPTED, _PRIOR_REJECTED = 3.0, 2.0  # what a sequence is believed to do before it has shown it
_ACCEPTANCE_DECAY = 0.9  # a step: copying comes in stretches, so old drafts soon say little
_FIRST_PAUSE, _LONGEST_PAUSE = 16, 256  # tokens
_COST_DECAY = 0.98  # a step
_PRIOR_TOKEN_COST = 0.1  # of a step: what one more token is believed to add before widths have varied
_PRIOR_WEIGHT = 0.5  # of that belief, in tokens squared of spread


class PromptLookup:
    """All n-grams of one sequence, indexed as it grows: a step costs the same however long the context."""

    def __init__(self, token_ids: Iterable[int] = (), *, min_ngram: int = 2, max_ngram: int = 4) -> None:
        if not 1 <= min_ngram <= max_ngram:
            raise ValueError(f"n-grams from {min_ngram} to {max_ngram} tokens make no sense")
        self._sizes = range(max_ngram, min_ngram - 1, -1)  # a longer match is a better one
        self._tokens: list[int] = []
        self._follower: dict[tuple[int, ...], int] = {}  # n-gram to where it was last continued
        self.extend(token_ids)

    def __len__(self) -> int:
        return len(self._tokens)

    def extend(self, token_ids: Iterable[int]) -> None:
        """Add tokens at the end."""
        tokens, follower = self._tokens, self._follower
        for token in token_ids:
            end = len(tokens)
            # An n-gram is indexed once something follows it, so the newest never finds itself.
            for size in self._sizes:
                if size <= end:
                    follower[tuple(tokens[end - size :])] = end
            tokens.append(token)

    def propose(self, max_tokens: int) -> list[int]:
        """Up to `max_tokens` that may come next, none where the newest tokens are new together.

        A draft that reaches the end of the sequence goes on with itself, so a loop is drafted whole.
        """
        tokens = self._tokens
        if max_tokens < 1:
            return []
        for size in self._sizes:
            start = self._follower.get(tuple(tokens[-size:])) if size <= len(tokens) else None
            if start is not None:
                draft = tokens[start : start + max_tokens]
                period = len(draft)
                while len(draft) < max_tokens:
                    draft.append(draft[len(draft) - period])
                return draft
        return []


def count_accepted(draft: Sequence[int], chosen: Sequence[int]) -> int:
    """How many draft tokens stand, given the model's own choice at each place (one more than the draft).

    The output grows by `chosen[: accepted + 1]`: the choice after the last accepted token comes for free.
    """
    if len(chosen) != len(draft) + 1:
        raise ValueError(f"{len(chosen)} choices for a draft of {len(draft)} tokens")
    for place, (drafted, own) in enumerate(zip(draft, chosen, strict=False)):
        if drafted != own:
            return place
    return len(draft)


class StepCost:
    """Seconds of a step as fixed + per_token * tokens, fitted to the steps that the machine really made.

    Least squares over decaying weights. Until widths have varied enough to tell, a token is believed to add
    a tenth of a step. Observe decode steps only: a prefill's slope is that of another regime.
    """

    def __init__(self) -> None:
        self._weight = self._tokens = self._seconds = self._squares = self._products = 0.0

    @property
    def known(self) -> bool:
        """Whether a step was ever observed."""
        return self._weight > 0

    def observe(self, num_tokens: int, seconds: float) -> None:
        """Learn from a step that computed `num_tokens` in all."""
        self._weight = self._weight * _COST_DECAY + 1
        self._tokens = self._tokens * _COST_DECAY + num_tokens
        self._seconds = self._seconds * _COST_DECAY + seconds
        self._squares = self._squares * _COST_DECAY + num_tokens * num_tokens
        self._products = self._products * _COST_DECAY + num_tokens * seconds

    @property
    def per_token_s(self) -> float:
        """What one more token adds to a step."""
        if not self.known:
            return 0.0
        tokens, seconds = self._tokens / self._weight, self._seconds / self._weight
        spread = max(self._squares / self._weight - tokens * tokens, 0.0)
        covariance = self._products / self._weight - tokens * seconds
        prior = _PRIOR_TOKEN_COST * seconds / max(tokens, 1.0)
        return max((covariance + _PRIOR_WEIGHT * prior) / (spread + _PRIOR_WEIGHT), 0.0)

    def seconds(self, num_tokens: int) -> float:
        """What a step of so many tokens takes."""
        if not self.known:
            return 0.0
        tokens, seconds = self._tokens / self._weight, self._seconds / self._weight
        return max(seconds + self.per_token_s * (num_tokens - tokens), 0.0)


@dataclass(slots=True)
class DraftPolicy:
    """How long a draft pays for one sequence: none at all, once its drafts keep failing.

    With acceptance p a draft of k tokens brings p + p^2 + ... + p^k more. Each is worth what a token costs
    without speculation, a plain step divided among its sequences; the draft costs k tokens of a wider step.
    A sequence that was switched off tries one short draft after a pause, and the pause doubles each time that
    fails.
    """

    max_draft_tokens: int = 8
    num_drafted: int = 0
    num_accepted: int = 0
    _accepted: float = _PRIOR_ACCEPTED
    _rejected: float = _PRIOR_REJECTED
    _pause: int = 0  # tokens until the next attempt
    _next_pause: int = _FIRST_PAUSE

    @property
    def acceptance_rate(self) -> float:
        """Share of the drafted tokens that stood; 0 where nothing was drafted."""
        return self.num_accepted / self.num_drafted if self.num_drafted else 0.0

    @property
    def paused(self) -> bool:
        """Whether speculation is switched off at the moment."""
        return self._pause > 0

    def draft_tokens(self, cost: StepCost, *, num_sequences: int) -> int:
        """How many tokens to draft now, in a step that `num_sequences` share."""
        if self._pause:
            return 0
        if not cost.known:
            return self.max_draft_tokens
        best = self._best_length(cost, num_sequences)
        if best == 0:
            self._switch_off()
        return best

    def observe_draft(self, num_drafted: int, num_accepted: int) -> None:
        """Learn what became of a draft."""
        self.num_drafted += num_drafted
        self.num_accepted += num_accepted
        # Tokens after the first rejection say nothing: they were conditioned on a wrong one.
        self._accepted = self._accepted * _ACCEPTANCE_DECAY + num_accepted
        self._rejected = self._rejected * _ACCEPTANCE_DECAY + (num_accepted < num_drafted)
        if num_accepted == num_drafted > 0:
            self._next_pause = _FIRST_PAUSE

    def observe_plain(self, num_tokens: int = 1) -> None:
        """Count tokens that came without a draft; they bring the end of a pause nearer."""
        if not self._pause:
            return
        self._pause = max(self._pause - num_tokens, 0)
        if self._pause == 0:  # the old failures are forgiven, but not trusted to be over
            self._accepted, self._rejected = _PRIOR_ACCEPTED, _PRIOR_REJECTED

    def _best_length(self, cost: StepCost, num_sequences: int) -> int:
        acceptance = self._accepted / (self._accepted + self._rejected)
        worth = cost.seconds(num_sequences) / num_sequences  # of a token
        price = cost.per_token_s
        best, best_gain, gained = 0, 0.0, 0.0
        for length in range(1, self.max_draft_tokens + 1):
            gained += acceptance**length
            gain = gained * worth - length * price
            if gain > best_gain:
                best, best_gain = length, gain
        return best

    def _switch_off(self) -> None:
        self._pause = self._next_pause
        self._next_pause = min(2 * self._next_pause, _LONGEST_PAUSE)
