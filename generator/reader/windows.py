"""Cutting passages into windows that fit the reader, however long or empty they are."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass

from generator.reader.tokens import Tokens


@dataclass(frozen=True, slots=True)
class Window:
    """Word pieces [begin, end) of a passage. `passage` is its index in the call."""

    passage: int
    begin: int
    end: int

    def __len__(self) -> int:
        return self.end - self.begin


def cut_windows(passages: Sequence[Tokens], *, size: int, overlap: int) -> list[Window]:
    """Windows of at most `size` pieces; neighbours share `overlap` pieces, so no short answer is cut in two.

    A passage without pieces has no window.
    """
    if not 0 <= overlap < size:
        raise ValueError("overlap must be at least 0 and less than size")
    windows = []
    for index, tokens in enumerate(passages):
        total, begin = len(tokens), 0
        while begin < total:
            end = min(begin + size, total)
            windows.append(Window(index, begin, end))
            if end == total:
                break
            begin = end - overlap
    return windows


def most_promising(
    windows: Sequence[Window], passages: Sequence[Tokens], question_ids: Sequence[int], *, limit: int
) -> list[Window]:
    """At most `limit` windows, in their order: those that share the rarest pieces with the question.

    Every passage keeps its best window first, so a long one cannot crowd out the others.
    """
    if len(windows) <= limit:
        return list(windows)
    wanted = frozenset(question_ids)
    shared = [wanted.intersection(passages[w.passage].ids[w.begin : w.end]) for w in windows]
    frequency = Counter(piece for pieces in shared for piece in pieces)
    rarity = {piece: math.log((1 + len(windows)) / count) for piece, count in frequency.items()}
    scores = [sum(rarity[piece] for piece in sorted(pieces)) for pieces in shared]
    order = sorted(range(len(windows)), key=lambda i: (-scores[i], i))
    rank_in_passage: Counter[int] = Counter()
    is_first: dict[int, bool] = {}
    for i in order:
        is_first[i] = rank_in_passage[windows[i].passage] == 0
        rank_in_passage[windows[i].passage] += 1
    chosen = sorted(order, key=lambda i: (not is_first[i], -scores[i], i))[:limit]
    return [windows[i] for i in sorted(chosen)]


def pack_by_length(windows: Sequence[Window], *, extra: int, budget: int) -> list[list[Window]]:
    """Batches of at most `budget` tokens, padding included; a row is its window and `extra` tokens."""
    batches: list[list[Window]] = []
    batch: list[Window] = []
    for window in sorted(windows, key=len):
        if batch and (len(window) + extra) * (len(batch) + 1) > budget:
            batches.append(batch)
            batch = []
        batch.append(window)
    if batch:
        batches.append(batch)
    return batches
