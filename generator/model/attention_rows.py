"""A ragged batch as rows with block tables: the form in which kernels for paged memory take it.

A row is up to `width` consecutive tokens of one sequence. Its table names the blocks that hold what its
tokens see, in the order of their positions, and positions are counted from where the table begins: so a row
knows nothing of what a sliding window has let go.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
import torch

from generator.cache.memory import KVGroup, Segment
from generator.model.attention_backend import Span


class RowTable(NamedTuple):
    """Where a row finds the keys of one group."""

    start: int  # position of the row's first token, counted from the first slot of the first block
    blocks: list[int]


class Row(NamedTuple):
    """Up to `width` consecutive tokens of one sequence."""

    token: int  # place of the first in the batch
    num_tokens: int
    tables: tuple[RowTable, ...]  # by group


def rows_of(spans: Sequence[Span], groups: Sequence[KVGroup], *, width: int, block_size: int) -> list[Row]:
    """Cut spans into rows. Their slots must lie in blocks: slot and position agree modulo `block_size`."""
    rows = []
    for span in spans:
        blocks = [_blocks(segments, block_size) for segments in span.segments]
        for offset in range(0, span.num_tokens, width):
            num_tokens = min(width, span.num_tokens - offset)
            first, last = span.start + offset, span.start + offset + num_tokens - 1
            tables = []
            for group, known, held in zip(groups, span.first_visible, blocks, strict=True):
                origin = group.first_visible(first) // block_size  # in blocks of the sequence, as `skipped`
                skipped = known // block_size
                own = held[origin - skipped : last // block_size + 1 - skipped]
                tables.append(RowTable(first - origin * block_size, own))
            rows.append(Row(span.offset + offset, num_tokens, tuple(tables)))
    return rows


def padded_to_power(number: int) -> int:
    """The next power of two, so that few numbers of rows occur."""
    return 1 << (number - 1).bit_length()


def _blocks(segments: Sequence[Segment], block_size: int) -> list[int]:
    """The blocks of segments, of which only the first may begin inside a block, and the last end in one."""
    blocks: list[int] = []
    for start, length in segments:
        blocks += range(start // block_size, (start + length - 1) // block_size + 1)
    return blocks


class PackedNumbers:
    """Arrays of whole numbers, filled on the host, that go to the device in one copy and into one place."""

    def __init__(self, shapes: Mapping[str, tuple[int, ...]], *, device: torch.device) -> None:
        sizes = [int(np.prod(shape)) for shape in shapes.values()]
        self._host = torch.zeros(sum(sizes), dtype=torch.int64, pin_memory=device.type == "cuda")
        self._device = torch.zeros_like(self._host, device=device)
        self.host: dict[str, np.ndarray] = {}
        self.device: dict[str, torch.Tensor] = {}
        parts = zip(self._host.split(sizes), self._device.split(sizes), strict=True)
        for (name, shape), (host, there) in zip(shapes.items(), parts, strict=True):
            self.host[name] = host.numpy().reshape(shape)
            self.device[name] = there.view(shape)

    def upload(self) -> None:
        """Bring the device what the host has. The host's arrays may change again once a result has come."""
        self._device.copy_(self._host, non_blocking=True)


@dataclass(frozen=True, slots=True)
class QueryRows:
    """Rows on the device, all of one width. Rows of padding have no token and no block."""

    tokens: torch.Tensor  # (rows, width): places in the batch; `no_token` where a row has none
    starts: tuple[torch.Tensor, ...]  # by group: (rows,), see `RowTable.start`
    num_blocks: tuple[torch.Tensor, ...]  # by group: (rows,)
    blocks: tuple[torch.Tensor, ...]  # by group: (rows, most blocks); past `num_blocks` anything may stand

    @staticmethod
    def shapes(num_rows: int, *, width: int, table_sizes: Sequence[int]) -> dict[str, tuple[int, ...]]:
        """What `PackedNumbers` must hold for so many rows, with tables of so many blocks by group."""
        shapes: dict[str, tuple[int, ...]] = {"tokens": (num_rows, width)}
        for group, size in enumerate(table_sizes):
            shapes |= {
                f"starts.{group}": (num_rows,),
                f"num_blocks.{group}": (num_rows,),
                f"blocks.{group}": (num_rows, size),
            }
        return shapes

    @staticmethod
    def fill(numbers: PackedNumbers, rows: Sequence[Row], *, no_token: int) -> None:
        """Write rows into the host's arrays; what is left of these becomes padding."""
        host = numbers.host
        host["tokens"].fill(no_token)
        for index, row in enumerate(rows):
            host["tokens"][index, : row.num_tokens] = range(row.token, row.token + row.num_tokens)
            for group, (start, blocks) in enumerate(row.tables):
                host[f"starts.{group}"][index] = start
                host[f"num_blocks.{group}"][index] = len(blocks)
                host[f"blocks.{group}"][index, : len(blocks)] = blocks
        for group in range(len(rows[0].tables)):
            host[f"num_blocks.{group}"][len(rows) :] = 0

    @classmethod
    def of(cls, numbers: PackedNumbers, *, num_groups: int) -> QueryRows:
        """Views of the device's arrays."""
        by_group = [
            tuple(numbers.device[f"{name}.{group}"] for group in range(num_groups))
            for name in ("starts", "num_blocks", "blocks")
        ]
        return cls(numbers.device["tokens"], *by_group)
