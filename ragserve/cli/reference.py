"""Writes help texts and the table of settings into a page: `python -m ragserve.cli.reference docs/cli.md`.

What is between `<!-- begin NAME -->` and `<!-- end NAME -->` is generated, NAME being "ragserve", "ragserve
query" and so on, or "settings"; the rest of the page is written by hand.
"""

from __future__ import annotations

import io
import re
import sys
from contextlib import redirect_stdout
from pathlib import Path
from typing import Any

from ragserve.settings import Settings, declared_settings, value_of

_GENERATED = re.compile(r"(<!-- begin ([\w ]+) -->\n).*?(<!-- end \2 -->)", re.DOTALL)


def regenerated(page: str) -> str:
    """Returns a page with its generated parts made anew."""
    return _GENERATED.sub(lambda match: f"{match[1]}{_part(match[2])}{match[3]}", page)


def _part(name: str) -> str:
    if name == "settings":
        return _settings_table()
    return f"```text\n{help_text(name.split()[1:])}```\n"


def help_text(command: list[str]) -> str:
    """Returns what `ragserve COMMAND --help` prints."""
    from ragserve.cli.app import app

    printed = io.StringIO()
    with redirect_stdout(printed):
        try:
            app([*command, "--help"], prog_name="ragserve")
        except SystemExit:  # how --help ends
            return printed.getvalue()
    raise AssertionError("--help did not end the command")


def _settings_table() -> str:
    rows = ["| Key | Variable | Default | Meaning |", "| --- | --- | --- | --- |"]
    for key, declared in declared_settings().items():
        variable = "RAGSERVE_" + key.upper().replace(".", "_")
        default = _shown(value_of(Settings(), key))
        rows.append(f"| `{key}` | `{variable}` | {default} | {declared.about.help} |")
    return "\n".join(rows) + "\n"


def _shown(value: Any) -> str:
    if value is None or value == ():
        return "none"
    return f"`{str(value).lower() if isinstance(value, bool) else value}`"


if __name__ == "__main__":
    target = Path(sys.argv[1])
    target.write_text(regenerated(target.read_text(encoding="utf-8")), encoding="utf-8")
