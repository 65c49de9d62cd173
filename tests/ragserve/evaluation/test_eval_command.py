"""`ragserve eval` from the shell: over an index, over own passages, saved, compared, and wrong calls."""

from __future__ import annotations

import json
import sys
from io import BytesIO, TextIOWrapper
from pathlib import Path

import pytest

from ragserve import Pipeline
from ragserve.cli import main

QUESTIONS = [
    {
        "id": "toll",
        "question": "What does crossing the bridge cost on weekdays?",
        "answers": ["two crowns"],
        "uri_suffix": "bridge.md",
        "passage": "Crossing costs two crowns on weekdays.",
    },
    {
        "id": "trees",
        "question": "Which apple trees has the garden?",
        "answers": ["forty apple trees"],
        "passage": "The garden has forty apple trees.",
    },
    {"id": "none", "question": "Who?", "answerable": False, "passage": "Nobody."},
]


@pytest.fixture
def questions(tmp_path: Path) -> Path:
    path = tmp_path / "questions.jsonl"
    path.write_text("".join(json.dumps(record) + "\n" for record in QUESTIONS))
    return path


@pytest.fixture
def ragserve(capsys, monkeypatch, home, embedder, generator):
    monkeypatch.chdir(home)
    monkeypatch.setattr("ragserve.parts.open_embedder", lambda settings: embedder)
    monkeypatch.setattr("ragserve.parts.open_generator", lambda settings: generator)

    def run(*arguments: str) -> tuple[int, str, str]:
        monkeypatch.setattr(sys, "stdin", TextIOWrapper(BytesIO(b"")))
        capsys.readouterr()
        code = main([str(argument) for argument in arguments])
        captured = capsys.readouterr()
        return code, captured.out, captured.err

    return run


def test_over_an_index_retrieval_answers_refusals_and_citations_are_measured(ragserve, questions):
    code, out, _ = ragserve("eval", questions, "--json")
    document = json.loads(out)
    figures = {name: figure["value"] for name, figure in document["figures"].items()}
    assert code == 0
    assert document["questions"] == 3
    assert figures["recall@5"] == 100
    assert figures["answerable_answered"] == 100
    assert figures["refusal_recall"] == 100
    assert figures["quotes_verbatim"] == 100
    assert figures["quotes_hold_answer"] == 100
    assert 0 < figures["f1"] < 100  # whole lines are given where a few words were wanted
    assert figures["generation_p95"] >= figures["generation_p50"] > 0
    assert document["about"]["mode"] == "index"
    for figure in document["figures"].values():
        assert figure["interval"][0] <= figure["value"] <= figure["interval"][1]


def test_further_rounds_are_those_of_the_pipeline_and_are_kept_with_the_run(ragserve, questions, monkeypatch):
    asked, ask = [], Pipeline.ask

    def watched(pipeline: Pipeline, question: str, **options):
        answer = ask(pipeline, question, **options)
        asked.append((options["rounds"], len(answer.retrieval.explanation["rounds"])))
        return answer

    monkeypatch.setattr(Pipeline, "ask", watched)
    code, out, _ = ragserve("eval", questions, "--rounds", "2", "--json")
    assert (code, json.loads(out)["about"]["rounds"]) == (0, 2)
    assert asked == [(2, 1)] * 3


def test_own_passages_need_no_index_and_have_no_ranks(ragserve, questions, index):
    code, out, _ = ragserve("eval", questions, "--passages", "--json")
    figures = json.loads(out)["figures"]
    assert code == 0
    assert "recall@5" not in figures
    assert figures["quotes_verbatim"] == {
        "value": 100,
        "interval": [100, 100],
        "questions": 2,
        "unit": "percent",
    }


def test_retrieval_only_asks_no_generator(ragserve, questions, generator):
    _, out, _ = ragserve("eval", questions, "--retrieval-only", "-k", "2", "--json")
    assert generator.num_calls == 0
    assert set(json.loads(out)["figures"]) == {
        *("recall@1", "recall@2", "mrr@2", "ndcg@2", "retrieval_p50", "retrieval_p95")
    }


def test_tables_fit_80_columns_and_a_run_compared_with_itself_is_no_change(ragserve, questions, tmp_path):
    saved = tmp_path / "run.json"
    code, table, _ = ragserve("eval", questions, "--output", saved)
    assert code == 0
    records = json.loads(saved.read_text())["outcomes"]
    assert [record["id"] for record in records] == ["toll", "trees", "none"]
    assert records[0]["quotes"] == ["Crossing costs two crowns on weekdays."]
    code, comparison, _ = ragserve("eval", "--compare", saved, saved)
    assert code == 0
    assert "3 questions in both runs. " in comparison
    assert " *\n" not in comparison
    assert max(map(len, (table + comparison).splitlines())) <= 80


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("missing/run.json", "There is no folder {here}/missing."),
        ("", "--output names a folder: {here}."),
        ("questions.jsonl/run.json", "There is no folder {here}/questions.jsonl."),
        pytest.param(
            "/proc/run.json",  # where even root can write nothing
            "/proc/run.json cannot be written: ",
            marks=pytest.mark.skipif(not Path("/proc/self").exists(), reason="only Linux has /proc"),
        ),
    ],
)
def test_where_the_run_cannot_be_kept_nothing_is_answered(
    ragserve, questions, generator, tmp_path, name, message
):
    code, out, err = ragserve("eval", questions, "--output", tmp_path / name)
    assert (code, out, generator.num_calls) == (2, "", 0)
    assert message.format(here=tmp_path) in err.replace("\n       ", " ")


def test_figures_outlast_a_run_that_cannot_be_kept_after_all(ragserve, questions, tmp_path, monkeypatch):
    def fail(path, run):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("ragserve.evaluation.saved.save_run", fail)
    code, out, err = ragserve("eval", questions, "--output", tmp_path / "run.json", "--json")
    assert code == 1
    assert json.loads(out)["questions"] == 3
    assert "run.json could not be written: No space left on device." in err.replace("\n       ", " ")


def test_the_run_is_kept_though_the_reader_of_the_figures_has_gone(
    ragserve, questions, tmp_path, monkeypatch
):
    def leave(document):
        raise BrokenPipeError

    monkeypatch.setattr("ragserve.cli.output.print_json", leave)
    monkeypatch.setattr("ragserve.cli.exits._send_stdout_nowhere", lambda: None)
    code, _, _ = ragserve("eval", questions, "--output", tmp_path / "run.json", "--json")
    assert code == 0
    assert len(json.loads((tmp_path / "run.json").read_text())["outcomes"]) == 3


def test_a_comparison_pairs_by_id_and_says_what_has_no_partner(ragserve, questions, tmp_path):
    first, second = tmp_path / "a.json", tmp_path / "b.json"
    ragserve("eval", questions, "--output", first)
    questions.write_text("".join(json.dumps(record) + "\n" for record in QUESTIONS[1:]))
    ragserve("eval", questions, "--passages", "--output", second)
    _, out, _ = ragserve("eval", "--compare", first, second, "--json")
    document = json.loads(out)
    assert (document["paired"], document["unpaired"]) == (2, 1)
    assert document["figures"]["f1"]["clear"] is False


def test_a_sample_is_the_same_every_time(ragserve, questions, tmp_path):
    drawn = []
    for name in ("a", "b"):
        ragserve("eval", questions, "--sample", "2", "--passages", "--output", tmp_path / name)
        drawn.append([record["id"] for record in json.loads((tmp_path / name).read_text())["outcomes"]])
    assert drawn[0] == drawn[1]
    assert len(drawn[0]) == 2


def test_a_question_that_fails_is_listed_and_the_others_are_measured(ragserve, questions):
    with questions.open("a") as file:
        file.write(json.dumps({"id": "long", "question": "x" * 20_000, "answers": ["y"]}) + "\n")
    code, out, _ = ragserve("eval", questions)
    assert code == 1
    assert "! long: The question has 20,000 characters" in out
    assert "f1 " in out


def test_questions_that_nothing_is_known_of_still_tell_the_speed(ragserve, tmp_path):
    path = tmp_path / "bare.jsonl"
    path.write_text('{"question": "Which apple trees?"}\n')
    code, out, _ = ragserve("eval", path, "--json")
    assert code == 0
    assert "f1" not in json.loads(out)["figures"]


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ([], "Either questions or two runs to compare"),
        (["{questions}", "--passages", "--retrieval-only"], "--passages reads no index."),
        (["{questions}", "--retrieval-only", "--rounds", "2"], "Further rounds search with a draft"),
        (["{questions}", "--passages", "--rounds", "2"], "Further rounds search with a draft"),
        (["{questions}", "--rounds", "9"], "rounds is 9"),
        (["{questions}.missing"], "cannot be read: No such file"),
        (["--compare", "{questions}", "{questions}"], "is no saved run"),
    ],
)
def test_wrong_calls_are_a_sentence_and_exit_code_2(ragserve, questions, arguments, message):
    code, _, err = ragserve("eval", *(argument.format(questions=questions) for argument in arguments))
    assert code == 2
    assert message in err.replace("\n       ", " ")


def test_a_question_without_passage_cannot_be_read_without_an_index(ragserve, tmp_path):
    path = tmp_path / "bare.jsonl"
    path.write_text('{"id": "q1", "question": "Who?"}\n')
    code, _, err = ragserve("eval", path, "--passages")
    assert code == 2
    assert "'q1' has no passage" in err


def test_a_saved_run_that_was_tampered_with_is_refused(ragserve, questions, tmp_path):
    saved = tmp_path / "run.json"
    ragserve("eval", questions, "--passages", "--output", saved)
    document = json.loads(saved.read_text())
    document["outcomes"][0]["code"] = "import os"
    saved.write_text(json.dumps(document))
    code, _, err = ragserve("eval", "--compare", saved, saved)
    assert code == 2
    assert "no saved run" in err
