"""Blocks of slots: reference counts, a free list that favours neighbours, and eviction of idle content."""

from __future__ import annotations

import heapq
from collections import OrderedDict
from collections.abc import Iterator

from generator.cache.memory import Segment
from generator.cache.prefix_tree import PrefixNode, PrefixTree


class BlockPool:
    """The blocks of one group.

    A block is *used* (referenced by sequences), *idle* (unreferenced, but findable in the prefix tree) or
    *free*. Taking a block prefers free ones, then gives up the idle content that was let go longest ago.
    """

    def __init__(self, num_blocks: int, *, group: int, tree: PrefixTree) -> None:
        self.num_blocks = num_blocks
        self.ref_counts = [0] * num_blocks
        self._group = group
        self._tree = tree
        self._nodes: list[PrefixNode | None] = [None] * num_blocks  # whose content a block holds
        self._free = set(range(num_blocks))
        self._lowest = list(range(num_blocks))  # a heap over _free, which may hold stale entries
        self._idle: OrderedDict[int, None] = OrderedDict()  # least recently used first

    @property
    def num_available(self) -> int:
        """Blocks that could be taken."""
        return len(self._free) + len(self._idle)

    def is_idle(self, block: int) -> bool:
        """Whether a block is referenced by nobody and holds content."""
        return block in self._idle

    def is_registered(self, block: int) -> bool:
        """Whether the prefix tree knows a block's content."""
        return self._nodes[block] is not None

    def take(self, *, after: int | None = None) -> int:
        """A block with one reference; the one right behind `after` if that is free. Needs `num_available`."""
        if after is not None and after + 1 in self._free:
            block = after + 1
        elif self._free:
            block = heapq.heappop(self._lowest)
            while block not in self._free:
                block = heapq.heappop(self._lowest)
        else:
            block, _ = self._idle.popitem(last=False)
            self._forget(block)
        self._free.discard(block)
        self.ref_counts[block] = 1
        return block

    def share(self, block: int) -> None:
        """One more reference to a used or idle block."""
        self._idle.pop(block, None)
        self.ref_counts[block] += 1

    def release(self, block: int) -> None:
        """One reference less."""
        self.ref_counts[block] -= 1
        if self.ref_counts[block] == 0:
            if self._nodes[block] is not None:
                self._idle[block] = None
            else:
                self._free.add(block)
                heapq.heappush(self._lowest, block)
                if len(self._lowest) > 2 * self.num_blocks:  # mostly stale
                    self._lowest = sorted(self._free)

    def register(self, block: int, node: PrefixNode) -> None:
        """Make a block's content findable."""
        self._nodes[block] = node
        node.blocks[self._group] = block

    def _forget(self, block: int) -> None:
        node = self._nodes[block]
        if node is not None:
            self._nodes[block] = None
            node.blocks[self._group] = None
            self._tree.prune(node)

    def check_integrity(self, references: dict[int, int]) -> None:
        """Compare with the references that sequences hold, by block."""
        for block, count in enumerate(self.ref_counts):
            assert count == references.get(block, 0), f"block {block}: {count} counted, {references} held"
            places = (count > 0) + (block in self._free) + (block in self._idle)
            assert places == 1, f"block {block} is in {places} of used, free, idle"
            node = self._nodes[block]
            assert node is not None or block not in self._idle, f"idle block {block} holds nothing"
            assert node is None or node.blocks[self._group] == block, f"block {block}: the tree disagrees"
        assert self._free <= set(self._lowest)


class BlockTable:
    """The blocks of one sequence in one group, by position; `None` where the window has passed."""

    def __init__(self, block_size: int) -> None:
        self._block_size = block_size
        self.blocks: list[int | None] = []
        self.num_dropped = 0  # leading entries that are None
        self._runs: list[list[int]] = []  # [first index, first block, count] of neighbouring blocks

    def __len__(self) -> int:
        return len(self.blocks)

    def held(self) -> Iterator[int]:
        """The blocks that this table references."""
        return (block for block in self.blocks[self.num_dropped :] if block is not None)

    @property
    def last(self) -> int | None:
        """The last block."""
        return self.blocks[-1] if self.blocks else None

    def append(self, block: int | None) -> None:
        """Add the next block; None only before the first real one."""
        index = len(self.blocks)
        self.blocks.append(block)
        if block is None:
            self.num_dropped = index + 1
        elif self._runs and sum(self._runs[-1][1:]) == block:
            self._runs[-1][2] += 1
        else:
            self._runs.append([index, block, 1])

    def replace(self, index: int, block: int) -> None:
        """Exchange one block."""
        kept = [*self.blocks[:index], block, *self.blocks[index + 1 :]]
        self.blocks, self._runs, self.num_dropped = [], [], 0
        for each in kept:
            self.append(each)

    def drop_before(self, index: int) -> list[int]:
        """Give up the blocks in front of `index`; returns those that were held."""
        dropped = [block for block in self.blocks[self.num_dropped : index] if block is not None]
        if dropped:
            self.blocks[self.num_dropped : index] = [None] * (index - self.num_dropped)
            self.num_dropped = index
            while self._runs and self._runs[0][0] < index:
                first, block, count = self._runs[0]
                if first + count > index:
                    self._runs[0] = [index, block + index - first, first + count - index]
                else:
                    self._runs.pop(0)
        return dropped

    def segments(self, start: int, end: int) -> list[Segment]:
        """Slots of the positions [start, end)."""
        size = self._block_size
        found = []
        for first, block, count in self._runs:
            low, high = max(start, first * size), min(end, (first + count) * size)
            if low < high:
                found.append(Segment(block * size + low - first * size, high - low))
        return found
