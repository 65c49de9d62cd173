"""How good a reader is on held-out titles while it is being trained."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import torch

from generator.reader.architecture import Memory, ReaderModel
from generator.reader.spans import best_spans
from generator.reader.tokens import ReaderTokenizer
from generator.training.devices import to_device
from generator.training.examples import Example, ReaderBatch, collate
from generator.training.scoring import exact_match, word_f1

Loss = Callable[[ReaderModel, ReaderBatch], tuple[torch.Tensor, dict[str, float]]]


def validate(
    model: ReaderModel,
    tokenizer: ReaderTokenizer,
    examples: Sequence[tuple[Example, Sequence[str]]],
    *,
    loss: Loss,
    rows_per_batch: int = 16,
) -> dict[str, float]:
    """Mean loss; the span head's F1 and exact match in percent; and how the null fares at even odds.

    Texts are compared as decoded word pieces, so casing and spacing play no part.
    """
    order = sorted(examples, key=lambda pair: len(pair[0].passage_ids))
    total_loss, f1, exact, alarms, recalled, answerable = 0.0, 0.0, 0.0, 0, 0, 0
    for begin in range(0, len(order), rows_per_batch):
        rows = order[begin : begin + rows_per_batch]
        batch = collate([example for example, _ in rows], tokenizer, model.config)
        batch = to_device(batch, model.transformer.device)
        total_loss += float(loss(model, batch)[0])
        answers, says_null = _read(model, tokenizer, [example for example, _ in rows], batch)
        for (example, references), answer, null in zip(rows, answers, says_null, strict=True):
            if not example.spans:
                recalled += null
                continue
            answerable += 1
            alarms += null
            wanted = [tokenizer.decode(tokenizer.encode(reference).ids) for reference in references]
            f1 += word_f1(answer, wanted)
            exact += exact_match(answer, wanted)
    return {
        "loss": total_loss / max(len(order), 1),
        "f1": 100 * f1 / max(answerable, 1),
        "exact_match": 100 * exact / max(answerable, 1),
        "false_alarms": 100 * alarms / max(answerable, 1),
        "abstention_recall": 100 * recalled / max(len(order) - answerable, 1),
    }


def _read(
    model: ReaderModel, tokenizer: ReaderTokenizer, examples: Sequence[Example], batch: ReaderBatch
) -> tuple[list[str], list[bool]]:
    """Each row's best span as text, and whether its null scores higher."""
    hidden = model.transformer(batch.token_ids, positions=batch.positions, mask=batch.mask)
    width = batch.copyable.shape[1]
    memory = Memory(hidden[:, :width], batch.token_ids[:, :width], batch.copyable)
    start, end = model.span_scores(memory)
    scores, first, last = best_spans(start, end, count=1, max_tokens=model.config.max_answer_tokens)
    null = start[:, 0] + end[:, 0]
    answers = []
    for row, example in enumerate(examples):
        offset = tokenizer.passage_start(len(example.question_ids))
        ids = example.passage_ids[int(first[row, 0]) - offset : int(last[row, 0]) - offset + 1]
        answers.append(tokenizer.decode(ids))
    return answers, (null > scores[:, 0]).tolist()
