from __future__ import annotations

import random

from hypothesis import given
from hypothesis import strategies as st

from indexer.parsers.layout import Row, Segment, gather_blocks, group_rows, is_disordered, reading_order


def line(text: str, x: float, y: float, *, size: float = 10, bold: bool = False) -> Segment:
    return Segment(text, x, y, x + 0.5 * size * len(text), y + size, size, bold)


def texts(rows: list[Row]) -> list[str]:
    return [row.text for row in rows]


def column(name: str, x: float, num_lines: int = 8, top: float = 100) -> list[Segment]:
    return [line(f"{name} with a line of words {i}", x, top + 12 * i) for i in range(num_lines)]


def test_columns_of_prose_are_read_one_after_the_other() -> None:
    left, right = column("left", 50), column("right", 300)
    mixed = [segment for pair in zip(left, right, strict=True) for segment in pair]
    random.Random(3).shuffle(mixed)
    assert texts(reading_order(mixed)) == [s.text for s in left] + [s.text for s in right]


def test_what_crosses_the_columns_parts_what_is_above_from_what_is_below() -> None:
    title = line("a title that is set across both of the columns of the page", 50, 60, size=14)
    banner = line("a banner that is set across both of the columns of the page", 50, 220, size=14)
    above = column("left above", 50), column("right above", 300)
    below = column("left below", 50, top=260), column("right below", 300, top=260)
    segments = [title, *above[0], *above[1], banner, *below[0], *below[1]]
    shuffled = random.Random(5).sample(segments, len(segments))
    assert texts(reading_order(shuffled)) == [segment.text for segment in segments]


def test_the_cells_of_a_table_are_read_row_by_row() -> None:
    cells = [[f"item {i}", f"{i}.00"] for i in range(10)]
    segments = [
        line(text, 50 + 300 * j, 100 + 14 * i) for i, row in enumerate(cells) for j, text in enumerate(row)
    ]
    assert texts(reading_order(segments)) == [" ".join(row) for row in cells]


@given(
    st.lists(
        st.tuples(st.floats(0, 600), st.floats(0, 800), st.text("ab ", min_size=1, max_size=40)), max_size=40
    )
)
def test_reading_order_loses_and_invents_nothing(places: list[tuple[float, float, str]]) -> None:
    segments = [line(text, x, y) for x, y, text in places]
    ordered = [segment for row in reading_order(segments) for segment in row.segments]
    assert sorted(ordered) == sorted(segments)
    assert sorted(s for row in group_rows(segments) for s in row.segments) == sorted(segments)
    rows = group_rows(segments)
    assert [row for block in gather_blocks(rows) for row in block.rows] == rows


def test_disorder_is_noticed_and_columns_are_not_disorder() -> None:
    ordered = [Row((segment,)) for segment in [*column("left", 50), *column("right", 300)]]
    assert not is_disordered(ordered)
    assert is_disordered(list(reversed(ordered)))


def test_paragraphs_end_where_the_space_the_type_or_an_item_says_so() -> None:
    rows = [
        line("The first paragraph goes on", 50, 100),
        line("in a second line.", 50, 112),
        line("After some space, another.", 50, 140),
        line("Larger", 50, 160, size=16),
        line("- an item", 50, 180),
        line("goes on below", 56, 192),
        line("- another", 50, 204),
        line("In bold", 50, 230, bold=True),
    ]
    blocks = gather_blocks([Row((row,)) for row in rows])
    assert [(block.kind, block.text) for block in blocks] == [
        ("text", "The first paragraph goes on in a second line."),
        ("text", "After some space, another."),
        ("text", "Larger"),
        ("list", "- an item goes on below - another"),
        ("text", "In bold"),
    ]


def test_three_rows_of_cells_below_each_other_are_a_table_and_two_are_not() -> None:
    rows = [Row((line("a", 50, 100 + 14 * i), line(f"{i}", 200, 100 + 14 * i))) for i in range(3)]
    assert [block.kind for block in gather_blocks(rows)] == ["table"]
    lines = gather_blocks(rows)[0].lines(4)
    assert [text for text, _ in lines] == ["a | 0", "--- | ---", "a | 1", "a | 2"]
    assert [box.y0 for _, box in lines] == [100, 100, 114, 128]
    assert {box.page for _, box in lines} == {4}
    assert "table" not in [block.kind for block in gather_blocks(rows[:2])]
