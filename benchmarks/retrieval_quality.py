"""How well do words, meaning and both together find what answers a question?

    python benchmarks/retrieval_quality.py DATA [--sets NAME ...] [--embeddings FOLDER] [--no-peers]
    [--write PAGE]

nDCG@10, recall@1 and recall@5 on retrieval sets: our BM25 beside SQLite's FTS5 and bm25s, dense search with
the embedder, and both fused in several ways. The ceiling of a fusion is what a judge could reach who picks
the better of the two lists question by question. The target: the fused default is nowhere worse than the
better single list by more than 0.002. Its four constants were chosen on the beir_* sets; how it does on a
set that had no say is shown by choosing them anew without it (leave one out), and by sets that were never
looked at for that.
"""

from __future__ import annotations

import argparse
import itertools
import json
import re
import sqlite3
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
from retrieval_sets import METRICS, ArrayCorpus, RetrievalSet, Vectors, embed, interval, load, scores_of

from indexer.embedding import SentenceTransformerEmbedder
from retriever.background import SAMPLE_SIZE, Background
from retriever.fusion import FusionInput, rank
from retriever.lists import DenseList
from retriever.search import Question, Searcher
from retriever.settings import RetrievalSettings
from retriever.stopwatch import Stopwatch

CHOSEN_ON = ("beir_squad_v1_dev", "beir_cranfield", "beir_cisi", "beir_vaswani", "beir_cosqa_dev")
HELD_OUT = ("sentence_pairs", "medquad")
TARGET = 0.002
DEPTH = 100
GRID = list(
    itertools.product((5.0, 6.0, 7.0), (1.0, 1.4, 1.8), (1.0, 1.25, 1.5, 2.0), (7.0,), (0.4, 0.5, 0.6))
)
GRID_QUESTIONS = 500  # of each set, evenly spread: choosing needs no more

Ranking = list[list[int]]
_MARKERS = ("<!-- written by benchmarks/retrieval_quality.py -->", "<!-- end -->")


def main() -> int:
    arguments = parse_arguments()
    embedder = SentenceTransformerEmbedder()
    tables: dict[str, dict[str, np.ndarray]] = {}
    grids: dict[str, np.ndarray] = {}
    figures: dict[str, object] = {"embedder": embedder.fingerprint, "target": TARGET}
    for name in arguments.sets:
        chosen = load(arguments.data, name)
        vectors = embed(chosen, embedder, arguments.embeddings)
        table = measure(chosen, vectors, peers=not arguments.no_peers)
        tables[name] = {way: scores_of(found, chosen.relevant) for way, found in table.items()}
        report(chosen, tables[name], figures)
        if name in CHOSEN_ON:
            grids[name] = gains_over_grid(chosen, vectors)
    if len(grids) > 1:
        leave_one_out(grids, figures)
    if arguments.write:
        write_table(arguments.write, figures, arguments.sets)
    print(json.dumps(figures))
    return 0


def parse_arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("data", type=Path, help="folder with the sets")
    parser.add_argument("--sets", nargs="+", default=[*CHOSEN_ON, *HELD_OUT])
    parser.add_argument("--embeddings", type=Path, help="folder that keeps vectors between runs")
    parser.add_argument("--no-peers", action="store_true", help="leave out FTS5 and bm25s")
    parser.add_argument("--write", type=Path, help="page whose marked part becomes this run's table")
    return parser.parse_args()


# --- rankings


def measure(chosen: RetrievalSet, vectors: Vectors, *, peers: bool) -> dict[str, Ranking]:
    """The rankings of every way to search."""
    corpus = ArrayCorpus(chosen.texts, vectors.texts)
    default = RetrievalSettings()
    ways = {
        "BM25 (ours)": replace(default, ranking="lexical"),
        "dense": replace(default, ranking="dense"),
        "RRF 0.5/0.5": replace(default, ranking="rrf"),
        "RRF 0.7/0.3 dense": replace(default, ranking="rrf", dense_weight=0.7),
        "opinion pool": default,
    }
    found = peer_rankings(chosen) if peers else {}
    for name, settings in ways.items():
        found[name] = search(corpus, settings, chosen, vectors)
    return found


def search(
    corpus: ArrayCorpus, settings: RetrievalSettings, chosen: RetrievalSet, vectors: Vectors
) -> Ranking:
    """The product's own search, ten hits a question."""
    background = Background(corpus.sample(SAMPLE_SIZE))
    rankings: Ranking = []
    for start in range(0, len(chosen.questions), 64):
        batch = [
            Question(text, vector)
            for text, vector in zip(
                chosen.questions[start : start + 64], vectors.questions[start : start + 64], strict=True
            )
        ]
        searcher = Searcher(corpus, settings, background, k=10, allowed=None, watch=Stopwatch())
        for one in searcher.search(batch, searcher.match(batch)):
            best = one.ranked.chunks[:10][one.ranked.scores[:10] > 0]
            rankings.append(best.tolist())
    return rankings


def peer_rankings(chosen: RetrievalSet) -> dict[str, Ranking]:
    """FTS5 as it comes, with its two tokenizers and its own bm25(); bm25s with its defaults, if installed."""
    peers: dict[str, Callable[[], Ranking]] = {
        "FTS5 unicode61": lambda: fts5(chosen, "unicode61"),
        "FTS5 porter": lambda: fts5(chosen, "porter unicode61"),
    }
    try:
        import bm25s  # noqa: F401
    except ImportError:
        print("(bm25s is not installed: left out)")
    else:
        peers["bm25s"] = lambda: bm25s_ranking(chosen)
    found = {}
    for name, run in peers.items():
        found[name] = run()
    return found


def fts5(chosen: RetrievalSet, tokenizer: str) -> Ranking:
    connection = sqlite3.connect(":memory:")
    connection.execute(f"CREATE VIRTUAL TABLE texts USING fts5(body, tokenize = '{tokenizer}')")
    rows = ((i + 1, text) for i, text in enumerate(chosen.texts))
    connection.executemany("INSERT INTO texts (rowid, body) VALUES (?, ?)", rows)
    rankings = []
    for question in chosen.questions:
        words = re.findall(r"\w+", question)
        query = " OR ".join(f'"{word}"' for word in words)
        found = connection.execute(
            "SELECT rowid FROM texts WHERE texts MATCH ? ORDER BY rank LIMIT 10", (query,)
        )
        rankings.append([row[0] - 1 for row in found] if words else [])
    return rankings


def bm25s_ranking(chosen: RetrievalSet) -> Ranking:
    import bm25s

    quiet = {"stopwords": "en", "show_progress": False}
    index = bm25s.BM25()
    index.index(bm25s.tokenize(chosen.texts, **quiet), show_progress=False)
    queries = bm25s.tokenize(chosen.questions, **quiet)
    found, scores = index.retrieve(queries, k=10, show_progress=False)
    return [
        [int(text) for text, score in zip(row, points, strict=True) if score > 0]
        for row, points in zip(found, scores, strict=True)
    ]


# --- what came of it


def report(chosen: RetrievalSet, table: dict[str, np.ndarray], figures: dict[str, object]) -> None:
    """Prints a set's table and its verdict, and notes the figures."""
    print(f"\n{chosen.name}: {len(chosen.texts):,} texts, {len(chosen.questions):,} questions")
    print(f"  {'':22}" + "".join(f"{metric:>9}" for metric in METRICS))
    words, meaning, pool = table["BM25 (ours)"], table["dense"], table["opinion pool"]
    for way, scores in table.items():
        print(f"  {way:22}" + "".join(f"{score:9.4f}" for score in scores.mean(axis=1)))
    print(
        f"  {'(better list, judged)':22}"
        + "".join(f"{s:9.4f}" for s in np.maximum(words, meaning).mean(axis=1))
    )
    better = np.where((words.mean(axis=1) >= meaning.mean(axis=1))[:, None], words, meaning)
    differences = pool - better
    short = chosen.name.removeprefix("beir_")
    parts = []
    for metric, row in zip(METRICS, differences, strict=True):
        low, high = interval(row)
        parts.append(f"{metric} {row.mean():+.4f} [{low:+.4f}, {high:+.4f}]")
        figures[f"{short}_{metric}_pool_minus_better"] = [round(float(x), 4) for x in (row.mean(), low, high)]
    met = bool((differences.mean(axis=1) >= -TARGET).all())
    figures[f"{short}_met"] = met
    figures[f"{short}_size"] = [len(chosen.texts), len(chosen.questions)]
    for way, scores in table.items():
        figures[f"{short}_{way}"] = [round(float(score), 4) for score in scores.mean(axis=1)]
    print(f"  pool - better list: {', '.join(parts)}: {'within' if met else 'MISSES'} the target")


def write_table(page: Path, figures: dict[str, object], sets: Sequence[str]) -> None:
    """Puts the run's results between the page's two markers, as a table."""
    ways = (
        "FTS5 unicode61",
        "FTS5 porter",
        "bm25s",
        "BM25 (ours)",
        "dense",
        "RRF 0.5/0.5",
        "RRF 0.7/0.3 dense",
    )
    lines = [
        "| set | texts, questions | way | nDCG@10 | R@1 | R@5 |",
        "| --- | --- | --- | --- | --- | --- |",
    ]
    for name in sets:
        short = name.removeprefix("beir_")
        texts, questions = figures[f"{short}_size"]
        for way in (*ways, "opinion pool"):
            scores = figures.get(f"{short}_{way}")
            if scores:
                shown = " | ".join(f"{score:.3f}" for score in scores)
                lines.append(f"| {short} | {texts:,}, {questions:,} | {way} | {shown} |")
        gains = [figures[f"{short}_{metric}_pool_minus_better"] for metric in METRICS]
        shown = " | ".join(f"{mean:+.3f} [{low:+.3f}, {high:+.3f}]" for mean, low, high in gains)
        lines.append(f"| {short} | | **pool − better list** | {shown} |")
        left_out = figures.get(f"{short}_left_out_gain")
        if left_out:
            lines.append(
                f"| {short} | | *the same, chosen without this set* | "
                + " | ".join(f"{gain:+.3f}" for gain in left_out)
                + " |"
            )
    if "choices" in figures:
        lines += [
            "",
            f"{figures['choices_within_target']} of the {figures['choices']} choices of the constants that"
            " were tried are within the target on all the `beir_*` sets at once.",
        ]
    before, rest = page.read_text(encoding="utf-8").split(_MARKERS[0])
    _, after = rest.split(_MARKERS[1])
    text = before + _MARKERS[0] + "\n" + "\n".join(lines) + "\n" + _MARKERS[1] + after
    page.write_text(text, encoding="utf-8")


# --- how the constants were chosen


def gains_over_grid(chosen: RetrievalSet, vectors: Vectors) -> np.ndarray:
    """(grid, 3): what the pool gains over the better list with each choice of constants."""
    corpus = ArrayCorpus(chosen.texts, vectors.texts)
    background = Background(corpus.sample(SAMPLE_SIZE))
    which = np.unique(np.linspace(0, len(chosen.questions) - 1, GRID_QUESTIONS).astype(int))
    questions = [Question(chosen.questions[i], vectors.questions[i]) for i in which]
    relevant = [chosen.relevant[i] for i in which]
    searcher = Searcher(corpus, RetrievalSettings(), background, k=10, allowed=None, watch=Stopwatch())
    inputs = []
    for question, match in zip(questions, searcher.match(questions), strict=True):
        ((numbers, scores),) = corpus.nearest(question.vector[None], DEPTH, allowed=None)
        dense = DenseList(numbers, scores, float(scores[-1]), len(numbers))
        inputs.append(searcher.fusion_input(question, dense, match))
    single = [
        scores_of(ranked(replace(RetrievalSettings(), ranking=way), inputs), relevant).mean(axis=1)
        for way in ("dense", "lexical")
    ]
    gains = []
    for midpoint, dense_scale, lexical_scale, floor, weight in GRID:
        settings = RetrievalSettings(
            dense_midpoint=midpoint,
            dense_scale=dense_scale,
            lexical_scale=lexical_scale,
            lexical_floor=floor,
            dense_weight=weight,
        )
        gains.append(scores_of(ranked(settings, inputs), relevant).mean(axis=1) - np.maximum(*single))
    return np.array(gains)


def ranked(settings: RetrievalSettings, inputs: Sequence[FusionInput]) -> Ranking:
    return [rank(settings, given).chunks[:10].tolist() for given in inputs]


def leave_one_out(grids: dict[str, np.ndarray], figures: dict[str, object]) -> None:
    """Chooses the constants without a set, by mean gain in nDCG@10 over the others, and tries them on it."""
    print(
        "\nLeave one out: constants with the highest mean gain in nDCG@10 on the other sets; gain on the set"
    )
    names = list(grids)
    for name in names:
        others = np.mean([grids[other][:, 0] for other in names if other != name], axis=0)
        best = int(np.argmax(others))
        midpoint, dense_scale, lexical_scale, floor, weight = GRID[best]
        constants = f"{midpoint}, {dense_scale}, {lexical_scale}, {floor}, {weight}"
        gains = ", ".join(f"{m} {g:+.4f}" for m, g in zip(METRICS, grids[name][best], strict=True))
        short = name.removeprefix("beir_")
        print(f"  {short:14} ({constants}): {gains}")
        figures[f"{short}_left_out_gain"] = [round(float(gain), 4) for gain in grids[name][best]]
    within = np.array([(grids[name] >= -TARGET - 1e-9).all(axis=1) for name in names]).all(axis=0)
    print(f"  {int(within.sum())} of {len(GRID)} choices are within the target on all of them at once")
    figures["choices_within_target"] = int(within.sum())
    figures["choices"] = len(GRID)


if __name__ == "__main__":
    raise SystemExit(main())
