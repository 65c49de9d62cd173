from __future__ import annotations

import json
import os
import signal
import threading

import pytest


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


def test_a_file_whose_name_is_no_text_is_found_by_that_name(filled, corpus):
    (corpus / os.fsdecode(b"caf\xe9.txt")).write_text("The cafe opens at nine.\n")
    assert filled("ingest", "corpus", "--jobs", "1").code == 0
    for path in (b"corpus/caf\xe9.txt", b"caf\xe9", b"*\xe9.t?t", "*caf\ufffde9.txt".encode()):
        hits = filled("search", "cafe", "--json", "--path", os.fsdecode(path)).document["hits"]
        assert [hit["chunk"]["text"] for hit in hits] == ["The cafe opens at nine."], path
    assert not filled("search", "cafe", "--json", "--path", os.fsdecode(b"\xff")).document["hits"]


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


def test_the_file_of_questions_may_be_a_pipe(filled):
    reading, writing = os.pipe()
    try:
        os.write(writing, b"Who designed the bridge?\n")
        os.close(writing)
        (document,) = filled("query", "--file", f"/dev/fd/{reading}", "--json").document
    finally:
        os.close(reading)
    assert document["question"] == "Who designed the bridge?"


def test_a_question_can_come_from_stdin(filled):
    document = filled("query", "-", "--json", stdin=b"Who designed\nthe Lantern bridge?\n").document
    assert document["question"] == "Who designed\nthe Lantern bridge?"
    documents = filled("query", "--file", "-", "--json", stdin=b"One?\nTwo?\n").document
    assert [document["question"] for document in documents] == ["One?", "Two?"]


@pytest.mark.parametrize("command", ["search", "query", "eval"])
def test_ctrl_c_is_no_exception_while_passages_are_looked_for_and_is_one_again_after(
    filled, home, embedder, monkeypatch, command
):
    handlers, embed = [], embedder.embed_queries

    def watched(texts):
        handlers.append(signal.getsignal(signal.SIGINT))
        return embed(texts)

    monkeypatch.setattr(embedder, "embed_queries", watched)
    (home / "questions.jsonl").write_text(json.dumps({"question": "Apple trees?"}))
    assert filled(command, "questions.jsonl").code == 0
    assert handlers
    assert signal.default_int_handler not in handlers
    assert signal.getsignal(signal.SIGINT) is signal.default_int_handler


@pytest.mark.parametrize("chosen", [signal.SIG_IGN, lambda *_: None])
def test_whoever_has_chosen_what_ctrl_c_does_keeps_it(filled, embedder, monkeypatch, chosen):
    handlers, embed = [], embedder.embed_queries

    def watched(texts):
        handlers.append(signal.getsignal(signal.SIGINT))
        return embed(texts)

    monkeypatch.setattr(embedder, "embed_queries", watched)
    before = signal.signal(signal.SIGINT, chosen)
    try:
        assert filled("search", "apple trees").code == 0
    finally:
        signal.signal(signal.SIGINT, before)
    assert set(handlers) == {chosen}


def test_a_command_can_be_run_in_any_thread(filled):
    codes = []
    thread = threading.Thread(target=lambda: codes.append(filled("search", "apple trees").code))
    thread.start()
    thread.join()
    assert codes == [0]


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
