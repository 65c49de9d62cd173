from __future__ import annotations

import json
import re
import shutil
import socket
import sys
from io import BytesIO, TextIOWrapper
from pathlib import Path
from typing import NamedTuple
from zipfile import ZipFile

import pytest
from pypdf import PdfWriter

from ragserve.cli import main

EXAMPLES = Path(__file__).parents[2] / "examples" / "corpus"


class Outcome(NamedTuple):
    code: int
    out: str
    err: str

    @property
    def document(self):
        assert self.out, self.err
        return json.loads(self.out)


@pytest.fixture
def filled(capsys, monkeypatch, home, embedder, generator):
    """Runs a command in the folder of the small corpus, with the small parts in place of the models."""
    monkeypatch.chdir(home)
    monkeypatch.setattr("ragserve.parts.open_embedder", lambda settings: embedder)
    monkeypatch.setattr("ragserve.parts.open_generator", lambda settings: generator)

    def run(*arguments: str, stdin: bytes = b"") -> Outcome:
        monkeypatch.setattr(sys, "stdin", TextIOWrapper(BytesIO(stdin)))
        capsys.readouterr()
        code = main(list(arguments))
        captured = capsys.readouterr()
        return Outcome(code, captured.out, captured.err)

    return run


@pytest.fixture
def ragserve(filled, index):
    """The same without an index."""
    shutil.rmtree(index)
    return filled


# --- ingest


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


# --- search and query


def test_search_prints_hits_with_the_documented_names(filled, corpus):
    document = filled("search", "forty apple trees", "--json", "-k", "2").document
    assert set(document) == {"hits", "tier", "timings", "explanation"}
    assert document["tier"] in {"miss", "exact", "certified", "approximate"}
    first = document["hits"][0]
    assert set(first) == {"rank", "score", "chunk", "parts"}
    assert (first["rank"], first["parts"]) == (1, [])
    chunk = first["chunk"]
    assert chunk["uri"] == str((corpus / "garden.txt").resolve())
    assert set(chunk) == {
        *("id", "document_id", "uri", "uris", "text", "start", "end", "page", "lines", "boxes"),
        *("heading_path", "kind"),
    }
    assert chunk["uris"] == [chunk["uri"]]
    assert len(document["hits"]) == 2


def test_more_passages_than_there_are_is_all_of_them(filled):
    chunks = filled("stats", "--json").document["chunks"]
    assert len(filled("search", "bridge", "--json", "-k", "100000").document["hits"]) == chunks


def test_search_can_be_narrowed_to_a_kind_or_a_path(filled):
    for flags in (["--kind", "code"], ["--path", "*.py"], ["--path", "corpus/tide.py"], ["--path", "tide"]):
        hits = filled("search", "tide", "--json", *flags).document["hits"]
        assert hits
        assert all(hit["chunk"]["uri"].endswith("tide.py") for hit in hits)
    assert filled("search", "tide", "--json", "--path", "corpus").document["hits"]
    assert not filled("search", "tide", "--json", "--path", "/nowhere/*").document["hits"]


def test_what_becomes_of_the_best_passages_can_be_said_in_a_call(filled):
    flags = (
        "--mmr-lambda",
        "0.5",
        "--duplicate-overlap",
        "0.8",
        "--neighbours",
        "1",
        "--section-min-hits",
        "2",
    )
    for document in (
        filled("search", "Mara Ellison", *flags, "--json").document,
        filled("query", "Who designed the Lantern bridge?", *flags, "--json").document["retrieval"],
    ):
        assert document["explanation"]["mmr_lambda"] == 0.5
        assert document["explanation"]["suppressed"] == []
    values = filled("config", *flags, "--json").document
    assert values["ranking.neighbours"] == {"value": 1, "origin": "flag"}
    assert values["ranking.section_min_hits"] == {"value": 2, "origin": "flag"}


def test_search_for_people_names_file_score_and_text(filled):
    found = filled("search", "Mara Ellison")
    assert "  1. corpus/bridge.md, lines 1-7 (score" in found.out
    assert "designed the Lantern bridge" in found.out
    assert found.err == ""


def test_query_answers_and_lists_its_sources(filled):
    found = filled("query", "Who designed the Lantern bridge?")
    assert found.code == 0
    assert "Mara Ellison designed the Lantern bridge in 1931. [1]" in " ".join(found.out.split())
    assert "Sources:\n  [1] corpus/bridge.md, line 3 (score" in found.out
    assert '"Mara Ellison designed' in found.out
    assert found.err == ""


def test_an_unsupported_answer_says_so_lists_the_nearest_passages_and_is_no_failure(filled):
    found = filled("query", "Quidditch?")
    assert found.code == 0
    assert "The passages do not answer this." in found.out
    assert "Nearest passages:\n  1. " in found.out


def test_query_json_has_the_documented_names_and_verbatim_quotes(filled, corpus):
    document = filled("query", "Who designed the Lantern bridge?", "--json").document
    assert set(document) == {
        *("question", "answer", "supported", "confidence", "citations", "hits"),
        *("retrieval", "usage", "timings"),
    }
    assert document["supported"] is True
    assert document["retrieval"]["tier"] == "miss"
    (citation,) = document["citations"]
    text = (corpus / "bridge.md").read_text()
    assert citation["quote"] in text
    assert citation["end"] - citation["start"] == len(citation["quote"])


def test_query_can_search_again_with_its_answer(filled):
    question = "Who designed the Lantern bridge?"
    found = filled("query", question, "--rounds", "2", "--explain")
    assert "Mara Ellison designed the Lantern bridge in 1931. [1]" in " ".join(found.out.split())
    assert f"rounds: query {question} Mara Ellison designed" in " ".join(found.out.split())
    document = filled("query", question, "--rounds", "2", "--json").document
    assert len(document["retrieval"]["explanation"]["rounds"]) == 1


def test_several_questions_are_answered_in_turn(filled, home):
    (home / "questions.txt").write_text("# two of them\n\nWho designed the bridge?\nWhere do herons nest?\n")
    found = filled("query", "--file", "questions.txt")
    assert found.out.index("> Who designed the bridge?") < found.out.index("> Where do herons nest?")
    documents = filled("query", "--file", "questions.txt", "--json").document
    assert [document["question"] for document in documents] == [
        "Who designed the bridge?",
        "Where do herons nest?",
    ]
    assert len(filled("query", "One?", "Two?", "--json").document) == 2


def test_a_question_can_come_from_stdin(filled):
    document = filled("query", "-", "--json", stdin=b"Who designed\nthe Lantern bridge?\n").document
    assert document["question"] == "Who designed\nthe Lantern bridge?"
    documents = filled("query", "--file", "-", "--json", stdin=b"One?\nTwo?\n").document
    assert [document["question"] for document in documents] == ["One?", "Two?"]


def test_explain_says_how_and_how_long(filled):
    found = filled("query", "Who designed the Lantern bridge?", "--explain")
    assert "Retrieval: miss" in found.out
    assert " ms\n" in found.out


def test_an_empty_index_answers_that_it_knows_nothing(ragserve, home):
    (home / "nothing").mkdir()
    found = ragserve("ingest", "nothing")
    assert found.code == 0
    assert "No file was found there" in found.err
    document = ragserve("query", "Anything?", "--json").document
    assert (document["supported"], document["hits"]) == (False, [])
    assert "No passage found." in ragserve("search", "Anything?").out


# --- looking after the index


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


def test_a_damaged_index_does_not_verify(filled, home):
    (checkpoint,) = (home / ".ragserve").glob("*.faiss")
    data = bytearray(checkpoint.read_bytes())
    data[len(data) // 2] ^= 0xFF
    checkpoint.write_bytes(bytes(data))
    found = filled("verify", "--json")
    assert found.code == 1
    assert found.document["findings"]


# --- calls that are wrong


WRONG_CALLS = [
    (["query", ""], "empty-question"),
    (["query", " \u200b\n"], "empty-question"),
    (["search", ""], "empty-question"),
    (["query", "x" * 10_001], "question-too-long"),
    (["query"], "empty-question"),
    (["query", "--file", "nowhere.txt"], "path-not-found"),
    (["query", "x", "-k", "0"], "invalid-setting"),
    (["search", "x", "--kind", "poem"], "invalid-filter"),
    (["search", "x", "--device", "tpu"], "invalid-setting"),
    (["search", "x", "--rerank", "bm25"], "invalid-setting"),
    (["query", "x", "--rerank", "cross-encoder"], "invalid-setting"),
    (["query", "x", "--rounds", "0"], "invalid-rounds"),
    (["query", "x", "--rounds", "5"], "invalid-rounds"),
    (["query", "x", "--mmr-lambda", "2"], "invalid-setting"),
    (["stats", "--index", "nowhere"], "index-not-found"),
    (["query", "x", "--index", "nowhere"], "index-not-found"),
    (["serve", "--index", "nowhere", "--port", "0"], "index-not-found"),
    (["serve", "--host", "no.such.host.invalid"], "address-unavailable"),
    (["train", "nowhere.toml"], "path-not-found"),
]


@pytest.mark.parametrize(("arguments", "code"), WRONG_CALLS)
def test_a_wrong_call_is_a_sentence_a_remedy_and_exit_code_2(filled, arguments, code):
    plain = filled(*arguments)
    assert (plain.code, plain.out) == (2, "")
    assert plain.err.startswith("Error: ")
    assert "\nHint:  " in plain.err
    assert "Traceback" not in plain.err
    as_json = filled(*arguments, "--json")
    assert as_json.code == 2
    assert as_json.document["error"]["code"] == code
    assert set(as_json.document["error"]) == {"code", "message", "hint"}


def test_a_question_of_a_megabyte_is_refused_before_it_is_read_whole(filled):
    found = filled("query", "-", "--json", stdin=b"x" * 1_000_000)
    assert (found.code, found.document["error"]["code"]) == (2, "question-too-long")


def test_an_unknown_setting_is_refused_whatever_the_command(filled, monkeypatch):
    monkeypatch.setenv("RAGSERVE_EMBEDER", "x")
    found = filled("search", "x", "--json")
    assert (found.code, found.document["error"]["code"]) == (2, "unknown-setting")
    assert found.document["error"]["hint"] == "Did you mean RAGSERVE_EMBEDDER?"


def test_an_index_from_another_embedder_says_so(filled, embedder, monkeypatch):
    monkeypatch.setattr(type(embedder), "fingerprint", "words-65")
    found = filled("search", "x", "--json")
    assert (found.code, found.document["error"]["code"]) == (2, "embedder-mismatch")
    assert filled("stats", "--json").code == 0  # looking after it needs no embedder


def test_a_port_in_use_says_so(filled):
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        found = filled("serve", "--port", str(port), "--json")
    assert (found.code, found.document["error"]["code"]) == (2, "port-in-use")
    assert str(port) in found.err


def test_an_unknown_flag_is_exit_code_2(ragserve):
    found = ragserve("query", "--jason", "x")
    assert (found.code, found.out) == (2, "")
    assert "--json" in found.err


def test_a_bug_is_a_sentence_too_and_a_traceback_on_demand(filled, monkeypatch):
    def fail(self, *_, **__):
        raise ZeroDivisionError("nothing to divide")

    monkeypatch.setattr("indexer.index.Index.stats", fail)
    found = filled("stats")
    assert found.code == 1
    assert "ZeroDivisionError: nothing to divide" in found.err
    assert "Traceback" not in found.err
    with pytest.raises(ZeroDivisionError):
        filled("stats", "--debug")


def test_a_failing_disk_is_exit_code_1(filled, monkeypatch):
    def fail(self, *_, **__):
        raise OSError(28, "No space left on device", "/index/catalog.sqlite3")

    monkeypatch.setattr("indexer.index.Index.stats", fail)
    found = filled("stats")
    assert found.code == 1
    assert found.err == "Error: /index/catalog.sqlite3: No space left on device.\n"


# --- export and import


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


# --- snapshots


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


# --- form


def test_everything_fits_into_80_columns(filled, corpus):
    (corpus / "empty.txt").touch()
    (corpus / "long.txt").write_text("A paragraph that goes on. " * 60)
    commands = [
        ["ingest", "corpus"],
        ["search", "paragraph"],
        ["query", "Which paragraph goes on?"],
        ["query", "Quidditch?", "--explain"],
        ["doctor"],
        ["stats"],
        ["verify"],
        ["export", "all.jsonl"],
        ["import", "all.jsonl"],
        ["config"],
        ["query", ""],
    ]
    for command in commands:
        found = filled(*command)
        assert max(map(len, (found.out + found.err).splitlines())) <= 80, command


def test_every_command_explains_itself_in_80_columns(ragserve):
    overview = ragserve("--help")
    names = [line.split()[0] for line in overview.out.partition("Commands:\n")[2].splitlines()]
    assert names == [
        *("ingest", "query", "search", "serve", "stats", "verify", "doctor", "export", "import"),
        *("config", "train", "eval", "rollback", "snapshot"),
    ]
    parts = ("create", "list", "restore", "delete")
    for name in [[name] for name in names[:-1]] + [["snapshot", part] for part in parts]:
        found = ragserve(*name, "--help")
        assert found.code == 0
        assert "--json" in found.out
        assert max(map(len, found.out.splitlines())) <= 80


def test_config_says_where_each_value_comes_from(ragserve, home, monkeypatch):
    (home / "ragserve.toml").write_text("k = 3\n")
    monkeypatch.setenv("RAGSERVE_JOBS", "2")
    document = ragserve("config", "--json", "--device", "cpu").document
    assert document["k"] == {"value": 3, "origin": "ragserve.toml"}
    assert document["jobs"] == {"value": 2, "origin": "RAGSERVE_JOBS"}
    assert document["device"] == {"value": "cpu", "origin": "flag"}
    assert document["index"] == {"value": ".ragserve", "origin": "default"}
    assert "k = 3  (ragserve.toml)\n" in ragserve("config").out


def test_the_version_is_the_package_s(ragserve):
    assert ragserve("--version").out.startswith("ragserve 0.")


def test_the_pages_about_the_command_line_are_up_to_date():
    from ragserve.cli.reference import regenerated

    page = (Path(__file__).parents[2] / "docs" / "cli.md").read_text(encoding="utf-8")
    assert "<!-- begin ragserve query -->" in page
    assert regenerated(page) == page, "run: python -m ragserve.cli.reference docs/cli.md"
