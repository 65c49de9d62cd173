"""The approximate tier as a whole: what is served, what is compared, what is learnt."""

from __future__ import annotations

import threading
import time

import numpy as np
import pytest
from fakes import DIMENSION, PATIENCE, FakeCorpus, FakeEmbedder, brute_force, found, make_retriever

from retriever import RetrievalCache, RetrievalSettings
from retriever.cache_audit import BackgroundAudits

DENSE = RetrievalSettings(ranking="dense")


def unit(rng: np.random.Generator) -> np.ndarray:
    vector = rng.standard_normal(DIMENSION)
    return (vector / np.linalg.norm(vector)).astype(np.float32)


def near(rng: np.random.Generator, centre: np.ndarray, spread: float) -> np.ndarray:
    vector = centre + spread * unit(rng)
    return (vector / np.linalg.norm(vector)).astype(np.float32)


class Scene:
    """A corpus, and paraphrases of a few topics: too far apart for proofs, near enough for good guesses."""

    def __init__(self, *, spread: float = 0.2, **options) -> None:
        self.rng = np.random.default_rng(5)
        self.corpus, self.embedder = FakeCorpus(), FakeEmbedder()
        for _ in range(400):
            self.corpus.add("text", unit(self.rng))
        self.topics = [unit(self.rng) for _ in range(6)]
        self.spread, self.asked = spread, 0
        options = {"candidates": 40, "similarity_threshold": 0.8, "max_bytes": 1 << 30} | options
        self.retriever = make_retriever(
            self.corpus, self.embedder, settings=DENSE, cache=RetrievalCache(**options)
        )
        self.cache = self.retriever.cache

    def question(self) -> str:
        """A paraphrase that was never asked."""
        self.asked += 1
        text = f"{'x' * self.asked} paraphrase {'y' * self.asked}"
        self.embedder.vectors[text] = near(self.rng, self.topics[self.asked % 6], self.spread)
        return text

    def ask(self, text: str | None = None):
        return self.retriever.search(text or self.question(), k=3)

    def recall(self, text: str, result) -> float:
        vector = self.embedder.vectors[text]
        true = {name for name, _ in brute_force(self.corpus, text, vector, 3, DENSE, None)}
        return len(true & {name for name, _ in found(result)}) / 3


def test_true_searches_teach_the_cache_until_it_serves_within_the_budget(no_thread_is_left):
    scene = Scene(max_false_hit_rate=0.05, min_recall=0.6, candidates=30)
    recalls = []
    with scene.retriever:
        for _ in range(250):
            text = scene.question()
            result = scene.ask(text)
            scene.retriever._audits.join()  # what it teaches is there for the next question
            if result.tier == "approximate":
                recalls.append(scene.recall(text, result))
    assert len(recalls) > 20
    assert np.mean(np.array(recalls) < 0.6) <= 0.05
    assert scene.cache.stats().served["approximate"] == len(recalls)


def test_a_served_answer_is_audited_in_the_background(no_thread_is_left):
    scene = Scene(max_false_hit_rate=1.0, audit_share=1.0, candidates=20)
    with scene.retriever as retriever:
        tiers = []
        for _ in range(12):
            tiers.append(scene.ask().tier)
            retriever._audits.join()
        audit = scene.cache.stats().audit
        assert "approximate" in tiers
        assert audit.num_audited == tiers.count("approximate")
        assert 0 <= audit.false_hit_rate <= audit.upper_bound <= 1


def test_an_audit_that_cannot_wait_is_made_at_once_in_place_of_the_answer():
    scene = Scene(max_false_hit_rate=1.0, audit_share=1.0, candidates=20)
    scene.retriever._audits = BackgroundAudits(max_pending=0)
    tiers = {scene.ask().tier for _ in range(12)}
    assert "approximate" not in tiers
    assert scene.cache.stats().audit.num_audited > 0


def test_after_an_audit_that_the_corpus_ran_away_from_the_next_is_made_on_the_spot():
    scene = Scene(max_false_hit_rate=1.0, audit_share=1.0, candidates=20)
    gate = threading.Event()
    held = BackgroundAudits()
    held.submit(gate.wait)
    scene.retriever._audits = held
    while scene.ask().tier != "approximate":
        pass
    scene.corpus.add("text", unit(scene.rng))
    gate.set()
    held.join()
    assert scene.cache.stats().audit.num_audited == 0
    for _ in range(8):
        scene.ask()
        held.join()
        if scene.cache.stats().audit.num_audited:
            break
    assert scene.cache.stats().audit.num_audited == 1
    scene.retriever.close()


def test_of_two_audits_that_failed_none_is_forgotten_for_one_that_was_made():
    scene = Scene(max_false_hit_rate=1.0, audit_share=1.0, candidates=20)
    gate, held = threading.Event(), BackgroundAudits()
    held.submit(gate.wait)
    scene.retriever._audits = held
    tiers = [scene.ask().tier for _ in range(12)]
    num_failing = tiers.count("approximate")
    assert num_failing > 1
    scene.corpus.add("text", unit(scene.rng))
    gate.set()
    held.join()
    while scene.ask().tier != "approximate":
        held.join()
    held.join()
    num_audited = scene.cache.stats().audit.num_audited
    assert num_audited == num_failing + 1  # each on the spot, and then one that was served
    scene.retriever.close()


def test_an_audit_that_is_being_made_is_not_owed():
    scene = Scene(max_false_hit_rate=1.0, audit_share=1.0, candidates=20)
    gate, held = threading.Event(), BackgroundAudits(max_pending=30)
    scene.retriever._audits = held
    compare = scene.retriever._compare

    def compare_slowly(*arguments):
        gate.wait(PATIENCE)
        return compare(*arguments)

    scene.retriever._compare = compare_slowly
    tiers = [scene.ask().tier for _ in range(30)]
    gate.set()
    held.join()
    assert "miss" not in tiers[tiers.index("approximate") :]
    scene.retriever.close()


def test_an_audit_that_fails_harms_nobody(no_thread_is_left, caplog):
    audits, done = BackgroundAudits(), []

    def fail() -> None:
        raise RuntimeError("the index is gone")

    assert audits.submit(fail)
    assert audits.submit(lambda: done.append(1))
    audits.join()
    audits.close()
    assert done == [1]
    assert "the index is gone" in caplog.text


def test_closing_drops_the_audits_that_wait_and_takes_no_more(no_thread_is_left):
    audits, gate, done = BackgroundAudits(max_pending=2), threading.Event(), []
    entered = threading.Event()

    def wait() -> None:
        entered.set()
        assert gate.wait(PATIENCE)

    assert audits.submit(wait)
    assert entered.wait(PATIENCE)
    assert audits.submit(lambda: done.append(1))
    assert audits.submit(lambda: done.append(2))
    assert not audits.submit(lambda: done.append(3))
    closer = threading.Thread(target=audits.close)
    closer.start()
    while audits._pending:
        time.sleep(0.001)
    gate.set()
    closer.join(PATIENCE)
    assert done == []
    assert not audits.submit(lambda: done.append(4))
    audits.close()


def test_requests_of_another_k_learn_for_themselves():
    scene = Scene(max_false_hit_rate=1.0, candidates=20)
    with scene.retriever as retriever:
        for k in (2, 3):
            for _ in range(12):
                retriever.search(scene.question(), k=k)
    assert {key.k for key in scene.cache._calibrators} == {2, 3}


@pytest.mark.parametrize("budget", [0.0, 0.05])
def test_no_thread_is_started_for_a_tier_that_serves_nothing(budget, no_thread_is_left):
    scene = Scene(max_false_hit_rate=budget)
    for _ in range(10):
        assert scene.ask().tier != "approximate"
