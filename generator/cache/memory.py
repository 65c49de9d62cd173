"""Who owns which part of the key/value memory: the interface that scheduler and engine see.

Plain data: a *slot* is a number that stands for the keys and values of one token, and `KVPool` is where slots
are tensors. Layers with the same window form a *group*, because they can forget the same tokens.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Hashable, Sequence
from dataclasses import dataclass
from typing import NamedTuple


class Segment(NamedTuple):
    """Consecutive slots."""

    start: int
    length: int


class SlotCopy(NamedTuple):
    """Slots whose content must be copied before the next forward pass writes, all within one group."""

    group: int
    source: Segment
    target: Segment


@dataclass(frozen=True, slots=True)
class KVGroup:
    """Layers that keep the same tokens: the last `window` of a sequence, or all with None."""

    window: int | None
    layers: tuple[int, ...]
    num_slots: int

    def first_visible(self, position: int) -> int:
        """The earliest position that a query at `position` may look at."""
        return 0 if self.window is None else max(0, position - self.window + 1)


class KVMemory(ABC):
    """Slots for many sequences. Nothing raises when there is no room: the answer is no, and nothing changed.

    A sequence is admitted, then reserves room, has tokens computed and committed, again and again, and is
    freed. Ids are the caller's.
    """

    groups: tuple[KVGroup, ...]

    @property
    @abstractmethod
    def max_sequence_tokens(self) -> int:
        """Tokens that one sequence may have when it is alone."""

    @property
    @abstractmethod
    def usage(self) -> float:
        """Share of the memory that sequences hold, 0 to 1; what is only kept for reuse counts as free."""

    @abstractmethod
    def admit(self, sequence_id: int, token_ids: Sequence[int], *, namespace: Hashable = None) -> int | None:
        """Take a sequence in; returns how many of its tokens are already computed, None without room.

        At least one token is always left to compute, for its scores. Sequences of different namespaces
        (model, dtype, adapter) share nothing.
        """

    @abstractmethod
    def num_cached_tokens(self, token_ids: Sequence[int], *, namespace: Hashable = None) -> int:
        """What `admit` would return, room or not: how many tokens are already computed. Changes nothing."""

    @abstractmethod
    def reserve(self, sequence_id: int, num_tokens: int) -> bool:
        """Make the slots of the first `num_tokens` tokens exist and those not yet committed writable."""

    @abstractmethod
    def commit(self, sequence_id: int, token_ids: Sequence[int], num_tokens: int) -> None:
        """Note that the first `num_tokens` of `token_ids` are computed; let go what is out of sight."""

    @abstractmethod
    def fork(self, source_id: int, target_id: int) -> bool:
        """Begin a sequence with the committed tokens of another, sharing what can be shared."""

    @abstractmethod
    def free(self, sequence_id: int) -> None:
        """Let a sequence go. Its tokens may stay findable until the room is needed."""

    @abstractmethod
    def segments(self, sequence_id: int, group: int, start: int, end: int) -> list[Segment]:
        """Where the tokens at positions [start, end) are, in order, in as few pieces as possible."""

    @abstractmethod
    def take_copies(self) -> list[SlotCopy]:
        """The copies to carry out, in this order, before the next forward pass; forgotten once taken."""

    @abstractmethod
    def check_integrity(self) -> None:
        """Raise AssertionError if a slot is lost, shared wrongly or counted wrongly. For tests."""
