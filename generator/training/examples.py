"""One grounded question made ready for the reader: a window of word pieces, its gold spans, its answer."""

from __future__ import annotations

import random
import re
from collections.abc import Sequence
from dataclasses import dataclass

import torch

from generator.reader.architecture import ReaderConfig
from generator.reader.tokens import ReaderTokenizer, Tokens


@dataclass(frozen=True, slots=True)
class Example:
    """Word pieces of a question and a window of a passage; without `spans` there is no answer in it."""

    question_ids: list[int]
    passage_ids: list[int]
    spans: list[tuple[int, int]]  # first and last piece of each occurrence of the answer, into passage_ids
    answer_ids: list[int]  # what the generator shall write, without the end token


@dataclass(frozen=True, slots=True)
class ReaderBatch:
    """Right-padded rows of `[CLS] question [SEP] passage [SEP] answer`; P: longest prefix, A: answer."""

    token_ids: torch.Tensor  # (B, T)
    positions: torch.Tensor  # (B, T): the answer's are the last ones of the table
    mask: torch.Tensor  # (B, 1, T, T) bool: prefix in both directions, answer causal
    copyable: torch.Tensor  # (B, P) bool: the passage's pieces
    starts: torch.Tensor  # (B, P) bool: right first pieces; [CLS] alone where there is no answer
    ends: torch.Tensor  # (B, P) bool
    answer_index: torch.Tensor  # (B, A): where each answer input stands in the row
    targets: torch.Tensor  # (B, A): what shall follow it
    target_mask: torch.Tensor  # (B, A) bool
    pointer_targets: torch.Tensor  # (B, A, P) bool: prefix pieces that may be copied for each target

    def __len__(self) -> int:
        return self.token_ids.shape[0]

    @property
    def num_tokens(self) -> int:
        """Tokens that the transformer runs over, padding included."""
        return self.token_ids.numel()


def find_answers(passage: str, answers: Sequence[str]) -> list[tuple[int, int]]:
    """Characters [start, end) of every occurrence of the first answer that stands in the passage.

    Occurrences as whole words count; where there are none, those inside of words.
    """
    for answer in answers:
        found = [(m.start(), m.end()) for m in re.finditer(re.escape(answer), passage)]
        whole = [(s, e) for s, e in found if _is_boundary(passage, s) and _is_boundary(passage, e)]
        if found:
            return whole or found
    return []


def likeliest_occurrence(
    passage: Tokens, question_ids: Sequence[int], spans: Sequence[tuple[int, int]]
) -> int:
    """Index of the occurrence whose surroundings share most pieces with the question."""
    wanted = set(question_ids)
    around = [wanted.intersection(passage.ids[max(0, first - 24) : last + 25]) for first, last in spans]
    return max(range(len(spans)), key=lambda i: len(around[i]))


def cut_window(
    passage: Tokens, spans: Sequence[tuple[int, int]], *, centre: int, window: int, rng: random.Random
) -> tuple[list[int], list[tuple[int, int]], int]:
    """At most `window` pieces that hold span number `centre` somewhere; spans outside of them are dropped.

    Returns the pieces, the spans in them, and where `centre` is among those.
    """
    total = len(passage)
    first, last = spans[centre]
    last = min(last, first + window - 1)
    earliest, latest = max(0, last - window + 1), min(first, max(0, total - window))
    begin = rng.randint(earliest, max(earliest, latest))
    end = min(begin + window, total)
    kept = [
        (i, (s - begin, min(e, end - 1) - begin)) for i, (s, e) in enumerate(spans) if begin <= s and s < end
    ]
    inside = [span for _, span in kept]
    return passage.ids[begin:end], inside, [i for i, _ in kept].index(centre)


def collate(examples: Sequence[Example], tokenizer: ReaderTokenizer, config: ReaderConfig) -> ReaderBatch:
    """Pad examples into one batch."""
    prefixes = [tokenizer.prefix(example.question_ids, example.passage_ids) for example in examples]
    room = config.max_answer_tokens
    inputs = [[tokenizer.mask_id, *example.answer_ids][:room] for example in examples]
    outputs = [[*example.answer_ids, tokenizer.sep_id][:room] for example in examples]
    batch = len(examples)
    # Rounded up to few sizes: oneDNN builds its kernels anew for every shape, and an allocator that sees ever
    # other sizes spends its time searching for room.
    width = _rounded(max(len(p) + len(a) for p, a in zip(prefixes, inputs, strict=True)), 32)
    longest_prefix = min(_rounded(max(map(len, prefixes)), 32), width)
    longest_answer = _rounded(max(map(len, inputs)), 8)

    token_ids = torch.full((batch, width), tokenizer.pad_id)
    positions = torch.zeros(batch, width, dtype=torch.long)
    copyable, starts, ends = (torch.zeros(batch, longest_prefix, dtype=torch.bool) for _ in range(3))
    answer_index, targets = (torch.zeros(batch, longest_answer, dtype=torch.long) for _ in range(2))
    target_mask = torch.zeros(batch, longest_answer, dtype=torch.bool)
    pointer_targets = torch.zeros(batch, longest_answer, longest_prefix, dtype=torch.bool)
    for row, (example, prefix, given, wanted) in enumerate(
        zip(examples, prefixes, inputs, outputs, strict=True)
    ):
        split, end = len(prefix), len(prefix) + len(given)
        token_ids[row, :end] = torch.tensor(prefix + given)
        positions[row, :split] = torch.arange(split)
        positions[row, split:end] = config.max_prefix_tokens + torch.arange(len(given))
        offset = tokenizer.passage_start(len(example.question_ids))
        copyable[row, offset : offset + len(example.passage_ids)] = True
        answer_index[row, : len(given)] = torch.arange(split, end)
        targets[row, : len(wanted)] = torch.tensor(wanted)
        target_mask[row, : len(wanted)] = True
        if not example.spans:
            starts[row, 0] = ends[row, 0] = True
        for first, last in example.spans:
            starts[row, offset + first] = ends[row, offset + last] = True
            steps = torch.arange(min(last - first + 1, len(wanted)))
            pointer_targets[row, steps, offset + first + steps] = True

    lengths = torch.tensor([len(p) + len(a) for p, a in zip(prefixes, inputs, strict=True)])
    splits = torch.tensor([len(p) for p in prefixes])
    return ReaderBatch(
        token_ids=token_ids,
        positions=positions,
        mask=_prefix_mask(splits, lengths, width),
        copyable=copyable,
        starts=starts,
        ends=ends,
        answer_index=answer_index,
        targets=targets,
        target_mask=target_mask,
        pointer_targets=pointer_targets,
    )


def _prefix_mask(splits: torch.Tensor, lengths: torch.Tensor, width: int) -> torch.Tensor:
    from generator.model.masks import prefix_visibility

    return prefix_visibility(splits, lengths, width)


def _rounded(size: int, step: int) -> int:
    """`size` rounded up to a multiple of `step`."""
    return -(-size // step) * step


def _is_boundary(text: str, at: int) -> bool:
    """Whether no word runs across the position."""
    return at in (0, len(text)) or not (text[at - 1].isalnum() and text[at].isalnum())
