"""All parse workers together hold what is left of a bound that the process they work for counts in."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Iterator

import pytest

from indexer.worker_memory import Budget, MemoryGuard, default_budget, resident_bytes

PATIENCE = 60


@pytest.fixture
def worker() -> Iterator[subprocess.Popen[bytes]]:
    with subprocess.Popen([sys.executable, "-c", "input()"], stdin=subprocess.PIPE) as process:
        yield process
        process.kill()


@pytest.mark.skipif(not resident_bytes(os.getpid()), reason="the system does not say what a process holds")
def test_what_the_parent_holds_is_not_left_for_its_workers(worker: subprocess.Popen[bytes]) -> None:
    guard = MemoryGuard(Budget(0, all_bytes=resident_bytes(os.getpid()) // 2), lambda: [worker])
    guard.start()
    assert worker.wait(PATIENCE) < 0
    guard.stop()


def test_workers_have_what_usual_documents_need_whatever_the_parent_holds(
    worker: subprocess.Popen[bytes],
) -> None:
    looks = []
    guard = MemoryGuard(Budget(1 << 40, all_bytes=0), lambda: looks.append(1) or [worker])
    guard.start()
    while len(looks) < 3:
        assert worker.poll() is None
    guard.stop()
    assert worker.poll() is None


def test_more_workers_may_hold_more_and_together_less_than_each_could_ask_for() -> None:
    two, eight = default_budget(2, 2 << 30), default_budget(8, 2 << 30)
    assert two.all_bytes == eight.all_bytes < 1_500_000_000
    assert two.least_bytes < two.all_bytes < eight.least_bytes < 8 * (2 << 30)
