"""Following files: what calls for another pass, and what does not."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from indexer import watching
from indexer.errors import DiskFull, EmbedderMismatch
from indexer.index import Index
from indexer.types import IngestReport
from indexer.watching import watch


class Waited(Exception):
    """So many pauses went by without a pass."""


@pytest.fixture
def pauses(monkeypatch: pytest.MonkeyPatch) -> list[Callable[[], None]]:
    """What happens in the pauses to come, one after another. When nothing is left, the test is told so."""
    todo: list[Callable[[], None]] = []

    def sleep(seconds: float) -> None:
        if not todo:
            raise Waited
        todo.pop(0)()

    monkeypatch.setattr(watching.time, "sleep", sleep)
    return todo


@pytest.fixture
def passes(index: Index, corpus: Path) -> Iterator[IngestReport]:
    return watch(
        [corpus], lambda paths: index.ingest(paths, prune=True), exclude=[index.folder], poll_seconds=2.0
    )


def nothing() -> None:
    pass


def test_what_changes_is_ingested_once_it_has_come_to_rest(
    pauses: list[Callable[[], None]], passes: Iterator[IngestReport], corpus: Path
):
    assert next(passes).indexed == 3

    def write(text: str) -> Callable[[], None]:
        return lambda: (corpus / "lamp.txt").write_text(text) and None

    pauses += [nothing, nothing, write("The"), write("The lamp"), write("The lamp is lit.\n"), nothing]
    report = next(passes)
    assert (report.indexed, report.unchanged) == (1, 3)
    assert not pauses
    pauses += [(corpus / "lamp.txt").unlink, nothing]
    assert next(passes).removed == 1


def test_without_a_change_there_is_no_pass(
    pauses: list[Callable[[], None]], passes: Iterator[IngestReport], corpus: Path
):
    next(passes)
    pauses += [nothing, lambda: os.chmod(corpus / "heron.txt", 0o600), nothing]
    with pytest.raises(Waited):
        next(passes)


def test_what_changes_during_a_pass_calls_for_another(
    pauses: list[Callable[[], None]], index: Index, corpus: Path
):
    def ingest(paths: list) -> IngestReport:
        report = index.ingest(paths)
        (corpus / "late.txt").write_text("It came late.\n")
        return report

    passes = watch([corpus], ingest, exclude=[index.folder])
    assert next(passes).indexed == 3
    pauses += [nothing, nothing]
    assert next(passes).indexed == 1


def test_a_drive_that_is_taken_out_loses_nothing_and_is_looked_at_again_when_it_is_back(
    pauses: list[Callable[[], None]], index: Index, corpus: Path, tmp_path: Path
):
    other, away = tmp_path / "drive", tmp_path / "away"
    other.mkdir()
    (other / "lamp.txt").write_text("The lamp is lit at dusk.\n")
    passes = watch([corpus, other], lambda paths: index.ingest(paths, prune=True), exclude=[index.folder])
    assert next(passes).indexed == 4
    pauses += [lambda: other.rename(away) and None, nothing]
    report = next(passes)
    assert (report.unchanged, report.removed, index.stats().documents) == (3, 0, 4)
    pauses += [lambda: away.rename(other) and None, nothing]
    assert next(passes).unchanged == 4


def test_trouble_that_may_pass_is_told_and_waited_for(pauses: list[Callable[[], None]], corpus: Path):
    report = IngestReport(0, 3, 0, 0, (), 0, 0.0)
    outcomes = [report, DiskFull("The disk is full."), report, EmbedderMismatch("Another embedder.")]

    def ingest(paths: list) -> IngestReport:
        outcome = outcomes.pop(0)
        if isinstance(outcome, Exception):
            raise outcome
        return outcome

    told: list[str] = []
    passes = watch([corpus], ingest, exclude=[], on_trouble=lambda error: told.append(error.code))
    next(passes)
    pauses += [(corpus / "heron.txt").unlink, nothing, nothing, nothing]
    next(passes)
    assert told == ["disk-full"]
    pauses += [(corpus / "tide.py").unlink, nothing]
    with pytest.raises(EmbedderMismatch):
        next(passes)


def test_trouble_in_the_first_pass_is_the_caller_s(corpus: Path):
    def ingest(paths: list) -> IngestReport:
        raise DiskFull("The disk is full.")

    with pytest.raises(DiskFull):
        next(watch([corpus], ingest, exclude=[]))


def test_ctrl_c_ends_the_watch_between_two_passes_and_is_raised_within_one(
    pauses: list[Callable[[], None]], passes: Iterator[IngestReport], corpus: Path
):
    def interrupt(*_: object) -> IngestReport:
        raise KeyboardInterrupt

    next(passes)
    pauses += [interrupt]
    assert list(passes) == []
    with pytest.raises(KeyboardInterrupt):
        next(watch([corpus], interrupt, exclude=[]))


def test_looking_takes_a_small_part_of_the_time_however_many_files_there_are(
    monkeypatch: pytest.MonkeyPatch, corpus: Path
):
    slept: list[float] = []
    monkeypatch.setattr(watching.time, "sleep", slept.append)
    tree = watching._Tree([corpus], [])
    for look_seconds, pause in [(0.01, 2.0), (1.0, 20.0), (30.0, 60.0)]:
        tree._look_seconds = look_seconds
        tree._pause(2.0)
        assert slept[-1] == pause
