"""Run a benchmark and keep what it printed in docs/benchmarks.md, dated, with the machine named.

    python benchmarks/record.py [--label LABEL] SCRIPT [ARGUMENT ...]
    python benchmarks/record.py --render

The output goes to the terminal as it comes. A script that succeeds ends with one JSON line; that line and
the printed figures are kept in benchmarks/results/SCRIPT.json, or SCRIPT.LABEL.json beside runs with other
arguments, and the page is written from all such files, so no figure on it was typed by hand. Absolute paths
among the arguments are shown by their last part.
"""

from __future__ import annotations

import ast
import json
import os
import platform
import subprocess
import sys
import time
from importlib.metadata import version
from pathlib import Path
from typing import Any

FOLDER = Path(__file__).parent
RESULTS = FOLDER / "results"
PAGE = FOLDER.parent / "docs" / "benchmarks.md"
_INTRODUCTION = """# Benchmarks

Written by `python benchmarks/record.py SCRIPT ...`; every block below is what the script printed. Each figure
stands beside the physical ceiling or the peer that was measured in the same run. How to repeat them:
[benchmarks/README.md](../benchmarks/README.md).
"""


def main() -> int:
    """Record one run, or only write the page anew."""
    if len(sys.argv) < 2:
        print(__doc__, file=sys.stderr)
        return 2
    if sys.argv[1] != "--render":
        label, given = (sys.argv[2], sys.argv[3:]) if sys.argv[1] == "--label" else (None, sys.argv[1:])
        script, arguments = FOLDER / f"{Path(given[0]).stem}.py", given[1:]
        output = run(script, arguments)
        if output is None:
            return 1
        keep(script, arguments, output, label=label)
    PAGE.write_text(render(), encoding="utf-8")
    return 0


def run(script: Path, arguments: list[str]) -> list[str] | None:
    """The lines that the script printed, or None where it failed or lacks figures or its JSON line."""
    lines = []
    with subprocess.Popen(
        [sys.executable, "-u", str(script), *arguments], stdout=subprocess.PIPE, text=True, encoding="utf-8"
    ) as process:
        assert process.stdout is not None
        for line in process.stdout:
            print(line, end="", flush=True)
            lines.append(line.rstrip())
    if process.returncode:
        print(f"{script.name} failed with exit code {process.returncode}; nothing recorded.", file=sys.stderr)
        return None
    try:
        json.loads(lines[-1])
    except (IndexError, ValueError):
        print(f"{script.name} did not end with a JSON line; nothing recorded.", file=sys.stderr)
        return None
    if len(lines) == 1:
        print(f"{script.name} printed no figures for people on stdout; nothing recorded.", file=sys.stderr)
        return None
    return lines


def keep(script: Path, arguments: list[str], output: list[str], *, label: str | None) -> None:
    """Write the run to benchmarks/results, in place of an earlier one with the same label."""
    shown = [shortened(argument) for argument in arguments]
    record = {
        "command": " ".join([f"python benchmarks/{script.name}", *shown]),
        "date": time.strftime("%Y-%m-%d"),
        "machine": machine(),
        "printed": output[:-1],
        "figures": json.loads(output[-1]),
    }
    RESULTS.mkdir(exist_ok=True)
    text = json.dumps(record, indent=1, ensure_ascii=False) + "\n"
    name = f"{script.stem}.{label}" if label else script.stem
    (RESULTS / f"{name}.json").write_text(text, encoding="utf-8")


def shortened(argument: str) -> str:
    """An absolute path by its last part; in NAME=PATH, the path is an interpreter, and left out."""
    name, equals, path = argument.partition("=")
    if equals and Path(path).is_absolute():
        return f"{name}=PYTHON"
    return Path(argument).name if Path(argument).is_absolute() else argument


def machine() -> str:
    """Processor, cores and the versions that matter."""
    model, flags = platform.processor() or platform.machine(), ""
    try:
        cpuinfo = Path("/proc/cpuinfo").read_text(encoding="utf-8")
        facts = dict(line.split(":", 1) for line in cpuinfo.split("\n\n")[0].splitlines() if ":" in line)
        facts = {key.strip(): value.strip() for key, value in facts.items()}
        model, flags = facts.get("model name", model), facts.get("flags", "")
    except OSError:
        pass  # not Linux: the platform module's word has to do
    known = ("amx_bf16", "avx512_bf16", "avx512f", "avx2")
    instructions = next((name for name in known if name in flags.split()), "no AVX2")
    return (
        f"{os.cpu_count()} cores of {model} ({instructions}), "
        f"Python {platform.python_version()}, torch {version('torch')}"
    )


def render() -> str:
    """The page, from all recorded runs."""
    parts = [_INTRODUCTION]
    for path in sorted(RESULTS.glob("*.json")):
        record: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))
        script, _, label = path.stem.partition(".")
        title = _first_line(FOLDER / f"{script}.py") + (f" ({label})" if label else "")
        parts.append(
            f"## {title}\n\n"
            f"`{record['command']}`\n\n"
            f"{record['date']}, {record['machine']}\n\n"
            "```text\n" + "\n".join(record["printed"]) + "\n```\n"
        )
    return "\n".join(parts)


def _first_line(script: Path) -> str:
    docstring = ast.get_docstring(ast.parse(script.read_text(encoding="utf-8"))) or script.stem
    return docstring.splitlines()[0].rstrip(".")


if __name__ == "__main__":
    sys.exit(main())
