"""The questions that the reader is measured on, and the proof that it was not trained on them."""

from __future__ import annotations

import json
import random
from collections.abc import Iterator, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

from generator.training.records import held_out
from ragserve.evaluation.records import EvalQuestion, parse_question

TRAINED_ON = ("squad_v1_train.jsonl", "qa_train.jsonl")
SEARCH_QUESTIONS = "qed_nq"
_DEFAULT_SHARE = 0.05  # of the readers whose config.json does not say


def squad_development(data: Path, *, count: int) -> list[EvalQuestion]:
    """`count` answerable and as many unanswerable questions of SQuAD 2.0's development set."""
    questions = [_question(record) for record in _records(data / "squad_v2_dev_20articles.jsonl")]
    rng = random.Random(0)
    chosen = []
    for answerable in (True, False):
        kind = [question for question in questions if question.answerable is answerable]
        chosen += rng.sample(kind, min(count, len(kind)))
    return chosen


def squad_paragraphs(data: Path) -> list[str]:
    """Every paragraph of that set."""
    records = _records(data / "squad_v2_dev_20articles.jsonl")
    return list(dict.fromkeys(record["passage"] for record in records))


def search_questions(data: Path, training: Mapping[str, Any], *, count: int) -> list[EvalQuestion]:
    """Questions people typed into a search engine (QED), of titles that the reader's training held out.

    `training` is what the reader's config.json says of it. One whose wording or passage is also in a training
    question, under whatever title, is left out.
    """
    shares = training.get("held_out", {})
    default = shares.get("default", _DEFAULT_SHARE)
    unseen, seen = [], set()
    for name in TRAINED_ON:
        for record in _records(data / name):
            if not held_out(record["title"], shares.get(record["source"], default)):
                seen.update((_key(record["question"]), _key(record["passage"])))
            elif record["source"] == SEARCH_QUESTIONS:
                unseen.append(record)
    clean = [r for r in unseen if seen.isdisjoint((_key(r["question"]), _key(r["passage"])))]
    questions = [_question(record) for record in clean]
    return random.Random(0).sample(questions, min(count, len(questions)))


def crowd(data: Path, *, wanted: list[str], count: int) -> list[str]:
    """The wanted passages and others of the same kind of text, `count` in all unless more are wanted."""
    passages = dict.fromkeys([*squad_paragraphs(data), *wanted])
    for record in _records(data / "qa_train_passages.jsonl"):
        if len(passages) >= count:
            break
        passages[record["text"]] = None
    return list(passages)


def numbered(questions: list[EvalQuestion]) -> list[EvalQuestion]:
    """The same with ids that are unique over several sets."""
    return [replace(question, id=f"{number}-{question.id}") for number, question in enumerate(questions)]


def _question(record: Mapping[str, Any]) -> EvalQuestion:
    return parse_question(record, where=str(record.get("id")), default_id="")


def _records(path: Path) -> Iterator[dict[str, Any]]:
    with path.open(encoding="utf-8") as file:
        yield from map(json.loads, file)


def _key(text: str) -> str:
    return " ".join(text.lower().split())
