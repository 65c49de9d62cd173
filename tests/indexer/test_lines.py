from __future__ import annotations

from pathlib import Path

from hypothesis import given
from hypothesis import strategies as st

from indexer.index import Index
from indexer.lines import LineNumbers, lines_between
from indexer.types import Filters

TEXTS = st.text(alphabet="ab\né\U0001f6a2", min_size=1, max_size=40)


@given(TEXTS, st.tuples(st.integers(0, 39), st.integers(0, 39)))
def test_lines_are_counted_as_an_editor_counts_them(text: str, cut: tuple[int, int]):
    first, last = sorted(place % len(text) for place in cut)
    line_of = [1 + text[:place].count("\n") for place in range(len(text))]
    expected = (line_of[first], line_of[last])
    assert lines_between(text, first, last + 1) == expected
    assert LineNumbers().find("key", first, last + 1, lambda: text) == expected


def test_a_text_is_asked_for_once_until_others_have_taken_its_place():
    asked: list[str] = []

    def text_of(name: str, text: str):
        def ask() -> str:
            asked.append(name)
            return text

        return ask

    lines = LineNumbers(max_newlines=8)
    few, many = text_of("few", "a\nb\n"), text_of("many", "\n" * 6)
    assert lines.find("few", 2, 3, few) == lines.find("few", 2, 3, few) == (2, 2)
    lines.find("many", 0, 1, many)
    assert asked == ["few", "many"]
    lines.find("few", 0, 1, few)
    assert asked == ["few", "many", "few"]


def chunks_of(index: Index, name: str) -> list:
    with index.view() as view:
        return view.chunks(view.matching(Filters(path_glob=f"*/{name}")))


def test_chunks_of_text_and_code_know_their_lines_and_others_do_not(index: Index, corpus: Path):
    (corpus / "notes.html").write_text("<p>one</p>\n<p>two</p>\n")
    (corpus / "table.csv").write_text("name,size\nferry,9\n")
    index.ingest([corpus])
    assert [chunk.lines for chunk in chunks_of(index, "tide.py")] == [(1, 2)]
    assert [chunk.lines for chunk in chunks_of(index, "ferry.md")] == [(1, 3), (5, 7)]
    assert [chunk.lines for chunk in chunks_of(index, "notes.html")] == [None]
    assert [chunk.lines for chunk in chunks_of(index, "table.csv")] == [None]


def test_lines_follow_an_edit_above_the_chunk_and_are_those_of_the_file(index: Index, corpus: Path):
    path = corpus / "steps.py"
    body = "\n\n".join(f"def step_{n}():\n" + f"    call({n})\n" * 40 for n in range(3))
    path.write_text(body)
    index.ingest([corpus])
    before = {chunk.id: chunk.lines for chunk in chunks_of(index, "steps.py")}
    path.write_text("# a\x0c\n\x0c\n" + body)  # page feeds begin no lines, in any editor
    index.ingest([corpus])
    in_file = path.read_text().split("\n")
    moved = chunks_of(index, "steps.py")
    assert len({chunk.lines for chunk in moved}) == len(moved) > 1
    for chunk in moved:
        assert chunk.text.split("\n")[-1] == in_file[chunk.lines.last - 1]
        if chunk.id in before:
            assert chunk.lines == tuple(line + 2 for line in before[chunk.id])
    assert before.keys() & {chunk.id for chunk in moved}
