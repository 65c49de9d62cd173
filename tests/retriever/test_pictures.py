"""Pictures beside texts: what is found is what scoring everything by hand finds, whatever tier it is from."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Sequence
from contextlib import contextmanager

import numpy as np
import pytest
from fakes import FakeCorpus, FakeEmbedder, FakeView, brute_force, found
from hypothesis import given, settings
from hypothesis import strategies as st

from indexer.scoring import exact_scores
from indexer.types import Filters
from retriever import RetrievalCache, RetrievalSettings, Retriever
from retriever.errors import InvalidRetrievalSettings
from retriever.pictures import PROBES

WORDS = ["amber", "basin", "cedar", "delta", "ember", "fjord"]
FILTERS = [None, Filters(document_ids=frozenset({"a"})), Filters(kinds=frozenset({"image"}))]
DIMENSION = 8
SHARP = RetrievalSettings(image_midpoint=1.0)  # in so few dimensions nothing stands out by four deviations
seeds = st.integers(0, 2**32 - 1)


def point(seed: int, *, near: np.ndarray | None = None, spread: float = 1.0, size: int = 16) -> np.ndarray:
    noise = np.random.default_rng(seed).standard_normal(size)
    noise /= np.linalg.norm(noise)
    vector = noise if near is None else near + spread * noise
    return (vector / np.linalg.norm(vector)).astype(np.float32)


class PictureView(FakeView):
    def images(self) -> tuple[np.ndarray, np.ndarray]:
        numbers = np.array(sorted(set(self._corpus.pictures) & set(self._rows)), np.int64)
        vectors = [self._corpus.pictures[number] for number in numbers.tolist()]
        return numbers, np.array(vectors, np.float32).reshape(len(numbers), DIMENSION)


class PictureCorpus(FakeCorpus):
    def __init__(self) -> None:
        super().__init__()
        self.pictures: dict[int, np.ndarray] = {}

    @contextmanager
    def view(self) -> Iterator[PictureView]:
        yield PictureView(self)

    def draw(self, caption: str, sight: np.ndarray, **options) -> int:
        number = self.add(caption, kind="image", **options)
        self.pictures[number] = sight
        return number


class FakeSight:
    """Texts into the pictures' space, as told or else anywhere; keeps what it was given."""

    fingerprint = "sight"

    def __init__(self, vectors: dict[str, np.ndarray] | None = None) -> None:
        self.vectors = vectors or {}
        self.texts: list[str] = []

    def embed_texts(self, texts: Sequence[str]) -> np.ndarray:
        self.texts += texts
        return np.stack([self.vector(text) for text in texts])

    def vector(self, text: str) -> np.ndarray:
        seed = int.from_bytes(text.encode()[:8].ljust(8), "big") + len(text)
        return self.vectors.get(text, point(seed, size=DIMENSION))

    @property
    def questions(self) -> list[str]:
        return [text for text in self.texts if text not in PROBES]


def by_hand(
    corpus: PictureCorpus,
    query: str,
    vector: np.ndarray,
    sight: FakeSight,
    k: int,
    options: RetrievalSettings,
    filters: Filters | None = None,
) -> list[tuple[str, float]]:
    """Every chunk's score by text and every picture's by what it shows, the larger of both, sorted."""
    scores = dict(brute_force(corpus, query, vector, len(corpus.rows), options, filters))
    live = {number: shown for number, shown in corpus.pictures.items() if number in corpus.rows}
    if live:
        probes = [sight.vector(probe) for probe in PROBES]
        likenesses = np.array([[float(exact_scores(x[None], p)[0]) for p in probes] for x in live.values()])
        deviation = np.sqrt(likenesses.var(axis=1).mean())
        for (number, shown), ordinary in zip(live.items(), likenesses.mean(axis=1), strict=True):
            id_ = corpus.rows[number].chunk.id
            likeness = float(exact_scores(shown[None], sight.vector(query))[0])
            z = (likeness - ordinary) / deviation
            p = options.image_weight / (1 + np.exp(-(z - options.image_midpoint) / options.image_scale))
            if id_ in scores:
                scores[id_] = max(scores[id_], p)
    return sorted(scores.items(), key=lambda item: (-item[1], item[0]))[:k]


def same(result, expected: list[tuple[str, float]]) -> bool:
    ids = [id_ for id_, _ in found(result)]
    values = [score for _, score in found(result)]
    return ids == [id_ for id_, _ in expected] and values == pytest.approx([s for _, s in expected], abs=1e-9)


@pytest.fixture
def corpus() -> PictureCorpus:
    """Forty texts and three pictures, whose captions say nothing."""
    corpus = PictureCorpus()
    for i in range(40):
        corpus.add(f"{WORDS[i % 6]} {i}", document="ab"[i % 2])
    for i in range(3):
        corpus.draw(f"img {i}", point(100 + i, size=DIMENSION), document="p")
    return corpus


def test_a_question_finds_the_picture_that_shows_what_it_asks_for(corpus):
    wanted = list(corpus.pictures)[1]
    sight = FakeSight({"a lighthouse": corpus.pictures[wanted]})
    with Retriever(corpus, FakeEmbedder(), settings=SHARP, image_embedder=sight) as retriever:
        result = retriever.search("a lighthouse", k=3)
        assert result.hits[0].chunk == corpus.rows[wanted].chunk
        assert result.explanation["by_picture"] > 0
    with Retriever(corpus, FakeEmbedder()) as retriever:
        assert corpus.rows[wanted].chunk not in [hit.chunk for hit in retriever.search("a lighthouse").hits]


def test_without_a_model_no_picture_is_compared(corpus):
    with Retriever(corpus, FakeEmbedder()) as retriever:
        result = retriever.search("amber", k=3)
        assert "by_picture" not in result.explanation
        assert "pictures" not in result.timings


def test_without_pictures_the_model_is_not_asked():
    corpus, sight = PictureCorpus(), FakeSight()
    corpus.add("amber")
    with Retriever(corpus, FakeEmbedder(), image_embedder=sight) as retriever:
        assert retriever.search("amber").hits
        assert sight.texts == []
        corpus.draw("first", point(1, size=DIMENSION))
        assert retriever.search("amber").tier != "exact"  # the corpus is another one now
        assert sight.questions == ["amber"]


def test_a_question_is_embedded_once(corpus):
    sight = FakeSight()
    with Retriever(corpus, FakeEmbedder(), image_embedder=sight) as retriever:
        assert retriever.search("amber", k=2).tier == "miss"
        assert retriever.search("amber", k=2).tier == "exact"
        retriever.search("amber", k=3)
        retriever.search_batch(["amber", "basin"], k=4)
        assert sorted(sight.questions) == ["amber", "basin"]


def test_a_cache_on_disk_is_read_by_who_searches_pictures_and_who_does_not(corpus, tmp_path):
    file = tmp_path / "cache.safetensors"
    sight = FakeSight()
    with Retriever(corpus, FakeEmbedder(), cache_file=file, image_embedder=sight) as retriever:
        expected = found(retriever.search("amber", k=2))
    with Retriever(corpus, FakeEmbedder(), cache_file=file, image_embedder=sight) as retriever:
        assert retriever.cache.stats().num_lists == 1
        assert found(retriever.search("amber", k=2)) == expected
    with Retriever(corpus, FakeEmbedder(), cache_file=file) as retriever:
        assert retriever.cache.stats().num_lists == 1
        assert "by_picture" not in retriever.search("amber", k=2).explanation


def test_an_answer_without_pictures_is_never_served_for_one_with(corpus):
    """Caches may be shared: who looks at pictures, and with which weight, is part of every key."""
    cache = RetrievalCache()
    plain = Retriever(corpus, FakeEmbedder(), cache=cache)
    looking = Retriever(corpus, FakeEmbedder(), cache=cache, image_embedder=FakeSight())
    assert plain.search("amber").tier == "miss"
    assert looking.search("amber").tier != "exact"
    lighter = Retriever(
        corpus,
        FakeEmbedder(),
        cache=cache,
        image_embedder=FakeSight(),
        settings=RetrievalSettings(image_weight=0.1),
    )
    assert lighter.search("amber").tier != "exact"


def test_filters_hold_for_pictures(corpus):
    wanted = next(iter(corpus.pictures))
    sight = FakeSight({"a lighthouse": corpus.pictures[wanted]})
    with Retriever(corpus, FakeEmbedder(), settings=SHARP, image_embedder=sight) as retriever:
        only_texts = retriever.search("a lighthouse", k=50, filters=Filters(document_ids=frozenset({"a"})))
        assert {hit.chunk.document_id for hit in only_texts.hits} == {"a"}
        only_pictures = retriever.search("a lighthouse", k=50, filters=Filters(kinds=frozenset({"image"})))
        assert len(only_pictures.hits) == 3
        assert only_pictures.hits[0].chunk.id == corpus.rows[wanted].chunk.id


def test_no_approximate_answer_is_made_while_pictures_are_searched(corpus):
    cache = RetrievalCache(max_false_hit_rate=1.0, similarity_threshold=-1.0)
    with Retriever(corpus, FakeEmbedder(), cache=cache, image_embedder=FakeSight()) as retriever:
        tiers = {retriever.search(f"{word} {other}").tier for word in WORDS for other in WORDS}
    assert "approximate" not in tiers


def test_only_the_pool_has_a_scale_for_pictures(corpus):
    with pytest.raises(InvalidRetrievalSettings, match="ranking is 'rrf'"):
        Retriever(
            corpus, FakeEmbedder(), image_embedder=FakeSight(), settings=RetrievalSettings(ranking="rrf")
        )


@settings(max_examples=40, deadline=None)
@given(
    seeds,
    st.integers(1, 6),
    st.integers(0, 12),
    st.sampled_from([0.2, 0.5, 1.0]),
    st.sampled_from([0.0, 2.0]),
)
def test_what_is_found_is_what_everything_scored_by_hand_gives(seed, k, num_pictures, weight, midpoint):
    corpus, embedder, sight = PictureCorpus(), FakeEmbedder(), FakeSight()
    options = RetrievalSettings(depth=4, image_weight=weight, image_midpoint=midpoint)
    for i in range(30):
        corpus.add(WORDS[i % 6], point(seed + i), document="ab"[i % 2])
    for i in range(num_pictures):
        corpus.draw(WORDS[i % 3], point(seed + 1000 + i, size=DIMENSION), document="ab"[i % 2])
    with Retriever(
        corpus, embedder, settings=options, cache=RetrievalCache(candidates=8), image_embedder=sight
    ) as retriever:
        for i in range(9):
            query = f"{WORDS[i % 6]} {i % 4}"
            embedder.vectors[query] = point(seed + i % 2, near=point(seed), spread=0.1)
            filters = FILTERS[i % 3]
            result = retriever.search(query, k=k, filters=filters)
            vector = embedder.vectors[query]
            expected = by_hand(corpus, query, vector, sight, k, options, filters)
            assert same(result, expected), (result.tier, result.explanation)


def test_certified_answers_are_the_true_ones_with_pictures_too():
    """The property above would also hold for a cache that never proves anything."""
    corpus, embedder, sight = PictureCorpus(), FakeEmbedder(), FakeSight()
    options = RetrievalSettings(image_midpoint=1.0)
    centre = point(0)
    for i in range(400):
        corpus.add(f"text {i}", point(i, near=centre, spread=0.9))
    for i in range(10):
        corpus.draw(f"img {i}", point(1000 + i, size=DIMENSION))
    retriever = Retriever(
        corpus, embedder, settings=options, cache=RetrievalCache(candidates=100), image_embedder=sight
    )
    tiers, by_picture = Counter(), 0
    for i in range(60):
        query = f"query {i}"
        embedder.vectors[query] = point(i % 20, near=centre, spread=0.3 + 0.001 * i)
        result = retriever.search(query, k=3)
        tiers[result.tier] += 1
        by_picture += result.tier == "certified" and result.explanation["by_picture"] > 0
        assert same(result, by_hand(corpus, query, embedder.vectors[query], sight, 3, options))
    assert tiers["certified"] > 10
    assert by_picture > 3
