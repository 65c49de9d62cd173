"""Rows for a causal language model: token ids, and from where on they are learned."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

from generator.chat import Message
from generator.errors import InvalidTokenizer
from generator.tokenizer import Tokenizer
from generator.training.errors import InvalidTrainingData
from generator.training.records import read_jsonl

_NAME_CHARACTERS = 60
_ROLES = ("system", "user", "assistant")


@dataclass(frozen=True, slots=True)
class Row:
    """`token_ids` of which those from `num_given` on are learned; `name` is for people."""

    token_ids: list[int]
    num_given: int
    name: str

    @property
    def num_targets(self) -> int:
        """Tokens that are learned."""
        return len(self.token_ids) - self.num_given


@dataclass(frozen=True, slots=True)
class CausalBatch:
    """Right-padded rows: inputs, what follows each, and where that counts."""

    token_ids: torch.Tensor  # (B, T)
    targets: torch.Tensor  # (B, T)
    target_mask: torch.Tensor  # (B, T) bool


def collate_rows(rows: Sequence[Row]) -> CausalBatch:
    """Pad rows into one batch. A padded token comes last, so no causal attention ever sees it."""
    width = max(len(row.token_ids) for row in rows) - 1
    token_ids, targets = (torch.zeros(len(rows), width, dtype=torch.long) for _ in range(2))
    target_mask = torch.zeros(len(rows), width, dtype=torch.bool)
    for index, row in enumerate(rows):
        ids = torch.tensor(row.token_ids)
        token_ids[index, : len(ids) - 1] = ids[:-1]
        targets[index, : len(ids) - 1] = ids[1:]
        target_mask[index, row.num_given - 1 : len(ids) - 1] = True
    return CausalBatch(token_ids, targets, target_mask)


class RowMaker:
    """Turns the records of jsonl files into rows; counts the ones that are too long.

    Completions end with the tokenizer's end token, or where it names none with one of `end_token_ids`.
    """

    def __init__(
        self, tokenizer: Tokenizer, *, max_tokens: int, end_token_ids: frozenset[int] = frozenset()
    ) -> None:
        self.tokenizer = tokenizer
        self.max_tokens = max_tokens
        self.num_left_out = 0
        self.end = sorted(tokenizer.eos_token_ids or end_token_ids)[:1]

    def read(self, path: Path) -> Iterator[tuple[str, Row]]:
        """(text of the record, row) for each line's rows; the record's text decides what is held out."""
        for where, record in read_jsonl(path):
            for row in self.rows(record, where):
                yield str(record), row

    def rows(self, record: Mapping[str, Any], where: str) -> list[Row]:
        """The rows of a record: of a text its pieces, of a conversation each turn of the assistant."""
        kinds = [kind for kind in ("text", "prompt", "messages") if kind in record]
        if len(kinds) != 1:
            raise InvalidTrainingData(
                f"{where}: the record has {' and '.join(map(repr, kinds)) or 'none of the known fields'}.",
                hint="Give each line 'text', or 'prompt' with 'completion', or 'messages'.",
            )
        if kinds == ["text"]:
            return self._pieces(_text(record, "text", where))
        if kinds == ["prompt"]:
            prompt, completion = _text(record, "prompt", where), _text(record, "completion", where)
            row = self.answered(self.tokenizer.encode(prompt), completion, prompt)
            return [] if row is None else [row]
        return self._turns(_messages(record, where), where)

    def answered(self, prompt_ids: list[int], completion: str, name: str) -> Row | None:
        """A row whose completion is learned; None, and counted, where it is too long."""
        ids = [*prompt_ids, *self.tokenizer.encode(completion, add_special_tokens=False), *self.end]
        if len(ids) > self.max_tokens or not prompt_ids:
            self.num_left_out += 1
            return None
        return Row(ids, len(prompt_ids), _short(name))

    def _pieces(self, text: str) -> list[Row]:
        """Neighbouring pieces share a token, so that each token but the first is learned once."""
        ids = [*self.tokenizer.encode(text), *self.end]
        step = self.max_tokens - 1
        pieces = [ids[begin : begin + self.max_tokens] for begin in range(0, max(1, len(ids) - 1), step)]
        return [Row(piece, 1, _short(text)) for piece in pieces if len(piece) > 1]

    def _turns(self, messages: list[Message], where: str) -> list[Row]:
        rows = []
        for index, message in enumerate(messages):
            if message["role"] == "assistant" and index:
                try:
                    prompt = self.tokenizer.apply_chat_template(messages[:index])
                except InvalidTokenizer as error:
                    raise InvalidTrainingData(
                        f"{where}: the field 'messages' needs a chat template, and the tokenizer has none.",
                        hint="Use 'prompt' and 'completion', or add chat_template.jinja.",
                    ) from error
                rows.append(self.answered(prompt, message["content"], messages[index - 1]["content"]))
        if not rows:
            raise InvalidTrainingData(f"{where}: the field 'messages' has no answer of the assistant.")
        return [row for row in rows if row is not None]


def _text(record: Mapping[str, Any], key: str, where: str) -> str:
    value = record.get(key)
    if not isinstance(value, str) or not value.strip():
        raise InvalidTrainingData(f"{where}: the field {key!r} is no text.")
    return value


def _messages(record: Mapping[str, Any], where: str) -> list[Message]:
    value = record["messages"]
    if not isinstance(value, list) or not all(
        isinstance(item, dict) and item.get("role") in _ROLES and isinstance(item.get("content"), str)
        for item in value
    ):
        raise InvalidTrainingData(
            f"{where}: the field 'messages' is no list of turns.",
            hint=f"Each turn is an object with 'role' ({', '.join(_ROLES)}) and 'content'.",
        )
    return [Message(role=item["role"], content=item["content"]) for item in value]


def _short(text: str) -> str:
    line = " ".join(text.split())
    return line if len(line) <= _NAME_CHARACTERS else line[: _NAME_CHARACTERS - 1] + "…"
