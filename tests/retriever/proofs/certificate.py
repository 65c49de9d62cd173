"""Asks the cache a million questions that it answers with a proof, and compares each answer with all chunks.

    PYTHONPATH=tests/indexer:tests/retriever python -m proofs.certificate --hits 1000000 [--seed N] [--record]

Many small worlds, each with a corpus of some shape, one cache, and several retrievers that share it: other
rankings, depths and filters, k from 1 to 12. Chunks come, go, change and move to other documents between the
questions; entries are evicted, grow too old, and outlive restarts. Questions lie anywhere around past ones,
from the very same vector to far away, and an adversary puts chunks where a bound is tightest: just outside of
what past questions have seen, on the side of a question whose k-th best is no better than the bound. An
answer counts as right if it has the ids of brute force, in order, and the scores to the last digit.

Every world follows from the seed and its number: `--only N` repeats one. With `--work DIR` a run that was
interrupted goes on where it stopped.
"""

from __future__ import annotations

import argparse
import json
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, field, fields
from pathlib import Path
from typing import Any, Self
from unittest.mock import patch

import numpy as np

from indexer.types import Filters
from proofs.corpus import DOCUMENTS, NUM_WORDS, ArrayCorpus, Version
from proofs.shapes import SHAPES, moved, noise, unit
from retriever import RetrievalCache, RetrievalSettings, Retriever
from retriever.binomial import upper_bound
from retriever.cache_keys import Space
from retriever.cache_lists import ListTable
from retriever.cache_vectors import QueryVectors
from retriever.certificate import bound_outside

ROUNDS = 60  # of changes and questions in a world
_DIMENSIONS = (2, 3, 5, 8, 16, 24, 48, 96)
_DISTANCES = np.array([0, 1e-6, 1e-4, 1e-3, 3e-3, 0.01, 0.02, 0.03, 0.05, 0.1, 0.3])  # to a past question
_FILTERS = (
    *[None] * 7,
    Filters(document_ids=frozenset(DOCUMENTS[:2])),
    Filters(kinds=frozenset({"code"})),
    Filters(document_ids=frozenset({"nowhere"})),
)
_TTL_ROUNDS = 25


class WrongAnswer(AssertionError):
    """The cache has served what brute force does not find."""


@dataclass(slots=True)
class Account:
    """What was asked and done; accounts of worlds add up."""

    rankings: Counter[str] = field(default_factory=Counter)  # certified answers by ranking
    shapes: Counter[str] = field(default_factory=Counter)  # by shape of the corpus
    proofs: Counter[str] = field(default_factory=Counter)  # by what proved them
    tiers: Counter[str] = field(default_factory=Counter)  # all answers; each was compared
    events: Counter[str] = field(default_factory=Counter)  # what happened in between
    worlds: int = 0
    seconds: float = 0.0

    def add(self, other: Self) -> None:
        for one in fields(self):
            mine, theirs = getattr(self, one.name), getattr(other, one.name)
            if isinstance(mine, Counter):
                mine.update(theirs)
            else:
                setattr(self, one.name, mine + theirs)

    def to_json(self) -> str:
        return json.dumps({one.name: getattr(self, one.name) for one in fields(self)})

    @classmethod
    def from_json(cls, text: str) -> Self:
        values: dict[str, Any] = json.loads(text)
        return cls(**{name: Counter(v) if isinstance(v, dict) else v for name, v in values.items()})


class SeededCache(RetrievalCache):
    """What an entry has cost comes from the seed and not from a clock, so eviction can be repeated."""

    def __init__(self, rng: np.random.Generator, **options: Any) -> None:
        super().__init__(**options)
        self._costs = rng

    def keep_hits(self, *arguments: Any, seconds: float) -> None:
        super().keep_hits(*arguments, seconds=float(self._costs.random()))

    def keep_vector(self, *arguments: Any, seconds: float) -> None:
        super().keep_vector(*arguments, seconds=float(self._costs.random()))

    def keep_list(self, *arguments: Any, seconds: float) -> None:
        super().keep_list(*arguments, seconds=float(3 * self._costs.random()))


class KnownQueries:
    """An embedder that is told every vector beforehand."""

    fingerprint = "proofs"

    def __init__(self) -> None:
        self.vectors: dict[str, np.ndarray] = {}

    def embed_queries(self, texts: Sequence[str]) -> np.ndarray:
        return np.stack([self.vectors[text] for text in texts])


class World:
    """A corpus, a cache and its users."""

    def __init__(self, seed: int, number: int) -> None:
        self._rng = rng = np.random.default_rng([seed, number])
        names = list(SHAPES)
        self.shape = names[number % len(names)]
        self._crowded = number % 8 == 3  # past questions are found as where there are thousands
        self._dimension = int(rng.choice(_DIMENSIONS)) if not self._crowded else max(_DIMENSIONS)
        self._make = SHAPES[self.shape](rng, self._dimension)
        count = int(rng.integers(150, 600))
        self.corpus = ArrayCorpus(self._dimension, count + 16 * ROUNDS, rng)
        self.corpus.add(self._make(count))
        self._count = count
        self._candidates = int(rng.choice([16, 24, 48, count // 12, count // 8, count // 6, count // 4]))
        if rng.random() < 0.1:  # a list holds every chunk
            self._candidates = 2 * count
        self._read_share = int(rng.choice([1, 1, 4]))
        self._max_bytes = int(rng.choice([40_000, 200_000, 10_000_000]))
        self._ttl_s = float(_TTL_ROUNDS) if rng.random() < 0.2 else None
        self._now = 0.0
        self._embedder = KnownQueries()
        self._centres = self._make(8)
        self._asked: list[str] = []
        self.account = Account(worlds=1)
        self._cache, self._retrievers = self._open()

    def run(self, rounds: int = ROUNDS) -> Account:
        """Raises WrongAnswer at the first one."""
        started = time.process_time()
        with ExitStack() as changed:
            if self._crowded:
                changed.enter_context(patch("retriever.cache.ListTable", _crowded_table))
            # Small corpora are proven from as many lists as large ones.
            changed.enter_context(patch("retriever.retriever._READ_SHARE", self._read_share))
            self._go_through(rounds)
        self.account.events["evictions"] += self._cache.stats().evictions
        self.account.seconds = time.process_time() - started
        return self.account

    def _go_through(self, rounds: int) -> None:
        for round_ in range(rounds):
            self._now += 1
            if self.corpus.room > 16:
                self._change()
            if round_ % 3 == 2:
                self._attack()
            for _ in range(2):
                near = self._rng.choice(_DISTANCES, size=int(self._rng.integers(1, 25)))
                centres = self._centres[self._rng.integers(len(self._centres), size=len(near))]
                retriever = self._retrievers[int(self._rng.integers(len(self._retrievers)))]
                self._ask(retriever, moved(self._rng, centres, near), self._k(), self._filters())
            if self._rng.random() < 0.03:
                self._restart()

    # --- users

    def _open(self) -> tuple[RetrievalCache, list[Retriever]]:
        rng = self._rng
        cache = SeededCache(
            rng,
            candidates=self._candidates,
            max_bytes=self._max_bytes,
            ttl_s=self._ttl_s,
            clock=lambda: self._now,
        )
        settings = [
            RetrievalSettings(ranking="dense", depth=int(rng.integers(1, 40))),
            RetrievalSettings(ranking="dense"),
            RetrievalSettings(ranking="dense", depth=12),
            RetrievalSettings(ranking="pool", depth=int(rng.integers(3, 30))),
            RetrievalSettings(ranking="pool", depth=8, dense_weight=float(rng.uniform(0.3, 1))),
            RetrievalSettings(ranking="rrf", depth=int(rng.integers(2, 8))),
        ]
        retrievers = [Retriever(self.corpus, self._embedder, settings=one, cache=cache) for one in settings]
        return cache, retrievers

    def _restart(self) -> None:
        """Another process: what was saved is all that there is."""
        self.account.events["restarts"] += 1
        self.account.events["evictions"] += self._cache.stats().evictions
        state = self._cache.state(saved_at=self._now)
        self._cache, self._retrievers = self._open()
        self._cache.restore(state, self.corpus, embedder=self._embedder.fingerprint, elapsed_s=0.0)

    def _ask(self, retriever: Retriever, vectors: np.ndarray, k: int, filters: Filters | None) -> None:
        """In one batch; some of it was asked before."""
        texts = []
        for vector in vectors:
            if self._asked and self._rng.random() < 0.08:
                texts.append(self._asked[int(self._rng.integers(len(self._asked)))])
                continue
            words = self._rng.integers(NUM_WORDS, size=int(self._rng.integers(1, 4)))
            text = " ".join([f"q{len(self._asked)}", *(f"w{word}" for word in words)])
            self._asked.append(text)
            self._embedder.vectors[text] = vector
            texts.append(text)
        for text, result in zip(texts, retriever.search_batch(texts, k=k, filters=filters), strict=True):
            vector = self._embedder.vectors[text]
            true = self.corpus.best(text, vector, k, retriever.settings, filters)
            found = [(hit.chunk.id, hit.score) for hit in result.hits]
            if found != true:
                raise WrongAnswer(
                    f"{result.tier}, {retriever.settings.ranking}, k={k}, {self.shape}, dimension"
                    f" {self._dimension}, {dict(result.explanation)}: {found} instead of {true}"
                )
            self.account.tiers[result.tier] += 1
            if result.tier == "certified":
                self.account.rankings[retriever.settings.ranking] += 1
                self.account.shapes[self.shape] += 1
                self.account.proofs[_kind_of_proof(result.explanation)] += 1
                self.account.events["with a filter"] += filters is not None

    def _k(self) -> int:
        return int(self._rng.integers(1, 13)) if self._rng.random() < 0.97 else 40

    def _filters(self) -> Filters | None:
        return _FILTERS[int(self._rng.integers(len(_FILTERS)))]

    # --- what happens to the corpus

    def _change(self) -> None:
        """Up to a dozen commits of any kind."""
        for _ in range(int(self._rng.choice([0, 1, 3, 12], p=[0.3, 0.3, 0.3, 0.1]))):
            what = self._rng.choice(
                ["add", "remove", "update", "move", "forget"], p=[0.3, 0.3, 0.3, 0.08, 0.02]
            )
            self.account.events[str(what)] += 1
            numbers = self.corpus.numbers
            some = self._rng.choice(numbers, size=1)
            match what:
                case "add":
                    self.corpus.add(self._newcomers())
                case "remove" if len(numbers) > self._count // 2:
                    _, rows = self.corpus.vectors(numbers)
                    best = numbers[(rows @ self._centres[0]).argmax()]  # what is found again and again
                    self.corpus.remove(np.append(some, best))
                case "update":
                    _, old = self.corpus.vectors(some)
                    self.corpus.remove(some)
                    self.corpus.add(moved(self._rng, old, self._rng.choice(_DISTANCES, 1)))
                case "move":
                    self.corpus.move(int(some[0]))
                case "forget":
                    self.corpus.forget_changes()

    def _newcomers(self) -> np.ndarray:
        """Near what is asked, or anywhere."""
        if self._rng.random() < 0.5:
            return self._make(1)
        which = self._rng.integers(len(self._centres), size=1)
        return moved(self._rng, self._centres[which], self._rng.choice(_DISTANCES, 1))

    def _attack(self) -> None:
        """Puts a chunk where the cache is told that none can be, or as nearly as geometry allows."""
        table = self._cache._tables.get(Space(self._embedder.fingerprint, None))
        entries = [entry for entry in table or () if entry.radius > -1]
        if not entries or self.corpus.room < 16:
            return
        rng, k = self._rng, self._k()
        first = entries[int(rng.integers(len(entries)))].vector
        entries.sort(key=lambda entry: -float(entry.vector @ first))
        entries = entries[: int(rng.integers(1, 4))]
        past, radii = np.stack([one.vector for one in entries]), np.array([one.radius for one in entries])
        middle, aside = unit(past.mean(axis=0, keepdims=True)), noise(rng, 1, self._dimension)
        way = np.concatenate([np.zeros(1), np.geomspace(1e-3, 1, 10)])
        queries = unit(middle + way[:, None] * aside)
        kth = self._kth_similarity(queries, k)
        bounds = [bound_outside(query, past, radii) for query in queries]
        at = int(np.abs([bound - s for (bound, _), s in zip(bounds, kth, strict=True)]).argmin())
        query, weights = queries[at].astype(np.float64), bounds[at][1]
        worst = query - weights @ past  # of all vectors outside the lists, the nearest points this way
        if np.linalg.norm(worst) < 1e-6:
            return
        back = float(rng.choice([-1e-3, 0, 1e-6, 1e-4, 2e-4, 1e-3, 1e-2]))
        worst = worst / np.linalg.norm(worst) - back * (weights > 0) @ past
        self.corpus.add(unit(worst[None]))
        self.account.events["attacks"] += 1
        near = queries[at] + rng.normal(0, 0.01, (8, 1)) * aside
        self._ask(self._retrievers[1], unit(near), k, None)

    def _kth_similarity(self, queries: np.ndarray, k: int) -> np.ndarray:
        _, rows = self.corpus.vectors(self.corpus.numbers)
        similarities = queries @ rows.T
        return np.partition(similarities, -min(k, len(rows)), axis=1)[:, -min(k, len(rows))]


def _crowded_table(version: Version) -> ListTable:
    """One that goes by shadows and FAISS's cells from a few past questions on, not from thousands."""
    return ListTable(version, vectors=QueryVectors(full_limit=8, shadow_limit=24))


def _kind_of_proof(explanation: Mapping[str, Any]) -> str:
    if explanation["bound"] is None:
        return "a list of all chunks"
    return "one list" if explanation["lists"] == 1 else "several lists together"


def run(*, num_hits: int, seed: int, work: Path, only: int | None = None, rounds: int = ROUNDS) -> Account:
    """Worlds until so many answers were certified, those that were done before in `work` among them."""
    done = work / f"seed-{seed}.jsonl"
    total = Account()
    if only is not None:
        total.add(_world(seed, only, rounds))
        return total
    for line in done.read_text(encoding="utf-8").splitlines() if done.exists() else ():
        total.add(Account.from_json(line))
    with done.open("a", encoding="utf-8") as journal:
        while (hits := total.rankings.total()) < num_hits:
            account = _world(seed, total.worlds, rounds)
            journal.write(account.to_json() + "\n")
            journal.flush()
            total.add(account)
            if total.worlds % 100 == 0:
                print(f"{total.worlds:,} worlds, {hits:,} certified answers", flush=True)
    return total


def _world(seed: int, number: int, rounds: int) -> Account:
    try:
        return World(seed, number).run(rounds)
    except WrongAnswer as error:
        raise WrongAnswer(f"--seed {seed} --only {number}: {error}") from error


def report_lines(total: Account, seed: int) -> list[str]:
    """The account, as Markdown."""
    hits = total.rankings.total()
    lines = [
        f"{hits:,} answers served with a proof, each equal to brute force in ids, order and scores: none"
        f" wrong. At most {upper_bound(0, hits):.1e} of such answers are, with 95% confidence.",
        "",
        "| certified answers | |",
        "| --- | ---: |",
    ]
    for counts in (total.rankings, total.proofs, total.shapes):
        lines += [f"| {name} | {count:,} |" for name, count in counts.most_common()]
    happened = ", ".join(f"{count:,} {name}" for name, count in sorted(total.events.items()))
    others = ", ".join(
        f"{count:,} {tier}" for tier, count in sorted(total.tiers.items()) if tier != "certified"
    )
    return [
        *lines,
        "",
        f"Compared as well: {others}. In between: {happened}.",
        f"{total.worlds:,} worlds of seed {seed}, {total.seconds:,.0f} s.",
    ]


def main() -> int:
    parser = argparse.ArgumentParser(prog="proofs.certificate", description=__doc__.splitlines()[0])
    parser.add_argument("--hits", type=int, default=1_000_000, help="certified answers to compare")
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--only", type=int, default=None, metavar="WORLD", help="only this one")
    parser.add_argument("--work", type=Path, default=None, help="keep the state here, to go on later")
    parser.add_argument("--record", action="store_true", help="write the figures into docs/reliability.md")
    arguments = parser.parse_args()
    print(f"seed {arguments.seed}", flush=True)
    with tempfile.TemporaryDirectory() as scratch:
        work = arguments.work or Path(scratch)
        work.mkdir(parents=True, exist_ok=True)
        try:
            total = run(num_hits=arguments.hits, seed=arguments.seed, work=work, only=arguments.only)
        except WrongAnswer as error:
            print(error, file=sys.stderr)
            return 1
    lines = report_lines(total, arguments.seed)
    print(*lines, sep="\n")
    hits = total.rankings.total()
    print(json.dumps({"harness": "certificate", "seed": arguments.seed, "certified": hits, "wrong": 0}))
    if arguments.record:
        from harness import figures  # the indexer's: only a full run has it on its path

        figures.record("certificate", lines)
    return 0


if __name__ == "__main__":
    sys.exit(main())
