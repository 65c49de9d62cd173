"""The journal: what ran, how it ended, and that a run that was cut off is known as one."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest
from store_fakes import HashingEmbedder

from indexer import catalog_writer
from indexer.index import Index
from indexer.parsers import ParseOptions


def raising(error: type[BaseException]):
    def fail(*_: object) -> None:
        raise error

    return fail


def begin_run(index: Index, *, pid: int, started_at: float | None = None) -> None:
    """Note a run that has not come to its end."""
    with index.catalog.write() as writer:
        row, _ = writer.start_run(["/corpus"], command="ingest", settings={})
        change = "UPDATE runs SET pid = ?, started_at = coalesce(?, started_at) WHERE rowid = ?"
        writer.connection.execute(change, (pid, started_at, row))


def test_the_last_runs_are_told_newest_first(index: Index, corpus: Path, embedder: HashingEmbedder):
    index.ingest([corpus])
    (corpus / "new.txt").write_text("New.\n")
    (corpus / "broken.pdf").write_bytes(b"%PDF-1.4\n")
    index.ingest([corpus])
    second, first = index.runs()
    assert (first.command, first.outcome, first.roots) == ("ingest", "finished", (str(corpus),))
    assert (first.counts["indexed"], first.counts["chunks"]) == (3, 4)
    assert (second.counts["indexed"], second.counts["unchanged"], second.counts["failed"]) == (1, 3, 1)
    assert second.seconds is not None
    assert not second.is_cut_off
    assert index.runs(1) == [second]


def test_a_folder_whose_name_is_not_utf8_is_ingested_and_told_as_it_is(index: Index, tmp_path: Path):
    folder = os.fsdecode(os.fsencode(tmp_path) + b"/caf\xe9")
    os.mkdir(folder)
    Path(folder, "cats.txt").write_text("Cats and dogs.\n")
    assert index.ingest([folder]).indexed == 1
    assert index.runs(1)[0].roots == (folder,)
    assert index.stats().last_ingest["roots"] == [folder]


def test_an_index_that_was_never_filled_has_no_runs(index: Index):
    assert index.runs() == []


def test_the_journal_says_how_each_run_ended(index: Index, corpus: Path, embedder: HashingEmbedder):
    index.ingest([corpus])
    last = index.stats().last_ingest
    assert (last["outcome"], last["indexed"], last["roots"]) == ("finished", 3, [str(corpus)])
    (corpus / "new.txt").write_text("New.\n")
    for error, outcome in ((KeyboardInterrupt, "interrupted"), (ZeroDivisionError, "failed")):
        embedder.before_embedding = raising(error)
        with pytest.raises(error):
            index.ingest([corpus])
        assert index.stats().last_ingest["outcome"] == outcome
        (run,) = index.runs(1)
        assert (run.outcome, run.is_cut_off) == (outcome, True)


def test_a_run_whose_process_is_gone_was_interrupted_though_it_could_not_say_so(index: Index):
    gone = subprocess.Popen([sys.executable, "-c", ""])
    gone.wait()
    begin_run(index, pid=gone.pid)
    (run,) = index.runs()
    assert (run.outcome, run.seconds, run.counts) == ("interrupted", None, {})


def test_a_run_whose_process_is_there_is_running(index: Index):
    begin_run(index, pid=os.getpid())
    (run,) = index.runs()
    assert (run.outcome, run.is_cut_off) == ("running", False)


@pytest.mark.skipif(not Path("/proc/self/stat").exists(), reason="only Linux says when a process was started")
def test_a_process_that_was_started_later_is_not_taken_for_the_one_that_ran(index: Index):
    """In a container the numbers are few: the next one started has the number of the one that was killed."""
    begin_run(index, pid=os.getpid(), started_at=1_000_000_000.0)
    (run,) = index.runs()
    assert run.outcome == "interrupted"


def note_run(index: Index, outcome: str, *roots: Path, command: str = "ingest") -> None:
    with index.catalog.write() as writer:
        row, _ = writer.start_run(list(map(str, roots)), command=command, settings={})
        writer.finish_run(row, outcome, {})


def test_a_run_that_was_cut_off_is_told_until_one_of_the_same_paths_has_finished(index: Index, corpus: Path):
    """Another folder's ingest says nothing about the files that this one did not come to."""
    other = corpus.parent / "other"
    other.mkdir()
    note_run(index, "interrupted", corpus / "heron.txt", corpus / "tide.py")
    note_run(index, "failed", corpus)
    note_run(index, "finished", other)
    note_run(index, "finished", corpus, command="import")
    assert [run.outcome for run in index.unfinished_runs()] == ["failed", "interrupted"]
    note_run(index, "finished", corpus / "heron.txt")
    assert len(index.unfinished_runs()) == 2
    note_run(index, "finished", corpus / "tide.py")
    assert [run.outcome for run in index.unfinished_runs()] == ["failed"]
    note_run(index, "finished", corpus.parent)
    assert index.unfinished_runs() == []


def test_of_paths_that_are_gone_only_the_last_run_is_told(index: Index, corpus: Path):
    note_run(index, "interrupted", corpus / "gone")
    assert len(index.unfinished_runs()) == 1
    note_run(index, "finished", corpus / "heron.txt")
    assert index.unfinished_runs() == []


def test_the_journal_keeps_the_settings_of_a_run_and_never_a_password(
    index: Index, corpus: Path, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setattr(catalog_writer, "HISTORY_RUNS", 3)
    options = ParseOptions(password="open sesame", max_pages=7)
    for _ in range(5):
        index.ingest([corpus], prune=True, parse_options=options)
    last = index.stats().last_ingest
    assert (last["command"], last["indexed"], last["settings"]["prune"]) == ("ingest", 0, True)
    assert last["settings"]["options"]["max_pages"] == 7
    assert last["settings"]["options"]["password"] is True
    with index.catalog.read() as connection:
        journal = connection.execute("SELECT rowid, outcome, report FROM runs ORDER BY rowid").fetchall()
    assert [(row, outcome) for row, outcome, _ in journal] == [(n, "finished") for n in (3, 4, 5)]
    assert not any("sesame" in report for _, _, report in journal)
