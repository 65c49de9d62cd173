"""Attention that reads paged keys where they lie: PyTorch's FlexAttention over block tables.

The pool is the key of one large product, and a block mask says which of its blocks a row of queries reads
(PagedAttention by FlexAttention, arXiv 2412.05496): no key is gathered, no head repeated. A row is one query
while decoding, and a tile of a piece of a prompt otherwise. Compiled, a kernel reads the listed blocks and no
others; uncompiled, PyTorch scores all of the pool and masks, which is for tests of the arithmetic only.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import NamedTuple

import torch
from torch.nn.attention.flex_attention import BlockMask, flex_attention

from generator.cache.pool import KVPool
from generator.model.attention import AttentionContext
from generator.model.attention_backend import PagedBackend, RaggedBatch, Span
from generator.model.attention_rows import PackedNumbers, QueryRows, padded_to_power, rows_of
from generator.model.compiling import compiled

QUERY_TILE = 128  # queries that the block mask is about at once; the kernels' own tiles divide it
_SMALL_BLOCK_KEYS = 32  # keys a kernel takes at once where blocks are smaller than its usual tiles


class RowTables(NamedTuple):
    """What a kernel must know of one group to attend with rows of queries; P blocks are in the pool."""

    starts: torch.Tensor  # (rows,): position of a row's first query, counted from where its table begins
    num_blocks: torch.Tensor  # (rows, 1, 1) int32
    blocks: torch.Tensor  # (rows, 1, 1, P) int32: those to read, then zeros
    places: torch.Tensor  # (rows, P + 1) int32: which of its table's blocks a block is to a row, -1 for none


class FlexBackend(PagedBackend):
    """FlexAttention; fast only where it is compiled, that is on GPUs."""

    name = "flex"

    def __init__(self, block_size: int, *, compile_kernels: bool, query_tile: int = QUERY_TILE) -> None:
        """`query_tile` is for tests; it must divide `QUERY_TILE`."""
        self.block_size = block_size
        self.query_tile = query_tile
        # Rows are padded to few numbers, and each of these gets kernels of its own.
        self._attend: Callable[..., torch.Tensor] = _attend
        if compile_kernels:
            self._attend = compiled(_attend, dynamic=False)

    def context(self, batch: RaggedBatch, pool: KVPool) -> AttentionContext:
        """See `AttentionBackend.context`."""
        decodes = [span for span in batch.spans if span.num_tokens == 1]
        others = [span for span in batch.spans if span.num_tokens > 1]
        num_rows = batch.token_ids.shape[1]
        parts = [
            self._rows(spans, pool, width=width, no_token=num_rows)
            for spans, width in ((decodes, 1), (others, self.query_tile))
            if spans
        ]
        return self.rows_context(parts, batch.slots, pool)

    def rows_context(
        self, parts: Sequence[QueryRows], slots: tuple[torch.Tensor, ...], pool: KVPool
    ) -> AttentionContext:
        """See `PagedBackend.rows_context`."""
        return _FlexContext(self, parts, slots, pool)

    def attend(
        self,
        query: torch.Tensor,
        key: torch.Tensor,
        value: torch.Tensor,
        tables: RowTables,
        window: int | None,
    ) -> torch.Tensor:
        """Attend with rows of queries (rows, Hq, width, D) over a pool (1, Hkv, slots, D)."""
        return self._attend(query, key, value, *tables, block_size=self.block_size, window=window)

    def _rows(self, spans: Sequence[Span], pool: KVPool, *, width: int, no_token: int) -> QueryRows:
        rows = rows_of(spans, pool.groups, width=width, block_size=self.block_size)
        sizes = [max(len(row.tables[group].blocks) for row in rows) for group in range(len(pool.groups))]
        shapes = QueryRows.shapes(padded_to_power(len(rows)), width=width, table_sizes=sizes)
        numbers = PackedNumbers(shapes, device=pool.keys[0].device)
        QueryRows.fill(numbers, rows, no_token=no_token)
        numbers.upload()
        return QueryRows.of(numbers, num_groups=len(sizes))


class _FlexContext(AttentionContext):
    def __init__(
        self,
        backend: FlexBackend,
        parts: Sequence[QueryRows],
        slots: tuple[torch.Tensor, ...],
        pool: KVPool,
    ) -> None:
        self._backend = backend
        self._parts = parts
        self._slots = slots
        self._pool = pool
        self._tables = [  # by group and part; all layers of a group share them
            [
                row_tables(rows, index, num_blocks=len(pool.keys[group.layers[0]]) // backend.block_size)
                for rows in parts
            ]
            for index, group in enumerate(pool.groups)
        ]

    def attend(self, layer: int, query: torch.Tensor, key: torch.Tensor, value: torch.Tensor) -> torch.Tensor:
        """See `AttentionContext.attend`."""
        pool, group = self._pool, self._pool.group_of[layer]
        slots = self._slots[group]
        pool.write(layer, slots, key[:, :, : len(slots)], value[:, :, : len(slots)])
        keys, values = (part[layer].transpose(0, 1)[None] for part in (pool.keys, pool.values))
        flat = query[0].transpose(0, 1)  # (R, Hq, D)
        num_tokens = len(flat)
        result = flat.new_zeros(num_tokens + 1, *flat.shape[1:])  # the last takes what rows have no token for
        for rows, tables in zip(self._parts, self._tables[group], strict=True):
            tiles = flat[rows.tokens.clamp(max=num_tokens - 1)].transpose(1, 2)  # (rows, Hq, width, D)
            attended = self._backend.attend(tiles, keys, values, tables, pool.groups[group].window)
            result[rows.tokens] = attended.transpose(1, 2)
        return result[:num_tokens].transpose(0, 1)[None]


def row_tables(rows: QueryRows, group: int, *, num_blocks: int) -> RowTables:
    """A group's tables in the form of `flex_attention`, for a pool of `num_blocks` blocks.

    Nothing here waits for the device or depends on what the tables say, so a graph can record it.
    """
    listed, counts = rows.blocks[group], rows.num_blocks[group]
    order = torch.arange(listed.shape[1], device=listed.device)
    used = order < counts[:, None]
    blocks = listed.new_zeros(len(listed), num_blocks, dtype=torch.int32)
    blocks[:, : listed.shape[1]] = torch.where(used, listed, 0)
    places = torch.full((len(listed), num_blocks + 1), -1, dtype=torch.int32, device=listed.device)
    # Entries that are not used all go to the last column, which stands for no block.
    target = torch.where(used, listed, num_blocks)
    places.scatter_(1, target, order.to(torch.int32).expand_as(listed))
    return RowTables(
        starts=rows.starts[group],
        num_blocks=counts.to(torch.int32)[:, None, None],
        blocks=blocks[:, None, None],
        places=places,
    )


def _attend(
    query: torch.Tensor,
    key: torch.Tensor,
    value: torch.Tensor,
    starts: torch.Tensor,
    num_blocks: torch.Tensor,
    blocks: torch.Tensor,
    places: torch.Tensor,
    *,
    block_size: int,
    window: int | None,
) -> torch.Tensor:
    """The sums, as a function of tensors alone, so that it compiles as a whole."""

    def visible(
        row: torch.Tensor, head: torch.Tensor, place: torch.Tensor, slot: torch.Tensor
    ) -> torch.Tensor:
        block = places[row, slot // block_size]
        distance = starts[row] + place - (block * block_size + slot % block_size)
        seen = (block >= 0) & (distance >= 0)
        return seen if window is None else seen & (distance < window)

    mask = BlockMask.from_kv_blocks(
        num_blocks,
        blocks,
        BLOCK_SIZE=(QUERY_TILE, block_size),
        mask_mod=visible,
        seq_lengths=(query.shape[2], key.shape[2]),
        compute_q_blocks=False,  # they are for gradients
    )
    # A kernel's tile of keys must not reach beyond a block.
    options = {"BLOCK_N": min(block_size, _SMALL_BLOCK_KEYS)} if block_size < QUERY_TILE else None
    return flex_attention(
        query,
        key,
        value,
        block_mask=mask,
        enable_gqa=query.shape[1] != key.shape[1],
        kernel_options=options,
    )
