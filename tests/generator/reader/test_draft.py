from __future__ import annotations

import pytest
import torch

from generator.cache.kv_cache import KVCache
from generator.reader.architecture import Memory, ReaderModel
from generator.reader.draft import Draft, Reading, propose, read_windows, verify
from generator.reader.spans import best_spans
from generator.reader.tokens import ReaderTokenizer, Tokens
from generator.reader.windows import Window

QUESTION = "where is the blue boat"
TEXTS = [
    "the blue boat is in the harbour",
    "the red road",
    "a captain of the island pays 42 pounds in a blue boat",
]


@pytest.fixture(scope="module")
def passages(tokenizer: ReaderTokenizer) -> list[Tokens]:
    return tokenizer.encode_batch(TEXTS)


@pytest.fixture(scope="module")
def reading(model: ReaderModel, tokenizer: ReaderTokenizer, passages: list[Tokens]) -> Reading:
    windows = [Window(i, 0, len(tokens)) for i, tokens in enumerate(passages)]
    return read_windows(model, tokenizer, tokenizer.encode(QUESTION).ids, passages, windows)


def decode_step_by_step(
    model: ReaderModel, tokenizer: ReaderTokenizer, tokens: Tokens, draft: Draft
) -> float:
    """Log probability of a draft, generated a token at a time without batch or shared cache."""
    prefix = tokenizer.prefix(tokenizer.encode(QUESTION).ids, tokens.ids)
    cache = KVCache.from_model_config(model.config.model, 1, len(prefix) + 16)
    both_ways = torch.ones(1, 1, 1, len(prefix), dtype=torch.bool)
    hidden = model.transformer(torch.tensor([prefix]), mask=both_ways, cache=cache)
    copyable = torch.zeros(1, len(prefix), dtype=torch.bool)
    copyable[:, len(prefix) - 1 - len(tokens) : len(prefix) - 1] = True
    memory = Memory(hidden, torch.tensor([prefix]), copyable)
    total, given = 0.0, tokenizer.mask_id
    for step, wanted in enumerate([*tokens.ids[draft.first : draft.last + 1], tokenizer.sep_id]):
        position = torch.tensor([[model.config.max_prefix_tokens + step]])
        state = model.transformer(torch.tensor([[given]]), positions=position, cache=cache)
        total += float(model.next_token_log_probs(state, memory)[0, 0, wanted])
        given = wanted
    return total


@torch.inference_mode()
def test_a_draft_scores_what_decoding_it_token_by_token_gives(
    model: ReaderModel, tokenizer: ReaderTokenizer, passages: list[Tokens], reading: Reading
) -> None:
    drafts = propose(reading, passages, count=6, max_tokens=5)
    assert len({draft.passage for draft in drafts}) > 1
    for draft in verify(model, tokenizer, reading, passages, drafts):
        expected = decode_step_by_step(model, tokenizer, passages[draft.passage], draft)
        assert draft.log_prob == pytest.approx(expected, abs=2e-4)
        assert draft.num_tokens == draft.last - draft.first + 2


@torch.inference_mode()
def test_the_mixture_is_a_distribution_and_agrees_with_the_score_of_single_tokens(
    model: ReaderModel, reading: Reading
) -> None:
    hidden = torch.randn(len(reading.windows), 3, model.config.model.hidden_size)
    whole = model.next_token_log_probs(hidden, reading.memory)
    assert whole.exp().sum(-1).allclose(torch.ones(()), atol=1e-5)
    targets = torch.randint(0, model.config.model.vocab_size, hidden.shape[:2])
    pointer = model.pointer_log_probs(hidden, reading.memory)
    single = model.token_log_probs(hidden, targets, reading.memory, pointer)
    assert single.allclose(whole.gather(-1, targets[..., None]).squeeze(-1), atol=1e-4)


def test_a_passage_scores_the_same_alone_and_beside_longer_ones(
    model: ReaderModel, tokenizer: ReaderTokenizer, passages: list[Tokens], reading: Reading
) -> None:
    question = tokenizer.encode(QUESTION).ids
    for index, tokens in enumerate(passages):
        alone = read_windows(model, tokenizer, question, passages, [Window(index, 0, len(tokens))])
        width = alone.start.shape[1]
        assert alone.start[0].allclose(reading.start[index, :width], atol=1e-5)
        assert float(alone.null[0]) == pytest.approx(float(reading.null[index]), abs=1e-5)


def test_drafts_stay_in_the_passage_and_come_best_first_without_repeats(
    passages: list[Tokens], reading: Reading
) -> None:
    drafts = propose(reading, passages, count=20, max_tokens=4)
    assert len({(d.passage, d.first, d.last) for d in drafts}) == len(drafts) == 20
    assert [d.margin for d in drafts] == sorted((d.margin for d in drafts), reverse=True)
    assert all(0 <= d.first <= d.last < len(passages[d.passage]) for d in drafts)


def test_a_drafts_margin_is_its_odds_against_its_own_passages_null(
    passages: list[Tokens], reading: Reading
) -> None:
    drafts = [
        d for d in propose(reading, passages, count=40, max_tokens=4) if not d.passage
    ]  # of whole words
    assert len(drafts) > 5
    for draft in drafts:
        shift = reading.passage_start
        span = reading.start[draft.row, draft.first + shift] + reading.end[draft.row, draft.last + shift]
        null = reading.start[draft.row, 0] + reading.end[draft.row, 0]
        assert draft.margin == pytest.approx(float(span - null), abs=1e-5)


def test_drafts_never_cut_a_word(model: ReaderModel, tokenizer: ReaderTokenizer) -> None:
    passages = tokenizer.encode_batch(["zyxwv utsrq ponml kjihg"])  # spelled letter by letter
    reading = read_windows(model, tokenizer, tokenizer.encode("who").ids, passages, [Window(0, 0, 20)])
    for draft in propose(reading, passages, count=10, max_tokens=3):
        assert draft.first % 5 == 0
        assert draft.last % 5 == 4


def test_punctuation_alone_is_no_answer(model: ReaderModel, tokenizer: ReaderTokenizer) -> None:
    passages = tokenizer.encode_batch(["... boat !? ,,"])
    reading = read_windows(model, tokenizer, tokenizer.encode("who").ids, passages, [Window(0, 0, 8)])
    drafts = propose(reading, passages, count=40, max_tokens=8)
    assert drafts
    assert all(d.first <= 3 <= d.last for d in drafts)


def test_an_answer_is_of_one_paragraph(model: ReaderModel, tokenizer: ReaderTokenizer) -> None:
    passages = tokenizer.encode_batch(["blue boat\n\nred road\ngreen island"])
    reading = read_windows(model, tokenizer, tokenizer.encode("who").ids, passages, [Window(0, 0, 6)])
    drafts = {(d.first, d.last) for d in propose(reading, passages, count=40, max_tokens=8)}
    assert (0, 1) in drafts
    assert (2, 5) in drafts
    assert not any(first < 2 <= last for first, last in drafts)


def test_best_spans_are_those_of_a_full_enumeration() -> None:
    generator = torch.Generator().manual_seed(3)
    start, end = torch.randn(2, 4, 9, generator=generator)
    scores, first, last = best_spans(start, end, count=5, max_tokens=3)
    for row in range(4):
        every = [
            (float(start[row, i] + end[row, j]), i, j) for i in range(1, 9) for j in range(i, min(i + 3, 9))
        ]
        expected = sorted(every, reverse=True)[:5]
        found = list(zip(scores[row].tolist(), first[row].tolist(), last[row].tolist(), strict=True))
        assert [(i, j) for _, i, j in found] == [(i, j) for _, i, j in expected]
        assert [s for s, _, _ in found] == pytest.approx([s for s, _, _ in expected])
