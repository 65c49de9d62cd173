"""Write the tables of configuration keys in docs/training.md from the dataclasses that read them.

python -m generator.training.reference docs/training.md
"""

from __future__ import annotations

import inspect
import re
import sys
import typing
from collections.abc import Mapping
from dataclasses import MISSING, Field, fields, is_dataclass
from pathlib import Path
from typing import Any, Literal

from generator.training.causal_config import CausalLMConfig, GroundedPromptConfig, LoraConfig
from generator.training.config import OptimizerConfig, RunConfig
from generator.training.grounded_config import GroundedQAConfig, LossConfig, Stage, UnanswerableConfig

TABLES: dict[str, type] = {
    "run": RunConfig,
    "optimizer": OptimizerConfig,
    "task, kind causal-lm": CausalLMConfig,
    "task.lora": LoraConfig,
    "task.grounded": GroundedPromptConfig,
    "task, kind grounded-qa": GroundedQAConfig,
    "task.stages": Stage,
    "task.unanswerable": UnanswerableConfig,
    "task.losses": LossConfig,
}
_BLOCK = re.compile(r"(<!-- begin (?P<name>[^>]+) -->\n)(?P<body>.*?)(<!-- end (?P=name) -->)", re.DOTALL)


def regenerated(page: str) -> str:
    """The page with each block between `begin NAME` and `end NAME` written anew."""
    return _BLOCK.sub(lambda match: f"{match[1]}\n{table(TABLES[match['name']])}\n{match[4]}", page)


def table(kind: type) -> str:
    """Key, type, default and meaning of each field; the meaning is the comment behind it."""
    comments = _comments(kind)
    hints = typing.get_type_hints(kind)
    rows = ["| Key | Type | Default | Meaning |", "| --- | --- | --- | --- |"]
    for field in fields(kind):
        shown = _type(hints[field.name])
        rows.append(f"| `{field.name}` | {shown} | {_default(field)} | {comments.get(field.name, '')} |")
    return "\n".join(rows) + "\n"


def _comments(kind: type) -> dict[str, str]:
    found = re.findall(r"^ {4}(\w+): .*?  # (.*)$", inspect.getsource(kind), re.MULTILINE)
    return {name: comment.replace("|", "\\|") for name, comment in found}


def _type(hint: Any) -> str:
    origin, arguments = typing.get_origin(hint), typing.get_args(hint)
    if origin is Literal:
        return ", ".join(f"`{value}`" for value in arguments)
    if is_dataclass(hint) or origin is Mapping:
        return "table"
    if origin is tuple:
        return "list of tables" if is_dataclass(arguments[0]) else "list"
    if arguments:  # X | None
        return _type(arguments[0])
    return {str: "text", bool: "true or false", int: "whole number", float: "number"}[hint]


def _default(field: Field[Any]) -> str:
    if field.default_factory is not MISSING:
        return ""
    if field.default is MISSING:
        return "required"
    if field.default is None:
        return ""
    if isinstance(field.default, bool):
        return f"`{str(field.default).lower()}`"
    if isinstance(field.default, tuple):
        return "`[" + ", ".join(_toml(item) for item in field.default) + "]`"
    return f"`{_toml(field.default)}`"


def _toml(value: Any) -> str:
    return f'"{value}"' if isinstance(value, str) else str(value)


def main() -> int:
    """Rewrite the page named on the command line."""
    page = Path(sys.argv[1])
    page.write_text(regenerated(page.read_text(encoding="utf-8")), encoding="utf-8")
    return 0


if __name__ == "__main__":
    sys.exit(main())
