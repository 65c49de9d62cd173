"""Questions from jsonl: the field mapping, and errors that name line and field."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ragserve.evaluation.records import EvalQuestion, InvalidQuestions, parse_question, read_questions


def parsed(**record: Any) -> EvalQuestion:
    return parse_question({"question": "Who?", **record}, where="q.jsonl, line 7", default_id="7")


def test_a_question_alone_is_enough_and_says_nothing_of_its_answer():
    assert parsed() == EvalQuestion("7", "Who?")


def test_our_own_questions_name_a_file_and_a_page():
    found = parsed(answers=["Ada"], uri_suffix="handbook.pdf", page=3, answerable=True)
    assert (found.answers, found.documents, found.page) == (("Ada",), ("handbook.pdf",), 3)
    assert found.answerable is True


def test_squad_records_bring_their_passage_in_either_layout():
    flat = parsed(id="a1", passage="Ada wrote it.", answers=["Ada"], answerable=True, title="Ada", source="s")
    nested = parsed(id="a1", context="Ada wrote it.", answers={"text": ["Ada"], "answer_start": [0]})
    assert flat == nested == EvalQuestion("a1", "Who?", ("Ada",), True, ("Ada wrote it.",))


def test_passages_may_be_objects_with_a_text():
    assert parsed(passages=[{"id": 1, "text": "one"}, "two"]).passages == ("one", "two")


@pytest.mark.parametrize(
    ("record", "answerable"),
    [
        ({"answers": ["x"]}, True),
        ({"answers": []}, False),
        ({"answers": None}, None),
        ({"is_impossible": True, "answers": []}, False),
        ({"is_impossible": False, "answer": "x"}, True),
        ({"answerable": False, "answers": ["a plausible one"]}, False),
        ({"answerable": True}, True),
    ],
)
def test_answerable_is_said_or_follows_from_the_answers(record, answerable):
    assert parsed(**record).answerable is answerable


@pytest.mark.parametrize(
    ("record", "field"),
    [
        ({"question": "  "}, "question"),
        ({"question": 3}, "question"),
        ({"answers": [1]}, "answers"),
        ({"answers": {"texts": ["x"]}, "answer": 4}, None),
        ({"answers": {"text": "x"}, "passages": [{"body": "y"}]}, "passages"),
        ({"answerable": "yes"}, "answerable"),
        ({"page": 0}, "page"),
        ({"page": True}, "page"),
        ({"id": [1]}, "id"),
        ({"uri": 5}, "uri"),
    ],
)
def test_a_wrong_field_is_named_with_its_line(record, field):
    if field is None:
        assert parsed(**record).answers == ()
        return
    with pytest.raises(InvalidQuestions, match=f"line 7: the field '{field}' must be") as caught:
        parsed(**record)
    assert "docs/evaluation.md" in caught.value.hint


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ('{"question": "a?"}\n{"question": \n', "line 2 is not JSON"),
        ('{"question": "a?"}\n\n["a?"]\n', "line 3 is no JSON object"),
        ('{"question": "\xff"}', "line 1 is not JSON"),
        (
            '{"id": 1, "question": "a?"}\n{"id": "1", "question": "b?"}',
            "line 2: the field 'id' is '1', as in",
        ),
        ("\n \n", "holds no question"),
        ("[" * 100_000, "line 1 is not JSON"),
    ],
)
def test_a_malformed_file_is_one_error_that_names_the_line(tmp_path: Path, content: str, message: str):
    path = tmp_path / "q.jsonl"
    path.write_bytes(content.encode("latin-1"))
    with pytest.raises(InvalidQuestions, match=message):
        read_questions(path)


def test_a_missing_file_is_a_typed_error(tmp_path: Path):
    with pytest.raises(InvalidQuestions, match="cannot be read: No such file"):
        read_questions(tmp_path / "none.jsonl")


def test_a_byte_order_mark_and_blank_lines_do_not_count(tmp_path: Path):
    path = tmp_path / "q.jsonl"
    path.write_bytes(b'\xef\xbb\xbf{"question": "a?"}\r\n\r\n{"question": "b?"}\r\n')
    assert [(q.id, q.question) for q in read_questions(path)] == [("1", "a?"), ("3", "b?")]


json_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text(max_size=5),
    lambda inner: st.lists(inner, max_size=2) | st.dictionaries(st.text(max_size=4), inner, max_size=2),
    max_leaves=4,
)
names = st.sampled_from(
    ["question", "id", "answers", "answerable", "passages", "uri", "page", "is_impossible"]
)


@given(st.dictionaries(names, json_values, max_size=5))
def test_any_json_object_is_a_question_or_a_typed_error(record):
    assert json.dumps(record)
    try:
        found = parse_question(record, where="here", default_id="1")
    except InvalidQuestions as error:
        message = error.message
    else:
        message = "here: the field"
        assert found.question == record["question"]
    assert message.startswith("here: the field")
