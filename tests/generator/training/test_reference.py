from __future__ import annotations

import tomllib
from dataclasses import fields
from pathlib import Path

import pytest

from generator.training.causal_config import CausalLMConfig
from generator.training.config import parse_dataclass
from generator.training.reference import TABLES, regenerated, table

PAGE = Path(__file__).parents[3] / "docs" / "training.md"


def test_the_page_has_a_table_of_every_key() -> None:
    page = PAGE.read_text(encoding="utf-8")
    assert [f"<!-- begin {name} -->" in page for name in TABLES] == [True] * len(TABLES)
    assert regenerated(page) == page, "run: python -m generator.training.reference docs/training.md"


@pytest.mark.parametrize("name", TABLES)
def test_every_key_says_what_it_means(name: str) -> None:
    rows = table(TABLES[name]).splitlines()[2:]
    assert len(rows) == len(fields(TABLES[name]))
    for row in rows:
        key, kind, _, meaning = (cell.strip() for cell in row.strip("|").split(" | "))
        assert kind, key
        assert meaning, key


def test_the_example_is_a_valid_configuration() -> None:
    page = PAGE.read_text(encoding="utf-8")
    example = tomllib.loads(page.split("```toml\n")[1].split("```")[0])
    parsed = parse_dataclass(CausalLMConfig, example["task"], where="task")
    assert parsed.lora is not None
    assert parsed.lora.rank == 16
