"""Where `query` gets its questions from: the command line, a file, or stdin; never more than fits."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from pathlib import Path

from ragserve.errors import EmptyQuestion, InvalidRequest, PathNotFound, QuestionTooLong

_MAX_FILE_BYTES = 16 * 1024 * 1024


def read_questions(given: Sequence[str], file: str | None, *, max_chars: int) -> list[str]:
    """Returns the questions to answer, in order.

    In `given`, "-" stands for one question on stdin. `file` has one question a line; empty lines and those
    that begin with # do not count. Raises EmptyQuestion without any question.
    """
    questions = [_from_stdin(max_chars) if question == "-" else question for question in given]
    if file is not None:
        if file == "-" and "-" in given:
            raise InvalidRequest("Both a question and --file ask for stdin.", hint="Use - once.")
        lines = (line.strip() for line in _read_file(file).splitlines())
        questions += [line for line in lines if line and not line.startswith("#")]
        if not questions:
            raise EmptyQuestion(f"{file} holds no question.", hint="Write one question a line.")
    if not questions:
        raise EmptyQuestion("There is no question.", hint='Give one: ragserve query "What is ...?"')
    return questions


def _from_stdin(max_chars: int) -> str:
    data = sys.stdin.buffer.read(4 * max_chars + 1)  # a character is at most four bytes
    text = data.decode("utf-8", "replace")
    if len(text) > max_chars or len(data) > 4 * max_chars:
        raise QuestionTooLong(
            f"The question on stdin is longer than {max_chars:,} characters.",
            hint="Ask a shorter one; documents are ingested, not asked.",
        )
    return text


def _read_file(file: str) -> str:
    if file == "-":
        data = sys.stdin.buffer.read(_MAX_FILE_BYTES + 1)
    else:
        path = Path(file)
        if not path.exists() or path.is_dir():  # a pipe will do: --file <(grep ... questions.txt)
            raise PathNotFound(f"There is no file {file}.", hint="Check the spelling.")
        with path.open("rb") as stream:
            data = stream.read(_MAX_FILE_BYTES + 1)
    if len(data) > _MAX_FILE_BYTES:
        raise QuestionTooLong(f"{file} is larger than 16 MB.", hint="Ask its questions in smaller files.")
    return data.decode("utf-8-sig", "replace")
