"""Where on the page a piece of a block is."""

from __future__ import annotations

from collections.abc import Iterable

from indexer.types import Block, Box


def boxes_within(block: Block, text: str, start: int, end: int) -> tuple[Box, ...]:
    """The boxes of the block that text[start:end] touches.

    A block with as many boxes as lines has a box a line. Otherwise the boxes are taken to be spread evenly
    over its characters, with one more on either side: the words should be inside rather than the boxes tight.
    """
    boxes = block.boxes
    if not boxes or (start <= block.start and end >= block.end):
        return boxes
    start, end = max(start, block.start), min(end, block.end)
    num_lines = text.count("\n", block.start, block.end) + 1
    if len(boxes) == num_lines:
        first = text.count("\n", block.start, start)
        return boxes[first : first + text.count("\n", start, end) + 1]
    length = max(1, block.end - block.start)
    first = (start - block.start) * len(boxes) // length - 1
    last = -(-(end - block.start) * len(boxes) // length) + 1
    return boxes[max(0, first) : max(1, last)]


def union_lines(boxes: Iterable[Box]) -> tuple[Box, ...]:
    """Join boxes that follow each other on a page (words of a line, lines of a paragraph) into one each."""
    joined: list[Box] = []
    for box in boxes:
        if joined and _follows(joined[-1], box):
            last = joined[-1]
            joined[-1] = Box(
                last.page,
                min(last.x0, box.x0),
                min(last.y0, box.y0),
                max(last.x1, box.x1),
                max(last.y1, box.y1),
            )
        else:
            joined.append(box)
    return tuple(joined)


def _follows(above: Box, below: Box) -> bool:
    """Whether two boxes belong together: overlapping sideways and less than a line apart, or side by side."""
    if above.page != below.page:
        return False
    height = below.y1 - below.y0
    overlap_x = min(above.x1, below.x1) - max(above.x0, below.x0)
    overlap_y = min(above.y1, below.y1) - max(above.y0, below.y0)
    if overlap_x >= 0:
        return overlap_y > -height
    return overlap_y > height / 2 and overlap_x > -height
