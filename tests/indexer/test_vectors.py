from __future__ import annotations

import sys
import threading
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from indexer import flat_vectors, ivf_files
from indexer.catalog_reader import NumberedVectors, Version
from indexer.errors import FaissMissing, GpuFailed, InvalidQuery
from indexer.scoring import best_first, exact_scores
from indexer.vectors import VectorIndex, load_faiss

NONE = np.zeros(0, np.int64)


def unit(rng: np.random.Generator, count: int, dimension: int) -> np.ndarray:
    vectors = rng.standard_normal((count, dimension)).astype(np.float32)
    return vectors / np.linalg.norm(vectors, axis=1, keepdims=True)


def ids_of(numbers: np.ndarray) -> np.ndarray:
    """Ids in another order than the numbers."""
    return np.array([f"{number * 7919 % 10007:032x}" for number in numbers], "S32")


def numbered(numbers: np.ndarray, vectors: np.ndarray) -> NumberedVectors:
    return NumberedVectors(np.asarray(numbers, np.int64), ids_of(numbers), vectors)


def index_of(vectors: np.ndarray, *, first: int = 1) -> VectorIndex:
    index = VectorIndex(vectors.shape[1])
    index.apply(NONE, [numbered(np.arange(first, first + len(vectors)), vectors)], version=Version(1, "a"))
    return index


def brute_force(
    numbers: np.ndarray, vectors: np.ndarray, query: np.ndarray, k: int
) -> list[tuple[str, float]]:
    return best_first(ids_of(numbers).astype(str).tolist(), exact_scores(vectors, query), k)


@pytest.fixture
def rng() -> np.random.Generator:
    return np.random.default_rng(7)


@pytest.mark.parametrize("dimension", [1, 8, 384])
def test_a_search_finds_what_brute_force_finds(rng: np.random.Generator, dimension: int):
    vectors = unit(rng, 500, dimension)
    numbers = np.arange(1, 501)
    index = index_of(vectors)
    for query in unit(rng, 5, dimension):
        assert index.search(query[None], 10)[0] == brute_force(numbers, vectors, query, 10)


def test_a_batch_gives_the_very_scores_and_order_that_single_searches_give(rng: np.random.Generator):
    vectors = unit(rng, 3000, 64)
    vectors[100:400] = vectors[100]  # equal chunks, more than FAISS is asked for at first
    queries = np.concatenate([unit(rng, 40, 64), vectors[95:105]])
    index = index_of(vectors)
    together = index.search(queries, 7)
    assert together == [index.search(query[None], 7)[0] for query in queries]
    assert together == [brute_force(np.arange(1, 3001), vectors, query, 7) for query in queries]


@settings(max_examples=50)
@given(
    st.integers(1, 60),
    st.integers(1, 5),
    st.integers(1, 60),
    st.sampled_from([1, 7, 64]),
    st.booleans(),
    st.integers(0, 2**32 - 1),
)
def test_products_of_blocks_find_what_one_product_finds(
    rows: int, count: int, k: int, block: int, with_torch: bool, seed: int
):
    rng = np.random.default_rng(seed)
    matrix = rng.integers(-3, 4, (rows, 4)).astype(np.float32)  # many ties, exact sums
    queries = rng.integers(-3, 4, (count, 4)).astype(np.float32)
    k = min(k, rows)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(flat_vectors, "_ROWS_PER_PRODUCT", block)
        if with_torch:
            patch.setitem(sys.modules, "torch", torch)
        else:
            patch.delitem(sys.modules, "torch")
        scores, positions = flat_vectors.best_products(matrix, queries, k)
    products = queries @ matrix.T
    np.testing.assert_array_equal(scores, -np.sort(-products, axis=1)[:, :k])
    np.testing.assert_array_equal(np.take_along_axis(products, positions, axis=1), scores)
    assert all(len(set(row)) == k for row in positions.tolist())


def test_equal_scores_come_in_the_order_of_ids(rng: np.random.Generator):
    vectors = np.repeat(unit(rng, 1, 16), 200, axis=0)
    hits = index_of(vectors).search(vectors[:1], 5)[0]
    assert [hit.chunk_id for hit in hits] == sorted(ids_of(np.arange(1, 201)).astype(str))[:5]


def test_a_k_beyond_the_number_of_chunks_gives_them_all(rng: np.random.Generator):
    vectors = unit(rng, 3, 8)
    hits = index_of(vectors).search(vectors[:2], 100)
    assert [len(found) for found in hits] == [3, 3]
    assert hits[0][0].score == pytest.approx(1.0)


def test_an_empty_index_and_an_empty_batch_find_nothing(rng: np.random.Generator):
    assert VectorIndex(4).search(unit(rng, 2, 4), 5) == [[], []]
    assert index_of(unit(rng, 3, 4)).search(np.zeros((0, 4), np.float32), 5) == []


def test_a_filter_leaves_k_hits_whenever_k_chunks_pass_it(rng: np.random.Generator):
    vectors = unit(rng, 400, 16)
    index = index_of(vectors)
    allowed = np.array([3, 50, 51, 200, 399, 400, 5000])  # 5000 does not exist
    present = allowed[allowed <= 400]
    for query in unit(rng, 4, 16):
        hits = index.search(query[None], 6, allowed=allowed)[0]
        assert hits == brute_force(present, vectors[present - 1], query, 6)
    assert index.search(vectors[:1], 5, allowed=NONE) == [[]]
    assert index.search(vectors[:1], 5, allowed=np.array([401, 9999])) == [[]]


def test_what_is_removed_is_not_found_and_what_is_added_is(rng: np.random.Generator):
    vectors = unit(rng, 30, 8)
    index = index_of(vectors[:20])
    halves = [numbered(np.arange(21, 25), vectors[20:24]), numbered(np.arange(25, 31), vectors[24:])]
    index.apply(np.array([1, 5, 777]), halves, version=Version(2, "b"))
    numbers = np.setdiff1d(np.arange(1, 31), [1, 5])
    assert index.version == Version(2, "b")
    assert len(index) == 28
    np.testing.assert_array_equal(index.vectors_of(numbers), vectors[numbers - 1])
    query = vectors[0]
    assert index.search(query[None], 28)[0] == brute_force(numbers, vectors[numbers - 1], query, 28)


def test_a_chunk_that_is_here_already_is_not_added_twice(rng: np.random.Generator):
    vectors = unit(rng, 4, 8)
    index = index_of(vectors)
    index.apply(NONE, [numbered(np.array([2]), vectors[1:2])], version=Version(2, "b"))
    assert index.numbers.tolist() == [1, 2, 3, 4]
    np.testing.assert_array_equal(index.vectors_of(np.array([2])), vectors[1:2])


@pytest.mark.parametrize(
    ("queries", "k", "message"),
    [
        (np.ones((1, 8)), 0, "k is 0"),
        (np.ones((1, 7)), 5, r"shape \(1, 7\)"),
        (np.ones(8), 5, r"shape \(8,\)"),
        (np.full((1, 8), np.nan), 5, "NaN"),
        (np.full((1, 8), np.inf), 5, "infinity"),
        (np.zeros((1, 8)), 5, "zero"),
    ],
)
def test_a_query_that_makes_no_sense_is_refused(
    rng: np.random.Generator, queries: np.ndarray, k: int, message: str
):
    with pytest.raises(InvalidQuery, match=message):
        index_of(unit(rng, 3, 8)).search(queries, k)


def test_without_faiss_the_error_says_what_to_install(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setitem(sys.modules, "faiss", None)
    with pytest.raises(FaissMissing, match=r'pip install "ragserve\[cpu\]"'):
        VectorIndex(4)


def test_asking_for_a_gpu_where_faiss_sees_none_says_so():
    faiss = load_faiss()
    if hasattr(faiss, "StandardGpuResources") and faiss.get_num_gpus():
        pytest.skip("there is a GPU")
    with pytest.raises(FaissMissing, match="sees no GPU"):
        VectorIndex(4, device="cuda")
    with pytest.raises(InvalidQuery, match="no device"):
        VectorIndex(4, device="tpu")
    VectorIndex(4, device="auto")


@pytest.fixture
def pretended_gpu(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """A GPU that is a copy on the CPU; how many vectors were copied each time."""
    faiss = load_faiss()
    copied: list[int] = []

    def copy(resources: object, ordinal: int, flat: object) -> object:
        copied.append(flat.ntotal)
        return faiss.clone_index(flat)

    class Resources:
        def setTempMemory(self, size: int) -> None:
            assert size > 0

    monkeypatch.setattr(faiss, "StandardGpuResources", Resources, raising=False)
    monkeypatch.setattr(faiss, "get_num_gpus", lambda: 1, raising=False)
    monkeypatch.setattr(faiss, "index_cpu_to_gpu", copy, raising=False)
    return copied


def test_a_copy_on_a_gpu_is_renewed_after_a_change_and_gives_the_same_hits(
    rng: np.random.Generator, pretended_gpu: list[int]
):
    vectors = unit(rng, 3000, 16)
    vectors[50:100] = vectors[50]
    queries = np.concatenate([unit(rng, 5, 16), vectors[48:52]])
    some = np.array([70, 71])
    on_gpu, on_cpu = VectorIndex(16, device="cuda:0"), VectorIndex(16)
    for index in (on_gpu, on_cpu):
        index.apply(NONE, [numbered(np.arange(1, 3001), vectors)], version=Version(1, "a"))
    for k in (5, 2500):  # 2500 is more than a GPU gives
        assert on_gpu.search(queries, k) == on_cpu.search(queries, k)
    for index in (on_gpu, on_cpu):
        index.apply(np.arange(1, 61), [], version=Version(2, "b"))
    assert on_gpu.search(queries, 5) == on_cpu.search(queries, 5)
    assert on_gpu.search(queries, 5, allowed=some) == on_cpu.search(queries, 5, allowed=some)
    assert pretended_gpu == [3000, 2940]


def test_a_gpu_without_room_is_an_error_only_where_it_was_asked_for(
    rng: np.random.Generator, pretended_gpu: list[int], monkeypatch: pytest.MonkeyPatch
):
    def refuse(*_: object) -> None:
        raise RuntimeError("Error in virtual void* allocMemory\nout of memory")

    monkeypatch.setattr(load_faiss(), "index_cpu_to_gpu", refuse)
    vectors = unit(rng, 30, 8)
    for device in ("auto", "cuda"):
        index = VectorIndex(8, device=device)
        index.apply(NONE, [numbered(np.arange(1, 31), vectors)], version=Version(1, "a"))
        if device == "auto":
            assert index.search(vectors[:3], 4) == index_of(vectors).search(vectors[:3], 4)
        else:
            with pytest.raises(GpuFailed, match="on GPU 0"):
                index.search(vectors[:3], 4)


def test_a_gpu_that_does_not_exist_is_an_error(pretended_gpu: list[int]):
    with pytest.raises(InvalidQuery, match="There is no cuda:3"):
        VectorIndex(8, device="cuda:3")


@pytest.mark.gpu
def test_the_gpu_finds_exactly_what_the_cpu_finds(rng: np.random.Generator):
    faiss = load_faiss()
    if not hasattr(faiss, "StandardGpuResources") or not faiss.get_num_gpus():
        pytest.skip("needs faiss-gpu and a GPU")
    vectors = unit(rng, 20_000, 384)
    vectors[50:100] = vectors[50]
    queries = np.concatenate([unit(rng, 20, 384), vectors[45:55]])
    on_gpu = VectorIndex(384, device="cuda")
    on_cpu = index_of(vectors)
    on_gpu.apply(NONE, [numbered(np.arange(1, 20_001), vectors)], version=Version(1, "a"))
    assert on_gpu.search(queries, 10) == on_cpu.search(queries, 10)
    for index in (on_gpu, on_cpu):
        index.apply(np.arange(1, 51), [], version=Version(2, "b"))
    assert on_gpu.search(queries, 10) == on_cpu.search(queries, 10)


def check_a_base_on_a_gpu(rng: np.random.Generator, folder: Path) -> None:
    """What is approximate on the CPU finds all on a GPU: what is on disk, less what went, and the tail."""
    vectors = unit(rng, 420, 16)
    stored = numbered(np.arange(1, 401), vectors[:400])
    stamp = ivf_files.build(folder, 1, [stored], count=400, dimension=16, recall_target=0.5)
    index = VectorIndex(16, device="cuda")
    index.base = ivf_files.load(folder, stamp, 16)
    index.apply(np.array([3, 7]), [numbered(np.arange(401, 421), vectors[400:])], version=Version(2, "b"))
    numbers = np.setdiff1d(np.arange(1, 421), [3, 7])
    queries = np.concatenate([unit(rng, 5, 16), vectors[[2, 9, 410]]])
    for query, hits in zip(queries, index.search(queries, 10), strict=True):
        assert hits == brute_force(numbers, vectors[numbers - 1], query, 10)
    index.apply(np.array([401]), [], version=Version(3, "c"))
    numbers = np.setdiff1d(numbers, [401])
    assert index.search(queries[:1], 10)[0] == brute_force(numbers, vectors[numbers - 1], queries[0], 10)


@pytest.mark.usefixtures("pretended_gpu")
def test_a_copy_on_a_gpu_holds_what_is_on_disk_too(rng: np.random.Generator, tmp_path: Path):
    check_a_base_on_a_gpu(rng, tmp_path)


@pytest.mark.gpu
def test_the_gpu_holds_what_is_on_disk_too(rng: np.random.Generator, tmp_path: Path):
    faiss = load_faiss()
    if not hasattr(faiss, "StandardGpuResources") or not faiss.get_num_gpus():
        pytest.skip("needs faiss-gpu and a GPU")
    check_a_base_on_a_gpu(rng, tmp_path)


def test_searches_go_on_while_chunks_come_and_go(rng: np.random.Generator):
    vectors = unit(rng, 600, 16)
    index = index_of(vectors[:300])
    failures: list[BaseException] = []
    done = threading.Event()

    def search() -> None:
        try:
            while not done.is_set():
                hits = index.search(vectors[299:300], 3)[0]  # number 300 is never removed
                assert hits[0].chunk_id == ids_of(np.array([300]))[0].decode()
        except BaseException as error:  # noqa: BLE001
            failures.append(error)

    threads = [threading.Thread(target=search) for _ in range(3)]
    for thread in threads:
        thread.start()
    for step in range(100):
        added = numbered(np.arange(301 + step, 302 + step), vectors[300 + step : 301 + step])
        index.apply(np.array([1 + step]), [added], version=Version(2 + step, "x"))
    done.set()
    for thread in threads:
        thread.join()
    assert failures == []
    assert len(index) == 300


@st.composite
def _steps(draw: st.DrawFn) -> list[tuple[int, list[int]]]:
    """How many chunks each step adds, and which of those ever added (by position) it removes."""
    step = st.tuples(st.integers(0, 6), st.lists(st.integers(0, 60), max_size=4))
    return draw(st.lists(step, min_size=1, max_size=12))


@settings(max_examples=60, deadline=None)
@given(steps=_steps(), k=st.integers(1, 12), seed=st.integers(0, 5))
def test_any_order_of_adding_and_removing_leaves_no_ghosts(
    steps: list[tuple[int, list[int]]], k: int, seed: int
):
    rng = np.random.default_rng(seed)
    # Few distinct directions, so that ties are common.
    directions = unit(rng, 5, 3)
    index = VectorIndex(3)
    model: dict[int, np.ndarray] = {}
    last = 0
    for generation, (num_added, removals) in enumerate(steps, start=1):
        added = np.arange(last + 1, last + 1 + num_added)
        last += num_added
        vectors = directions[rng.integers(0, 5, num_added)].reshape(num_added, 3)
        removed = np.unique(np.array(removals, np.int64))
        index.apply(removed, [numbered(added, vectors)], version=Version(generation, "x"))
        model = {n: v for n, v in model.items() if n not in set(removed.tolist())}
        model |= dict(zip(added.tolist(), vectors, strict=True))
        numbers = np.array(sorted(model), np.int64)
        matrix = np.array([model[n] for n in numbers.tolist()], np.float32).reshape(-1, 3)
        for query in (directions[0], unit(rng, 1, 3)[0]):
            assert index.search(query[None], k)[0] == brute_force(numbers, matrix, query, k)
            odd = numbers[numbers % 2 == 1]
            expected = brute_force(odd, matrix[numbers % 2 == 1], query, k)
            assert index.search(query[None], k, allowed=odd)[0] == expected
