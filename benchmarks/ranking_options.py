"""What do reranking, diversity, longer passages and repaired questions bring, and what do they cost?

    python benchmarks/ranking_options.py DATA [--sets NAME ...] [--questions N] [--embeddings FOLDER]
    [--cross-encoder MODEL] [--write PAGE] [--quick]

Every option of retriever/settings.py that is off by default, against the default, through the retriever
itself without its cache. On the beir_* sets: nDCG@10, recall@5, recall@10. On chunking_evaluation, where
answers are spans of documents: the share of the answer's characters that the passages hold (recall), and the
share of the passages that is answer (precision), beside more chunks without the option, because longer
passages have to beat that. On disfl_pairs: questions as they were spoken, with each option, and as they were
meant, which is the ceiling. Neighbours and sections are measured where texts have any: on
chunking_evaluation alone, the other sets' texts stand by themselves. Questions are repaired everywhere: on
the sets of written ones that may change nothing. A cross-encoder is measured where one is named.

Differences to the default have 95% bootstrap intervals. Milliseconds are of a search whose question is
embedded already. "Again" is the same question once more: the first weight of late interaction makes its
passages' token vectors, which all that comes later finds. Some twelve minutes on two cores, half of them
spent on token vectors.
"""

from __future__ import annotations

import argparse
import csv
import json
import time
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import NamedTuple

import numpy as np
from record import machine
from retrieval_sets import ArrayCorpus, RetrievalSet, embed, interval, load, scores_of

from indexer.chunking import chunk_document, embedding_text
from indexer.embedding import SentenceTransformerEmbedder
from indexer.parsers import parse
from indexer.tokenization import ChunkTokenizer
from indexer.types import Chunk
from retriever.cross_encoder import CrossEncoderReranker
from retriever.disfluency import repair_disfluencies
from retriever.late_interaction import LateInteractionReranker
from retriever.query_text import normalise_query
from retriever.reranking import Reranker
from retriever.retriever import Retriever
from retriever.settings import RetrievalSettings
from retriever.types import Hit

BEIR = ("beir_squad_v1_dev", "beir_cranfield", "beir_cisi", "beir_vaswani", "beir_cosqa_dev")
SPANS, SPOKEN = "chunking_evaluation", "disfl_pairs"
REPAIRING = RetrievalSettings(repair_disfluencies=True)
K = 10
NUM_PASSAGES = 5  # of chunking_evaluation
TIMED_AGAIN = 50  # questions
QUICK_TEXTS, QUICK_QUESTIONS = 60, 4
_MARKERS = ("<!-- written by benchmarks/ranking_options.py -->", "<!-- end of ranking options -->")


@dataclass(frozen=True)
class Way:
    """A name, the settings, and what reranks."""

    name: str
    settings: RetrievalSettings = field(default_factory=RetrievalSettings)
    reranker: Reranker | None = None
    k: int = K


class Outcome(NamedTuple):
    """What a way found, and how long it took."""

    hits: list[tuple[Hit, ...]]
    first_ms: float  # a question
    again_ms: float


@dataclass(frozen=True)
class Row:
    """One line of the table."""

    set: str
    way: str
    scores: dict[str, float]
    gains: dict[str, tuple[float, float, float]]  # over the default: mean and interval
    first_ms: float
    again_ms: float


def main() -> int:
    arguments = parse_arguments()
    embedder = SentenceTransformerEmbedder()
    rerankers: list[Reranker] = [LateInteractionReranker(embedder, max_bytes=1 << 30)]
    if arguments.cross_encoder:
        rerankers.append(CrossEncoderReranker(arguments.cross_encoder))
    rows: list[Row] = []
    for name in arguments.sets:
        if name == SPANS:
            rows += measure_spans(arguments, embedder, rerankers)
        elif name == SPOKEN:
            rows += measure_spoken(arguments, embedder, rerankers)
        else:
            rows += measure_set(arguments, load(arguments.data, name), embedder, rerankers)
    if arguments.write:
        write_table(arguments.write, rows, with_cross_encoder=bool(arguments.cross_encoder))
    print(json.dumps({"embedder": embedder.fingerprint, "rows": [vars(row) for row in rows]}))
    return 0


def parse_arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("data", type=Path, help="folder with the sets")
    parser.add_argument("--sets", nargs="+", default=[*BEIR, SPANS, SPOKEN])
    parser.add_argument("--questions", type=int, default=200, help="of each set at most, evenly spread")
    parser.add_argument("--embeddings", type=Path, help="folder that keeps vectors between runs")
    parser.add_argument("--cross-encoder", help="a folder or a hub name, to be measured as well")
    parser.add_argument("--write", type=Path, help="page whose marked part becomes this run's table")
    parser.add_argument("--quick", action="store_true", help="a few texts and questions: does it run?")
    return parser.parse_args()


def ways_to_rank(rerankers: Sequence[Reranker]) -> list[Way]:
    default = RetrievalSettings()
    ways = [Way("default")]
    for reranker in rerankers:
        for weight in (1.0, 0.5, 0.25):
            settings = replace(default, rerank_weight=weight)
            ways.append(Way(f"{reranker.name}, weight {weight:g}", settings, reranker))
    ways += [Way(f"MMR {value:g}", replace(default, mmr_lambda=value)) for value in (0.9, 0.7)]
    ways.append(Way("without copies, 0.8", replace(default, duplicate_overlap=0.8)))
    return [*ways, Way("repaired", REPAIRING)]


# --- searching


class KnownQueries:
    """The vectors of questions that were embedded together beforehand."""

    def __init__(self, fingerprint: str, texts: Sequence[str], vectors: np.ndarray) -> None:
        self.fingerprint = fingerprint
        self._vectors = dict(zip(texts, vectors, strict=True))

    def embed_queries(self, texts: Sequence[str]) -> np.ndarray:
        return np.stack([self._vectors[text] for text in texts])


def written(question: str) -> str:
    """The question as the retriever searches for it by default."""
    return normalise_query(question, max_chars=RetrievalSettings().max_query_chars)


def forms(questions: Sequence[str]) -> list[str]:
    """The questions as the retriever will ask for their vectors: as they are, and repaired."""
    plain = [written(question) for question in questions]
    return list(dict.fromkeys([*plain, *map(repair_disfluencies, plain)]))


def changed_share(questions: Sequence[str]) -> float:
    """How many of the questions repairing changes."""
    plain = [written(question) for question in questions]
    return float(np.mean([repair_disfluencies(one) != one for one in plain]))


def run(corpus: ArrayCorpus, queries: KnownQueries, way: Way, questions: Sequence[str]) -> Outcome:
    retriever = Retriever(corpus, queries, settings=way.settings, cache=None, reranker=way.reranker)

    def search_all(some: Sequence[str]) -> tuple[list[tuple[Hit, ...]], float]:
        began = time.perf_counter()
        found = [retriever.search(question, k=way.k).hits for question in some]
        return found, (time.perf_counter() - began) * 1000 / len(some)

    hits, first_ms = search_all(questions)
    _, again_ms = search_all(questions[:TIMED_AGAIN])
    return Outcome(hits, first_ms, again_ms)


# --- sets of texts and questions


def measure_set(
    arguments: argparse.Namespace,
    chosen: RetrievalSet,
    embedder: SentenceTransformerEmbedder,
    rerankers: Sequence[Reranker],
) -> list[Row]:
    chosen = shortened(chosen, arguments)
    asked = forms(chosen.questions)
    vectors = embed(RetrievalSet(chosen.name, chosen.texts, asked, []), embedder, arguments.embeddings)
    corpus = TextCorpus(chosen.texts, vectors.texts)
    queries = KnownQueries(embedder.fingerprint, asked, vectors.questions)
    table = {}
    for way in ways_to_rank(rerankers):
        outcome = run(corpus, queries, way, chosen.questions)
        table[way.name] = ranking_scores(outcome, chosen.relevant), outcome
    size = f"{len(chosen.texts):,} texts, {len(chosen.questions):,} questions"
    return report(chosen.name, table, f"{size}; repaired: {changed_share(chosen.questions):.1%}")


def shortened(chosen: RetrievalSet, arguments: argparse.Namespace) -> RetrievalSet:
    """The set with its questions thinned out; for a quick run, with few texts as well."""
    count = QUICK_QUESTIONS if arguments.quick else arguments.questions
    which = np.unique(np.linspace(0, len(chosen.questions) - 1, count).astype(int))
    questions, relevant = [chosen.questions[i] for i in which], [chosen.relevant[i] for i in which]
    texts = chosen.texts
    if arguments.quick:
        kept = sorted({i for grades in relevant for i in list(grades)[:5]} | set(range(QUICK_TEXTS)))
        texts, places = [texts[i][:400] for i in kept], {old: new for new, old in enumerate(kept)}
        relevant = [{places[i]: g for i, g in grades.items() if i in places} for grades in relevant]
    name = f"{chosen.name} (quick)" if arguments.quick else chosen.name
    return RetrievalSet(name, list(texts), questions, relevant)


class TextCorpus(ArrayCorpus):
    """One that has its texts to read."""

    def __init__(self, texts: Sequence[str], vectors: np.ndarray) -> None:
        super().__init__(texts, vectors)
        self._loaded = texts

    def chunks(self, numbers: np.ndarray, *, filters: object = None) -> list[Chunk]:
        return [
            Chunk(str(n), str(n), "", self._loaded[n], 0, len(self._loaded[n]), None, (), (), "text")
            for n in numbers.tolist()
        ]


def ranking_scores(outcome: Outcome, relevant: Sequence[dict[int, int]]) -> dict[str, np.ndarray]:
    """(questions,) each."""
    found = [[int(hit.chunk.id) for hit in hits] for hits in outcome.hits]
    ndcg, _, recall_5 = scores_of(found, relevant)
    recall_10 = [
        sum(i in ranking[:10] for i in grades) / len(grades)
        for ranking, grades in zip(found, relevant, strict=True)
    ]
    return {"nDCG@10": ndcg, "R@5": recall_5, "R@10": np.array(recall_10)}


# --- documents with spans


class SpanQuestion(NamedTuple):
    text: str
    corpus: str
    spans: list[tuple[int, int]]


class DocumentCorpus(ArrayCorpus):
    """The chunks of whole documents, so that there are neighbours and sections."""

    def __init__(
        self, chunks: list[Chunk], texts: dict[str, str], embedded: list[str], vectors: np.ndarray
    ) -> None:
        super().__init__(embedded, vectors)
        self._chunks, self._documents = chunks, texts
        self._places = {chunk.id: i for i, chunk in enumerate(chunks)}

    def chunks(self, numbers: np.ndarray, *, filters: object = None) -> list[Chunk]:
        return [self._chunks[n] for n in numbers.tolist()]

    def around(self, chunk_id: str, before: int, after: int) -> list[Chunk]:
        at = self._places[chunk_id]
        near = self._chunks[max(at - before, 0) : at + after + 1]
        return [chunk for chunk in near if chunk.document_id == self._chunks[at].document_id]

    def document_text(self, document_id: str) -> str:
        return self._documents[document_id]


def measure_spans(
    arguments: argparse.Namespace, embedder: SentenceTransformerEmbedder, rerankers: Sequence[Reranker]
) -> list[Row]:
    folder = arguments.data / SPANS
    tokenizer = ChunkTokenizer(embedder.tokenizer_path)
    texts, chunks, embedded = {}, [], []
    for path in sorted((folder / "corpora").glob("*.md")):
        text = path.read_text(encoding="utf-8")
        document = parse(text.encode(), name=path.name)
        if document.text != text:
            raise SystemExit(f"The parser changed {path.name}: reference offsets no longer hold.")
        texts[path.stem] = text
        drafts = list(chunk_document(document, tokenizer, max_tokens=embedder.max_tokens))
        for draft in drafts[: QUICK_TEXTS // 4] if arguments.quick else drafts:
            piece = text[draft.start : draft.end]
            embedded.append(embedding_text(draft.context, piece))
            name = str(len(chunks))
            chunks.append(
                Chunk(
                    name,
                    path.stem,
                    path.stem,
                    piece,
                    draft.start,
                    draft.end,
                    None,
                    (),
                    draft.heading_path,
                    "text",
                )
            )
    questions = span_questions(folder)
    count = QUICK_QUESTIONS if arguments.quick else arguments.questions
    which = np.unique(np.linspace(0, len(questions) - 1, count).astype(int))
    questions = [questions[i] for i in which]
    asked = [question.text for question in questions]
    known = forms(asked)
    vectors = embed(RetrievalSet(SPANS, embedded, known, []), embedder, arguments.embeddings)
    corpus = DocumentCorpus(chunks, texts, embedded, vectors.texts)
    queries = KnownQueries(embedder.fingerprint, known, vectors.questions)
    table = {}
    for way in ways_to_read(rerankers):
        outcome = run(corpus, queries, way, asked)
        table[way.name] = span_scores(outcome, questions), outcome
    size = f"{len(chunks):,} chunks, {len(asked):,} questions"
    return report(SPANS, table, f"{size}; repaired: {changed_share(asked):.1%}")


def ways_to_read(rerankers: Sequence[Reranker]) -> list[Way]:
    default = RetrievalSettings()
    ways = [replace(way, k=NUM_PASSAGES) for way in ways_to_rank(rerankers)]
    ways += [Way(f"{k} chunks", default, k=k) for k in (8, 15)]
    ways += [Way(f"neighbours {n}", replace(default, neighbours=n), k=NUM_PASSAGES) for n in (1, 2)]
    ways += [
        Way(
            f"section of 2, {size:,}",
            replace(default, section_min_hits=2, section_max_chars=size),
            k=NUM_PASSAGES,
        )
        for size in (2000, 4000)
    ]
    return ways


def span_questions(folder: Path) -> list[SpanQuestion]:
    with (folder / "questions_df.csv").open(encoding="utf-8", newline="") as file:
        return [
            SpanQuestion(
                row["question"],
                row["corpus_id"],
                [(one["start_index"], one["end_index"]) for one in json.loads(row["references"])],
            )
            for row in csv.DictReader(file)
        ]


def span_scores(outcome: Outcome, questions: Sequence[SpanQuestion]) -> dict[str, np.ndarray]:
    """(questions,) each; the characters in thousands."""
    rows = []
    for hits, question in zip(outcome.hits, questions, strict=True):
        wanted = {i for start, end in question.spans for i in range(start, end)}
        read = sum(len(hit.chunk.text) for hit in hits)
        held = {
            i
            for hit in hits
            if hit.chunk.document_id == question.corpus
            for i in range(hit.chunk.start, hit.chunk.end)
        }
        found = len(wanted & held)
        rows.append((found / len(wanted), found / max(read, 1), read / 1000))
    return dict(zip(("recall", "precision", "k chars"), np.array(rows).T, strict=True))


# --- spoken questions


def measure_spoken(
    arguments: argparse.Namespace, embedder: SentenceTransformerEmbedder, rerankers: Sequence[Reranker]
) -> list[Row]:
    """The same questions as spoken and as meant; in the passages that they were written for."""
    passages = {row["id"]: row["passage"] for row in lines(arguments.data / "squad_v2_dev_20articles.jsonl")}
    pairs = lines(arguments.data / f"{SPOKEN}.jsonl")
    pairs = [row for row in pairs if row["id"] in passages and row["disfluent"].strip()]
    count = QUICK_QUESTIONS if arguments.quick else 5 * arguments.questions
    pairs = [pairs[i] for i in np.unique(np.linspace(0, len(pairs) - 1, count).astype(int))]
    texts = list(dict.fromkeys(passages.values()))[: QUICK_TEXTS if arguments.quick else None]
    texts = list(dict.fromkeys([*texts, *(passages[row["id"]] for row in pairs)]))
    numbers = {text: i for i, text in enumerate(texts)}
    relevant = [{numbers[passages[row["id"]]]: 1} for row in pairs]
    spoken, meant = ([row[form] for row in pairs] for form in ("disfluent", "original"))
    known = forms([*spoken, *meant])
    vectors = embed(RetrievalSet(SPOKEN, texts, known, []), embedder, arguments.embeddings)
    corpus = TextCorpus(texts, vectors.texts)
    queries = KnownQueries(embedder.fingerprint, known, vectors.questions)
    table = {}
    for way in ways_to_rank(rerankers):
        outcome = run(corpus, queries, way, spoken)
        table[way.name] = ranking_scores(outcome, relevant), outcome
    for way in (Way("as meant, repaired", REPAIRING), Way("as meant (ceiling)")):
        outcome = run(corpus, queries, way, meant)
        table[way.name] = ranking_scores(outcome, relevant), outcome
    repaired = f"{changed_share(spoken):.1%}, of those as meant {changed_share(meant):.1%}"
    size = f"{len(texts):,} texts, {len(pairs):,} questions"
    return report(SPOKEN, table, f"{size}; repaired: {repaired}")


def lines(path: Path) -> list[dict]:
    with path.open(encoding="utf-8") as file:
        return [json.loads(line) for line in file]


# --- what came of it


def report(name: str, table: dict[str, tuple[dict[str, np.ndarray], Outcome]], size: str) -> list[Row]:
    """Prints a set's table and returns it; the first way is the default."""
    default, _ = next(iter(table.values()))
    metrics = list(default)
    print(f"\n{name}: {size}")
    print(f"  {'':28}" + "".join(f"{metric:>11}" for metric in metrics) + f"{'ms':>9}{'again':>9}")
    rows = []
    for way, (scores, outcome) in table.items():
        means = {metric: float(scores[metric].mean()) for metric in metrics}
        gains = {}
        for metric in metrics:
            difference = scores[metric] - default[metric]
            gains[metric] = (float(difference.mean()), *interval(difference))
        rows.append(Row(name, way, means, gains, outcome.first_ms, outcome.again_ms))
        print(
            f"  {way:28}"
            + "".join(f"{means[metric]:11.4f}" for metric in metrics)
            + f"{outcome.first_ms:9.2f}{outcome.again_ms:9.2f}"
        )
    return rows


def write_table(page: Path, rows: Sequence[Row], *, with_cross_encoder: bool) -> None:
    """Puts the run's results between the page's two markers."""
    absent = "" if with_cross_encoder else " No cross-encoder was named, so none was measured."
    parts = [f"{time.strftime('%Y-%m-%d')}, {machine()}.{absent}", ""]
    for name in dict.fromkeys(row.set for row in rows):
        mine = [row for row in rows if row.set == name]
        metrics = list(mine[0].scores)
        parts += [
            f"| {name.removeprefix('beir_')} | {' | '.join(metrics)} | ms | again |",
            "| --- |" + " --- |" * (len(metrics) + 2),
        ]
        for row in mine:
            cells = [shown(row, metric, is_default=row is mine[0]) for metric in metrics]
            parts.append(f"| {row.way} | {' | '.join(cells)} | {row.first_ms:.1f} | {row.again_ms:.1f} |")
        parts.append("")
    before, rest = page.read_text(encoding="utf-8").split(_MARKERS[0])
    _, after = rest.split(_MARKERS[1])
    text = "\n".join(parts).rstrip()
    page.write_text(f"{before}{_MARKERS[0]}\n{text}\n{_MARKERS[1]}{after}", encoding="utf-8")


def shown(row: Row, metric: str, *, is_default: bool) -> str:
    mean, low, high = row.gains[metric]
    gain = "" if is_default else f" ({mean:+.3f} [{low:+.3f}, {high:+.3f}])"
    return f"{row.scores[metric]:.3f}{gain}"


if __name__ == "__main__":
    raise SystemExit(main())
