"""Grounded questions from jsonl: a question, a passage, the answers as they stand in it."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from generator.training.errors import InvalidTrainingData


@dataclass(frozen=True, slots=True)
class GroundedQuestion:
    """A question before it is cut and tokenised; passages are indices into `QuestionSet.passages`."""

    source: str
    title: str
    question: str
    answers: tuple[str, ...]
    passage: int
    hard_negatives: tuple[int, ...] = ()  # passages that look right and do not hold the answer


@dataclass(slots=True)
class QuestionSet:
    """Questions with their passages, each text kept once."""

    questions: list[GroundedQuestion] = field(default_factory=list)
    passages: list[str] = field(default_factory=list)
    passages_by_title: dict[str, list[int]] = field(default_factory=dict)
    _index: dict[str, int] = field(default_factory=dict)

    def intern(self, text: str, title: str) -> int:
        """The passage's index; new text is added."""
        known = self._index.get(text)
        if known is None:
            known = self._index[text] = len(self.passages)
            self.passages.append(text)
            self.passages_by_title.setdefault(title, []).append(known)
        return known

    def read_questions(
        self, path: Path, negatives: Mapping[str, list[tuple[str, str]]] | None = None
    ) -> None:
        """Add the answerable questions of a jsonl file whose answer stands in their passage.

        `negatives` maps a question's id to (title, text) of hard negative passages.
        """
        before = len(self.questions)
        for where, record in read_jsonl(path):
            question, passage = _text(record, "question", where), _text(record, "passage", where)
            answers = record.get("answers")
            if not isinstance(answers, list) or not all(isinstance(answer, str) for answer in answers):
                raise InvalidTrainingData(f"{where}: the field 'answers' is no list of texts.")
            found = tuple(answer for answer in answers if answer.strip() and answer in passage)
            if not found or not record.get("answerable", True):
                continue
            title = str(record.get("title") or "")
            hard = (negatives or {}).get(str(record.get("id")), [])
            self.questions.append(
                GroundedQuestion(
                    source=str(record.get("source") or path.stem),
                    title=title,
                    question=question,
                    answers=found,
                    passage=self.intern(passage, title),
                    hard_negatives=tuple(self.intern(text, other) for other, text in hard),
                )
            )
        if len(self.questions) == before:
            raise InvalidTrainingData(f"{path} holds no question whose answer stands in its passage.")


def read_hard_negatives(references: Path, passages: Path) -> dict[str, list[tuple[str, str]]]:
    """(title, text) of each question's hard negatives, by question id, from a references + passages pair."""
    texts: dict[int, tuple[str, str]] = {}
    for where, record in read_jsonl(passages):
        texts[_integer(record, "pid", where)] = (str(record.get("title") or ""), _text(record, "text", where))
    negatives: dict[str, list[tuple[str, str]]] = {}
    for where, record in read_jsonl(references):
        ids = record.get("hard_neg")
        if not isinstance(ids, list) or not all(isinstance(pid, int) and pid in texts for pid in ids):
            raise InvalidTrainingData(f"{where}: the field 'hard_neg' names passages that do not exist.")
        negatives[str(record.get("id"))] = [texts[pid] for pid in ids]
    return negatives


def read_jsonl(path: Path) -> Iterator[tuple[str, dict[str, Any]]]:
    """("file, line n", object) of each line; a malformed line is an error that names it."""
    try:
        file = path.open("rb")
    except OSError as error:
        raise InvalidTrainingData(f"{path} cannot be read: {error.strerror}.") from error
    with file:
        for number, line in enumerate(file, start=1):
            where = f"{path}, line {number}"
            try:
                record = json.loads(line)
            except (ValueError, RecursionError) as error:
                raise InvalidTrainingData(
                    f"{where} is not JSON: {error}.", hint="Each line is one JSON object in UTF-8."
                ) from error
            if not isinstance(record, dict):
                raise InvalidTrainingData(f"{where} is no JSON object.")
            yield where, record


def held_out(title: str, share: float) -> bool:
    """Whether everything under a title belongs to validation: a stable choice by the title's hash."""
    digest = hashlib.sha256(title.encode()).digest()
    return int.from_bytes(digest[:8], "big") < share * 2**64


def _text(record: Mapping[str, Any], key: str, where: str) -> str:
    value = record.get(key)
    if not isinstance(value, str) or not value.strip():
        raise InvalidTrainingData(f"{where}: the field {key!r} is no text.")
    return value


def _integer(record: Mapping[str, Any], key: str, where: str) -> int:
    value = record.get(key)
    if not isinstance(value, int):
        raise InvalidTrainingData(f"{where}: the field {key!r} is no integer.")
    return value
