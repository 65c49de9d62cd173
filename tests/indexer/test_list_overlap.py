"""Queries of a batch that look through the same lists come one after another, and nothing else changes."""

from __future__ import annotations

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from indexer.list_overlap import by_overlap

LISTS = st.integers(1, 5).flatmap(
    lambda p: st.lists(st.lists(st.integers(-1, 9), min_size=p, max_size=p), min_size=1, max_size=20)
)


def test_queries_that_share_lists_become_neighbours():
    lists = np.array([[0, 1, 2], [7, 8, 9], [1, 2, 3], [8, 9, 6], [2, 3, 4]])
    assert by_overlap(lists, 10).tolist() == [0, 2, 4, 1, 3]


@given(LISTS)
def test_every_query_comes_once_and_each_step_is_the_best_that_is_left(lists):
    rows = np.array(lists)
    order = by_overlap(rows, 10)
    assert order[0] == 0
    assert sorted(order.tolist()) == list(range(len(rows)))
    sets = [set(row[row >= 0].tolist()) for row in rows]
    for place in range(1, len(order)):
        before, left = sets[order[place - 1]], order[place:]
        assert len(before & sets[order[place]]) == max(len(before & sets[one]) for one in left)
