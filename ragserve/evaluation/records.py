"""Questions to evaluate on, from jsonl: one object a line, under the names that public sets use.

| value | fields | form |
| --- | --- | --- |
| question | `question`, `query` | text |
| id | `id`, `_id`, `qid` | text or number; else the line's number |
| answers | `answers`, `answer`, `short_answers` | text, list of texts, or SQuAD's `{"text": [...]}` |
| answerable | `answerable`, the opposite `is_impossible` | true or false; else whether there are answers |
| own passages | `passages`, `passage`, `contexts`, `context` | text, or list of texts or `{"id", "text"}` |
| gold file | `uri`, `uri_suffix`, `document`, `documents` | end of a path, or list of them |
| gold page | `page` | whole number, from 1 |

The first name that a record has counts; null is the same as absent; any other field is ignored.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ragserve.errors import RagserveError

_QUESTION = ("question", "query")
_ID = ("id", "_id", "qid")
_ANSWERS = ("answers", "answer", "short_answers")
_PASSAGES = ("passages", "passage", "contexts", "context")
_DOCUMENTS = ("uri", "uri_suffix", "document", "documents")


class InvalidQuestions(RagserveError):
    """A file of questions is not readable, or a line of it does not have the documented form."""

    code = "invalid-questions"


@dataclass(frozen=True, slots=True)
class EvalQuestion:
    """A question and what is known of its answer. `answerable` None: nothing is known."""

    id: str
    question: str
    answers: tuple[str, ...] = ()
    answerable: bool | None = None
    passages: tuple[str, ...] = ()  # the question's own; the gold ones where an index is searched
    documents: tuple[str, ...] = ()  # ends of the paths of the files that hold the answer
    page: int | None = None


def read_questions(path: Path) -> list[EvalQuestion]:
    """All questions of a jsonl file, ids unique. Raises InvalidQuestions, which names line and field."""
    questions: list[EvalQuestion] = []
    first_line: dict[str, int] = {}
    for number, record in _lines(path):
        where = f"{path}, line {number}"
        question = parse_question(record, where=where, default_id=str(number))
        if question.id in first_line:
            raise InvalidQuestions(
                f"{where}: the field 'id' is {question.id!r}, as in line {first_line[question.id]}.",
                hint="Ids tell questions apart when runs are compared; leave them out to use line numbers.",
            )
        first_line[question.id] = number
        questions.append(question)
    if not questions:
        raise InvalidQuestions(f"{path} holds no question.", hint='Write one a line: {"question": "..."}')
    return questions


def parse_question(record: Mapping[str, Any], *, where: str, default_id: str) -> EvalQuestion:
    """One record by the table in this module's docstring."""
    name, text = _first(record, _QUESTION)
    if not isinstance(text, str) or not text.strip():
        raise _wrong(where, name, "must be a text that is not empty")
    answers = _answers(record, where)
    return EvalQuestion(
        id=_id(record, where, default_id),
        question=text,
        answers=answers,
        answerable=_answerable(record, answers, where),
        passages=_texts(record, _PASSAGES, where, member="text"),
        documents=_texts(record, _DOCUMENTS, where),
        page=_page(record, where),
    )


def _lines(path: Path) -> Iterator[tuple[int, Mapping[str, Any]]]:
    try:
        with path.open("rb") as file:
            for number, line in enumerate(file, start=1):
                if line.strip():
                    yield number, _object(line, f"{path}, line {number}")
    except OSError as error:
        raise InvalidQuestions(f"{path} cannot be read: {error.strerror}.", hint="Check the path.") from error


def _object(line: bytes, where: str) -> Mapping[str, Any]:
    hint = "Every line must be one JSON object in UTF-8."
    try:
        record = json.loads(line.decode("utf-8-sig"))
    except (ValueError, RecursionError) as error:
        raise InvalidQuestions(f"{where} is not JSON: {error}.", hint=hint) from error
    if not isinstance(record, dict):
        raise InvalidQuestions(f"{where} is no JSON object.", hint=hint)
    return record


def _first(record: Mapping[str, Any], names: Sequence[str]) -> tuple[str, Any]:
    """The first of `names` that the record has, with its value; the first name and None without any."""
    return next(((name, record[name]) for name in names if record.get(name) is not None), (names[0], None))


def _id(record: Mapping[str, Any], where: str, default: str) -> str:
    name, value = _first(record, _ID)
    if value is None:
        return default
    if isinstance(value, bool) or not isinstance(value, str | int):
        raise _wrong(where, name, "must be a text or a number")
    return str(value)


def _answers(record: Mapping[str, Any], where: str) -> tuple[str, ...]:
    name, value = _first(record, _ANSWERS)
    if isinstance(value, dict):
        record = {name: value.get("text")}
    return _texts(record, (name,), where)


def _answerable(record: Mapping[str, Any], answers: tuple[str, ...], where: str) -> bool | None:
    for name, turned in (("answerable", False), ("is_impossible", True)):
        value = record.get(name)
        if value is None:
            continue
        if not isinstance(value, bool):
            raise _wrong(where, name, "must be true or false")
        answerable = value is not turned
        if answers and not answerable:
            return False  # SQuAD 2.0 lists plausible answers of some impossible questions
        return answerable
    known = any(record.get(name) is not None for name in _ANSWERS)
    return bool(answers) if known else None


def _texts(
    record: Mapping[str, Any], names: Sequence[str], where: str, *, member: str | None = None
) -> tuple[str, ...]:
    """A text or a list of texts; with `member`, objects that hold the text under that name as well."""
    name, value = _first(record, names)
    if value is None:
        return ()
    items = value if isinstance(value, list) else [value]
    if member is not None:
        items = [item.get(member) if isinstance(item, dict) else item for item in items]
    if not all(isinstance(item, str) for item in items):
        raise _wrong(where, name, "must be a text or a list of texts")
    return tuple(items)


def _page(record: Mapping[str, Any], where: str) -> int | None:
    value = record.get("page")
    if value is not None and (isinstance(value, bool) or not isinstance(value, int) or value < 1):
        raise _wrong(where, "page", "must be a whole number from 1")
    return value


def _wrong(where: str, name: str, expected: str) -> InvalidQuestions:
    return InvalidQuestions(
        f"{where}: the field {name!r} {expected}.", hint="docs/evaluation.md lists the fields."
    )
