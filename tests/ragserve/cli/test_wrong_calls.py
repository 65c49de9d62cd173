from __future__ import annotations

import socket

import pytest

WRONG_CALLS = [
    (["query", ""], "empty-question"),
    (["query", " \u200b\n"], "empty-question"),
    (["search", ""], "empty-question"),
    (["query", "x" * 10_001], "question-too-long"),
    (["query"], "empty-question"),
    (["query", "--file", "nowhere.txt"], "path-not-found"),
    (["query", "--file", "corpus"], "path-not-found"),
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


@pytest.mark.parametrize(
    ("arguments", "begin", "hint"),
    [
        (["search"], "Missing argument 'QUERY'.", "See ragserve search --help."),
        (["query", "x", "-k", "many"], "Invalid value for '-k': ", "See ragserve query --help."),
        (["snapshot", "delete"], "Missing argument 'NAME'.", "See ragserve snapshot delete --help."),
        (["answer", "x"], "No such command 'answer'.", "See ragserve --help."),
    ],
)
def test_a_call_that_cannot_be_read_is_said_on_stderr_and_with_json_on_stdout_too(
    ragserve, arguments, begin, hint
):
    plain = ragserve(*arguments)
    assert (plain.code, plain.out) == (2, "")
    assert plain.err.startswith("Usage: ragserve ")
    said = plain.err.splitlines()[-1].removeprefix("Error: ")
    assert said.startswith(begin)
    as_json = ragserve(*arguments, "--json")
    assert (as_json.code, as_json.err) == (2, plain.err)
    message = f"{said.rstrip('.')}."
    assert as_json.document == {"error": {"code": "usage", "message": message, "hint": hint}}


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
