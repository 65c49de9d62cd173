"""How the pieces of a plan lie side by side in one row of tokens; numbers only, no tensors."""

from __future__ import annotations

from collections.abc import Sequence as Seq
from typing import NamedTuple

from generator.cache.memory import KVMemory, Segment
from generator.engine.sequence import Piece
from generator.model.attention_backend import Span


class StepLayout(NamedTuple):
    """Token by token, and by group what the tokens' slots are."""

    token_ids: list[int]
    positions: list[int]
    slots: list[list[int]]  # by group, then token
    spans: list[Span]


def lay_out(plan: Seq[Piece], memory: KVMemory) -> StepLayout:
    """Place the pieces one after the other."""
    layout = StepLayout([], [], [[] for _ in memory.groups], [])
    for piece in plan:
        end = piece.start + piece.num_tokens
        first, segments = [], []
        for index, group in enumerate(memory.groups):
            first.append(group.first_visible(piece.start))
            visible = memory.segments(piece.sequence.sequence_id, index, first[-1], end)
            segments.append(tuple(visible))
            layout.slots[index].extend(_last_slots(visible, piece.num_tokens))
        span = Span(len(layout.token_ids), piece.num_tokens, piece.start, tuple(first), tuple(segments))
        layout.spans.append(span)
        layout.token_ids.extend(piece.token_ids)
        layout.positions.extend(range(piece.start, end))
    return layout


def wanted_rows(plan: Seq[Piece]) -> list[int]:
    """Which tokens of the flat batch need scores: the last known one of pieces that sample, and drafts."""
    rows: list[int] = []
    end = 0
    for piece in plan:
        end += piece.num_tokens
        if piece.samples:
            rows += range(end - 1 - piece.num_draft_tokens, end)
    return rows


def is_decode(plan: Seq[Piece]) -> bool:
    """Whether every piece is one token whose scores are wanted."""
    return all(piece.num_tokens == 1 and piece.samples for piece in plan)


def _last_slots(segments: Seq[Segment], count: int) -> list[int]:
    """The last `count` slots of segments, in order."""
    slots: list[int] = []
    for start, length in reversed(segments):
        taken = min(length, count - len(slots))
        slots[:0] = range(start + length - taken, start + length)
        if len(slots) == count:
            break
    return slots
