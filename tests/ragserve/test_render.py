from __future__ import annotations

import io

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ragserve.cli.render import WrappingWriter, display_path
from ragserve.cli.session import path_glob


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


def test_a_path_is_shown_as_one_would_type_it_here(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    assert display_path(str(tmp_path / "notes" / "a.md")) == "notes/a.md"
    assert display_path("/a.md") == "/a.md"
    assert display_path("archive.zip!a.md") == "archive.zip!a.md"


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
