"""The example script runs as its first line says, offline."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).parents[2]


def test_the_llama_example_runs_without_arguments_and_without_network() -> None:
    done = subprocess.run(
        [sys.executable, "examples/llama_checkpoint.py", "--device", "cpu"],
        cwd=ROOT,
        env={**os.environ, "HF_HUB_OFFLINE": "1", "PYTHONPATH": str(ROOT), "PYTHONIOENCODING": "utf-8"},
        capture_output=True,
        text=True,
        encoding="utf-8",
        check=False,
    )
    assert done.returncode == 0, done.stderr
    assert "The sea is" in done.stdout
    assert "supported: " in done.stdout
