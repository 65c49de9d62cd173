from __future__ import annotations

from pathlib import Path
from zipfile import ZipFile

from pypdf import PdfWriter

from indexer.workers import ParsePool

EXAMPLES = Path(__file__).parents[3] / "examples" / "corpus"


def test_ingest_accounts_for_every_file(ragserve, corpus):
    (corpus / "empty.txt").touch()
    (corpus / "program.bin").write_bytes(bytes(range(256)) * 8)
    found = ragserve("ingest", "corpus", "--json", "--jobs", "1")
    report = found.document
    assert found.code == 1
    assert (report["indexed"], report["unchanged"], report["removed"]) == (3, 0, 0)
    assert report["skipped"] + len(report["failed"]) == 2
    (failure,) = [failure for failure in report["failed"] if failure["uri"].endswith("empty.txt")]
    assert failure["reason"]
    assert failure["hint"]
    assert failure["code"]
    assert report["chunks"] >= 3
    assert report["seconds"] > 0


def test_a_second_ingest_reads_nothing_again(filled, embedder):
    calls = embedder.num_calls
    report = filled("ingest", "corpus", "--json").document
    assert (report["indexed"], report["unchanged"]) == (0, 3)
    assert embedder.num_calls == calls


def test_ingest_says_what_it_did_and_lists_what_failed_with_the_remedy(ragserve, corpus):
    (corpus / "empty.txt").touch()
    found = ragserve("ingest", "corpus", "--jobs", "1")
    assert found.code == 1
    assert "indexed" in found.out
    assert "Failed:\n  corpus/empty.txt\n" in found.out
    assert "    -> " in found.out


def test_an_encrypted_pdf_is_read_with_the_password_of_a_file(ragserve, corpus, home):
    writer = PdfWriter(clone_from=EXAMPLES / "handbook.pdf")
    writer.encrypt("open sesame", algorithm="RC4-128")
    writer.write(corpus / "locked.pdf")
    found = ragserve("ingest", "corpus", "--jobs", "1")
    assert found.code == 1
    assert "--password-file" in found.out
    (home / "password.txt").write_text("open sesame\n")
    found = ragserve("ingest", "corpus", "--jobs", "1", "--password-file", "password.txt")
    assert found.code == 0, found.out
    assert "locked.pdf, page" in ragserve("search", "mean wind Wagtail", "--path", "*.pdf").out


def test_a_password_is_asked_for_unseen_and_goes_nowhere_else(ragserve, corpus, home, monkeypatch):
    writer = PdfWriter(clone_from=EXAMPLES / "handbook.pdf")
    writer.encrypt("open sesame", algorithm="RC4-128")
    writer.write(corpus / "locked.pdf")
    found = ragserve("ingest", "corpus", "--password")
    assert found.code == 2
    assert "there is none" in found.err, "no terminal"
    asked: list[str] = []
    monkeypatch.setattr("ragserve.cli.ingest.on_terminal", lambda: True)
    monkeypatch.setattr("getpass.getpass", lambda prompt, stream: asked.append(prompt) or "open sesame")
    assert ragserve("ingest", "corpus", "--jobs", "1", "--password").code == 0
    assert asked == ["Password of encrypted PDFs: "]
    files = [path for path in (home / ".ragserve").rglob("*") if path.is_file()]
    assert files
    assert not any(b"open sesame" in path.read_bytes() for path in files)
    monkeypatch.setattr("getpass.getpass", lambda prompt, stream: "")
    found = ragserve("ingest", "corpus", "--password")
    assert (found.code, "empty" in found.err) == (2, True)

    def end(prompt, stream):
        raise EOFError

    monkeypatch.setattr("getpass.getpass", end)
    found = ragserve("ingest", "corpus", "--password")
    assert (found.code, found.err.strip()) == (1, "Error: The input ended before it was complete.")


def test_files_that_are_not_whole_are_counted_by_ingest_and_listed_by_doctor(filled, corpus):
    with ZipFile(corpus / "notes.zip", "w") as archive:
        archive.writestr("wind.txt", "The mean wind is four knots.")
        for number in range(7):
            archive.writestr(f"{number}.pdf", "%PDF-1.7 nothing of a PDF")
    found = filled("ingest", "corpus", "--jobs", "1")
    assert found.code == 0
    assert "partial    1  of these, not whole; `ragserve doctor` says why\n" in found.out
    assert filled("ingest", "corpus", "--jobs", "1", "--json").document["partial"] == 0
    found = filled("doctor")
    assert found.code == 0
    listed = found.out.partition("Indexed, but not whole:\n  corpus/notes.zip\n")[2].splitlines()
    assert listed[0].startswith("    0.pdf: 0.pdf ")
    assert "    and 2 more; --json lists them" in listed
    (partial,) = filled("doctor", "--json").document["partial"]
    assert len(partial["warnings"]) == 7


def test_prune_forgets_what_is_gone_and_without_it_nothing_is_forgotten(filled, corpus):
    (corpus / "garden.txt").unlink()
    assert filled("ingest", "corpus", "--json").document["missing"] == 1
    assert filled("ingest", "corpus", "--json", "--prune").document["removed"] == 1
    found = filled("search", "apple trees", "--json")
    assert found.code == 0, found.out
    hits = found.document["hits"]
    assert all(not hit["chunk"]["uri"].endswith("garden.txt") for hit in hits)


def test_as_many_processes_parse_as_are_asked_for(ragserve, monkeypatch):
    asked = []

    def pool(num_workers, *arguments, **options):
        asked.append(num_workers)
        return ParsePool(num_workers, *arguments, **options)

    monkeypatch.setattr("indexer.reading.ParsePool", pool)
    assert ragserve("ingest", "corpus", "--jobs", "3").code == 0
    assert asked == [3]


def test_a_path_that_does_not_exist_stops_ingest_before_it_begins(ragserve, corpus):
    found = ragserve("ingest", "corpus", "nowhere", "--json")
    assert found.code == 2
    assert found.document["error"]["code"] == "path-not-found"
    assert "nowhere" in found.err


def test_indexes_that_share_a_cache_embed_each_text_once(filled, home, embedder, monkeypatch):
    monkeypatch.setenv("RAGSERVE_EMBEDDING_CACHE", str(home / "cache"))
    assert filled("ingest", "corpus", "--index", "one", "--json").document["embedded"] > 0
    calls = embedder.num_calls
    report = filled("ingest", "corpus", "--index", "two", "--json").document
    assert (report["indexed"], report["embedded"], embedder.num_calls) == (3, 0, calls)
