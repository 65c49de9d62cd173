from __future__ import annotations

import io

import pytest
from hypothesis import given
from hypothesis import strategies as st

from indexer.types import Chunk, LineRange
from ragserve.cli.render import WrappingWriter, display_path, explanation, hits
from ragserve.cli.session import path_glob
from retriever.types import Hit, SearchResult


def written(pieces, width):
    stream = io.StringIO()
    writer = WrappingWriter(stream, width)
    for piece in pieces:
        writer.write(piece)
    writer.finish()
    return stream.getvalue()


@given(st.lists(st.text(alphabet="ab \n", max_size=12), max_size=8), st.integers(5, 20))
def test_streamed_text_keeps_its_words_and_its_width_however_it_is_cut(pieces, width):
    text = "".join(pieces)
    shown = written(pieces, width)
    assert shown.split() == text.split()
    assert shown == written([text], width)
    longest_word = max(map(len, text.split()), default=0)
    indent = max((len(line) - len(line.lstrip(" ")) for line in text.split("\n")), default=0)
    assert all(len(line) <= max(width, longest_word + indent) for line in shown.split("\n"))


def test_the_indents_of_code_stay():
    code = "def tide(hour):\n    return 2.0 *  hour"
    assert written([code[:20], code[20:]], 80) == code + "\n"


def test_nothing_is_nothing():
    assert written([], 80) == written([""], 80) == ""


def test_each_thing_that_was_done_to_the_ranking_is_explained_on_a_line_of_its_own():
    done = {
        "ranks_before": [3, 1],
        "suppressed": [{"chunk_id": "a", "copy_of": "b", "overlap": 0.9}, {"chunk_id": "c", "copy_of": "b"}],
    }
    assert explanation(SearchResult((), "miss", {"rerank": 0.002}, done), 80).splitlines() == [
        "Retrieval: miss",
        "  ranks_before: [3, 1]",
        "  suppressed: chunk_id a, copy_of b, overlap 0.9",
        "  suppressed: chunk_id c, copy_of b",
        "  rerank: 2.0 ms",
    ]


def test_a_path_is_shown_as_one_would_type_it_here(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    assert display_path(str(tmp_path / "notes" / "a.md")) == "notes/a.md"
    assert display_path("/a.md") == "/a.md"
    assert display_path("archive.zip!a.md") == "archive.zip!a.md"


def test_a_hit_is_placed_by_its_page_else_by_its_lines():
    def place(page, lines):
        chunk = Chunk("c", "d", "/a.py", "x", 0, 1, page, (), (), "code", lines=lines)
        return hits(SearchResult((Hit(chunk, 0.5, 1),), "miss"), 80).splitlines()[0]

    assert place(None, LineRange(12, 31)) == "  1. /a.py, lines 12-31 (score 0.500)"
    assert place(None, LineRange(7, 7)) == "  1. /a.py, line 7 (score 0.500)"
    assert place(4, None) == "  1. /a.py, page 4 (score 0.500)"
    assert place(None, None) == "  1. /a.py (score 0.500)"


def test_every_copy_of_a_file_is_named_up_to_a_few():
    def shown(copies):
        others = tuple(f"/copies/{number}.md" for number in range(copies))
        chunk = Chunk("c", "d", "/a.md", "Tides turn.", 0, 11, None, (), (), "text", others)
        return hits(SearchResult((Hit(chunk, 0.5, 1),), "miss"), 80).splitlines()

    assert shown(0) == ["  1. /a.md (score 0.500)", "     Tides turn."]
    assert shown(2)[1:3] == ["     also /copies/0.md", "     also /copies/1.md"]
    assert shown(9)[5:7] == ["     also /copies/4.md", "     and 4 more copies"]


@pytest.mark.parametrize(
    ("given_path", "glob"),
    [
        ("*.md", "*.md"),
        ("notes", "{here}/notes/*"),
        ("notes/", "{here}/notes/*"),
        ("notes/a.md", "{here}/notes/a.md"),
        ("notes/b*.md", "*notes/b*.md"),
        ("handbook", "*handbook*"),
        ("/srv/*.md", "/srv/*.md"),
        ("odd[1]", "{here}/odd[[]1]/*"),
    ],
)
def test_a_path_filter_means_what_a_shell_user_means(tmp_path, monkeypatch, given_path, glob):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "notes").mkdir()
    (tmp_path / "odd[1]").mkdir()
    (tmp_path / "notes" / "a.md").touch()
    assert path_glob(given_path) == glob.format(here=tmp_path.resolve())
