from __future__ import annotations

import re
import shutil
import sqlite3
import subprocess
import sys
import tempfile
import threading
from pathlib import Path

import numpy as np
import pytest
from store_fakes import HashingEmbedder

from indexer import catalog_reader, checkpoint
from indexer.catalog import CATALOG_NAME
from indexer.errors import EmbedderMismatch, IndexClosed, IndexNotFound, InvalidQuery, UnknownChunk
from indexer.index import Index
from indexer.types import Filters


def query(text: str) -> np.ndarray:
    return HashingEmbedder().embed_queries([text])


def found(index: Index, text: str, k: int = 10, **filters) -> list[str]:
    chosen = Filters(**filters) if filters else None
    (hits,) = index.search(query(text), k, filters=chosen)
    return [chunk.text for chunk in index.chunks([hit.chunk_id for hit in hits])]


def test_an_outline_is_the_headings_of_a_document_in_reading_order(index: Index, tmp_path: Path):
    page = tmp_path / "guide.md"
    page.write_text("# Guide\n\nFirst.\n\n## Zeta\n\nLast letter.\n\n## Alpha\n\nFirst letter.\n")
    index.ingest([page], jobs=1)
    (hits,) = index.search(query("First letter."), 10)
    document = index.chunks([hits[0].chunk_id])[0].document_id
    outline = index.outline(document)
    assert outline == sorted(set(outline), key=outline.index)
    flat = [heading for path in outline for heading in path]
    assert flat.index("Guide") < flat.index("Zeta") < flat.index("Alpha")
    assert index.outline("0" * 32) == []


def test_an_empty_index_finds_nothing_and_says_so_kindly(index: Index):
    assert index.search(query("x"), 5) == [[]]
    assert index.search_text(["x"], 5) == [[]]
    assert index.generation == 0
    assert index.stats().chunks == 0
    assert index.stats().dimension is None
    assert index.verify().ok
    assert index.doctor() == []
    assert index.chunks([]) == []
    with pytest.raises(InvalidQuery):
        index.search(query("x"), 0)
    with pytest.raises(InvalidQuery):
        index.search_text(["x"], 0)


def test_a_hit_leads_to_its_chunk_its_vector_and_its_place_in_the_document(index: Index, corpus: Path):
    index.ingest([corpus])
    hit = index.search(query("herons nest pond"), 1)[0][0]
    (chunk,) = index.chunks([hit.chunk_id])
    assert chunk.text == "Herons nest by the pond."
    assert chunk.uri == str(corpus / "heron.txt")
    assert index.document_text(chunk.document_id)[chunk.start : chunk.end] == chunk.text
    (vector,) = index.vectors([hit.chunk_id])
    assert hit.score == pytest.approx(float(vector @ query("herons nest pond")[0]), abs=1e-6)


def test_text_search_finds_the_same_chunks_and_obeys_the_same_filters(index: Index, corpus: Path):
    index.ingest([corpus])
    (hits,) = index.search_text(["two crowns"], 5)
    (chunk,) = index.chunks([hit.chunk_id for hit in hits])
    assert "Crossing costs two crowns." in chunk.text
    assert index.search_text(["crowns", "herons", "crowns"], 1)[0] == index.search_text(["crowns"], 1)[0]
    assert index.search_text(["crowns"], 5, filters=Filters(path_glob="*.txt")) == [[]]
    assert index.search_text(["crowns"], 5, filters=Filters(path_glob="*.md"))[0]


def test_filters_leave_as_many_hits_as_there_are(index: Index, corpus: Path):
    for number in range(30):
        (corpus / f"crossing {number}.txt").write_text(f"Crossing number {number} costs crowns.\n")
    index.ingest([corpus])
    assert len(found(index, "crossing costs crowns", 5)) == 5
    assert found(index, "crossing costs crowns", 5, path_glob="heron.txt") == ["Herons nest by the pond."]
    assert len(found(index, "herons", 7, path_glob="crossing*")) == 7
    assert found(index, "x", 5, kinds=frozenset({"code"})) == ["def tide(hour):\n    return 2.0 * hour"]
    assert found(index, "x", 5, kinds=frozenset({"image"})) == []
    index.ingest([corpus])
    (corpus / "heron.txt").unlink()
    index.ingest([corpus], prune=True)
    assert found(index, "x", 5, path_glob="heron.txt") == []  # the filter is looked up anew


def test_a_commit_of_another_process_is_seen_by_the_next_search(index: Index, corpus: Path):
    index.ingest([corpus])
    with Index.open(index.folder, read_only=True) as server:
        assert found(server, "herons", 1) == ["Herons nest by the pond."]
        before = server.generation
        (corpus / "heron.txt").write_text("Herons have left.\n")
        (corpus / "stork.txt").write_text("Storks have come.\n")
        code = (
            "import sys; sys.path.insert(0, sys.argv[1]); import store_fakes; from indexer import reading;"
            "from indexer.index import Index;"
            "reading.open_reader = lambda s, e: store_fakes.InProcessReader(s, e, []);"
            "Index.open(sys.argv[2], embedder=store_fakes.HashingEmbedder()).ingest([sys.argv[3]])"
        )
        arguments = [str(Path(__file__).parent), str(index.folder), str(corpus)]
        subprocess.run([sys.executable, "-c", code, *arguments], check=True, timeout=120)
        assert found(server, "herons", 1) == ["Herons have left."]
        assert found(server, "storks", 1) == ["Storks have come."]
        assert len(server.search_text(["storks"], 5)[0]) == 1
        assert server.search_text(["pond"], 5) == [[]]
        assert server.generation > before
        assert server.refresh() is False
        changes = server.changes_since(before)
        assert {c.text for c in server.chunks(changes.added)} == {"Herons have left.", "Storks have come."}
        assert len(changes.removed) == 1
        assert changes.generation == server.generation


def test_an_index_that_is_deleted_and_made_again_is_followed(
    index: Index, corpus: Path, tmp_path: Path, parsed: list[str]
):
    """As one does to change the embedder, with a server running."""
    index.ingest([corpus])
    with Index.open(index.folder, read_only=True) as server:
        assert found(server, "herons", 1) == ["Herons nest by the pond."]
        assert server.search_text(["pond"], 5)[0]
        shutil.rmtree(index.folder)
        with pytest.raises(IndexNotFound):
            server.search(query("herons"), 1)
        with pytest.raises(IndexNotFound):
            index.ingest([corpus])
        (corpus / "heron.txt").write_text("Storks nest on the mill.\n")
        with Index.open(index.folder, embedder=HashingEmbedder()) as again:
            again.ingest([corpus])
        assert found(server, "herons", 1) != ["Herons nest by the pond."]
        assert found(server, "storks nest", 1) == ["Storks nest on the mill."]
        assert server.search_text(["pond"], 5) == [[]]
        assert len(server.search_text(["storks"], 5)[0]) == 1
    with pytest.raises(IndexNotFound, match="was replaced"):
        index.ingest([corpus])


def test_a_server_with_another_embedder_than_a_later_ingest_says_so_instead_of_finding_nonsense(
    tmp_path: Path, corpus: Path, parsed: list[str]
):
    Index.open(tmp_path / "index").close()
    with Index.open(tmp_path / "index", embedder=HashingEmbedder("other-32"), read_only=True) as server:
        assert server.search(query("herons"), 1) == [[]]
        with Index.open(tmp_path / "index", embedder=HashingEmbedder()) as writer:
            writer.ingest([corpus])
        for _ in range(2):
            with pytest.raises(EmbedderMismatch, match="hashing-32, not other-32"):
                server.search(query("herons"), 1)


def test_changes_lead_from_any_generation_to_the_present(index: Index, corpus: Path):
    known: dict[int, set[str]] = {0: set()}
    for turn in range(4):
        (corpus / "heron.txt").write_text(f"Herons, turn {turn}.\n")
        (corpus / "more.txt").write_text(f"More, turn {turn % 2}.\n")
        if turn == 2:
            (corpus / "tide.py").rename(corpus / "moved.py")
        index.ingest([corpus], prune=True)
        known[index.generation] = _ids(index)
    present = _ids(index)
    for generation, ids in known.items():
        changes = index.changes_since(generation)
        assert changes.complete
        assert ids - set(changes.removed) | set(changes.added) == present
        assert set(changes.added) <= present


def test_searches_in_many_threads_see_ingests_and_never_a_ghost(index: Index, corpus: Path):
    index.ingest([corpus])
    failures: list[BaseException] = []
    done = threading.Event()

    def search() -> None:
        try:
            while not done.is_set():
                hits = index.search(query("turn"), 3)[0]
                assert len(hits) == 3
                index.search_text(["herons"], 3)
        except BaseException as error:  # noqa: BLE001
            failures.append(error)

    threads = [threading.Thread(target=search) for _ in range(4)]
    for thread in threads:
        thread.start()
    for turn in range(8):
        (corpus / "heron.txt").write_text(f"Herons, turn {turn}.\n")
        index.ingest([corpus])
        assert found(index, f"herons turn {turn}", 1) == [f"Herons, turn {turn}."]
    done.set()
    for thread in threads:
        thread.join()
    assert failures == []


def test_what_was_removed_is_an_unknown_chunk(index: Index, corpus: Path):
    index.ingest([corpus])
    hit = index.search(query("herons"), 1)[0][0]
    (corpus / "heron.txt").unlink()
    index.ingest([corpus], prune=True)
    with pytest.raises(UnknownChunk, match=hit.chunk_id):
        index.chunks([hit.chunk_id])


def test_a_closed_index_says_so(index: Index, corpus: Path):
    index.ingest([corpus])
    index.close()
    with pytest.raises(IndexClosed):
        index.search(query("x"), 1)


def test_an_index_reads_without_writing_where_it_may_not_write(index: Index, corpus: Path):
    index.ingest([corpus])
    index.close()
    for leftover in index.folder.glob("catalog.sqlite3-*"):
        leftover.unlink()
    before = {path.name: path.stat().st_mtime_ns for path in index.folder.iterdir()}
    with Index.open(index.folder, read_only=True) as reader:
        assert found(reader, "herons", 1) == ["Herons nest by the pond."]
        assert reader.verify().ok
    after = {path.name: path.stat().st_mtime_ns for path in index.folder.iterdir()}
    assert {name: after[name] for name in before} == before


@pytest.mark.skipif(not Path("/proc/self").exists(), reason="needs setuid")
def test_an_index_on_a_read_only_disk_can_be_searched(index: Index, corpus: Path):
    """As another user, who may read the folder and create nothing in it."""
    import os

    import faiss

    if os.geteuid() != 0:
        pytest.skip("needs root, to become somebody else")
    index.ingest([corpus])
    assert found(index, "herons", 1)  # imports what a search needs: the other user may not read it
    index.close()
    for folder in [index.folder, *index.folder.parents][:4]:
        if Path(tempfile.gettempdir()) in folder.parents:
            folder.chmod(0o755)
    pid = os.fork()
    if pid == 0:
        status = 1
        try:
            try:
                os.setgid(65534)
                os.setuid(65534)
            except PermissionError:  # root without the capability
                os._exit(77)
            faiss.omp_set_num_threads(1)  # a fork has none of the threads that earlier tests started
            with Index.open(index.folder, read_only=True) as reader:
                ok = found(reader, "herons", 1) == ["Herons nest by the pond."]
                status = 0 if ok and reader.search_text(["herons"], 1)[0] else 2
        finally:
            os._exit(status)
    status = os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])
    if status == 77:
        pytest.skip("needs the right to become somebody else")
    assert status == 0


# --- verify


def _damage(index: Index, *statements: str) -> None:
    connection = sqlite3.connect(index.folder / CATALOG_NAME)
    for statement in statements:
        connection.execute(statement)
    connection.commit()
    connection.close()


@pytest.mark.parametrize(
    ("check", "statement"),
    [
        ("offsets", "UPDATE chunks SET start = start + 1 WHERE rowid = 1"),
        ("offsets", "UPDATE chunks SET text = 'made up' WHERE rowid = 2"),
        ("offsets", "UPDATE documents SET text = x'00' WHERE rowid = 1"),
        ("embeddings", "UPDATE embeddings SET vector = x'00000000' WHERE rowid = 1"),
        ("embeddings", "UPDATE embeddings SET vector = zeroblob(128) WHERE rowid = 1"),
        ("links", "UPDATE files SET document = NULL WHERE rowid = 1"),
        ("links", "DELETE FROM files WHERE rowid = 2"),
        ("links", "DELETE FROM chunks WHERE document = 2"),
        ("database", "UPDATE chunks SET embedding = 999 WHERE rowid = 1"),
        ("lexical", "DELETE FROM lexical_segments"),
        ("lexical", "INSERT INTO lexical_removed SELECT segment, 0 FROM lexical_segments"),
        ("vectors", "UPDATE embeddings SET vector = (SELECT vector FROM embeddings WHERE rowid = 2)"),
    ],
)
def test_verify_finds_what_was_tampered_with(index: Index, corpus: Path, check: str, statement: str):
    index.ingest([corpus])
    assert index.verify().ok
    _damage(index, statement)
    report = index.verify()
    assert not report.ok
    assert check in {finding.check for finding in report.findings}
    assert all(finding.message and finding.hint for finding in report.findings)


@pytest.mark.parametrize(
    ("check", "statement", "message"),
    [
        ("offsets", "DELETE FROM documents WHERE rowid = 2", "The document of chunk .* does not exist"),
        ("lexical", "DELETE FROM lexical_state", "Text search fails"),
    ],
)
def test_verify_says_which_row_is_gone(index: Index, corpus: Path, check: str, statement: str, message: str):
    index.ingest([corpus])
    _damage(index, statement)
    (finding,) = [finding for finding in index.verify().findings if finding.check == check]
    assert re.match(message, finding.message)
    assert finding.hint


def test_the_lost_state_of_text_search_is_made_anew_by_the_next_ingest(index: Index, corpus: Path):
    index.ingest([corpus])
    index.close()
    _damage(index, "DELETE FROM lexical_state")
    with Index.open(index.folder, embedder=HashingEmbedder()) as opened:
        opened.ingest([corpus])
        assert opened.verify().ok
        assert opened.search_text(["herons"], 1)[0]


@pytest.mark.parametrize("error", [RuntimeError("boom"), KeyError("boom"), OSError(5, "boom")])
def test_a_check_that_fails_in_a_way_nobody_foresaw_is_a_finding_and_the_others_go_on(
    index: Index, corpus: Path, monkeypatch: pytest.MonkeyPatch, error: Exception
):
    def fail(*_: object) -> None:
        raise error

    index.ingest([corpus])
    _damage(index, "DELETE FROM lexical_segments")
    monkeypatch.setattr(checkpoint, "open_vectors", fail)
    found = {finding.check: finding for finding in index.verify().findings}
    assert "boom" in found["vectors"].message
    assert type(error).__name__ in found["vectors"].message
    assert found["vectors"].hint
    assert "lexical" in found


def test_verify_can_be_interrupted(index: Index, corpus: Path, monkeypatch: pytest.MonkeyPatch):
    def interrupt(*_: object) -> None:
        raise KeyboardInterrupt

    index.ingest([corpus])
    monkeypatch.setattr(checkpoint, "open_vectors", interrupt)
    with pytest.raises(KeyboardInterrupt):
        index.verify()


def test_verify_survives_a_catalog_that_is_damaged_on_disk(index: Index, corpus: Path):
    for number in range(200):
        (corpus / f"{number}.txt").write_text(f"File number {number}. " * 20)
    index.ingest([corpus])
    index.close()
    path = index.folder / CATALOG_NAME
    data = bytearray(path.read_bytes())
    for start in range(8192 * 4, len(data), 8192 * 3):
        data[start : start + 2000] = b"\xff" * min(2000, len(data) - start)
    path.write_bytes(data)
    with Index.open(index.folder, read_only=True) as opened:
        report = opened.verify()
    assert not report.ok
    assert all(finding.hint for finding in report.findings)


def test_the_report_of_verify_is_bounded(index: Index, corpus: Path):
    for number in range(60):
        (corpus / f"{number}.txt").write_text(f"File number {number}.\n")
    index.ingest([corpus])
    _damage(index, "UPDATE chunks SET start = start + 1")
    assert 0 < len(index.verify().findings) <= 21


# --- the package


def test_importing_the_package_and_opening_an_index_loads_nothing_heavy(tmp_path: Path):
    code = (
        "import sys, indexer; from indexer import Index; Index.open(sys.argv[1]).close();"
        "print([m for m in ('torch', 'faiss', 'sentence_transformers', 'lxml', 'PIL') if m in sys.modules])"
    )
    done = subprocess.run(
        [sys.executable, "-c", code, str(tmp_path / "index")], check=True, capture_output=True, text=True
    )
    assert done.stdout.strip() == "[]"


def test_stats_count_what_is_there(index: Index, corpus: Path):
    (corpus / "empty.txt").touch()
    index.ingest([corpus])
    stats = index.stats()
    assert stats.files == {"failed": 1, "indexed": 3}
    assert (stats.documents, stats.chunks, stats.embeddings, stats.dimension) == (3, 4, 4, 32)
    assert stats.chunks_by_kind == {"code": 1, "text": 3}
    assert stats.documents_by_format == {"markdown": 1, "python": 1, "text": 1}
    assert stats.embedder == "hashing-32"
    assert stats.catalog_bytes > 0
    assert stats.checkpoint_bytes > 0


def test_stats_are_told_while_an_ingest_replaces_the_files_that_they_count(
    index: Index, corpus: Path, monkeypatch: pytest.MonkeyPatch
):
    index.ingest([corpus])
    before, real = index.stats(), Path.glob

    def listed_and_gone(folder: Path, pattern: str) -> list[Path]:
        return [folder / pattern.replace("*", "-gone"), *real(folder, pattern)]

    monkeypatch.setattr(Path, "glob", listed_and_gone)
    assert index.stats() == before


def test_a_checkpoint_that_is_written_while_it_is_looked_for_is_no_finding(
    index: Index, corpus: Path, monkeypatch: pytest.MonkeyPatch
):
    index.ingest([corpus])
    stamp, away = index.folder / checkpoint.STAMP_NAME, index.folder / "vectors.away"
    stamp.rename(away)
    real = checkpoint.read_stamp

    def read_stamp(folder: Path) -> checkpoint.Stamp | None:
        found = real(folder)
        if away.exists():
            away.rename(stamp)
        return found

    monkeypatch.setattr(checkpoint, "read_stamp", read_stamp)
    assert index.verify().findings == ()


def _ids(index: Index) -> set[str]:
    with index.catalog.read() as connection:
        return set(catalog_reader.added_since(connection, -1))
