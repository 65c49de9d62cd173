"""The example corpus is what its questions say it is: each answer stands in the file that is named for it."""

from __future__ import annotations

import contextlib
import csv
import doctest
import importlib.util
import io
import json
import re
import sqlite3
import sys
import tomllib
from functools import cache
from pathlib import Path
from typing import Any

import pytest

from indexer.parsers import detect_format, parse
from indexer.types import ParsedDocument

EXAMPLES = Path(__file__).resolve().parents[2] / "examples"
CORPUS = EXAMPLES / "corpus"
IGNORED = {".ragserveignore", "drafts/timetable-2026.md"}
FILES = sorted(
    name
    for path in CORPUS.rglob("*")
    if path.is_file() and (name := path.relative_to(CORPUS).as_posix()) not in IGNORED
)
QUESTIONS: list[dict[str, Any]] = [
    json.loads(line) for line in (EXAMPLES / "questions_more.jsonl").read_text(encoding="utf-8").splitlines()
]
ANSWERABLE = [question for question in QUESTIONS if question["answerable"]]
READ_BY_OCR = {
    "archive/inspection-1931.pdf",
    "photos/chandlery-receipt.jpg",
    "photos/charger-terminal.png",
    "photos/quay-notice.jpg",
}


@cache
def parsed(name: str) -> ParsedDocument:
    return parse((CORPUS / name).read_bytes(), name=name)


def squeezed(text: str) -> str:
    """Text without case and space, which OCR does not promise."""
    return re.sub(r"\s+", "", text).casefold()


def load_fares() -> Any:
    spec = importlib.util.spec_from_file_location("corpus_fares", CORPUS / "software" / "fares.py")
    module = importlib.util.module_from_spec(spec)
    with pytest.MonkeyPatch.context() as patch:  # dataclasses look their module up by its name
        patch.setitem(sys.modules, spec.name, module)
        spec.loader.exec_module(module)
    return module


def test_the_corpus_is_small_and_of_every_format_family() -> None:
    assert 16 <= len(FILES) <= 21
    assert sum((CORPUS / name).stat().st_size for name in FILES) < 1_500_000
    suffixes = {Path(name).suffix for name in FILES}
    assert suffixes >= {".pdf", ".jpg", ".png", ".py", ".go", ".sql", ".md", ".html", ".docx", ".csv"}
    assert suffixes >= {".json", ".toml", ".ipynb", ".xlsx", ".pptx", ".odt", ".epub", ".eml", ".log"}


@pytest.mark.parametrize("name", FILES)
def test_each_file_is_of_a_known_format_and_has_text(name: str) -> None:
    data = (CORPUS / name).read_bytes()
    assert detect_format(data[:4096], name) is not None
    document = parsed(name)
    assert len(document.text) > 300
    assert document.blocks


@pytest.mark.parametrize("question", ANSWERABLE, ids=lambda question: question["question"])
def test_the_answer_stands_in_the_file_that_is_named(question: dict[str, Any]) -> None:
    document = parsed(question["uri_suffix"])
    text = document.text
    if question["page"] is not None:
        blocks = [block for block in document.blocks if block.page == question["page"]]
        text = "\n".join(text[block.start : block.end] for block in blocks)
    if question["uri_suffix"] in READ_BY_OCR:
        assert any(squeezed(answer) in squeezed(text) for answer in question["answers"])
    else:
        words = " ".join(text.split())
        assert any(answer in words for answer in question["answers"])


def test_every_file_answers_a_question_and_some_questions_have_no_answer() -> None:
    assert {question["uri_suffix"] for question in ANSWERABLE} == set(FILES)
    hopeless = [question for question in QUESTIONS if not question["answerable"]]
    assert len(hopeless) >= 4
    assert all(not q["answers"] and q["uri_suffix"] is None and q["page"] is None for q in hopeless)
    assert len({question["question"] for question in QUESTIONS}) == len(QUESTIONS)


def test_the_demo_asks_a_digital_file_a_scan_and_something_unknown() -> None:
    lines = (EXAMPLES / "questions.txt").read_text(encoding="utf-8").splitlines()
    by_question = {question["question"]: question for question in QUESTIONS}
    sources = [by_question[line]["uri_suffix"] for line in lines if line and not line.startswith("#")]
    assert sources == ["handbook.pdf", "archive/inspection-1931.pdf", None]


def test_the_scans_and_photos_have_no_text_layer() -> None:
    import pypdfium2

    scan = pypdfium2.PdfDocument(CORPUS / "archive" / "inspection-1931.pdf")
    assert [page.get_textpage().get_text_bounded().strip() for page in scan] == ["", ""]
    digital = pypdfium2.PdfDocument(CORPUS / "handbook.pdf")
    assert len(digital) == 6
    assert all(len(page.get_textpage().get_text_bounded()) > 500 for page in digital)


def test_the_ignore_file_names_the_draft_and_nothing_else() -> None:
    import pathspec

    patterns = (CORPUS / ".ragserveignore").read_text(encoding="utf-8").splitlines()
    spec = pathspec.GitIgnoreSpec.from_lines(patterns)
    assert set(spec.match_files([*FILES, *IGNORED])) == {"drafts/timetable-2026.md"}


def test_the_python_example_passes_its_own_doctests() -> None:
    outcome = doctest.testmod(load_fares())
    assert outcome.attempted >= 5
    assert outcome.failed == 0


def test_the_prices_on_the_web_page_are_those_that_the_python_example_computes() -> None:
    fares = load_fares()
    page = (CORPUS / "visitors.html").read_text(encoding="utf-8")
    for single in (fares.ADULT_PENCE, fares.child_fare(9), fares.BICYCLE_PENCE, fares.car_fare(5.0)):
        card = fares.ten_trip_card(single)
        assert f"<td>£{single / 100:.2f}</td><td>£{card / 100:.2f}</td>" in page


def test_the_sql_example_refuses_more_passengers_than_are_allowed() -> None:
    with contextlib.closing(sqlite3.connect(":memory:")) as connection:
        connection.executescript((CORPUS / "software" / "logbook.sql").read_text(encoding="utf-8"))
        insert = (
            "INSERT INTO crossing (vessel, skipper, left_at, from_landing, passengers) VALUES (?, ?, ?, ?, ?)"
        )
        connection.execute(insert, ("Bittern", "Lund", "2025-02-11T23:15", "Kestle Quay", 24))
        with pytest.raises(sqlite3.IntegrityError, match="certificate"):
            connection.execute(insert, ("Bittern", "Lund", "2025-02-11T23:30", "Marrowick", 25))
        report = connection.execute("SELECT * FROM monthly_report").fetchall()
        assert report == [("2025-02", "Bittern", 1, 24, 0)]


def test_the_go_example_has_no_syntax_error() -> None:
    import tree_sitter
    import tree_sitter_go

    parser = tree_sitter.Parser(tree_sitter.Language(tree_sitter_go.language()))
    assert not parser.parse((CORPUS / "software" / "tide.go").read_bytes()).root_node.has_error


def test_the_notebook_prints_what_its_cells_compute(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(CORPUS / "software")
    notebook = json.loads(Path("ridership.ipynb").read_text(encoding="utf-8"))
    names: dict[str, Any] = {}
    for cell in notebook["cells"]:
        if cell["cell_type"] == "code":
            printed = io.StringIO()
            with contextlib.redirect_stdout(printed):
                exec("".join(cell["source"]), names)
            stored = "".join(text for output in cell["outputs"] for text in output["text"])
            assert printed.getvalue() == stored


def test_the_data_files_agree_with_one_another() -> None:
    charger = tomllib.loads((CORPUS / "software" / "chargers.toml").read_text(encoding="utf-8"))
    power = sum(berth["max_power_kw"] for berth in charger["berth"].values())
    assert power <= charger["site"]["grid_limit_kw"]
    stops = json.loads((CORPUS / "software" / "stops.json").read_text(encoding="utf-8"))
    landings = {landing["name"] for landing in stops["landings"]}
    assert {berth["landing"] for berth in charger["berth"].values()} <= landings
    with (CORPUS / "records" / "crossings-2024.csv").open(newline="", encoding="utf-8") as file:
        rows = list(csv.DictReader(file))
    capacity = {"Wagtail": 180, "Dipper": 60, "Bittern": 24}
    assert all(int(row["passengers"]) <= capacity[row["vessel"]] * int(row["crossings"]) for row in rows)
