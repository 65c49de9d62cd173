"""Parse workers that the system does not let start: for want of processes, or of open files."""

from __future__ import annotations

import errno
import os
import socket
import subprocess
import tempfile
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest

from indexer.workers import ParseLimits, ParsePool, ParseTask, WorkersUnavailable

LIMITS = ParseLimits(seconds=60, max_memory_bytes=512 << 20)


def text_files(folder: Path, count: int) -> list[ParseTask]:
    """Each so large that another worker is worth its start."""
    paths = [folder / f"{number}.txt" for number in range(count)]
    for path in paths:
        path.write_text("The ferry leaves at nine.\n" * 12_000)
    return [ParseTask(path) for path in paths]


def num_open_files() -> int:
    return len(os.listdir("/dev/fd"))


@pytest.mark.parametrize(
    ("module", "name", "number"),
    [
        (socket, "socketpair", errno.EMFILE),
        (tempfile, "TemporaryFile", errno.EMFILE),
        (subprocess, "Popen", errno.EAGAIN),
    ],
)
def test_a_worker_that_the_system_refuses_is_an_error_with_a_remedy_and_leaves_nothing_open(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, module: ModuleType, name: str, number: int
) -> None:
    def refuse(*_: Any, **__: Any) -> None:
        raise OSError(number, os.strerror(number))

    with ParsePool(1, LIMITS) as pool:
        before = num_open_files()
        monkeypatch.setattr(module, name, refuse)
        with pytest.raises(WorkersUnavailable, match=os.strerror(number)) as raised:
            list(pool.map_unordered(text_files(tmp_path, 1)))
        assert "ulimit" in raised.value.hint
        assert num_open_files() == before


def test_a_pool_that_cannot_be_made_is_the_same_error(monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse() -> None:
        raise OSError(errno.EMFILE, "Too many open files")

    monkeypatch.setattr(socket, "socketpair", refuse)
    with pytest.raises(WorkersUnavailable, match="Too many open files"):
        ParsePool(1, LIMITS)


def test_where_more_workers_are_refused_those_there_are_read_all_files(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    start, asked = subprocess.Popen, []

    def refuse_after_the_first(*arguments: Any, **options: Any) -> subprocess.Popen[bytes]:
        asked.append(arguments)
        if len(asked) > 1:
            raise BlockingIOError(errno.EAGAIN, os.strerror(errno.EAGAIN))
        return start(*arguments, **options)

    monkeypatch.setattr(subprocess, "Popen", refuse_after_the_first)
    tasks = text_files(tmp_path, 6)
    with ParsePool(4, LIMITS) as pool:
        results = list(pool.map_unordered(tasks))
        assert len(pool.process_ids) == 1
    assert sorted(result.task.path for result in results) == [task.path for task in tasks]
    assert [result.error for result in results] == [None] * 6
    assert len(asked) == 2  # the system is not asked again and again
