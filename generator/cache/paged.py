"""Paged key/value memory: block tables, shared prefixes, copy on write, windows that let blocks go.

The block table is PagedAttention's (Kwon et al., SOSP 2023); finding shared prefixes by token blocks follows
RadixAttention (Zheng et al., arXiv 2312.07104).
"""

from __future__ import annotations

import sys
from collections.abc import Hashable, Sequence
from dataclasses import dataclass

from generator.cache.blocks import BlockPool, BlockTable
from generator.cache.memory import KVGroup, KVMemory, Segment, SlotCopy
from generator.cache.prefix_tree import PrefixNode, PrefixTree


@dataclass(slots=True)
class _Sequence:
    tables: list[BlockTable]  # one a group
    node: PrefixNode  # of the last block that the prefix tree knows
    num_registered: int  # blocks that the prefix tree knows
    num_committed: int  # tokens


class PagedMemory(KVMemory):
    """Blocks of `block_size` tokens. A prompt's blocks without a window are taken whole on admission."""

    def __init__(
        self,
        groups: Sequence[KVGroup],
        *,
        block_size: int,
        max_piece_tokens: int,
        prefix_cache: bool = True,
    ) -> None:
        """`max_piece_tokens` is how many tokens of a sequence are ever computed between two commits."""
        self.groups = tuple(groups)
        self.block_size = block_size
        self._max_piece_tokens = max_piece_tokens
        self._prefix_cache = prefix_cache
        self._tree = PrefixTree(block_size, len(self.groups))
        self._pools = [
            BlockPool(group.num_slots // block_size, group=index, tree=self._tree)
            for index, group in enumerate(self.groups)
        ]
        self._sequences: dict[int, _Sequence] = {}
        self._copies: list[SlotCopy] = []

    @property
    def max_sequence_tokens(self) -> int:
        """See `KVMemory.max_sequence_tokens`. A group that holds a window and a piece takes any length."""
        limits = [sys.maxsize]
        for group, pool in zip(self.groups, self._pools, strict=True):
            endless = group.window is not None and pool.num_blocks >= blocks_of_window(
                group.window, self.block_size, max_piece_tokens=self._max_piece_tokens
            )
            if not endless:
                limits.append(pool.num_blocks * self.block_size)
        return min(limits)

    @property
    def usage(self) -> float:
        """See `KVMemory.usage`."""
        return max(1 - pool.num_available / pool.num_blocks for pool in self._pools)

    def admit(self, sequence_id: int, token_ids: Sequence[int], *, namespace: Hashable = None) -> int | None:
        """See `KVMemory.admit`. Only whole blocks are shared, so at most one block is computed again."""
        path = self._known_path(token_ids, namespace)
        num_blocks = self._num_blocks(len(token_ids) + 1)  # with room for the first new token
        for index, (group, pool) in enumerate(zip(self.groups, self._pools, strict=True)):
            shared = [path[place].blocks[index] for place in self._visible_blocks(group, len(path))]
            num_needed = num_blocks - len(path)
            if group.window is not None:
                num_needed = min(num_needed, self._num_blocks(group.window) + 1)
            num_waking = sum(block is not None and pool.is_idle(block) for block in shared)
            if num_needed > pool.num_available - num_waking:
                return None
        tables = [self._share(index, path) for index in range(len(self.groups))]
        node = path[-1] if path else self._tree.root(namespace)
        num_cached = len(path) * self.block_size
        self._sequences[sequence_id] = _Sequence(tables, node, len(path), num_cached)
        for group, pool, table in zip(self.groups, self._pools, tables, strict=True):
            if group.window is None:
                self._extend(pool, table, num_blocks)
        return num_cached

    def num_cached_tokens(self, token_ids: Sequence[int], *, namespace: Hashable = None) -> int:
        """See `KVMemory.num_cached_tokens`."""
        return len(self._known_path(token_ids, namespace)) * self.block_size

    def reserve(self, sequence_id: int, num_tokens: int) -> bool:
        """See `KVMemory.reserve`. A shared block that will be written to is copied first."""
        sequence = self._sequences[sequence_id]
        num_blocks, first = self._num_blocks(num_tokens), sequence.num_committed // self.block_size
        shared: list[list[int]] = []
        for pool, table in zip(self._pools, sequence.tables, strict=True):
            written = range(first, min(num_blocks, len(table)))
            shared.append([index for index in written if pool.ref_counts[_held(table, index)] > 1])
            if max(0, num_blocks - len(table)) + len(shared[-1]) > pool.num_available:
                return False
        for group, (pool, table) in enumerate(zip(self._pools, sequence.tables, strict=True)):
            for index in shared[group]:
                self._unshare(
                    group, table, index, num_filled=sequence.num_committed - index * self.block_size
                )
            self._extend(pool, table, num_blocks)
        return True

    def commit(self, sequence_id: int, token_ids: Sequence[int], num_tokens: int) -> None:
        """See `KVMemory.commit`. Full blocks become findable; those behind a window are let go."""
        sequence = self._sequences[sequence_id]
        sequence.num_committed = num_tokens
        if self._prefix_cache:
            self._register(sequence, token_ids)
        for group, pool, table in zip(self.groups, self._pools, sequence.tables, strict=True):
            if group.window is not None:
                for block in table.drop_before(group.first_visible(num_tokens) // self.block_size):
                    pool.release(block)

    def fork(self, source_id: int, target_id: int) -> bool:
        """See `KVMemory.fork`. Takes no block: the one that both will write to is copied when they do."""
        source = self._sequences[source_id]
        num_blocks = self._num_blocks(source.num_committed)
        tables = []
        for pool, table in zip(self._pools, source.tables, strict=True):
            copied = BlockTable(self.block_size)
            for block in table.blocks[:num_blocks]:
                copied.append(block)
                if block is not None:
                    pool.share(block)
            tables.append(copied)
        self._sequences[target_id] = _Sequence(
            tables, source.node, source.num_registered, source.num_committed
        )
        return True

    def free(self, sequence_id: int) -> None:
        """See `KVMemory.free`. The end of a text is let go first, so it is also the first to be evicted."""
        sequence = self._sequences.pop(sequence_id)
        for pool, table in zip(self._pools, sequence.tables, strict=True):
            for block in reversed(list(table.held())):
                pool.release(block)

    def segments(self, sequence_id: int, group: int, start: int, end: int) -> list[Segment]:
        """See `KVMemory.segments`."""
        return self._sequences[sequence_id].tables[group].segments(start, end)

    def take_copies(self) -> list[SlotCopy]:
        """See `KVMemory.take_copies`."""
        copies, self._copies = self._copies, []
        return copies

    def check_integrity(self) -> None:
        """See `KVMemory.check_integrity`."""
        for index, pool in enumerate(self._pools):
            references: dict[int, int] = {}
            for sequence in self._sequences.values():
                for block in sequence.tables[index].held():
                    references[block] = references.get(block, 0) + 1
            pool.check_integrity(references)
        for node in self._tree.nodes():
            leads_somewhere = node.children or any(block is not None for block in node.blocks)
            assert leads_somewhere or any(s.node is node for s in self._sequences.values()), "a dead node"

    def _num_blocks(self, num_tokens: int) -> int:
        return -(-num_tokens // self.block_size)

    def _visible_blocks(self, group: KVGroup, num_blocks: int) -> range:
        """Which of a prefix's blocks the token right behind it looks at."""
        return range(group.first_visible(num_blocks * self.block_size) // self.block_size, num_blocks)

    def _known_path(self, token_ids: Sequence[int], namespace: Hashable) -> list[PrefixNode]:
        """The blocks that a prompt can reuse; its last token is never among them."""
        reusable = token_ids[: len(token_ids) - 1] if self._prefix_cache else ()
        return self._longest_usable(self._tree.match(reusable, namespace))

    def _longest_usable(self, path: list[PrefixNode]) -> list[PrefixNode]:
        """The longest beginning of a path whose blocks are all there, as far as anyone would look at them."""
        for length in range(len(path), 0, -1):
            if all(
                path[place].blocks[index] is not None
                for index, group in enumerate(self.groups)
                for place in self._visible_blocks(group, length)
            ):
                return path[:length]
        return []

    def _share(self, group: int, path: list[PrefixNode]) -> BlockTable:
        table, visible = BlockTable(self.block_size), self._visible_blocks(self.groups[group], len(path))
        for place, node in enumerate(path):
            block = node.blocks[group] if place in visible else None
            table.append(block)
            if block is not None:
                self._pools[group].share(block)
        return table

    def _extend(self, pool: BlockPool, table: BlockTable, num_blocks: int) -> None:
        while len(table) < num_blocks:
            table.append(pool.take(after=table.last))

    def _unshare(self, group: int, table: BlockTable, index: int, *, num_filled: int) -> None:
        """Give a table a block of its own in place of a shared one, with what is filled of it."""
        pool, shared = self._pools[group], _held(table, index)
        own = pool.take()
        if num_filled > 0:
            source, target = (Segment(block * self.block_size, num_filled) for block in (shared, own))
            self._copies.append(SlotCopy(group, source, target))
        pool.release(shared)
        table.replace(index, own)

    def _register(self, sequence: _Sequence, token_ids: Sequence[int]) -> None:
        for index in range(sequence.num_registered, sequence.num_committed // self.block_size):
            tokens = tuple(token_ids[index * self.block_size : (index + 1) * self.block_size])
            sequence.node = self._tree.child(sequence.node, tokens)
            sequence.num_registered = index + 1
            for group, (pool, table) in enumerate(zip(self._pools, sequence.tables, strict=True)):
                block = table.blocks[index]
                known = sequence.node.blocks[group] is not None
                if block is not None and not known and not pool.is_registered(block):
                    pool.register(block, sequence.node)


def blocks_of_window(window: int, block_size: int, *, max_piece_tokens: int) -> int:
    """Blocks that one sequence needs at most while a piece behind its window is computed."""
    return -(-(window + max_piece_tokens) // block_size) + 1


def _held(table: BlockTable, index: int) -> int:
    block = table.blocks[index]
    if block is None:
        raise IndexError(f"block {index} was let go")
    return block
