from __future__ import annotations

import os
import threading
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pytest
from store_fakes import HashingEmbedder

from indexer import catalog_writer, planning, reading
from indexer import ingest as ingest_module
from indexer.discovery import PathNotFound
from indexer.errors import DiskFull, EmbedderFailed, EmbedderMismatch, IndexLocked, IndexNotWritable
from indexer.identity import content_key
from indexer.index import Index
from indexer.parsers import ParseOptions
from indexer.types import IngestProgress, IngestReport

TRUNCATED_PDF = b"%PDF-1.4\n1 0 obj\n<< /Type /Catalog"


def texts(index: Index) -> set[str]:
    """The texts of all chunks, as a search finds them."""
    (hits,) = index.search(HashingEmbedder().embed_queries(["anything"]), 10_000)
    found = {chunk.text for chunk in index.chunks([hit.chunk_id for hit in hits])}
    assert len(hits) == index.stats().chunks
    return found


def age(folder: Path) -> None:
    """Makes files old enough for their times to be trusted."""
    for path in folder.rglob("*"):
        os.utime(path, (1_000_000_000, 1_000_000_000))


def giant_text(num_paragraphs: int) -> str:
    """Text of which no two chunks are alike."""
    return "\n\n".join(f"Paragraph {n}: " + f"word{n} and " * 12 for n in range(num_paragraphs))


def summary(report: IngestReport) -> dict[str, int]:
    counts = {
        name: getattr(report, name) for name in ("indexed", "unchanged", "removed", "skipped", "missing")
    }
    return {name: count for name, count in (counts | {"failed": len(report.failed)}).items() if count}


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
    before = {chunk.text: chunk.id for chunk in _chunks(index, "ferry tolls")}
    embedder.texts.clear()
    (corpus / "ferry.md").write_text(
        "# Ferry\n\nThe ferry leaves at ten.\n\n# Tolls\n\nCrossing costs two crowns.\n"
    )
    assert summary(index.ingest([corpus])) == {"indexed": 1, "unchanged": 2}
    after = {chunk.text: chunk.id for chunk in _chunks(index, "ferry tolls")}
    tolls = next(text for text in before if "Crossing" in text)
    assert after[tolls] == before[tolls]
    assert not any("nine" in text for text in after)
    assert len(embedder.texts) == 1
    assert index.verify().ok


def test_a_moved_file_is_neither_parsed_nor_embedded(
    index: Index, corpus: Path, parsed: list[str], embedder: HashingEmbedder
):
    index.ingest([corpus])
    ids = {chunk.id for chunk in _chunks(index, "herons")}
    parsed.clear()
    embedder.texts.clear()
    (corpus / "birds").mkdir()
    (corpus / "heron.txt").rename(corpus / "birds" / "grey heron.txt")
    report = index.ingest([corpus], prune=True)
    assert summary(report) == {"indexed": 1, "unchanged": 2, "removed": 1}
    assert (parsed, embedder.texts) == ([], {})
    assert {chunk.id for chunk in _chunks(index, "herons")} == ids
    (chunk,) = (chunk for chunk in _chunks(index, "herons") if "Herons" in chunk.text)
    assert chunk.uri == str(corpus / "birds" / "grey heron.txt")


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


def test_copies_are_parsed_and_embedded_once(
    index: Index, tmp_path: Path, parsed: list[str], embedder: HashingEmbedder
):
    folder = tmp_path / "copies"
    for number in range(50):
        path = folder / f"{number:02}" / "same.txt"
        path.parent.mkdir(parents=True)
        path.write_text("The same in every folder.\n")
    report = index.ingest([folder])
    assert summary(report) == {"indexed": 50}
    assert len(parsed) == 1
    assert sum(embedder.texts.values()) == 1
    assert index.stats().documents == 1
    (chunk,) = _chunks(index, "same")
    assert chunk.uris == tuple(str(folder / f"{number:02}" / "same.txt") for number in range(50))


def test_deleting_a_copy_leaves_the_others_and_only_the_last_takes_the_text_along(
    index: Index, tmp_path: Path, embedder: HashingEmbedder
):
    folder = tmp_path / "copies"
    paths = [folder / name / "same.txt" for name in ("a", "b", "c")]
    for path in paths:
        path.parent.mkdir(parents=True)
        path.write_text("The same in every folder.\n")
    index.ingest([folder])
    embedder.texts.clear()
    for gone, kept in enumerate((paths[1:], paths[2:], [])):
        paths[gone].unlink()
        assert summary(index.ingest([folder], prune=True))["removed"] == 1
        assert [chunk.uris for chunk in _chunks(index, "same")] == [tuple(map(str, kept))] * bool(kept)
    assert embedder.texts == {}
    assert index.verify().ok


def test_a_copy_that_changes_leaves_the_others_as_they_were(index: Index, tmp_path: Path):
    folder = tmp_path / "copies"
    folder.mkdir()
    for name in ("a.txt", "b.txt"):
        (folder / name).write_text("The same in both.\n")
    index.ingest([folder])
    (folder / "a.txt").write_text("Another now, and longer.\n")
    index.ingest([folder])
    found = {chunk.text: chunk.uris for chunk in _chunks(index, "anything")}
    assert found == {
        "The same in both.": (str(folder / "b.txt"),),
        "Another now, and longer.": (str(folder / "a.txt"),),
    }


def test_copies_of_a_file_that_cannot_be_read_fail_with_it(index: Index, corpus: Path, parsed: list[str]):
    for name in ("a.pdf", "b.pdf", "c.pdf"):
        (corpus / name).write_bytes(TRUNCATED_PDF)
    report = index.ingest([corpus])
    assert {Path(failure.uri).name for failure in report.failed} == {"a.pdf", "b.pdf", "c.pdf"}
    assert [name for name in parsed if name.endswith(".pdf")] == ["a.pdf"]
    assert len([status for status in index.doctor() if status.status == "failed"]) == 3


def test_a_copy_of_a_file_that_failed_earlier_is_not_tried_either(
    index: Index, corpus: Path, parsed: list[str]
):
    (corpus / "a.pdf").write_bytes(TRUNCATED_PDF)
    (first,) = index.ingest([corpus]).failed
    (corpus / "b.pdf").write_bytes(TRUNCATED_PDF)
    parsed.clear()
    report = index.ingest([corpus])
    assert summary(report) == {"unchanged": 3, "failed": 2}
    assert {(failure.reason, failure.code) for failure in report.failed} == {(first.reason, first.code)}
    assert parsed == []
    (corpus / "c.pdf").write_bytes(TRUNCATED_PDF)
    index.ingest([corpus], retry_failed=True)
    assert parsed != []


def test_a_file_that_is_gone_stays_until_it_is_pruned(index: Index, corpus: Path):
    index.ingest([corpus])
    (corpus / "heron.txt").unlink()
    assert summary(index.ingest([corpus])) == {"unchanged": 2, "missing": 1}
    assert "Herons nest by the pond." in texts(index)
    assert summary(index.ingest([corpus], prune=True)) == {"unchanged": 2, "removed": 1}
    assert "Herons nest by the pond." not in texts(index)
    assert summary(index.ingest([corpus], prune=True)) == {"unchanged": 2}
    assert index.verify().ok


def test_pruning_keeps_to_the_paths_that_were_named(index: Index, tmp_path: Path, corpus: Path):
    other = tmp_path / "corpus-2"
    other.mkdir()
    (other / "apple.txt").write_text("Apples.\n")
    index.ingest([corpus, other])
    (corpus / "heron.txt").unlink()
    (other / "apple.txt").unlink()
    assert summary(index.ingest([corpus], prune=True)) == {"unchanged": 2, "removed": 1}
    assert "Apples." in texts(index)


def test_pruning_does_not_take_a_link_that_leads_nowhere_for_an_empty_folder(
    index: Index, tmp_path: Path, corpus: Path
):
    """The disk that it leads to may be unplugged."""
    link = tmp_path / "link"
    link.symlink_to(corpus)
    assert summary(index.ingest(link)) == {"indexed": 3}
    corpus.rename(tmp_path / "unplugged")
    assert summary(index.ingest(link, prune=True)) == {"failed": 1}
    assert "Herons nest by the pond." in texts(index)


def test_pruning_does_not_take_an_unreadable_folder_for_an_empty_one(
    index: Index, corpus: Path, monkeypatch: pytest.MonkeyPatch
):
    (corpus / "deep").mkdir()
    (corpus / "deep" / "apple.txt").write_text("Apples.\n")
    index.ingest([corpus])
    real = os.scandir

    def scandir(path: str) -> object:
        if str(path).endswith("deep"):
            raise PermissionError(13, "Permission denied")
        return real(path)

    monkeypatch.setattr(os, "scandir", scandir)
    report = index.ingest([corpus], prune=True)
    assert summary(report) == {"unchanged": 3, "failed": 1}
    assert "Apples." in texts(index)


def test_a_file_that_is_newly_ignored_is_not_found_any_more(index: Index, corpus: Path):
    index.ingest([corpus])
    (corpus / ".ragserveignore").write_text("heron*\n")
    assert summary(index.ingest([corpus])) == {"unchanged": 2, "skipped": 2}
    assert "Herons nest by the pond." not in texts(index)
    (corpus / ".ragserveignore").unlink()
    assert summary(index.ingest([corpus])) == {"indexed": 1, "unchanged": 2}
    assert "Herons nest by the pond." in texts(index)
    assert {status.status for status in index.files()} == {"indexed"}  # the ignore file is forgotten


def test_a_file_that_fails_after_it_was_indexed_keeps_its_old_version(index: Index, corpus: Path):
    index.ingest([corpus])
    (corpus / "heron.txt").write_text(" \n")
    report = index.ingest([corpus])
    assert summary(report) == {"unchanged": 2, "failed": 1}
    assert report.failed[0].code == "empty-file"
    assert "The version indexed at" in report.failed[0].reason
    assert "Herons nest by the pond." in texts(index)
    assert index.ingest([corpus]).failed == report.failed  # also when nothing is tried again
    assert index.doctor()[0].reason == report.failed[0].reason
    assert index.doctor()[0].document_id is not None
    (corpus / "heron.txt").write_text("Herons are back.\n")
    assert summary(index.ingest([corpus])) == {"indexed": 1, "unchanged": 2}
    assert "Herons nest by the pond." not in texts(index)
    assert index.verify().ok


def test_a_failure_is_retried_only_on_request_or_with_a_reason(
    index: Index, corpus: Path, parsed: list[str], monkeypatch: pytest.MonkeyPatch
):
    (corpus / "broken.pdf").write_bytes(TRUNCATED_PDF)
    index.ingest([corpus])

    def tried(**options) -> bool:
        parsed.clear()
        assert len(index.ingest([corpus], **options).failed) == 1
        return "broken.pdf" in parsed

    assert not tried()
    assert tried(retry_failed=True)
    assert not tried()
    assert tried(parse_options=ParseOptions(max_pages=7))
    assert not tried(parse_options=ParseOptions(max_pages=7))


def test_encrypted_files_are_tried_again_with_a_password_and_nothing_else_is(
    index: Index, corpus: Path, parsed: list[str], monkeypatch: pytest.MonkeyPatch
):
    from indexer.parsers.errors import EncryptedPdf

    (corpus / "secret.txt").write_text("The vault is empty.\n")
    import store_fakes

    real = store_fakes.parse

    def parse(data: bytes, *, name: str, options: ParseOptions) -> object:
        if name == "secret.txt" and options.password != "opensesame":
            raise EncryptedPdf("It needs a password.", hint="Give it one.")
        return real(data, name=name, options=options)

    monkeypatch.setattr(store_fakes, "parse", parse)
    assert summary(index.ingest([corpus])) == {"indexed": 3, "failed": 1}
    parsed.clear()
    assert summary(index.ingest([corpus])) == {"unchanged": 3, "failed": 1}
    assert parsed == []
    report = index.ingest([corpus], parse_options=ParseOptions(password="opensesame"))
    assert summary(report) == {"indexed": 1, "unchanged": 3}
    assert parsed == ["secret.txt"]
    assert summary(index.ingest([corpus])) == {"unchanged": 4}


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


def test_a_document_without_a_chunk_is_a_failure_and_not_a_silent_success(
    index: Index, corpus: Path, monkeypatch: pytest.MonkeyPatch
):
    import store_fakes

    monkeypatch.setattr(store_fakes, "chunk_document", lambda *_, **__: [])
    report = index.ingest([corpus])
    assert {failure.code for failure in report.failed} == {"no-extractable-text"}
    assert index.verify().ok


def test_text_that_no_encoding_can_hold_is_a_failure_of_that_file_alone(
    index: Index, corpus: Path, monkeypatch: pytest.MonkeyPatch
):
    import dataclasses

    import store_fakes

    real = store_fakes.parse

    def parse(data: bytes, *, name: str, options: ParseOptions) -> object:
        document = real(data, name=name, options=options)
        broken = dataclasses.replace(document, metadata={"author": "\ud800"})
        return broken if name == "heron.txt" else document

    monkeypatch.setattr(store_fakes, "parse", parse)
    report = index.ingest([corpus])
    assert summary(report) == {"indexed": 2, "failed": 1}
    assert report.failed[0].code == "undecodable-text"


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


def test_a_file_that_vanishes_before_it_is_read_is_a_failure(
    index: Index, corpus: Path, monkeypatch: pytest.MonkeyPatch
):
    real = planning._sha256

    def vanish(path: Path) -> bytes:
        if path.name == "heron.txt":
            path.unlink()
        return real(path)

    monkeypatch.setattr(planning, "_sha256", vanish)
    report = index.ingest([corpus])
    assert summary(report) == {"indexed": 2, "failed": 1}
    assert report.failed[0].code == "unreadable-file"
    assert summary(index.ingest([corpus])) == {"unchanged": 2}
    assert index.doctor() == []


def test_a_file_that_is_too_large_is_not_even_hashed(
    index: Index, corpus: Path, monkeypatch: pytest.MonkeyPatch
):
    real = planning._sha256

    def watch(path: Path) -> bytes:
        assert path.name != "huge.txt"
        return real(path)

    monkeypatch.setattr(planning, "_sha256", watch)
    (corpus / "huge.txt").write_text("word " * 1000)
    report = index.ingest([corpus], parse_options=ParseOptions(max_bytes=3000))
    assert summary(report) == {"indexed": 3, "failed": 1}
    assert report.failed[0].code == "document-too-large"


def test_a_file_that_changes_while_it_is_read_is_indexed_as_it_was_read(
    index: Index, corpus: Path, monkeypatch: pytest.MonkeyPatch
):
    """And a copy that waited for it is not taken for the same any more, but said to need another run."""
    (corpus / "copy.txt").write_bytes((corpus / "heron.txt").read_bytes())
    real = planning._sha256

    def change_after(path: Path) -> bytes:
        digest = real(path)
        if path.name == "copy.txt":
            path.write_text("Storks by now.\n")
        return digest

    with monkeypatch.context() as patch:
        patch.setattr(planning, "_sha256", change_after)
        report = index.ingest([corpus])
    assert summary(report) == {"indexed": 3, "failed": 1}
    assert (report.failed[0].code, Path(report.failed[0].uri).name) == ("changed-while-read", "heron.txt")
    assert "Storks by now." in texts(index)
    assert summary(index.ingest([corpus])) == {"indexed": 1, "unchanged": 3}
    assert {"Storks by now.", "Herons nest by the pond."} <= texts(index)
    assert index.verify().ok


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


def test_the_journal_says_how_each_run_ended(index: Index, corpus: Path, embedder: HashingEmbedder):
    index.ingest([corpus])
    last = index.stats().last_ingest
    assert (last["outcome"], last["indexed"], last["roots"]) == ("finished", 3, [str(corpus)])
    (corpus / "new.txt").write_text("New.\n")
    embedder.before_embedding = _raise(KeyboardInterrupt)
    with pytest.raises(KeyboardInterrupt):
        index.ingest([corpus])
    assert index.stats().last_ingest["outcome"] == "interrupted"
    embedder.before_embedding = _raise(ZeroDivisionError)
    with pytest.raises(ZeroDivisionError):
        index.ingest([corpus])
    assert index.stats().last_ingest["outcome"] == "failed"


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


def test_an_interrupted_run_keeps_what_it_committed_and_the_next_one_goes_on(
    index: Index,
    tmp_path: Path,
    embedder: HashingEmbedder,
    parsed: list[str],
    monkeypatch: pytest.MonkeyPatch,
):
    monkeypatch.setattr(ingest_module, "WINDOW_FILES", 4)
    folder = tmp_path / "many"
    folder.mkdir()
    for number in range(20):
        (folder / f"{number:02}.txt").write_text(f"File number {number}.\n")

    def interrupt(batch: Sequence[str]) -> None:
        if sum(embedder.texts.values()) >= 8:
            raise KeyboardInterrupt

    embedder.before_embedding = interrupt
    threads = threading.active_count()
    with pytest.raises(KeyboardInterrupt):
        index.ingest([folder])
    assert threading.active_count() == threads
    done = index.stats().chunks
    assert 8 <= done < 20
    assert index.verify().ok
    embedder.before_embedding = lambda batch: None
    parsed.clear()
    report = index.ingest([folder])
    assert summary(report) == {"indexed": 20 - done, "unchanged": done}
    assert len(parsed) == 20 - done
    assert set(embedder.texts.values()) == {1}
    assert index.verify().ok


def test_an_interruption_does_not_cost_the_embedding_of_a_giant_document(
    index: Index, tmp_path: Path, embedder: HashingEmbedder, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setattr(ingest_module, "VECTORS_PER_COMMIT", 128)
    path = tmp_path / "giant.txt"
    path.write_text(giant_text(400))

    def interrupt(batch: Sequence[str]) -> None:
        if sum(embedder.texts.values()) >= 256:
            raise KeyboardInterrupt

    embedder.before_embedding = interrupt
    with pytest.raises(KeyboardInterrupt):
        index.ingest([path])
    assert index.stats().chunks == 0
    assert index.stats().embeddings == 256
    assert index.verify().ok
    embedder.before_embedding = lambda batch: None
    report = index.ingest([path])
    assert report.embedded == report.chunks - 256
    assert set(embedder.texts.values()) == {1}


def test_vectors_that_an_interrupted_ingest_left_behind_are_cleared_away(
    index: Index, tmp_path: Path, embedder: HashingEmbedder, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setattr(ingest_module, "VECTORS_PER_COMMIT", 128)
    path = tmp_path / "giant.txt"
    path.write_text(giant_text(300))
    embedder.before_embedding = lambda batch: _raise(KeyboardInterrupt)() if embedder.texts else None
    with pytest.raises(KeyboardInterrupt):
        index.ingest([path])
    assert index.stats().embeddings == 128
    path.write_text("Short now.\n")
    embedder.before_embedding = lambda batch: None
    index.ingest([path])
    assert index.stats().embeddings == 1


@pytest.mark.parametrize(
    "vectors",
    [
        np.ones((1, 32), np.float32),
        np.full((1, 32), np.nan, np.float32),
        np.zeros((1, 32), np.float32),
        np.ones((2, 32), np.float32) / np.sqrt(np.float32(32)),
        np.ones((1, 16), np.float32) / 4,
    ],
    ids=["too long", "not a number", "zero", "too many", "too few dimensions"],
)
def test_vectors_that_are_no_unit_vectors_never_reach_the_index(
    index: Index, tmp_path: Path, embedder: HashingEmbedder, vectors: np.ndarray
):
    path = tmp_path / "a.txt"
    path.write_text("Text.\n")
    embedder.embed_documents = lambda batch: vectors
    with pytest.raises(EmbedderFailed):
        index.ingest([path])
    assert index.stats().embeddings == 0
    del embedder.embed_documents
    assert summary(index.ingest([path])) == {"indexed": 1}


def test_another_embedder_is_refused_with_both_names(index: Index, corpus: Path):
    Index.open(index.folder, embedder=HashingEmbedder("other-32")).close()  # nothing is embedded yet
    with Index.open(index.folder, embedder=HashingEmbedder("other-32")) as second:
        index.ingest([corpus])
        with pytest.raises(EmbedderMismatch, match="hashing-32, not other-32"):
            second.ingest([corpus])
    named = HashingEmbedder("other-32")
    named.name = "acme/other"
    with pytest.raises(EmbedderMismatch, match=r"hashing-32, not acme/other \(other-32\)") as raised:
        Index.open(index.folder, embedder=named)
    assert "new index folder" in raised.value.hint
    assert index.verify().ok


def test_a_second_ingest_at_the_same_time_is_refused_at_once(
    index: Index, corpus: Path, embedder: HashingEmbedder
):
    messages: list[str] = []

    def second(batch: Sequence[str]) -> None:
        with (
            Index.open(index.folder, embedder=HashingEmbedder()) as other,
            pytest.raises(IndexLocked) as raised,
        ):
            other.ingest([corpus])
        messages.append(str(raised.value))

    embedder.before_embedding = second
    assert summary(index.ingest([corpus])) == {"indexed": 3}
    assert messages
    assert f"Another ingest is running (pid {os.getpid()})." in messages[0]
    embedder.before_embedding = lambda batch: None
    assert summary(index.ingest([corpus])) == {"unchanged": 3}  # the lock is free again


def test_a_full_disk_is_a_typed_error_and_loses_nothing(index: Index, tmp_path: Path, corpus: Path):
    index.ingest([corpus])
    before = texts(index)
    (corpus / "large.txt").write_text("\n\n".join(f"Paragraph number {n} of many." for n in range(3_000)))
    with index.catalog._database._write_lock:
        writer = index.catalog._database._writer
        pages = writer.execute("PRAGMA page_count").fetchone()[0]
        writer.execute(f"PRAGMA max_page_count = {pages + 4}")  # what SQLite says then is what a full disk is
    with pytest.raises(DiskFull, match="is full"):
        index.ingest([corpus])
    assert texts(index) == before
    assert index.verify().ok
    with index.catalog._database._write_lock:
        writer.execute(f"PRAGMA max_page_count = {2**31}")
    assert summary(index.ingest([corpus])) == {"indexed": 1, "unchanged": 3}


def test_an_index_that_is_open_for_reading_only_does_not_ingest(index: Index, corpus: Path):
    index.ingest([corpus])
    with (
        Index.open(index.folder, embedder=HashingEmbedder(), read_only=True) as reader,
        pytest.raises(IndexNotWritable),
    ):
        reader.ingest([corpus])


def test_an_empty_folder_is_no_error(index: Index, tmp_path: Path):
    (tmp_path / "empty").mkdir()
    report = index.ingest([tmp_path / "empty"])
    assert summary(report) == {}
    assert report.found == 0


def test_no_reader_is_opened_when_there_is_nothing_to_read(
    index: Index, corpus: Path, monkeypatch: pytest.MonkeyPatch
):
    index.ingest([corpus])
    monkeypatch.setattr(reading, "open_reader", _raise(AssertionError))
    assert summary(index.ingest([corpus])) == {"unchanged": 3}


def _chunks(index: Index, query: str) -> list:
    (hits,) = index.search(HashingEmbedder().embed_queries([query]), 100)
    return index.chunks([hit.chunk_id for hit in hits])


def _raise(error: type[BaseException]):
    def fail(*_: object) -> None:
        raise error

    return fail
