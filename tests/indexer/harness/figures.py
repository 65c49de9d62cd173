"""Figures into docs/reliability.md, between the markers of the harness that found them."""

from __future__ import annotations

import os
import platform
import time
from collections.abc import Sequence
from pathlib import Path

PAGE = Path(__file__).parents[3] / "docs" / "reliability.md"


def record(harness: str, lines: Sequence[str], *, page: Path = PAGE) -> None:
    """Replace what stands between the harness's markers: the date, the machine and the lines."""
    begin, end = f"<!-- {harness}: begin -->\n", f"<!-- {harness}: end -->"
    text = page.read_text(encoding="utf-8")
    before, found, rest = text.partition(begin)
    _, closed, after = rest.partition(end)
    if not found or not closed:
        raise ValueError(f"{page} has no markers for {harness}.")
    body = "\n".join([f"{time.strftime('%Y-%m-%d')}, {machine()}.", "", *lines])
    page.write_text(f"{before}{begin}\n{body}\n\n{end}{after}", encoding="utf-8")


def machine() -> str:
    """Processor and cores."""
    model = platform.processor() or platform.machine()
    try:
        cpuinfo = Path("/proc/cpuinfo").read_text(encoding="utf-8")
        names = (line.partition(":")[2] for line in cpuinfo.splitlines() if line.startswith("model name"))
        model = next(names, model).strip()
    except OSError:
        pass  # not Linux: the platform module's word has to do
    return f"{os.cpu_count()} cores of {model}, Python {platform.python_version()}"
