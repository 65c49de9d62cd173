"""Draft and verify: the span head proposes, the generator disposes.

One pass reads the windows and keeps their keys and values; the span head's best spans over all of them are
the drafts. A second, small pass runs every draft through the generator at once, teacher-forced over the keys
and values of its own window, and gives its log probability. What a draft scores equals what decoding it token
by token would have given, because the answer's tokens only ever look back.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import torch

from generator.cache.kv_cache import KVCache
from generator.reader.architecture import NEVER, Memory, ReaderModel
from generator.reader.spans import best_spans
from generator.reader.tokens import ReaderTokenizer, Tokens
from generator.reader.windows import Window


@dataclass(frozen=True, slots=True)
class Reading:
    """Windows after one forward pass, with the odds of their spans against their own null."""

    windows: list[Window]
    memory: Memory
    cache: KVCache
    start: torch.Tensor  # (B, P)
    end: torch.Tensor  # (B, P)
    null: torch.Tensor  # (B,)
    passage_start: int  # index of the passage's first piece in each row
    num_tokens: int


@dataclass(frozen=True, slots=True)
class Draft:
    """A proposed answer: pieces first..last of a passage. Scores are natural logarithms."""

    row: int  # of the reading
    passage: int
    first: int
    last: int
    margin: float  # span score minus its window's null score
    log_prob: float = 0.0  # of the generator writing exactly this, end token included
    num_tokens: int = 1  # that log_prob is the sum over

    @property
    def mean_log_prob(self) -> float:
        """Log probability a token."""
        return self.log_prob / self.num_tokens


@torch.inference_mode()
def read_windows(
    model: ReaderModel,
    tokenizer: ReaderTokenizer,
    question_ids: Sequence[int],
    passages: Sequence[Tokens],
    windows: Sequence[Window],
) -> Reading:
    """Read windows together with the question, all in one padded batch."""
    rows = [tokenizer.prefix(question_ids, passages[w.passage].ids[w.begin : w.end]) for w in windows]
    lengths = [len(row) for row in rows]
    width = _round_width(max(lengths), step=32, limit=model.config.max_prefix_tokens)
    device, config = model.transformer.device, model.config
    token_ids = torch.tensor([row + [tokenizer.pad_id] * (width - len(row)) for row in rows], device=device)
    real = torch.arange(width, device=device) < torch.tensor(lengths, device=device)[:, None]
    cache = KVCache.from_model_config(
        config.model, len(rows), width, device=device, dtype=model.transformer.dtype
    )
    hidden = model.transformer(token_ids, mask=real[:, None, None, :], cache=cache)
    cache.truncate(lengths)
    copyable = real.clone()
    offset = tokenizer.passage_start(len(question_ids))
    copyable[:, :offset] = False
    copyable &= token_ids != tokenizer.sep_id  # the closing one; passages hold none, see ReaderTokenizer
    memory = Memory(hidden, token_ids, copyable)
    start, end = model.span_scores(memory)
    return Reading(list(windows), memory, cache, start, end, start[:, 0] + end[:, 0], offset, sum(lengths))


def _round_width(width: int, *, step: int, limit: int) -> int:
    """`width` rounded up to a multiple of `step`, at most to `limit`.

    oneDNN builds its kernels anew for each shape, which takes several times as long as using them.
    """
    return max(width, min(-(-width // step) * step, limit))


def propose(reading: Reading, passages: Sequence[Tokens], *, count: int, max_tokens: int) -> list[Draft]:
    """The `count` spans with the best odds over all windows, grown to whole words, best first.

    Odds against each window's own null are what makes scores of different passages comparable: together with
    0 for "none of them" they are the logits of one softmax over all passages' spans.
    """
    scores, first, last = best_spans(reading.start, reading.end, count=count, max_tokens=max_tokens)
    margins = (scores - reading.null[:, None]).tolist()
    starts, ends = first.tolist(), last.tolist()
    best: dict[tuple[int, int, int], Draft] = {}
    for row, window in enumerate(reading.windows):
        tokens = passages[window.passage]
        shift = window.begin - reading.passage_start
        for margin, start, end in zip(margins[row], starts[row], ends[row], strict=True):
            if margin < NEVER / 2:
                break  # fewer spans than asked for
            begin, stop = whole_words(tokens, start + shift, end + shift, window)
            if not _can_be_an_answer(tokens, begin, stop):
                continue
            draft = Draft(row, window.passage, begin, stop, margin)
            known = best.get((window.passage, begin, stop))
            if known is None or known.margin < margin:
                best[window.passage, begin, stop] = draft
    return sorted(best.values(), key=lambda d: (-d.margin, d.passage, d.first, d.last))[:count]


def whole_words(tokens: Tokens, first: int, last: int, window: Window) -> tuple[int, int]:
    """Grow pieces first..last until no word is cut, within the window."""
    while first > window.begin and tokens.continues_word[first]:
        first -= 1
    while last + 1 < window.end and tokens.continues_word[last + 1]:
        last += 1
    return first, last


def _can_be_an_answer(tokens: Tokens, first: int, last: int) -> bool:
    """Whether the pieces are more than punctuation and of one paragraph."""
    start, end = tokens.characters(first, last)
    text = tokens.text[start:end]
    return "\n\n" not in text and any(character.isalnum() for character in text)


@torch.inference_mode()
def verify(
    model: ReaderModel,
    tokenizer: ReaderTokenizer,
    reading: Reading,
    passages: Sequence[Tokens],
    drafts: Sequence[Draft],
) -> list[Draft]:
    """The drafts with the generator's log probability of each, from one pass over all of them."""
    if not drafts:
        return []
    room = model.config.max_answer_tokens
    device = model.transformer.device
    answers = [passages[d.passage].ids[d.first : d.last + 1] for d in drafts]
    inputs = [[tokenizer.mask_id, *ids][:room] for ids in answers]
    outputs = [[*ids, tokenizer.sep_id][:room] for ids in answers]
    width = _round_width(max(map(len, inputs)), step=8, limit=room)
    pad = tokenizer.pad_id
    token_ids = torch.tensor([ids + [pad] * (width - len(ids)) for ids in inputs], device=device)
    targets = torch.tensor([ids + [pad] * (width - len(ids)) for ids in outputs], device=device)
    rows = torch.tensor([draft.row for draft in drafts], device=device)

    hidden = model.transformer(
        token_ids, positions=model.answer_positions(width), cache=_rows_of(reading.cache, rows, room=width)
    )
    memory = Memory(*(part[rows] for part in reading.memory))
    pointer = model.pointer_log_probs(hidden, memory)
    lengths = torch.tensor([len(written) for written in outputs], device=device)
    written_mask = torch.arange(width, device=device) < lengths[:, None]  # (B, T)
    log_probs = model.token_log_probs(hidden, targets, memory, pointer, mask=written_mask).tolist()
    return [
        replace(draft, log_prob=sum(scores[: len(written)]), num_tokens=len(written))
        for draft, written, scores in zip(drafts, outputs, log_probs, strict=True)
    ]


def _rows_of(cache: KVCache, rows: torch.Tensor, *, room: int) -> KVCache:
    """A cache that holds copies of `rows` (repeats allowed) and has room for more tokens in each."""
    lengths = [cache.lengths[row] for row in rows.tolist()]
    kept = max(lengths)

    def grown(stored: torch.Tensor) -> torch.Tensor:
        layers, _, heads, _, size = stored.shape
        # Zeros, not whatever was there: a masked NaN would still spoil the weighted sum.
        block = stored.new_zeros(layers, len(lengths), heads, kept + room, size)
        block[:, :, :, :kept] = stored[:, rows, :, :kept]
        return block

    copy = KVCache(grown(cache.keys), grown(cache.values))
    copy.lengths = tuple(lengths)
    return copy
