"""What an ingest finds, reads, embeds and leaves alone."""

from __future__ import annotations

import os
from pathlib import Path

import pytest
from ingest_looks import TRUNCATED_PDF, age, chunks_found, raising, summary, texts
from store_fakes import HashingEmbedder

from indexer import ingest as ingest_module
from indexer import ingest_source, planning, reading
from indexer.catalog import Catalog
from indexer.discovery import PathNotFound
from indexer.identity import content_key
from indexer.index import Index
from indexer.parsers import ParseOptions
from indexer.types import IngestProgress


def test_every_file_is_accounted_for(index: Index, corpus: Path):
    (corpus / "copy.md").write_bytes((corpus / "ferry.md").read_bytes())
    (corpus / "empty.txt").touch()
    (corpus / "broken.pdf").write_bytes(TRUNCATED_PDF)
    (corpus / "image.bin").write_bytes(bytes(range(256)) * 8)
    (corpus / ".gitignore").write_text("*.log\n")
    (corpus / "run.log").write_text("ignored\n")
    report = index.ingest([corpus])
    assert report.found == 9
    assert summary(report) == {"indexed": 4, "failed": 3, "skipped": 2}
    assert {Path(failure.uri).name for failure in report.failed} == {"empty.txt", "broken.pdf", "image.bin"}
    assert all(failure.reason and failure.hint and failure.code for failure in report.failed)
    assert {Path(status.uri).name for status in index.doctor()} == {
        *("empty.txt", "broken.pdf", "image.bin", "run.log", ".gitignore")
    }
    assert len(list(index.files())) == 9
    assert index.verify().ok


def test_a_second_run_parses_and_embeds_nothing(
    index: Index, corpus: Path, parsed: list[str], embedder: HashingEmbedder
):
    (corpus / "empty.txt").touch()
    age(corpus)
    first = index.ingest([corpus])
    generation = index.generation
    parsed.clear()
    embedder.texts.clear()

    def refuse(*_: object) -> None:
        raise AssertionError("a file was opened")

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(planning, "_sha256", refuse)
        second = index.ingest([corpus])
    assert summary(first) == {"indexed": 3, "failed": 1}
    assert summary(second) == {"unchanged": 3, "failed": 1}
    assert second.failed == first.failed
    assert (parsed, embedder.texts, second.embedded, second.chunks) == ([], {}, 0, 0)
    assert index.generation == generation


def test_unchanged_files_cost_neither_a_transaction_nor_a_window_of_their_own(
    index: Index, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    """They are looked up many at a time, and the changed ones among them are committed together."""
    monkeypatch.setattr(ingest_module, "LINGER_SECONDS", 600)  # all in one window, however slow the machine
    monkeypatch.setattr(ingest_module, "WINDOW_FILES", 10)
    monkeypatch.setattr(ingest_source, "FILES_PER_LOOK", 50)
    folder = tmp_path / "many"
    folder.mkdir()
    for number in range(300):
        (folder / f"{number:03}.txt").write_text(f"File number {number}.\n")
    index.ingest([folder])
    age(folder)
    index.ingest([folder])  # which notes the times
    transactions: list[str] = []
    for name in ("read", "write"):
        real = getattr(Catalog, name)
        monkeypatch.setattr(Catalog, name, lambda *a, real=real, n=name: transactions.append(n) or real(*a))
    assert summary(index.ingest([folder])) == {"unchanged": 300}
    assert transactions.count("write") == 2  # the journal's
    assert transactions.count("read") < 30
    for number in range(0, 300, 60):
        (folder / f"{number:03}.txt").write_text(f"File number {number}, another now.\n")
    generation = index.generation
    assert summary(index.ingest([folder])) == {"indexed": 5, "unchanged": 295}
    assert index.generation == generation + 1


def test_a_file_that_was_only_touched_is_not_parsed(index: Index, corpus: Path, parsed: list[str]):
    age(corpus)
    index.ingest([corpus])
    generation = index.generation
    parsed.clear()
    os.utime(corpus / "heron.txt", (1_100_000_000, 1_100_000_000))
    assert summary(index.ingest([corpus])) == {"unchanged": 3}
    assert parsed == []
    assert index.generation == generation


def test_a_change_within_one_tick_of_the_clock_is_noticed(index: Index, corpus: Path):
    """Same size, same time: only a look at the bytes of such a young file shows it."""
    path = corpus / "heron.txt"
    index.ingest([corpus])
    status = path.stat()
    path.write_text(path.read_text().replace("pond", "lake"))
    os.utime(path, ns=(status.st_atime_ns, status.st_mtime_ns))
    assert summary(index.ingest([corpus])) == {"indexed": 1, "unchanged": 2}
    assert "Herons nest by the lake." in texts(index)


def test_a_changed_file_replaces_its_chunks_and_embeds_only_what_is_new(
    index: Index, corpus: Path, embedder: HashingEmbedder
):
    index.ingest([corpus])
    before = {chunk.text: chunk.id for chunk in chunks_found(index, "ferry tolls")}
    embedder.texts.clear()
    (corpus / "ferry.md").write_text(
        "# Ferry\n\nThe ferry leaves at ten.\n\n# Tolls\n\nCrossing costs two crowns.\n"
    )
    assert summary(index.ingest([corpus])) == {"indexed": 1, "unchanged": 2}
    after = {chunk.text: chunk.id for chunk in chunks_found(index, "ferry tolls")}
    tolls = next(text for text in before if "Crossing" in text)
    assert after[tolls] == before[tolls]
    assert not any("nine" in text for text in after)
    assert len(embedder.texts) == 1
    assert index.verify().ok


def test_a_moved_file_is_neither_parsed_nor_embedded(
    index: Index, corpus: Path, parsed: list[str], embedder: HashingEmbedder
):
    index.ingest([corpus])
    ids = {chunk.id for chunk in chunks_found(index, "herons")}
    parsed.clear()
    embedder.texts.clear()
    (corpus / "birds").mkdir()
    (corpus / "heron.txt").rename(corpus / "birds" / "grey heron.txt")
    report = index.ingest([corpus], prune=True)
    assert summary(report) == {"indexed": 1, "unchanged": 2, "removed": 1}
    assert (parsed, embedder.texts) == ([], {})
    assert {chunk.id for chunk in chunks_found(index, "herons")} == ids
    (chunk,) = (chunk for chunk in chunks_found(index, "herons") if "Herons" in chunk.text)
    assert chunk.uri == str(corpus / "birds" / "grey heron.txt")


def test_files_that_take_each_other_s_place_are_neither_parsed_nor_embedded(
    index: Index,
    corpus: Path,
    parsed: list[str],
    embedder: HashingEmbedder,
    monkeypatch: pytest.MonkeyPatch,
):
    """As logs are rotated: every name has another content now, and one of them is new."""
    monkeypatch.setattr(ingest_module, "LINGER_SECONDS", 600)  # all in one window, however slow the machine
    names = ["log.txt", "log-1.txt", "log-2.txt"]
    for name in names:
        (corpus / name).write_text(f"The words of {name}.\n")
    index.ingest([corpus])
    parsed.clear()
    embedder.texts.clear()
    (corpus / "log-2.txt").rename(corpus / "aside")
    (corpus / "log-1.txt").rename(corpus / "log-2.txt")
    (corpus / "log.txt").rename(corpus / "log-1.txt")
    (corpus / "aside").rename(corpus / "log-0.txt")
    (corpus / "log.txt").write_text("New words.\n")
    report = index.ingest([corpus])
    assert summary(report) == {"indexed": 4, "unchanged": 3}
    assert (parsed, sum(embedder.texts.values())) == (["log.txt"], 1)
    _check_contents(index, corpus)


@pytest.mark.parametrize("num_files", [1, 2, 512])
def test_a_content_that_has_moved_is_found_under_its_new_name_wherever_the_window_ends(
    index: Index, corpus: Path, monkeypatch: pytest.MonkeyPatch, num_files: int
):
    """The file that it was in may have got another content, or be gone, before the new one's turn."""
    monkeypatch.setattr(ingest_module, "WINDOW_FILES", num_files)
    for name in "abcd":
        (corpus / f"{name}.txt").write_text(f"The words of {name}.\n")
    index.ingest([corpus])
    for old, new in ("az", "by", "ca", "dc", "zd"):
        (corpus / f"{old}.txt").rename(corpus / f"{new}.txt")
    (corpus / "b.txt").write_text("New words.\n")
    report = index.ingest([corpus], prune=True)
    assert report.found == 8
    assert not report.failed
    _check_contents(index, corpus)
    assert summary(index.ingest([corpus])) == {"unchanged": 8}


def _check_contents(index: Index, corpus: Path) -> None:
    """Every text file is found under its name, with what is in it."""
    found = {chunk.uri: chunk.text for chunk in chunks_found(index, "words")}
    for path in corpus.glob("*.txt"):
        assert found[str(path)] == path.read_text().strip(), path.name
    assert index.verify().ok


def test_what_a_file_is_called_is_not_embedded_so_a_new_name_leaves_nothing_stale(index: Index, corpus: Path):
    (corpus / "wagtail.py").write_text("def depart():\n    return 9\n")
    index.ingest([corpus])
    with index.catalog.read() as connection:
        contexts = [context for (context,) in connection.execute("SELECT context FROM chunks")]
    assert "depart" in contexts
    assert not any("wagtail" in context or "heron" in context for context in contexts)


def test_a_picture_is_read_again_under_a_new_name_which_is_its_caption():
    assert content_key(b"1", "pier.png") != content_key(b"1", "quay.png")
    assert content_key(b"1", "a/pier.png") == content_key(b"1", "b/pier.png")
    assert content_key(b"1", "pier.txt") == content_key(b"1", "quay.TXT") != content_key(b"1", "quay.md")
    assert content_key(b"1", "Makefile") != content_key(b"1", "README")


def test_other_parse_options_read_everything_again_and_embed_nothing_again(
    index: Index, corpus: Path, parsed: list[str], embedder: HashingEmbedder
):
    index.ingest([corpus])
    generation = index.generation
    parsed.clear()
    embedder.texts.clear()
    report = index.ingest([corpus], parse_options=ParseOptions(max_table_rows=5))
    assert summary(report) == {"indexed": 3}
    assert len(parsed) == 3
    assert embedder.texts == {}
    assert index.generation == generation  # a search could not tell


def test_names_in_no_encoding_are_indexed(index: Index, tmp_path: Path):
    folder = tmp_path / "names"
    folder.mkdir()
    for name in (b"caf\xe9.txt", "naïve ☃.txt".encode(), b"line\nbreak.txt", b"quote'\".txt"):
        (Path(os.fsdecode(os.fsencode(folder) + b"/" + name))).write_bytes(b"Text of " + name.hex().encode())
    assert summary(index.ingest([folder])) == {"indexed": 4}
    for status in index.files():
        status.uri.encode()  # printable
    (Path(os.fsdecode(os.fsencode(folder) + b"/caf\xe9.txt"))).unlink()
    assert summary(index.ingest([folder], prune=True)) == {"unchanged": 3, "removed": 1}
    assert index.verify().ok


def test_a_path_that_does_not_exist_stops_everything_before_it_begins(index: Index, corpus: Path):
    with pytest.raises(PathNotFound):
        index.ingest([corpus, corpus / "nowhere"])
    assert index.stats().last_ingest is None


def test_the_index_folder_is_never_part_of_the_corpus(tmp_path: Path, corpus: Path, parsed: list[str]):
    with Index.open(corpus / "index", embedder=HashingEmbedder()) as inside:
        assert summary(inside.ingest([corpus])) == {"indexed": 3}
        assert summary(inside.ingest([corpus])) == {"unchanged": 3}


def test_progress_counts_up_to_everything(index: Index, corpus: Path):
    events: list[IngestProgress] = []
    report = index.ingest([corpus], progress=events.append)
    assert events[0].stage == "discover"
    assert [event.stage for event in events][-2:] == ["prune", "checkpoint"]
    assert [event.files_done for event in events] == sorted(event.files_done for event in events)
    last = events[-1]
    assert (last.files_found, last.files_done, last.all_found) == (3, 3, True)
    assert last.chunks == report.chunks == index.stats().chunks


def test_an_empty_folder_is_no_error(index: Index, tmp_path: Path):
    (tmp_path / "empty").mkdir()
    report = index.ingest([tmp_path / "empty"])
    assert summary(report) == {}
    assert report.found == 0


def test_no_reader_is_opened_when_there_is_nothing_to_read(
    index: Index, corpus: Path, monkeypatch: pytest.MonkeyPatch
):
    index.ingest([corpus])
    monkeypatch.setattr(reading, "open_reader", raising(AssertionError))
    assert summary(index.ingest([corpus])) == {"unchanged": 3}
