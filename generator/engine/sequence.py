"""What the scheduler knows of one sequence: numbers and token ids."""

from __future__ import annotations

from collections.abc import Hashable
from dataclasses import dataclass, field
from enum import Enum
from typing import NamedTuple


class SequenceState(Enum):
    """Where a sequence is in its life."""

    WAITING = "waiting"  # holds no memory
    RUNNING = "running"
    FINISHED = "finished"


@dataclass(slots=True, eq=False)
class Sequence:
    """A prompt and what has come after it. Only the scheduler changes the fields below the line."""

    sequence_id: int
    token_ids: list[int]  # the prompt, then the output
    priority: int = 0
    namespace: Hashable = None  # what its keys and values may be shared with
    draft_token_ids: list[int] = field(default_factory=list)  # guesses to verify in the next step

    # ---
    state: SequenceState = SequenceState.WAITING
    rank: tuple[int, int] = (0, 0)  # lower goes first
    num_computed_tokens: int = 0  # whose keys and values are in memory
    num_cached_tokens: int = 0  # of them, how many a cache had when the sequence first came in
    num_preemptions: int = 0

    @property
    def num_uncomputed_tokens(self) -> int:
        """Tokens to run before the next one is known; 1 while decoding."""
        return len(self.token_ids) - self.num_computed_tokens

    @property
    def is_decoding(self) -> bool:
        """Whether only the newest token is left to run."""
        return self.num_uncomputed_tokens == 1


class Piece(NamedTuple):
    """Tokens of one sequence that a step runs: known ones, then drafts."""

    sequence: Sequence
    start: int  # position of the first
    num_tokens: int  # drafts included
    num_draft_tokens: int = 0

    @property
    def token_ids(self) -> list[int]:
        """The tokens to run."""
        known = self.sequence.token_ids[self.start : self.start + self.num_tokens - self.num_draft_tokens]
        return known + self.sequence.draft_token_ids[: self.num_draft_tokens]

    @property
    def samples(self) -> bool:
        """Whether the scores of its last known token are wanted, not only its keys and values."""
        end = self.start + self.num_tokens - self.num_draft_tokens
        return end == len(self.sequence.token_ids)
