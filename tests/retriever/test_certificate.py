from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from retriever.certificate import bound_outside, single_bounds


def unit(rng: np.random.Generator, dimension: int) -> np.ndarray:
    vector = rng.standard_normal(dimension)
    return (vector / np.linalg.norm(vector)).astype(np.float32)


def near(rng: np.random.Generator, centre: np.ndarray, distance: float) -> np.ndarray:
    vector = centre + distance * unit(rng, len(centre))
    return (vector / max(np.linalg.norm(vector), 1e-6)).astype(np.float32)


@settings(max_examples=300, deadline=None)
@given(
    st.integers(0, 2**32 - 1),
    st.integers(2, 24),
    st.lists(st.sampled_from([0.0, 0.01, 0.1, 0.3, 0.8, 1.5]), min_size=1, max_size=6),
    st.sampled_from([1, 3, 10, 100]),
    st.booleans(),
)
def test_no_chunk_outside_the_lists_scores_above_the_bound(seed, dimension, distances, m, loose):
    rng = np.random.default_rng(seed)
    chunks = np.stack([unit(rng, dimension) for _ in range(300)])
    if loose:  # as unit as the indexer asks for
        chunks = (chunks * (1 + 1e-3 * rng.uniform(-1, 1, (300, 1)))).astype(np.float32)
    query = unit(rng, dimension)
    past = np.stack([near(rng, query, distance) for distance in distances])
    scores = chunks @ past.T
    radii = -np.sort(-scores, axis=0)[m - 1]
    outside = chunks[(scores <= radii).all(axis=1) & (scores < radii).all(axis=1)]
    bound, weights = bound_outside(query, past, radii)
    assert (weights >= 0).all()
    if len(outside):
        assert (outside.astype(np.float64) @ query).max() <= bound


@pytest.mark.parametrize(("angle", "reach"), [(0.0, 0.5), (0.1, 0.5), (0.3, 1.2), (0.5, 0.5), (0.4, 2.0)])
def test_one_list_proves_what_the_triangle_inequality_says(angle, reach):
    past = np.array([[1, 0, 0]], np.float32)
    query = np.array([np.cos(angle), np.sin(angle), 0], np.float32)
    bound, _ = bound_outside(query, past, np.array([np.cos(reach)]))
    assert 0 <= bound - np.cos(reach - angle) < 3e-3
    alone = single_bounds(np.array([np.cos(angle)]), np.array([np.cos(reach)]))
    assert alone[0] == pytest.approx(np.cos(reach - angle), abs=1e-9)


def test_lists_around_a_query_prove_more_than_the_best_of_them():
    tilt, reach = 0.2, 0.6
    query = np.array([0, 0, 1], np.float32)
    past = np.array(
        [[np.sin(tilt) * np.cos(a), np.sin(tilt) * np.sin(a), np.cos(tilt)] for a in (0, 2.1, 4.2)],
        np.float32,
    )
    radii = np.full(3, np.cos(reach))
    alone, _ = bound_outside(query, past[:1], radii[:1])
    together, weights = bound_outside(query, past, radii)
    assert together < alone - 0.05
    assert (weights > 0).all()


def test_a_list_far_away_is_left_out():
    query = np.array([1, 0, 0], np.float32)
    past = np.array([[1, 0, 0], [0, 1, 0]], np.float32)
    bound, weights = bound_outside(query, past, np.array([0.8, 0.9]))
    assert bound == pytest.approx(0.8, abs=1e-3)
    assert weights[1] == 0


@pytest.mark.parametrize("length", [1 - 1e-3, 1 + 1e-3])
@pytest.mark.parametrize("reach", [0.2, 0.8, 1.5, 2.5])
@pytest.mark.parametrize("share", [0.0, 0.3, 0.6, 1.0])
def test_the_bound_allows_for_chunks_as_far_from_unit_length_as_the_indexer_lets_pass(length, reach, share):
    def at(angle, size=1.0):
        return np.array([size * np.cos(angle), size * np.sin(angle)], np.float32)

    radius = float(at(reach) @ at(0))
    angle = np.arccos(radius / length)  # where a chunk of this length is only just not on the list
    for tilt in np.linspace(0, share * angle, 7):
        worst = float(at(angle, length).astype(np.float64) @ at(tilt).astype(np.float64))
        assert worst <= bound_outside(at(tilt), at(0)[None], np.array([radius]))[0]


def test_a_list_proves_nothing_about_a_query_beyond_its_reach():
    past, query = np.array([[1, 0]], np.float32), np.array([0, 1], np.float32)
    assert single_bounds(past @ query, np.array([0.9]))[0] == 1
    assert bound_outside(query, past, np.array([0.9]))[0] >= 1
