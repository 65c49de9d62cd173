"""Contiguous key/value memory: a row of slots for each sequence, pre-allocated to one length.

Nothing is ever gathered and there is no table to follow; the price is that every row is as long as the
longest sequence may get. A row that was let go keeps its tokens until someone else needs it, so the next
prompt with the same beginning goes on from there.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Hashable, Sequence
from dataclasses import dataclass, field

from generator.cache.memory import KVGroup, KVMemory, Segment, SlotCopy


@dataclass(slots=True)
class _Row:
    namespace: Hashable = None
    token_ids: list[int] = field(default_factory=list)  # whose keys and values the row holds


class SlotMemory(KVMemory):
    """Rows of `row_tokens` slots, the same in every group: a row has nothing to let go behind a window."""

    def __init__(self, groups: Sequence[KVGroup], *, row_tokens: int, prefix_cache: bool = True) -> None:
        self.groups = tuple(groups)
        self._row_tokens = row_tokens
        self._prefix_cache = prefix_cache
        self._rows = [_Row() for _ in range(groups[0].num_slots // row_tokens)]
        self._free: OrderedDict[int, None] = OrderedDict.fromkeys(range(len(self._rows)))  # oldest first
        self._row_of: dict[int, int] = {}  # by sequence id
        self._copies: list[SlotCopy] = []

    @property
    def max_sequence_tokens(self) -> int:
        """See `KVMemory.max_sequence_tokens`."""
        return self._row_tokens

    @property
    def usage(self) -> float:
        """See `KVMemory.usage`."""
        return len(self._row_of) / len(self._rows)

    def admit(self, sequence_id: int, token_ids: Sequence[int], *, namespace: Hashable = None) -> int | None:
        """See `KVMemory.admit`. Takes the free row with the longest common beginning, else the oldest."""
        if not self._free or len(token_ids) >= self._row_tokens:
            return None
        best, num_cached = self._best_row(token_ids, namespace)
        chosen = next(iter(self._free)) if best is None else best
        del self._free[chosen]
        self._row_of[sequence_id] = chosen
        self._rows[chosen].namespace = namespace
        del self._rows[chosen].token_ids[num_cached:]
        return num_cached

    def num_cached_tokens(self, token_ids: Sequence[int], *, namespace: Hashable = None) -> int:
        """See `KVMemory.num_cached_tokens`."""
        return self._best_row(token_ids, namespace)[1]

    def reserve(self, sequence_id: int, num_tokens: int) -> bool:
        """See `KVMemory.reserve`."""
        return num_tokens <= self._row_tokens

    def commit(self, sequence_id: int, token_ids: Sequence[int], num_tokens: int) -> None:
        """See `KVMemory.commit`."""
        row = self._rows[self._row_of[sequence_id]]
        del row.token_ids[num_tokens:]
        row.token_ids += token_ids[len(row.token_ids) : num_tokens]

    def fork(self, source_id: int, target_id: int) -> bool:
        """See `KVMemory.fork`. The row is copied."""
        if not self._free:
            return False
        source = self._row_of[source_id]
        target, _ = self._free.popitem(last=False)
        self._row_of[target_id] = target
        kept = self._rows[source]
        self._rows[target] = _Row(kept.namespace, list(kept.token_ids))
        ends = [Segment(row * self._row_tokens, len(kept.token_ids)) for row in (source, target)]
        self._copies += [SlotCopy(group, *ends) for group in range(len(self.groups))]
        return True

    def free(self, sequence_id: int) -> None:
        """See `KVMemory.free`."""
        self._free[self._row_of.pop(sequence_id)] = None

    def segments(self, sequence_id: int, group: int, start: int, end: int) -> list[Segment]:
        """See `KVMemory.segments`: always one."""
        return [Segment(self._row_of[sequence_id] * self._row_tokens + start, end - start)]

    def take_copies(self) -> list[SlotCopy]:
        """See `KVMemory.take_copies`."""
        copies, self._copies = self._copies, []
        return copies

    def check_integrity(self) -> None:
        """See `KVMemory.check_integrity`."""
        used = list(self._row_of.values())
        assert sorted([*used, *self._free]) == list(range(len(self._rows))), "a row is lost or held twice"
        assert all(len(row.token_ids) <= self._row_tokens for row in self._rows)

    def _best_row(self, token_ids: Sequence[int], namespace: Hashable) -> tuple[int | None, int]:
        """The free row with the longest common beginning, and its length; None without one."""
        chosen, num_cached, limit = None, 0, max(0, len(token_ids) - 1)
        for row in self._free if self._prefix_cache else ():
            if self._rows[row].namespace == namespace:
                num_common = _num_common(self._rows[row].token_ids, token_ids, limit)
                if num_common > num_cached:
                    chosen, num_cached = row, num_common
        return chosen, num_cached


def _num_common(left: Sequence[int], right: Sequence[int], limit: int) -> int:
    """Length of the common beginning, at most `limit`."""
    limit = min(limit, len(left), len(right))
    if list(left[:limit]) == list(right[:limit]):  # compared in C, and the usual case of a hit
        return limit
    return next(index for index in range(limit) if left[index] != right[index])
