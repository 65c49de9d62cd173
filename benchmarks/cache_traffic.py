"""What the retrieval cache serves, how much of it is wrong, and how long it takes, beside others' rules.

    python benchmarks/cache_traffic.py DATA [--scratch FOLDER] [--large] [--quick]

Corpora of 10,000 and 100,000 public paragraphs and sentences (with --large also 1,000,000: those, and the
same moved by noise), MiniLM, k = 5, dense ranking. Traffic is Zipf over groups of questions that ask for the
same (qqp_pairs, clinc150, banking77, disfl_pairs), so it has repeats, paraphrases and a long tail. A hit is
false if it has fewer than 4 of the true 5 (recall@5 below 0.8). The peers are their rules, written down from
their formulas (cache_rules.py), at the settings that are theirs and swept for the most hits at a false-hit
rate of at most 1%.

Then the regimes in which caches go wrong (exact repeat, paraphrase, near miss, document drift, long shared
document, bounded knowledge base) and pairs that differ in polarity, numbers and names: how much of what is
served is unsafe. And 10,000 updates of the corpus: how many entries survive, and whether any is stale.

True searches are made once beforehand, in batches; the latencies are those of the cache's tiers in the
stream, beside a plain search of all vectors on the same machine.
"""

from __future__ import annotations

import argparse
import json
import os
import tempfile
import time
from collections import defaultdict
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np
from cache_corpus import ChangingCorpus
from cache_plot import Point, rates_svg
from cache_rules import FixedCosine, QVCache, Rule, VCache, gptcache, proximity
from cache_traffic_sets import Traffic, load_corpus, load_traffic, near_misses, polarity

from indexer import SentenceTransformerEmbedder
from retriever import RetrievalCache, RetrievalSettings, Retriever
from retriever.cache_guard import may_share

K, MIN_RECALL, BUDGET, EXPONENT = 5, 0.8, 0.01, 0.9
CANDIDATES = 1000
CACHE_BYTES = 1 << 30
DENSE = RetrievalSettings(ranking="dense")
PICTURE = Path(__file__).parents[1] / "docs" / "cache-hits.svg"


class Outcome(NamedTuple):
    """What became of a stream."""

    queries: int
    served: int
    false_hits: int
    recall: float  # mean recall@5 of what was served

    @property
    def hit_rate(self) -> float:
        return self.served / max(self.queries, 1)

    @property
    def false_hit_rate(self) -> float:
        return self.false_hits / max(self.served, 1)


class Vectors:
    """Embeds each text once; kept in a folder."""

    def __init__(self, embedder: SentenceTransformerEmbedder, folder: Path) -> None:
        self._embedder, self._folder = embedder, folder
        self._by_text: dict[str, np.ndarray] = {}
        self.fingerprint = embedder.fingerprint

    def of(self, name: str, texts: Sequence[str], *, documents: bool = False) -> np.ndarray:
        """(n, dimension) float32."""
        path = self._folder / f"cache-{name}-{len(texts)}-{self.fingerprint[:40].replace('/', '_')}.npy"
        if path.exists():
            vectors = np.load(path, allow_pickle=False)
        else:
            embed = self._embedder.embed_documents if documents else self._embedder.embed_queries
            vectors = np.asarray(embed(list(texts)), np.float32)
            path.parent.mkdir(parents=True, exist_ok=True)
            np.save(path, vectors)
        if not documents:
            self._by_text |= dict(zip(texts, vectors, strict=True))
        return vectors

    def embed_queries(self, texts: Sequence[str]) -> np.ndarray:
        """What the retriever asks for: vectors that are known already."""
        return np.stack([self._by_text[text] for text in texts])


class Truth:
    """The true searches of all texts, made in batches."""

    def __init__(self, corpus: ChangingCorpus, vectors: Vectors, texts: Sequence[str]) -> None:
        import faiss

        flat = faiss.IndexFlatIP(corpus.matrix.shape[1])
        flat.add(corpus.matrix)
        matrix = vectors.embed_queries(texts)
        self.best: dict[str, np.ndarray] = {}
        for start in range(0, len(texts), 512):
            rows = matrix[start : start + 512]
            _, numbers = flat.search(rows, min(CANDIDATES + 8, len(corpus.matrix)))
            for text, row, number in zip(texts[start : start + 512], rows, numbers, strict=True):
                corpus.known[row.tobytes()] = corpus.ranked(number, row)
                self.best[text] = corpus.known[row.tobytes()][0][:K]

    def recall(self, text: str, served: np.ndarray) -> float:
        return float(np.isin(self.best[text], served).mean())


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("data", type=Path)
    parser.add_argument("--scratch", type=Path, help="folder that keeps the vectors between runs")
    parser.add_argument("--queries", type=int, default=3000, help="length of each stream")
    parser.add_argument("--large", action="store_true", help="also a corpus of 1,000,000 chunks")
    parser.add_argument("--quick", action="store_true", help="tiny sizes: shows that it runs, nothing else")
    arguments = parser.parse_args()
    sizes = [10_000, 100_000] + [1_000_000] * arguments.large
    length = arguments.queries
    if arguments.quick:
        sizes, length = [300], 80
    with tempfile.TemporaryDirectory() as temporary:
        vectors = Vectors(SentenceTransformerEmbedder(), arguments.scratch or Path(temporary))
        figures: dict[str, object] = {
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
        base = load_corpus(arguments.data, min(sizes[-1], 100_000))
        chunks = vectors.of("corpus", base, documents=True)
        for size in sizes:
            corpus = ChangingCorpus(enlarged(chunks, size))
            print(f"\n{size:,} chunks")
            measure(corpus, vectors, traffic, size, length, figures, picture=size == max(sizes[:2]))
        quick = 40 if arguments.quick else 400
        regimes(chunks[:10_000], vectors, traffic, arguments.data, quick, figures)
        updates(chunks[:10_000], vectors, traffic, 200 if arguments.quick else 10_000, figures)
    print(json.dumps(figures))
    return 0


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


# --- streams


def measure(
    corpus: ChangingCorpus,
    vectors: Vectors,
    traffic: Sequence[Traffic],
    size: int,
    length: int,
    figures: dict[str, object],
    *,
    picture: bool,
) -> None:
    """Every rule on every stream over one corpus."""
    for one in traffic:
        stream = one.stream(length, exponent=EXPONENT, seed=1)
        texts = list(dict.fromkeys(stream))
        vectors.of(f"{one.name}-stream-{length}", texts)
        truth = Truth(corpus, vectors, texts)
        prefix = f"chunks_{size}_{one.name}"
        print(f" {one.name}: {len(stream):,} queries, {len(texts):,} different")
        ours(corpus, vectors, truth, stream, prefix, figures, budgets=(0.0, BUDGET))
        points = peers(corpus, vectors, truth, stream, prefix, figures)
        if picture and one is traffic[0]:
            draw(corpus, vectors, truth, stream, size, points, figures)
        corpus.known.clear()
    plain(corpus, vectors, traffic[0], size, figures)


def ours(
    corpus: ChangingCorpus,
    vectors: Vectors,
    truth: Truth,
    stream: Sequence[str],
    prefix: str,
    figures: dict[str, object],
    *,
    budgets: Sequence[float],
) -> None:
    """The cache itself, without and with its approximate tier."""
    for budget in budgets:
        tiers, outcomes, unseen, retriever = run_cache(corpus, vectors, truth, stream, budget=budget)
        key = f"{prefix}_ours_{budget:g}"
        total = combined(outcomes)
        shares = ", ".join(
            f"{tier} {outcomes[tier].hit_rate:.1%}"
            for tier in ("exact", "certified", "approximate")
            if tier in outcomes
        )
        print(
            f"   ours, budget {budget:.1%}: {total.hit_rate:6.1%} served ({shares}), "
            f"{total.false_hit_rate:.2%} of it wrong, recall {total.recall:.4f}; "
            f"never-seen wordings certified {unseen:.1%}"
        )
        stats = retriever.cache.stats()
        figures[f"{key}_hit_rate"] = round(total.hit_rate, 4)
        figures[f"{key}_false_hit_rate"] = round(total.false_hit_rate, 5)
        figures[f"{key}_unseen_certified"] = round(unseen, 4)
        figures[f"{key}_bytes_per_list"] = round(stats.bytes / max(stats.num_lists, 1))
        for tier, outcome in outcomes.items():
            figures[f"{key}_{tier}_share"] = round(outcome.hit_rate, 4)
            figures[f"{key}_{tier}_recall"] = round(outcome.recall, 5)
            figures[f"{key}_{tier}_false_hits"] = outcome.false_hits
        for tier, seconds in tiers.items():
            for quantile in (50, 99):
                milliseconds = float(np.percentile(seconds, quantile)) * 1e3
                figures[f"{key}_{tier}_p{quantile}_ms"] = round(milliseconds, 4)
        if budget:
            audit = stats.audit
            print(
                f"     audited {audit.num_audited}, {audit.num_false_hits} false: at most "
                f"{audit.upper_bound:.2%} with 95% confidence; {audit.num_suspensions} suspensions"
            )
            figures[f"{key}_audit_upper_bound"] = round(audit.upper_bound, 5)
        else:
            lookups(retriever, vectors, stream, key, figures)


def run_cache(
    corpus: ChangingCorpus, vectors: Vectors, truth: Truth, stream: Sequence[str], *, budget: float
) -> tuple[dict[str, list[float]], dict[str, Outcome], float, Retriever]:
    """Seconds and outcomes by tier, and the certified share of the wordings that are new to the cache.

    New are the first occurrences of texts whose group has been asked in other words, as far as the stream
    shows it: a text that was not seen, nearest to one that was at a cosine of at least 0.8.
    """
    cache = RetrievalCache(
        max_bytes=CACHE_BYTES,
        candidates=min(CANDIDATES, len(corpus.matrix) // 10),
        max_false_hit_rate=budget,
        min_recall=MIN_RECALL,
        audit_share=0.05,
    )
    seconds: dict[str, list[float]] = defaultdict(list)
    recalls: dict[str, list[float]] = defaultdict(list)
    seen = np.zeros((len(stream), corpus.matrix.shape[1]), np.float32)  # the first len(known) rows
    known: set[str] = set()
    paraphrases = certified = 0
    with Retriever(corpus, vectors, settings=DENSE, cache=cache) as retriever:
        for text in stream:
            started = time.perf_counter()
            result = retriever.search(text, k=K)
            seconds[result.tier].append(time.perf_counter() - started)
            if result.tier != "miss":
                found = np.array([int(hit.chunk.id) for hit in result.hits])
                recalls[result.tier].append(truth.recall(text, found))
            if text not in known:
                vector = vectors.embed_queries([text])[0]
                if known and float((seen[: len(known)] @ vector).max()) >= 0.8:
                    paraphrases += 1
                    certified += result.tier == "certified"
                seen[len(known)] = vector
                known.add(text)
    outcomes = {tier: outcome(len(stream), found) for tier, found in recalls.items()}
    return dict(seconds), outcomes, certified / max(paraphrases, 1), retriever


def outcome(queries: int, recalls: Sequence[float]) -> Outcome:
    false_hits = sum(recall < MIN_RECALL for recall in recalls)
    return Outcome(queries, len(recalls), false_hits, float(np.mean(recalls)) if recalls else 1.0)


def combined(outcomes: dict[str, Outcome]) -> Outcome:
    served = sum(one.served for one in outcomes.values())
    queries = max((one.queries for one in outcomes.values()), default=0)
    recall = sum(one.recall * one.served for one in outcomes.values()) / max(served, 1)
    return Outcome(queries, served, sum(one.false_hits for one in outcomes.values()), recall)


def run_rule(rule: Rule, vectors: Vectors, truth: Truth, stream: Sequence[str]) -> Outcome:
    recalls = []
    for text in stream:
        query = vectors.embed_queries([text])[0]
        served = rule.look_up(query)
        if served is None:
            rule.store(query, truth.best[text])
        else:
            recalls.append(truth.recall(text, served))
    return outcome(len(stream), recalls)


def candidates_of(
    corpus: ChangingCorpus, vectors: Vectors, stream: Sequence[str]
) -> dict[str, list[tuple[str, Callable[[], Rule]]]]:
    """Each peer at the settings to sweep; the first is its own."""
    sample = vectors.embed_queries(list(dict.fromkeys(stream))[:500])
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
    stream: Sequence[str],
    prefix: str,
    figures: dict[str, object],
) -> dict[str, list[Point]]:
    """The peers at their own settings, and at the best ones within the budget; all settings as points."""
    points = {}
    for name, settings in candidates_of(corpus, vectors, stream).items():
        found = [(label, run_rule(make(), vectors, truth, stream)) for label, make in settings]
        points[name] = [Point(one.false_hit_rate, one.hit_rate) for _, one in found]
        own_label, own = found[0]
        within = [one for one in found if one[1].false_hit_rate <= BUDGET]
        label, best = max(within, key=lambda one: one[1].hit_rate, default=("none", Outcome(1, 0, 0, 1.0)))
        print(
            f"   {name:13} at {own_label:6} {own.hit_rate:6.1%} served, {own.false_hit_rate:6.2%} of it "
            f"wrong, recall {own.recall:.3f}; within {BUDGET:.0%}: {best.hit_rate:6.1%} served (at {label})"
        )
        key = f"{prefix}_{name.lower().replace(' ', '_')}"
        figures[f"{key}_hit_rate"] = round(own.hit_rate, 4)
        figures[f"{key}_false_hit_rate"] = round(own.false_hit_rate, 5)
        figures[f"{key}_hit_rate_within_budget"] = round(best.hit_rate, 4)
    return points


def draw(
    corpus: ChangingCorpus,
    vectors: Vectors,
    truth: Truth,
    stream: Sequence[str],
    size: int,
    peers_points: dict[str, list[Point]],
    figures: dict[str, object],
) -> None:
    """Hit rate against false-hit rate, every rule at all its settings."""
    rules: dict[str, list[Point]] = {}
    for budget in (0.005, 0.01, 0.02, 0.05):
        _, outcomes, _, _ = run_cache(corpus, vectors, truth, stream, budget=budget)
        total = combined(outcomes)
        rules.setdefault("ours", []).append(Point(total.false_hit_rate, total.hit_rate))
        approximate = outcomes.get("approximate", Outcome(1, 0, 0, 1.0))
        figures[f"chunks_{size}_budget_{budget:g}_approximate_false_hit_rate"] = round(
            approximate.false_hit_rate, 5
        )
    rules |= peers_points
    if not figures["quick"]:
        title = f"qqp_pairs, {len(stream):,} queries, {size:,} chunks, a false hit: recall@5 < {MIN_RECALL}"
        PICTURE.write_text(rates_svg(title, rules), encoding="utf-8")


# --- latency


def lookups(
    retriever: Retriever, vectors: Vectors, stream: Sequence[str], key: str, figures: dict[str, object]
) -> None:
    """The look-up alone: which past queries to read, without reading them."""
    cache, corpus = retriever.cache, retriever.index
    space = next(iter(cache._tables), None)
    if space is None:
        return
    taken = []
    for text in stream[:1000]:
        query = vectors.embed_queries([text])[0]
        started = time.perf_counter()
        cache.certified(corpus, space, query, k=K, max_chunks=corpus.count(None) // 8)
        taken.append(time.perf_counter() - started)
    p50, p99 = (float(np.percentile(taken, q)) * 1e3 for q in (50, 99))
    lists = cache.stats().num_lists
    print(f"     look-up among {lists:,} past queries: p50 {p50:.3f} ms, p99 {p99:.3f} ms")
    figures[f"{key}_lookup_lists"] = lists
    figures[f"{key}_lookup_p50_ms"], figures[f"{key}_lookup_p99_ms"] = round(p50, 4), round(p99, 4)


def plain(
    corpus: ChangingCorpus, vectors: Vectors, one: Traffic, size: int, figures: dict[str, object]
) -> None:
    """A search of all vectors by FAISS, without any cache."""
    import faiss

    flat = faiss.IndexFlatIP(corpus.matrix.shape[1])
    flat.add(corpus.matrix)
    texts = list(dict.fromkeys(text for group in one.groups for text in group if text in vectors._by_text))
    taken = []
    for text in texts[:100]:
        query = vectors.embed_queries([text])
        started = time.perf_counter()
        flat.search(query, K)
        taken.append(time.perf_counter() - started)
    p50 = float(np.median(taken)) * 1e3
    print(f"   a plain search of the vectors: p50 {p50:.3f} ms")
    figures[f"chunks_{size}_plain_search_p50_ms"] = round(p50, 4)


# --- safety


def regimes(
    chunks: np.ndarray,
    vectors: Vectors,
    traffic: Sequence[Traffic],
    data: Path,
    count: int,
    figures: dict[str, object],
) -> None:
    """How much of what is served is unsafe where caches go wrong; beside GPTCache's rule."""
    pairs = [(group[0], group[1]) for group in traffic[0].groups if len(group) > 1 and group[0] != group[1]]
    misses = near_misses(data)[:count]
    polar = [(pair.one, pair.other) for pair in polarity()]
    everything = {text for pair in [*pairs[:count], *misses, *polar] for text in pair}
    vectors.of(f"pairs-{count}", sorted(everything))
    print("\nregimes: unsafe answers among all second questions")
    few = chunks[:500] / 1  # a bounded knowledge base: the k best of any question are far from sure
    document = 0.3 * chunks[:2000] + 0.7 * chunks[0]  # a long document: chunks alike
    document = (document / np.linalg.norm(document, axis=1, keepdims=True)).astype(np.float32)
    cases = {
        "exact repeat": (chunks, [(one, one) for one, _ in pairs[:count]], 0),
        "paraphrase": (chunks, pairs[:count], 0),
        "near miss": (chunks, misses, 0),
        "document drift": (chunks, pairs[:count], 20),
        "long shared document": (document, pairs[:count], 0),
        "bounded knowledge base": (few, pairs[:count], 0),
        "polarity": (chunks, polar, 0),
    }
    for name, (matrix, asked, drift) in cases.items():
        unsafe, served = pair_by_pair(matrix, vectors, asked, drift=drift, budget=BUDGET)
        theirs, theirs_served = pair_by_rule(matrix, vectors, asked, drift=drift)
        print(
            f"  {name:23} ours {unsafe / len(asked):6.2%} unsafe of {served / len(asked):5.1%} served; "
            f"GPTCache's rule {theirs / len(asked):6.2%} of {theirs_served / len(asked):5.1%}"
        )
        key = f"regime_{name.replace(' ', '_')}"
        figures[f"{key}_unsafe"] = round(unsafe / len(asked), 5)
        figures[f"{key}_served"] = round(served / len(asked), 4)
        figures[f"{key}_gptcache_unsafe"] = round(theirs / len(asked), 5)
    caught = sum(not may_share(*pair) for pair in polar)
    print(f"  the guard alone keeps {caught} of {len(polar)} polarity pairs apart")
    figures["polarity_pairs"], figures["polarity_pairs_kept_apart"] = len(polar), caught


def pair_by_pair(
    matrix: np.ndarray,
    vectors: Vectors,
    asked: Sequence[tuple[str, str]],
    *,
    drift: int,
    budget: float,
) -> tuple[int, int]:
    """Unsafe and served second questions, the corpus changing near them in between if `drift` is set.

    The first pass over the pairs is what the approximate tier has learnt from, as it would have in use.
    """
    corpus = ChangingCorpus(matrix, spare=2 * drift * len(asked))
    cache = RetrievalCache(
        max_bytes=CACHE_BYTES,
        candidates=min(CANDIDATES, len(matrix) // 10),
        max_false_hit_rate=budget,
        min_recall=MIN_RECALL,
    )
    unsafe = served = 0
    with Retriever(corpus, vectors, settings=DENSE, cache=cache) as retriever:
        for first, second in asked:
            retriever.search(first, k=K)
            change(corpus, vectors, second, drift)
            result = retriever.search(second, k=K)
            if result.tier != "miss":
                served += 1
                unsafe += is_unsafe(corpus, vectors, second, [int(hit.chunk.id) for hit in result.hits])
    return unsafe, served


def pair_by_rule(
    matrix: np.ndarray, vectors: Vectors, asked: Sequence[tuple[str, str]], *, drift: int
) -> tuple[int, int]:
    corpus, rule = ChangingCorpus(matrix, spare=2 * drift * len(asked)), gptcache()
    unsafe = served = 0
    for first, second in asked:
        query = vectors.embed_queries([first])[0]
        if rule.look_up(query) is None:
            rule.store(query, corpus.search(query, K)[0])
        change(corpus, vectors, second, drift)
        found = rule.look_up(vectors.embed_queries([second])[0])
        if found is not None:
            served += 1
            unsafe += is_unsafe(corpus, vectors, second, found.tolist())
    return unsafe, served


def change(corpus: ChangingCorpus, vectors: Vectors, text: str, drift: int) -> None:
    """The best chunk goes, and a better one than any comes."""
    query = vectors.embed_queries([text])[0]
    for number in corpus.search(query, min(drift, 3))[0].tolist() if drift else []:
        noise = np.random.default_rng(number).standard_normal(len(query)).astype(np.float32)
        better = query + 0.3 * noise / np.linalg.norm(noise)
        corpus.remove(number)
        corpus.add((better / np.linalg.norm(better)).astype(np.float32))


def is_unsafe(corpus: ChangingCorpus, vectors: Vectors, text: str, found: Sequence[int]) -> bool:
    true, _ = corpus.search(vectors.embed_queries([text])[0], K)
    return float(np.isin(true, found).mean()) < MIN_RECALL


def updates(
    chunks: np.ndarray,
    vectors: Vectors,
    traffic: Sequence[Traffic],
    count: int,
    figures: dict[str, object],
) -> None:
    """Entries before and after so many random updates, and whether any answer is stale."""
    rng = np.random.default_rng(4)
    half = len(chunks) // 2
    corpus = ChangingCorpus(chunks[:half], spare=count)
    texts = [group[0] for group in traffic[0].groups if group[0] in vectors._by_text][:300]
    cache = RetrievalCache(max_bytes=CACHE_BYTES, candidates=min(CANDIDATES, half // 5))
    asked = stale = 0
    missed: set[str] = set()  # past questions that had to be searched for again
    with Retriever(corpus, vectors, settings=DENSE, cache=cache) as retriever:

        def ask(text: str) -> int:
            result = retriever.search(text, k=K)
            if result.tier == "miss":
                missed.add(text)
            true, _ = corpus.search(vectors.embed_queries([text])[0], K)
            return {int(hit.chunk.id) for hit in result.hits} != set(true.tolist())

        for text in texts:
            retriever.search(text, k=K)
        for i in range(count):
            if i % 2:
                corpus.add(chunks[half + int(rng.integers(len(chunks) - half))])
            else:
                corpus.remove(int(rng.choice(corpus.alive())))
            if i % 20 == 0:
                asked, stale = asked + 1, stale + ask(texts[int(rng.integers(len(texts)))])
        for text in texts:
            asked, stale = asked + 1, stale + ask(text)
    survived = 1 - len(missed) / max(len(texts), 1)
    print(f"\n{count:,} updates: {survived:.1%} of the entries still serve; {stale} of {asked} answers stale")
    figures["updates"], figures["updates_stale"] = count, stale
    figures["updates_surviving_share"] = round(survived, 4)


if __name__ == "__main__":
    raise SystemExit(main())
