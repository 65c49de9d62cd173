"""What the retrieval cache serves, how much of it is wrong, and how long it takes, beside others' rules.

    python benchmarks/cache_traffic.py DATA [--scratch FOLDER] [--large] [--quick]

Corpora of 10,000 and 100,000 public paragraphs and sentences (with --large 1,000,000 instead: those, and the
same moved by noise, for the streams alone), MiniLM, k = 5, dense ranking. Traffic is Zipf over groups of
questions that ask for the same (qqp_pairs, clinc150, banking77, disfl_pairs), so it has repeats, paraphrases
and a long tail. A hit is false if it has fewer than 4 of the true 5 (recall@5 below 0.8). The peers are their
rules, written down from their formulas (cache_rules.py), at the settings that are theirs and swept for the
most hits at a false-hit rate of at most 1%: of all that they serve, and of what they serve of wordings that
were not asked before. Repeats need no judgement, so it is there that rules differ.

Then what longer lists buy, what a warm cache serves, the regimes in which caches go wrong (exact repeat,
paraphrase, near miss, document drift, long shared document, bounded knowledge base), pairs that differ in
polarity, numbers and names, and 10,000 updates of the corpus. Last, what a look-up costs and a hit saves,
over a real index.

True searches of the streams are made once beforehand, in batches; no figure of these streams is the time of
a search.
"""

from __future__ import annotations

import argparse
import json
import math
import os
import tempfile
from collections.abc import Callable, Sequence
from itertools import pairwise
from pathlib import Path

import numpy as np
from cache_corpus import ChangingCorpus
from cache_payoff import lookups, payoff
from cache_plot import Point, rates_svg
from cache_rules import FixedCosine, QVCache, Rule, VCache, gptcache, proximity
from cache_safety import regimes, updates
from cache_streams import (
    BUDGET,
    CANDIDATES,
    MIN_RECALL,
    Asked,
    K,
    Outcome,
    Stream,
    Truth,
    Vectors,
    make_stream,
    outcome,
    run_cache,
    run_rule,
)
from cache_traffic_sets import Traffic, load_corpus, load_traffic

from indexer import SentenceTransformerEmbedder
from retriever import Retriever

PICTURE = Path(__file__).parents[1] / "docs" / "cache-hits.svg"
_LONGER_LISTS = (1000, 3000, 10_000)
_WARM = 20_000  # questions
_QUICK_SIZE, _QUICK_LENGTH = 300, 80

Figures = dict[str, object]


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("data", type=Path)
    parser.add_argument("--scratch", type=Path, help="folder that keeps the vectors between runs")
    parser.add_argument("--queries", type=int, default=3000, help="length of each stream")
    parser.add_argument("--large", action="store_true", help="only the streams, over 1,000,000 chunks")
    parser.add_argument("--quick", action="store_true", help="tiny sizes: shows that it runs, nothing else")
    arguments = parser.parse_args()
    sizes = [1_000_000] if arguments.large else [10_000, 100_000]
    length, warm = arguments.queries, _WARM
    if arguments.quick:
        sizes, length, warm = [_QUICK_SIZE], _QUICK_LENGTH, 2 * _QUICK_LENGTH
    figures: Figures = {
        "threads": os.environ.get("OMP_NUM_THREADS", "all"),
        "k": K,
        "min_recall": MIN_RECALL,
        "candidates": CANDIDATES,
        "queries": length,
        "quick": arguments.quick,
    }
    traffic = load_traffic(arguments.data)
    if arguments.quick:
        traffic = [Traffic(one.name, one.groups[:30]) for one in traffic[:2]]
    texts = load_corpus(arguments.data, min(sizes[-1], 100_000))
    with tempfile.TemporaryDirectory() as temporary:
        vectors = Vectors(SentenceTransformerEmbedder(), arguments.scratch or Path(temporary))
        chunks = vectors.of("corpus", texts, documents=True)
        for size in sizes:
            corpus = ChangingCorpus(enlarged(chunks, size))
            print(f"\n{size:,} chunks")
            for one in traffic:
                measure(corpus, vectors, make_stream(one, vectors, length), figures, picture=size == 100_000)
            longer_lists(corpus, vectors, make_stream(traffic[0], vectors, length), figures)
            longer_lists(corpus, vectors, make_stream(traffic[-1], vectors, length), figures)
        if not arguments.large:
            small = chunks[: sizes[0]]
            for one in traffic:
                warmed_up(ChangingCorpus(small), vectors, make_stream(one, vectors, warm), figures)
            count = 40 if arguments.quick else 400
            stream = make_stream(traffic[0], vectors, length)
            figures |= regimes(small, vectors, traffic[0], stream, arguments.data, count)
            figures |= updates(small, vectors, stream.different[:300], 200 if arguments.quick else 10_000)
            figures |= lookups(vectors, traffic, small, 200 if arguments.quick else 10_000)
            payoff_sizes = [_QUICK_SIZE] if arguments.quick else [1000, 10_000, 100_000]
            figures |= payoff(vectors, texts, chunks, traffic[0], payoff_sizes)
    print(json.dumps({name: value for name, value in figures.items() if not is_nan(value)}))
    return 0


def is_nan(value: object) -> bool:
    """Whether it is the figure of what never happened."""
    return isinstance(value, float) and math.isnan(value)


def enlarged(chunks: np.ndarray, size: int) -> np.ndarray:
    """The first so many, or all and copies of them moved by noise of half their length."""
    if size <= len(chunks):
        return chunks[:size]
    rng, parts = np.random.default_rng(0), [chunks]
    while sum(map(len, parts)) < size:
        noise = rng.standard_normal(chunks.shape, np.float32)
        moved = chunks + 0.5 * noise / np.linalg.norm(noise, axis=1, keepdims=True)
        parts.append(moved / np.linalg.norm(moved, axis=1, keepdims=True))
    return np.concatenate(parts)[:size].astype(np.float32)


# --- one stream


def measure(
    corpus: ChangingCorpus, vectors: Vectors, stream: Stream, figures: Figures, *, picture: bool
) -> None:
    """The cache without and with its approximate tier, and every other rule."""
    size = len(corpus.matrix)
    truth = Truth(corpus, vectors, stream.different)
    prefix = f"chunks_{size}_{stream.name}"
    print(
        f" {stream.name}: {len(stream.texts):,} queries: {share(stream.repeated):.1%} repeat one,"
        f" {share(stream.paraphrased):.1%} ask another's question in new words,"
        f" {share(stream.near):.1%} are new words near others"
    )
    for budget in (0.0, BUDGET):
        asked = ours(corpus, vectors, truth, stream, budget, f"{prefix}_ours_{budget:g}", figures)
    best_of_others, points = peers(corpus, vectors, truth, stream, prefix, figures)
    new = outcome([one for one in asked if not one.repeated])
    ratio = new.hit_rate / best_of_others if best_of_others else math.inf
    print(
        f"   of new wordings: {new.hit_rate:.1%} served, {new.false_hit_rate:.2%} of it wrong; the best of"
        f" the others within {BUDGET:.0%}: {best_of_others:.1%}. Ratio {ratio:.1f}"
    )
    figures[f"{prefix}_new_wordings_ratio"] = round(ratio, 2) if ratio < math.inf else None
    if picture and stream.name == "qqp_pairs":
        draw(corpus, vectors, truth, stream, points)
    corpus.known.clear()


def ours(
    corpus: ChangingCorpus,
    vectors: Vectors,
    truth: Truth,
    stream: Stream,
    budget: float,
    key: str,
    figures: Figures,
) -> list[Asked]:
    """The cache itself."""
    asked, retriever = run_cache(corpus, vectors, truth, stream, budget=budget)
    total, stats = outcome(asked), retriever.cache.stats()
    tiers = {tier: outcome(asked, tiers=[tier]) for tier in ("exact", "certified", "approximate")}
    print(
        f"   ours, budget {budget:.0%}: {total.hit_rate:6.1%} served ("
        + ", ".join(f"{tier} {one.hit_rate:.1%}" for tier, one in tiers.items() if one.served)
        + f"), {total.false_hit_rate:.2%} of it wrong, recall {total.recall:.4f}"
    )
    figures[f"{key}_hit_rate"] = round(total.hit_rate, 4)
    figures[f"{key}_false_hit_rate"] = round(total.false_hit_rate, 5)
    figures[f"{key}_bytes_per_list"] = round(bytes_per_list(retriever), 1)
    for tier, one in tiers.items():
        if one.served:
            figures[f"{key}_{tier}_share"] = round(one.hit_rate, 4)
            figures[f"{key}_{tier}_recall"] = round(one.recall, 5)
            figures[f"{key}_{tier}_false_hits"] = one.false_hits
    for name in ("paraphrased", "near"):
        certified = outcome([one for one in asked if getattr(one, name)], tiers=["certified"])
        figures[f"{key}_{name}_certified"] = round(certified.hit_rate, 4)
        if not budget:
            print(f"     certified of the {name}: {certified.hit_rate:.1%} of {certified.queries:,}")
    if budget:
        approximate, audit = tiers["approximate"], stats.audit
        print(
            f"     approximate: {approximate.served:,} served, {approximate.false_hits} wrong, recall"
            f" {approximate.recall:.4f}; audited {audit.num_audited}, {audit.num_false_hits} false, at most"
            f" {audit.upper_bound:.2%} with 95% confidence; {audit.num_suspensions} suspensions"
        )
        figures[f"{key}_audit_upper_bound"] = round(audit.upper_bound, 5)
    return asked


def candidates_of(
    corpus: ChangingCorpus, vectors: Vectors, stream: Stream
) -> dict[str, list[tuple[str, Callable[[], Rule]]]]:
    """Each peer at the settings to sweep; the first is its own."""
    sample = vectors.embed_queries(stream.different[:500])
    thresholds = (0.9, 0.8, 0.95, 0.97, 0.98, 0.99, 0.995, 0.999)
    taus = (0.5, 0.3, 0.2, 0.14, 0.1, 0.05)
    deltas = (0.01, 0.005, 0.02, 0.05, 0.1)
    deviations = (0.025, 0.0, -0.05, -0.1, -0.2)
    return {
        "GPTCache": [("0.8", lambda: gptcache())],
        "fixed cosine": [(f"{t:g}", lambda t=t: FixedCosine(t)) for t in thresholds],
        "Proximity": [(f"{t:g}", lambda t=t: proximity(t)) for t in taus],
        "vCache": [(f"{d:g}", lambda d=d: VCache(d, k=K, min_recall=MIN_RECALL)) for d in deltas],
        "QVCache": [
            (f"{d:g}", lambda d=d: QVCache(d, k=K, vectors=corpus.matrix, sample=sample)) for d in deviations
        ],
    }


def peers(
    corpus: ChangingCorpus,
    vectors: Vectors,
    truth: Truth,
    stream: Stream,
    prefix: str,
    figures: Figures,
) -> tuple[float, dict[str, list[Point]]]:
    """The best share of new wordings within the budget; and of all rules at all settings, as points."""
    points, best_of_all = {}, 0.0
    for name, settings in candidates_of(corpus, vectors, stream).items():
        runs = [(label, run_rule(make(), vectors, truth, stream)) for label, make in settings]
        whole = [(label, outcome(asked)) for label, asked in runs]
        new = [(label, outcome([one for one in asked if not one.repeated])) for label, asked in runs]
        points[name] = [Point(one.false_hit_rate, one.hit_rate) for _, one in new]
        (own_label, own), (label, best), (new_label, best_new) = whole[0], within(whole), within(new)
        best_of_all = max(best_of_all, best_new.hit_rate)
        print(
            f"   {name:13} at {own_label:6} {own.hit_rate:6.1%} served, {own.false_hit_rate:6.2%} of it "
            f"wrong, recall {own.recall:.3f}; within {BUDGET:.0%}: {best.hit_rate:6.1%} (at {label}), "
            f"of new wordings {best_new.hit_rate:5.1%} (at {new_label})"
        )
        key = f"{prefix}_{name.lower().replace(' ', '_')}"
        figures[f"{key}_hit_rate"] = round(own.hit_rate, 4)
        figures[f"{key}_false_hit_rate"] = round(own.false_hit_rate, 5)
        figures[f"{key}_hit_rate_within_budget"] = round(best.hit_rate, 4)
        figures[f"{key}_new_wordings_within_budget"] = round(best_new.hit_rate, 4)
    return best_of_all, points


def within(found: Sequence[tuple[str, Outcome]]) -> tuple[str, Outcome]:
    """The setting with the most hits of those that keep the budget."""
    kept = [one for one in found if one[1].false_hit_rate <= BUDGET and one[1].served]
    return max(kept, key=lambda one: one[1].hit_rate, default=("none", Outcome(1, 0, 0, 1.0)))


def draw(
    corpus: ChangingCorpus,
    vectors: Vectors,
    truth: Truth,
    stream: Stream,
    peers_points: dict[str, list[Point]],
) -> None:
    """Hit rate of new wordings against false-hit rate, every rule at all its settings."""
    rules: dict[str, list[Point]] = {}
    for budget in (0.005, 0.01, 0.02, 0.05):
        asked, _ = run_cache(corpus, vectors, truth, stream, budget=budget)
        new = outcome([one for one in asked if not one.repeated])
        rules.setdefault("ours", []).append(Point(new.false_hit_rate, new.hit_rate))
    count, size = len(stream.different), len(corpus.matrix)
    title = f"{count:,} wordings of {stream.name}, {size:,} chunks, a false hit: recall@5 < {MIN_RECALL}"
    PICTURE.write_text(rates_svg(title, rules | peers_points), encoding="utf-8")


# --- what memory and time buy


def longer_lists(corpus: ChangingCorpus, vectors: Vectors, stream: Stream, figures: Figures) -> None:
    """Certified and approximate shares by the length of the lists that are kept."""
    size = len(corpus.matrix)
    lengths = [length for length in _LONGER_LISTS if length <= size // 10] or [size // 10]
    print(f" {stream.name}: what longer lists buy")
    truth = Truth(corpus, vectors, stream.different, length=lengths[-1])
    for length in lengths:
        asked, retriever = run_cache(corpus, vectors, truth, stream, budget=BUDGET, candidates=length)
        new = [one for one in asked if not one.repeated]
        groups = {name: [one for one in asked if getattr(one, name)] for name in ("paraphrased", "near")}
        certified = {name: outcome(some, tiers=["certified"]).hit_rate for name, some in groups.items()}
        approximate = outcome(new, tiers=["approximate"])
        kilobytes = bytes_per_list(retriever) / 1e3
        taken = [one.seconds for one in asked if one.tier == "certified"]
        p50 = float(np.median(taken)) * 1e3 if taken else math.nan
        print(
            f"   {length:>6,} chunks, {kilobytes:.1f} kB an entry: certified"
            f" {certified['paraphrased']:.1%} of the paraphrased, {certified['near']:.1%} of the near ones,"
            f" in {p50:.2f} ms; approximate {approximate.hit_rate:.1%} of new wordings,"
            f" {approximate.false_hits} of {approximate.served} wrong"
        )
        key = f"chunks_{size}_{stream.name}_candidates_{length}"
        figures[f"{key}_bytes_per_entry"] = round(1e3 * kilobytes, 1)
        figures[f"{key}_paraphrased_certified"] = round(certified["paraphrased"], 4)
        figures[f"{key}_near_certified"] = round(certified["near"], 4)
        figures[f"{key}_approximate_share"] = round(approximate.hit_rate, 4)
        figures[f"{key}_certified_p50_ms"] = round(p50, 4)
    corpus.known.clear()


def warmed_up(corpus: ChangingCorpus, vectors: Vectors, stream: Stream, figures: Figures) -> None:
    """What is served of a long stream, early and late."""
    truth = Truth(corpus, vectors, stream.different)
    asked, _ = run_cache(corpus, vectors, truth, stream, budget=BUDGET)
    print(f"\n{stream.name}, {len(corpus.matrix):,} chunks: what is served after so many queries")
    edges = [0, *(len(asked) // part for part in (20, 4, 2)), len(asked)]
    for start, end in pairwise(edges):
        tiers = {
            tier: outcome(asked[start:end], tiers=[tier]) for tier in ("exact", "certified", "approximate")
        }
        proven = tiers["exact"].hit_rate + tiers["certified"].hit_rate
        total = outcome(asked[start:end])
        print(
            f"   {start:>6,} to {end:>6,}: exact {tiers['exact'].hit_rate:.1%} + certified"
            f" {tiers['certified'].hit_rate:.1%} = {proven:.1%}; approximate"
            f" {tiers['approximate'].hit_rate:.1%}; {total.false_hits} of {total.served:,} wrong"
        )
        figures[f"warm_{stream.name}_{end}_proven_share"] = round(proven, 4)
        figures[f"warm_{stream.name}_{end}_hit_rate"] = round(total.hit_rate, 4)
        figures[f"warm_{stream.name}_{end}_false_hits"] = total.false_hits
    corpus.known.clear()


def bytes_per_list(retriever: Retriever) -> float:
    """As the cache accounts for them: the question's vector, its list, and what finds it."""
    sizes = [entry.size for table in retriever.cache._tables.values() for entry in table]
    return float(np.mean(sizes)) if sizes else math.nan


def share(flags: Sequence[bool]) -> float:
    return sum(flags) / max(len(flags), 1)


if __name__ == "__main__":
    raise SystemExit(main())
