"""An approximate index by itself: what it finds, what it may miss, and what it never gets wrong."""

from __future__ import annotations

import itertools
import shutil
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from indexer import ivf_files, row_file
from indexer.catalog_reader import NumberedVectors, Version
from indexer.ivf_vectors import IvfVectors
from indexer.recall import best_scores, recalls
from indexer.row_file import RowFile, write_header
from indexer.scoring import exact_scores
from indexer.search_plan import PlanPoint, SearchPlan
from indexer.vectors import VectorIndex

DIMENSION = 16
COUNT = 1600
NONE = np.zeros(0, np.int64)


def clustered(rng: np.random.Generator, count: int, dimension: int = DIMENSION) -> np.ndarray:
    """Unit vectors around centres, more spread in some directions than in others."""
    spread = (1 / np.sqrt(np.arange(dimension) + 4)).astype(np.float32)
    centres = rng.standard_normal((max(count // 60, 1), dimension)).astype(np.float32) * spread
    noise = rng.standard_normal((count, dimension)).astype(np.float32) * spread
    vectors = centres[rng.integers(0, len(centres), count)] + 0.8 * noise
    return vectors / np.linalg.norm(vectors, axis=1, keepdims=True)


def numbered(numbers: np.ndarray, vectors: np.ndarray) -> NumberedVectors:
    ids = np.array([f"{number * 7919 % 10007:032x}" for number in numbers], "S32")
    return NumberedVectors(np.asarray(numbers, np.int64), ids, vectors)


def batches(numbers: np.ndarray, vectors: np.ndarray) -> list[NumberedVectors]:
    return [numbered(numbers[i : i + 500], vectors[i : i + 500]) for i in range(0, len(numbers), 500)]


def built(
    folder: Path, vectors: np.ndarray, numbers: np.ndarray, *, recall_target: float = 0.98
) -> tuple[IvfVectors, ivf_files.BaseStamp]:
    stamp = ivf_files.build(
        folder,
        1,
        batches(numbers, vectors),
        count=len(vectors),
        dimension=vectors.shape[1],
        recall_target=recall_target,
    )
    loaded = ivf_files.load(folder, stamp, vectors.shape[1])
    assert loaded is not None
    return loaded, stamp


VECTORS = clustered(np.random.default_rng(3), COUNT)
NUMBERS = np.arange(1, COUNT + 1) * 3  # with gaps
QUERIES = clustered(np.random.default_rng(3), COUNT + 40)[-40:]


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("approximate")


@pytest.fixture(scope="module")
def stamp(folder: Path) -> ivf_files.BaseStamp:
    return built(folder, VECTORS, NUMBERS)[1]


@pytest.fixture
def base(folder: Path, stamp: ivf_files.BaseStamp) -> IvfVectors:
    loaded = ivf_files.load(folder, stamp, DIMENSION)
    assert loaded is not None
    return loaded


def measured_recall(
    base: IvfVectors, queries: np.ndarray, k: int, allowed: np.ndarray | None = None
) -> float:
    numbers = base.numbers if allowed is None else allowed
    best = best_scores([base.vectors_of(numbers)], queries, min(k, len(numbers)))
    found = [scores for _, scores in base.nearest(queries, k, allowed=allowed)]
    return float(recalls(found, best, min(k, len(numbers))).mean())


@pytest.mark.parametrize("k", [1, 10, 37, 100])
def test_it_finds_nearly_all_that_brute_force_finds(base: IvfVectors, k: int):
    assert measured_recall(base, QUERIES, k) >= 0.95


def test_every_score_is_exact_and_ties_are_settled_by_id(base: IvfVectors):
    for query, (numbers, scores) in zip(QUERIES, base.nearest(QUERIES, 10), strict=True):
        np.testing.assert_array_equal(scores, exact_scores(base.vectors_of(numbers), query))
        ids = base.ids_of(numbers)
        assert list(zip(-scores, ids, strict=True)) == sorted(zip(-scores, ids, strict=True))


def test_a_batch_finds_what_single_searches_find(base: IvfVectors):
    together = base.nearest(QUERIES[:20], 10)
    for query, (numbers, scores) in zip(QUERIES, together, strict=False):
        ((alone, alone_scores),) = base.nearest(query[None], 10)
        assert (numbers.tolist(), scores.tolist()) == (alone.tolist(), alone_scores.tolist())


def test_a_batch_is_searched_in_the_order_of_shared_lists_and_answered_in_its_own(
    base: IvfVectors, monkeypatch: pytest.MonkeyPatch
):
    near = np.arange(0, COUNT, COUNT // 8)
    queries = np.concatenate([VECTORS[near], VECTORS[near]])  # each twice, far from itself
    searched: list[np.ndarray] = []
    probed = base._probed

    def watched(some: np.ndarray, *arguments: object) -> list[np.ndarray]:
        searched.append(some)
        return probed(some, *arguments)

    monkeypatch.setattr(base, "_probed", watched)
    found = base.nearest(queries, 3)
    assert [numbers[0] for numbers, _ in found] == [*NUMBERS[near], *NUMBERS[near]]
    (ordered,) = searched
    assert all((ordered[i] == ordered[i + 1]).all() for i in range(0, len(ordered), 2))


def test_it_is_tuned_to_the_target_and_says_what_it_reaches(stamp: ivf_files.BaseStamp, tmp_path: Path):
    low = built(tmp_path, VECTORS, NUMBERS, recall_target=0.7)[1]
    assert [point.k for point in stamp.plan] == [10, 100]
    assert stamp.plan[0].recall >= 0.96  # measured on other queries than it was chosen by
    assert 0.6 < low.plan[0].recall < stamp.plan[0].recall
    assert low.plan[0].num_probes < stamp.plan[0].num_probes


def test_it_looks_deeper_where_codes_cannot_tell_near_copies_apart(tmp_path: Path):
    rng = np.random.default_rng(5)
    originals = clustered(rng, 4)
    vectors = np.repeat(originals, 1500, axis=0) + 1e-3 * rng.standard_normal((6000, DIMENSION))
    vectors = (vectors / np.linalg.norm(vectors, axis=1, keepdims=True)).astype(np.float32)
    copies, stamp = built(tmp_path, vectors, np.arange(len(vectors)))
    assert stamp.plan[0].rerank_depth > 640
    assert stamp.plan[0].recall >= 0.98
    assert measured_recall(copies, vectors[::100] + np.float32(2e-4), 10) >= 0.98


def test_building_it_again_gives_the_same_index(stamp: ivf_files.BaseStamp, tmp_path: Path):
    again = built(tmp_path, VECTORS, NUMBERS)[1]
    assert again.codes.sha256 == stamp.codes.sha256
    assert again.plan == stamp.plan


@pytest.mark.parametrize("share", [0.5, 0.1, 0.01, 0.001])
def test_a_filter_leaves_k_hits_whenever_k_chunks_pass_it(base: IvfVectors, share: float):
    rng = np.random.default_rng(5)
    allowed = np.sort(rng.choice(base.numbers, max(int(share * COUNT), 2), replace=False))
    for numbers, _ in base.nearest(QUERIES, 10, allowed=allowed):
        assert len(numbers) == len(set(numbers.tolist())) == min(10, len(allowed))
        assert np.isin(numbers, allowed).all()
    assert measured_recall(base, QUERIES, 10, allowed) >= 0.95


def test_a_filter_to_the_farthest_corner_is_still_filled(base: IvfVectors):
    query = QUERIES[0]
    farthest = base.numbers[np.argsort(base.rows.rows @ query)[:600]]
    ((numbers, _),) = base.nearest(query[None], 50, allowed=np.sort(farthest))
    assert len(numbers) == 50


def test_what_is_taken_out_is_never_found(base: IvfVectors):
    first = [numbers[:5] for numbers, _ in base.nearest(QUERIES, 10)]
    gone = np.unique(np.concatenate(first))
    base.remove(np.concatenate([gone, [1, 10**9]]))  # two that are not here
    assert len(base) == COUNT - len(gone)
    assert base.num_removed == len(gone)
    assert not base.holds(gone).any()
    for k in (10, COUNT):
        for numbers, _ in base.nearest(QUERIES[:4], k):
            assert len(numbers) == min(k, len(base))
            assert not np.isin(numbers, gone).any()
    assert measured_recall(base, QUERIES, 10) >= 0.95


def test_one_that_lost_everything_finds_nothing(base: IvfVectors):
    base.remove(base.numbers)
    assert [len(numbers) for numbers, _ in base.nearest(QUERIES, 5)] == [0] * len(QUERIES)


@pytest.mark.parametrize(("count", "dimension"), [(1, 8), (5, 1), (90, 7)])
def test_it_can_be_made_of_few_vectors_of_any_dimension(tmp_path: Path, count: int, dimension: int):
    vectors = clustered(np.random.default_rng(1), count, dimension)
    base, _ = built(tmp_path, vectors, np.arange(count) + 1)
    for query, (numbers, scores) in zip(vectors[:3], base.nearest(vectors[:3], 5), strict=True):
        assert len(numbers) == min(5, count)
        assert scores[0] == pytest.approx(np.max(vectors @ query), abs=1e-5)


def test_equal_vectors_by_the_thousand_are_no_trouble(tmp_path: Path):
    vectors = np.repeat(clustered(np.random.default_rng(1), 2), 300, axis=0)
    base, _ = built(tmp_path, vectors, np.arange(600) + 1)
    ((numbers, scores),) = base.nearest(vectors[:1], 10)
    assert len(numbers) == 10
    assert (scores == scores[0]).all()


# --- its files


def _cut(path: Path) -> None:
    path.write_bytes(path.read_bytes()[:-1])


@pytest.mark.parametrize("part", ["codes", "rows", "chunks"])
@pytest.mark.parametrize("harm", [Path.unlink, _cut, lambda path: path.write_bytes(b"")])
def test_a_file_that_is_missing_or_cut_short_is_not_taken(
    tmp_path: Path, folder: Path, stamp: ivf_files.BaseStamp, part: str, harm: Callable[[Path], object]
):
    for file in stamp.files:
        shutil.copy(folder / file.file, tmp_path)
    harm(tmp_path / getattr(stamp, part).file)
    assert ivf_files.load(tmp_path, stamp, DIMENSION) is None


def test_files_of_another_index_are_not_taken(tmp_path: Path, folder: Path, stamp: ivf_files.BaseStamp):
    assert ivf_files.load(folder, stamp, DIMENSION + 2) is None
    assert ivf_files.load(tmp_path, stamp, DIMENSION) is None


def test_opening_reads_no_vectors(folder: Path, stamp: ivf_files.BaseStamp, monkeypatch: pytest.MonkeyPatch):
    def refuse(*_: object) -> None:
        raise AssertionError("the vectors were read")

    monkeypatch.setattr(row_file.RowFile, "take", refuse)
    monkeypatch.setattr(row_file.RowFile, "blocks", refuse)
    assert ivf_files.load(folder, stamp, DIMENSION) is not None


@pytest.mark.parametrize(
    ("resident", "times_let_go"),
    [
        (
            lambda: 0,
            0,
        ),  # nothing of it stays in memory, as when another process keeps the machine short of it
        (itertools.count(0, 600).__next__, 2),  # 600 bytes more each time it is looked at
        (lambda: None, 5),  # the system does not say: what was touched is taken for what stayed
    ],
)
def test_rows_are_what_numpy_reads_and_are_let_go_when_much_of_them_is_resident(
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    resident: Callable[[], int | None],
    times_let_go: int,
):
    rows = np.random.default_rng(0).standard_normal((9000, 4)).astype(np.float32)
    path = tmp_path / "rows.npy"
    with path.open("wb") as file:
        write_header(file, rows.shape)
        file.write(rows.tobytes())
    monkeypatch.setattr(row_file, "_MAX_RESIDENT_BYTES", 1000)
    monkeypatch.setattr(row_file, "_TOUCHED_BYTES_BETWEEN_LOOKS", 1)
    monkeypatch.setattr(row_file, "_mapped_bytes", resident)
    let_go, go = [], RowFile._let_go
    monkeypatch.setattr(RowFile, "_let_go", lambda opened: (let_go.append(opened), go(opened)))
    opened = RowFile(path)
    positions = np.random.default_rng(1).integers(0, 9000, 20_000)
    np.testing.assert_array_equal(opened.take(positions), rows[positions])
    np.testing.assert_array_equal(np.concatenate([block for _, block in opened.blocks()]), rows)
    assert len(let_go) == times_let_go


@pytest.mark.parametrize(("slow_seconds", "num_announced"), [(-1.0, 300 - 4), (1e9, 0)])
def test_rows_that_come_from_the_disk_are_asked_for_all_at_once(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, slow_seconds: float, num_announced: int
):
    rows = np.random.default_rng(0).standard_normal((1000, 4)).astype(np.float32)
    with (tmp_path / "rows.npy").open("wb") as file:
        write_header(file, rows.shape)
        file.write(rows.tobytes())
    announced, announce = [], RowFile._announce
    monkeypatch.setattr(row_file, "_SLOW_SECONDS", slow_seconds)
    monkeypatch.setattr(
        RowFile, "_announce", lambda opened, *rows: (announced.append(rows), announce(opened, *rows))
    )
    positions = np.random.default_rng(1).integers(0, 1000, 300)
    np.testing.assert_array_equal(RowFile(tmp_path / "rows.npy").take(positions), rows[positions])
    assert announced == [(position, 1) for position in positions.tolist()[300 - num_announced :]]


def test_what_is_mapped_and_resident_is_told_by_the_system():
    told = row_file._mapped_bytes()
    assert (told is None) == (not Path("/proc/self/statm").exists())
    assert told is None or told > 0


# --- a plan


def test_a_plan_is_read_off_between_its_points_and_beyond_them():
    plan = SearchPlan.of([PlanPoint(100, 40, 400, 0.99), PlanPoint(10, 10, 100, 0.98)])
    assert [plan.num_probes(k) for k in (1, 10, 100, 1000)] == [10, 10, 40, 400]
    assert plan.num_probes(10**1.5) == 20
    assert plan.rerank_depth(10) == 100
    assert plan.rerank_depth(1000) == 4000


@given(k=st.integers(1, 10**6))
def test_a_plan_never_asks_for_fewer_candidates_than_hits(k: int):
    assert SearchPlan.of([PlanPoint(10, 3, 15, 1.0)]).rerank_depth(k) > k


@pytest.mark.parametrize("points", [[], [PlanPoint(0, 1, 1, 1.0)], [PlanPoint(10, 0, 1, 1.0)]])
def test_a_plan_that_makes_no_sense_is_refused(points: list[PlanPoint]):
    with pytest.raises(ValueError, match="a plan needs"):
        SearchPlan.of(points)


# --- with a tail


@settings(max_examples=12, deadline=None)
@given(
    added=st.integers(0, 40),
    removed=st.lists(st.integers(1, 3 * COUNT + 60), max_size=30),
    k=st.integers(1, 20),
    seed=st.integers(0, 100),
)
def test_base_and_tail_together_hold_what_was_not_removed(
    folder: Path, stamp: ivf_files.BaseStamp, added: int, removed: list[int], k: int, seed: int
):
    rng = np.random.default_rng(seed)
    index = VectorIndex(DIMENSION)
    index.base = ivf_files.load(folder, stamp, DIMENSION)
    new = clustered(rng, added + 1)[:added]
    new_numbers = 3 * COUNT + 1 + np.arange(added)
    index.apply(NONE, [numbered(new_numbers, new)], version=Version(2, "b"))
    gone = np.unique(np.array(removed, np.int64))
    again = numbered(NUMBERS[:2], VECTORS[:2])  # which are here, unless they go
    index.apply(gone, [again], version=Version(3, "c"))
    every = np.concatenate([NUMBERS, new_numbers])
    matrix = np.concatenate([VECTORS, new])
    kept = ~np.isin(every, np.setdiff1d(gone, NUMBERS[:2]))
    np.testing.assert_array_equal(index.numbers, every[kept])
    np.testing.assert_array_equal(index.vectors_of(every[kept]), matrix[kept])
    assert len(index) == kept.sum()
    assert not index.is_exact
    for query in QUERIES[:3]:
        ((numbers, scores),) = index.nearest(query[None], k)
        assert len(numbers) == k
        assert np.isin(numbers, every[kept]).all()
        np.testing.assert_array_equal(scores, exact_scores(matrix[np.searchsorted(every, numbers)], query))
        nearest_new = new_numbers[np.isin(new_numbers, every[kept])]
        if len(nearest_new):  # nothing in the tail is ever missed
            mine = exact_scores(matrix[np.searchsorted(every, nearest_new)], query)
            assert set(nearest_new[mine > scores[-1]].tolist()) <= set(numbers.tolist())
    some = np.sort(rng.choice(every, 200, replace=False))
    for numbers, _ in index.nearest(QUERIES[:3], k, allowed=some):
        assert len(numbers) == min(k, int(np.isin(some, every[kept]).sum()))
        assert np.isin(numbers, some).all()


# --- reading ahead


def test_what_searches_near_a_query_compare_can_be_read_ahead_within_a_budget(base):
    query = QUERIES[0]
    before = [base.nearest(QUERIES[:1], k)[0] for k in (1, 10, 100)]
    rows = base.stored_near(query, 300 * base.rows.bytes_per_read)
    assert len(np.unique(rows.positions)) == len(rows.positions) == 300
    for numbers, _ in before[:2]:
        assert np.isin(numbers, base.all_numbers[rows.positions]).all()
    assert rows.read_ahead() == 300 * base.rows.bytes_per_read
    for k, (numbers, scores) in zip((1, 10, 100), before, strict=True):
        again = base.nearest(QUERIES[:1], k)[0]
        assert again[0].tolist() == numbers.tolist()
        assert again[1].tolist() == scores.tolist()


def test_reading_ahead_stops_when_it_is_told_to_and_reads_nothing_without_a_budget(base):
    stops = iter([False] * 3 + [True])
    rows = base.stored_near(QUERIES[0], 1 << 20)
    assert rows.read_ahead(stopped=lambda: next(stops)) == 3 * 64 * base.rows.bytes_per_read
    assert base.stored_near(QUERIES[0], 0).read_ahead() == 0


def test_an_index_in_memory_has_nothing_to_read_ahead():
    assert VectorIndex(DIMENSION).stored_near(QUERIES[0], 1 << 20) is None
