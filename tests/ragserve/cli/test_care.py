from __future__ import annotations

import re
import shutil
from pathlib import Path


def test_stats_tell_how_the_last_runs_ended(filled, corpus):
    (corpus / "empty.txt").touch()
    filled("ingest", "corpus")
    runs = filled("stats", "--json").document["runs"]
    assert [(run["command"], run["outcome"], run["counts"]["indexed"]) for run in runs] == [
        ("ingest", "finished", 0),
        ("ingest", "finished", 3),
    ]
    last, first = filled("stats").out.partition("last runs ")[2].splitlines()
    assert re.search(r"ingest finished after \S+ s: 3 unchanged, 1 failed$", last)
    assert re.search(r"^ {12}[\d-]+ [\d:]+ ingest finished after \S+ s: 3 indexed, \d+ chunks$", first)


def test_doctor_tells_of_a_run_that_was_cut_off_and_how_to_go_on(filled, corpus, embedder, monkeypatch):
    (corpus / "new.txt").write_text("A new file.\n")

    def stop(texts):
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(embedder, "embed_documents", stop)
        assert filled("ingest", "corpus").code == 130
    found = filled("doctor")
    assert found.code == 1
    assert re.match(r"! The ingest of [\d-]+ [\d:]+ was interrupted: corpus\n", found.out)
    assert "-> Run `ragserve ingest` again to go on; what it has committed is kept." in found.out
    assert "Every file" not in found.out
    (run,) = filled("doctor", "--json").document["cut_off"]
    assert run["outcome"] == "interrupted"
    filled("ingest", "corpus")
    assert filled("doctor").code == 0
    assert filled("doctor", "--json").document["cut_off"] == []


def test_stats_verify_and_doctor_tell_what_is_there(filled, corpus):
    stats = filled("stats", "--json").document
    assert stats["documents"] == 3
    assert stats["embedder"] == "words-64"
    assert filled("verify", "--json").document["ok"] is True
    assert "The index is sound" in filled("verify").out
    assert "Every file that was found is searchable." in filled("doctor").out
    (corpus / "empty.txt").touch()
    filled("ingest", "corpus")
    doctor = filled("doctor", "--json")
    assert doctor.code == 1
    assert [status["uri"] for status in doctor.document["failed"]] == [str((corpus / "empty.txt").resolve())]
    assert "Failed:\n  corpus/empty.txt\n" in filled("doctor").out


def test_doctor_says_of_every_file_that_cannot_be_found_why(filled, corpus):
    (corpus / "empty.txt").touch()
    (corpus / "program").write_bytes(bytes(range(256)) * 8)
    (corpus / ".gitignore").write_text("*.log\n")
    (corpus / "run.log").write_text("ignored\n")
    filled("ingest", "corpus", "--jobs", "1")
    found = filled("doctor", "--json").document
    statuses = {Path(each["uri"]).name: each for each in (*found["failed"], *found["skipped"])}
    assert set(statuses) == {"empty.txt", "program", "run.log", ".gitignore"}
    assert statuses["empty.txt"]["reason"] == "empty.txt holds no text."
    assert statuses["empty.txt"]["hint"]
    assert ".gitignore" in statuses["run.log"]["reason"]
    said = " ".join(filled("doctor").out.split())
    for name, status in statuses.items():
        assert status["code"]
        assert f"corpus/{name} {status['reason']}" in said


def test_a_damaged_index_does_not_verify(filled, home):
    (checkpoint,) = (home / ".ragserve").glob("*.faiss")
    data = bytearray(checkpoint.read_bytes())
    data[len(data) // 2] ^= 0xFF
    checkpoint.write_bytes(bytes(data))
    found = filled("verify", "--json")
    assert found.code == 1
    assert found.document["findings"]


def test_an_exported_index_answers_the_same_where_it_is_imported(filled, home, embedder):
    exported = filled("export", "all.jsonl", "--vectors", "--json").document
    assert (exported["documents"], exported["path"]) == (3, "all.jsonl")
    calls = embedder.num_calls
    assert filled("import", "all.jsonl", "--index", "other", "--json").document["embedded"] == 0
    assert embedder.num_calls == calls
    question = ("search", "apple trees", "--json")
    assert filled(*question, "--index", "other").document["hits"] == filled(*question).document["hits"]


def test_export_keeps_a_file_that_is_there_and_import_says_which_line_is_wrong(filled, home):
    (home / "all.jsonl").write_text("{}\n")
    found = filled("export", "all.jsonl", "--json")
    assert (found.code, found.document["error"]["code"]) == (2, "export-exists")
    found = filled("import", "all.jsonl", "--index", "other")
    assert found.code == 2
    assert "all.jsonl, line 1: the field type is missing" in found.err.replace("\n       ", " ")
    assert filled("export", "all.jsonl", "--force").code == 0


def test_parquet_is_chosen_by_the_name_of_the_file_or_by_a_flag(filled, home):
    assert filled("export", "all.parquet", "--vectors", "--json").document["chunks"] > 0
    assert filled("export", "table", "--format", "parquet").code == 0
    assert [(home / name).read_bytes()[:4] for name in ("all.parquet", "table")] == [b"PAR1"] * 2
    assert filled("import", "all.parquet", "--index", "other", "--json").document["embedded"] == 0
    question = ("search", "apple trees", "--json")
    assert filled(*question, "--index", "other").document["hits"] == filled(*question).document["hits"]
    found = filled("export", "all.xml", "--format", "xml", "--json")
    assert (found.code, found.document["error"]["code"]) == (2, "unknown-export-format")


def test_doctor_lists_files_with_the_same_text_and_finds_no_fault_with_them(filled, corpus):
    shutil.copy(corpus / "garden.txt", corpus / "garden copy.txt")
    filled("ingest", "corpus")
    found = filled("doctor")
    assert found.code == 0
    assert found.out.endswith(
        "Near-duplicates:\n  2 files, the same text:\n    corpus/garden copy.txt\n    corpus/garden.txt\n"
    )
    document = filled("doctor", "--json").document
    assert document["near_duplicates_total"] == 1
    assert document["near_duplicates"][0]["files"] == 2


def test_an_index_goes_back_to_a_snapshot(filled, corpus):
    question = ("search", "apple trees", "--json")
    before = filled(*question).document["hits"]
    assert filled("snapshot", "create", "good").out.startswith("Kept as good: ")
    (corpus / "garden.txt").unlink()
    filled("ingest", "corpus", "--prune")
    assert filled(*question).document["hits"] != before
    assert filled("snapshot", "list", "--json").document["snapshots"][0]["name"] == "good"
    assert filled("snapshot", "restore", "good", "--json").document["documents"] == 3
    assert filled(*question).document["hits"] == before
    assert filled("snapshot", "delete", "good").code == 0
    assert filled("snapshot", "list").out == "There is no snapshot.\n"
    found = filled("snapshot", "restore", "good", "--json")
    assert (found.code, found.document["error"]["code"]) == (2, "snapshot-not-found")


def test_an_index_goes_back_to_a_generation_of_which_there_is_a_snapshot(filled, corpus):
    generation = str(filled("stats", "--json").document["generation"])
    filled("snapshot", "create", "good")
    (corpus / "garden.txt").unlink()
    filled("ingest", "corpus", "--prune")
    assert f"generation {generation}," in filled("snapshot", "list").out
    assert filled("rollback", generation).out.startswith("The index is good again: ")
    assert filled("stats", "--json").document["documents"] == 3
    found = filled("rollback", "4711", "--json")
    assert (found.code, found.document["error"]["code"]) == (2, "snapshot-not-found")
