"""Code, tables, settings and logs: text whose unit is the line, not the sentence."""

from __future__ import annotations

import re

_STRUCTURED = re.compile(
    r"""
      \S\ +\|\ +\S | ^\s*\|.*\|\s*$                   # cells of a table
    | \S\t+\S                                         # columns
    | [{};]\s*$ | ^\s*[}\])][,;)}\]]*\s*$             # braces
    | ^\s*"[^"\n]*"\s*:\s | "\s*,\s*$                 # JSON
    | ^\s*\[[\w.\ "-]+\]\s*$                          # a section of settings
    | ^\s*(?:export\s+)?["'\w.-]+(?:\s*:[^=]*)?\s*(?::=|[+-]?=)\s*\S  # an assignment
    | ^\s*[a-z_][\w.-]*:(?:\ +\S|\s*$)                 # YAML
    | ^\s*(?:CREATE|SELECT|INSERT|UPDATE|DELETE|ALTER|DROP|PRAGMA|FROM|WHERE|JOIN|VALUES)\ [\w(*]
    | ^\s+\w+\s+(?:TEXT|INTEGER|REAL|BLOB|VARCHAR|BOOLEAN|DATE|TIMESTAMP|NUMERIC)\b
    | ^\s*(?:def|class|func|fn|function|return|import|from|package|const|let|var|elif|else|for|if|while)\b.*
      [:({);]\s*$                                     # keywords of languages
    | ^\s*(?:return|import|package|const|let|var)\s+[\w."'(]+(?:\s+as\s+\w+)?\s*$
    | ^\s*@\w | ^\s*(?://|/\*|\*/|--\s|"{3})          # decorators, comments, docstrings
    | ^\d{4}-\d\d-\d\d[T\ ]\d\d:\d\d                  # a log
    """,
    re.VERBOSE,
)
_SHARE = 0.5
_NEIGHBOURS = 4  # lines looked at on either side


def structured_lines(text: str, start: int, end: int) -> tuple[int, int] | None:
    """[start, end) of the whole lines that the span touches, where they stand in code or a table; else None.

    A line alone may look like code by chance; half of it and its neighbours in the same block must.
    """
    first, last = text.rfind("\n", 0, start) + 1, text.find("\n", end)
    last = len(text) if last < 0 else last
    around = [*_before(text, first), *text[first:last].split("\n"), *_after(text, last)]
    looks = sum(bool(_STRUCTURED.search(line)) for line in around)
    if not any(map(str.strip, around)) or looks < _SHARE * len(around):
        return None
    touched = text[first:last]
    if touched.count("\n") == 0:  # the indentation of a single line says nothing
        first += len(touched) - len(touched.lstrip())
    return first, first + len(text[first:last].rstrip())


def _before(text: str, first: int) -> list[str]:
    block = text[max(0, first - 2000) : max(0, first - 1)].rpartition("\n\n")[2]
    return [line for line in block.split("\n") if line.strip()][-_NEIGHBOURS:] if first else []


def _after(text: str, last: int) -> list[str]:
    block = text[last + 1 : last + 2000].partition("\n\n")[0]
    return [line for line in block.split("\n") if line.strip()][:_NEIGHBOURS]
