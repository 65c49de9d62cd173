"""Does it pay to search while a draft is still being written? Answers in two rounds, with and without.

    python benchmarks/iterative_retrieval.py
    python benchmarks/iterative_retrieval.py --chunks 1000000 --questions 100

First the example corpus and its questions, answered by the shipped reader: the whole time of an answer in two
rounds with prefetching over that without, and what the second round costs over one round. The reader gives
its words in one go, so only what was near can be searched for ahead, on the cores that it computes on.

Then a synthetic index whose vectors are on disk, out of memory before every question: how long the second
round's search is waited for. The draft is 80 words of the passages at a set rate, as a decoding model would
speak; no model runs, so nothing but retrieval is measured. The floor is the same search, all in memory.

Both print the bound of what prefetching can bring from end to end (Amdahl): the time without it over the same
time less the second search. In two rounds that is at most 1.5, where a search takes exactly as long as the
draft that it hides behind; a search that takes a small part of that cannot bring much.

The sides take turns, question by question, nothing comes from the cache, and the hits are compared before the
times.
"""

from __future__ import annotations

import argparse
import json
import mmap
import os
import platform
import tempfile
import time
from collections.abc import Iterator, Sequence
from contextlib import ExitStack
from pathlib import Path

import synthetic_index
from serving import CORPUS, median, percentile, read_questions

from generator.types import AnswerSpan, GroundedAnswer, Passage, TokenEvent, Usage
from indexer import Index, SentenceTransformerEmbedder
from indexer.lazy import Lazy
from indexer.vector_settings import VectorSettings
from ragserve import Answer, Pipeline
from ragserve.answering import Answerer, AnswerGenerator, final_answer
from ragserve.rounds import FurtherRounds, IterativeAnswerer
from retriever import Retriever, SearchResult
from retriever.prefetching import SearchOptions
from retriever.read_ahead import ReadAhead

_SIDES = {"off": False, "on": True}
_WORDS_PER_DRAFT = 80


class Speaker:
    """A generator that says the beginning of its passages, word by word, so many a second."""

    def __init__(self, words_per_second: float) -> None:
        self._pause = 1 / words_per_second

    def answer_stream(
        self, question: str, passages: Sequence[Passage], **options: object
    ) -> Iterator[TokenEvent | GroundedAnswer]:
        words = " ".join(text for _, text in passages).split()[:_WORDS_PER_DRAFT]
        for word in words:
            time.sleep(self._pause)
            yield TokenEvent(f" {word}")
        nearest = passages[0][0]
        evidence = AnswerSpan(nearest, 0, len(words[0]))
        yield GroundedAnswer(" ".join(words), True, 1.0, (evidence,), (nearest,), Usage(0, len(words)))


class Sides:
    """The same retriever and generator with prefetching and without."""

    def __init__(
        self, retriever: Retriever, generator: AnswerGenerator, index: Index, *, k: int, load: float
    ) -> None:
        """`load`: how many others want the processor while a draft is written."""
        answerer = Answerer(Lazy(lambda: generator), index.document_text, max_new_tokens=None)
        ahead = ReadAhead(retriever.read_ahead)
        self._sides = {
            name: IterativeAnswerer(answerer, ahead, prefetch=prefetch) for name, prefetch in _SIDES.items()
        }
        self._options = SearchOptions(k, use_cache=False)
        self._retriever = retriever
        self._load = load

    def first(self, question: str) -> SearchResult:
        return self._retriever.search(question, **self._options._asdict())

    def answer(self, side: str, question: str, result: SearchResult) -> Answer:
        further = FurtherRounds(2, self._retriever, self._options, lambda: self._load)
        events = self._sides[side].events(question, result, further=further, retrieval_seconds=0.0)
        return final_answer(events)


def main() -> int:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--rounds", type=int, default=3, help="how often the example questions are asked")
    parser.add_argument("--questions", type=int, default=60, help="asked of the synthetic index")
    parser.add_argument("--chunks", type=int, default=200_000, help="size of the synthetic index")
    parser.add_argument("--words-per-second", type=float, nargs="+", default=[60.0, 600.0])
    parser.add_argument("-k", type=int, default=5)
    parser.add_argument("--quick", action="store_true", help="a tiny size, which shows that it runs")
    arguments = parser.parse_args()
    if arguments.quick:
        arguments.rounds, arguments.questions, arguments.chunks = 1, 2, 2_000
        arguments.words_per_second = [2_000.0]
    with tempfile.TemporaryDirectory() as folder:
        figures = on_examples(Path(folder) / "examples", arguments)
        figures |= on_cold_index(Path(folder) / "synthetic", arguments)
    about = {"cpus": os.cpu_count(), "machine": platform.machine(), "chunks": arguments.chunks}
    print(json.dumps({"benchmark": "iterative_retrieval", **about, **figures}))
    return 0


# --- the reader


def on_examples(folder: Path, arguments: argparse.Namespace) -> dict[str, float]:
    questions = read_questions()[: 3 if arguments.quick else None]
    seconds: dict[str, list[float]] = {"one": [], "off": [], "on": []}
    hideable: list[float] = []
    num_further = 0
    with Pipeline.open(folder) as pipeline:
        pipeline.ingest([CORPUS / "drafts" if arguments.quick else CORPUS])
        pipeline.warm_up()
        generator = pipeline._generator.get()
        load = float(pipeline.generates_on_cpu)
        sides = Sides(pipeline.retriever, generator, pipeline.index, k=arguments.k, load=load)
        for turn in range(arguments.rounds):
            for number, question in enumerate(questions):
                began = time.perf_counter()
                result = sides.first(question)
                searched = time.perf_counter() - began
                one = final_answer(pipeline.answer_stream(question, result, retrieval_seconds=searched))
                seconds["one"].append(one.timings["total"])
                answers = {}
                for side in sorted(_SIDES, reverse=bool((turn + number) % 2)):
                    answers[side] = sides.answer(side, question, result)
                    seconds[side].append(searched + answers[side].timings["total"])
                hideable.append(answers["off"].timings["retrieval"])
                check_same(answers)
                num_further += answers["on"].hits != one.hits
    bound = sum(seconds["off"]) / (sum(seconds["off"]) - sum(hideable))
    print(f"Example corpus, {len(questions)} questions, the reader, {arguments.rounds} turns")
    for name, what in (("one", "one round"), ("off", "two, no prefetch"), ("on", "two, prefetch")):
        print(f"  {what:<18} {1e3 * median(seconds[name]):8.1f} ms median")
    ratio = end_to_end(seconds, bound)
    print(f"  {num_further} of {len(seconds['on'])} read other passages")
    return {
        "reader_one_round_ms": _ms(median(seconds["one"])),
        "reader_two_rounds_ms": _ms(median(seconds["off"])),
        "reader_two_rounds_prefetch_ms": _ms(median(seconds["on"])),
        "reader_prefetch_speedup": round(ratio, 4),
        "reader_prefetch_bound": round(bound, 4),
        "reader_share_with_new_passages": round(num_further / len(seconds["on"]), 4),
    }


# --- the cold index


def on_cold_index(folder: Path, arguments: argparse.Namespace) -> dict[str, float]:
    embedder = SentenceTransformerEmbedder()
    synthetic_index.build(folder, embedder, arguments.chunks).close()
    settings = VectorSettings(exact_chunks=arguments.chunks // 10)
    figures: dict[str, float] = {}
    with ExitStack() as stack:
        index = stack.enter_context(Index.open(folder, embedder=embedder, vectors=settings))
        retriever = stack.enter_context(Retriever(index, embedder))
        for words_per_second in arguments.words_per_second:
            print(
                f"Synthetic index, {arguments.chunks:,} chunks on a cold disk, {words_per_second:g} words/s"
            )
            sides = Sides(retriever, Speaker(words_per_second), index, k=arguments.k, load=0.0)
            found = at_one_speed(index, sides, arguments.questions)
            figures |= {f"cold_{words_per_second:g}_{name}": value for name, value in found.items()}
    return figures


def at_one_speed(index: Index, sides: Sides, num_questions: int) -> dict[str, float]:
    waited: dict[str, list[float]] = {"off": [], "on": [], "warm": []}
    seconds: dict[str, list[float]] = {"off": [], "on": []}
    sentences = synthetic_index.sentences()
    for number in range(num_questions):
        question = f"What is said of this: {sentences[number % len(sentences)]}"
        answers = {}
        for side in sorted(_SIDES, reverse=bool(number % 2)):
            result = sides.first(question)
            evict(index)
            answers[side] = sides.answer(side, question, result)
            waited[side].append(answers[side].timings["retrieval"])
            seconds[side].append(answers[side].timings["total"])
        check_same(answers)
        query = answers["on"].retrieval.explanation["rounds"][0]["query"]
        began = time.perf_counter()
        sides.first(query)
        waited["warm"].append(time.perf_counter() - began)
    figures: dict[str, float] = {}
    print("  waited for the second search       p50        p95")
    for name, what in (("off", "no prefetch"), ("on", "prefetch"), ("warm", "floor: in memory")):
        p50, p95 = (percentile(waited[name], share) for share in (0.5, 0.95))
        print(f"  {what:<28} {1e3 * p50:7.1f} ms {1e3 * p95:7.1f} ms")
        figures |= {f"{name}_p50_ms": _ms(p50), f"{name}_p95_ms": _ms(p95)}
    off, on = figures["off_p95_ms"], figures["on_p95_ms"]
    print(f"  {off / on:.1f} times faster at p95")
    bound = sum(seconds["off"]) / (sum(seconds["off"]) - sum(waited["off"]))
    ratio = end_to_end(seconds, bound)
    return {
        **figures,
        "p95_speedup": round(off / on, 3),
        "end_to_end_speedup": round(ratio, 4),
        "end_to_end_bound": round(bound, 4),
    }


def end_to_end(seconds: dict[str, list[float]], bound: float) -> float:
    """How many times faster whole answers are, in the sum of all questions; prints it beside the bound."""
    ratio = sum(seconds["off"]) / sum(seconds["on"])
    print(
        f"  end to end {ratio:.3f} times as fast with prefetching; with the whole search hidden {bound:.3f}"
    )
    return ratio


def evict(index: Index) -> None:
    """Has the kernel forget the vectors on disk. Pages that are mapped stay, so the mapping lets go first."""
    vectors = index._state.vectors()
    assert vectors is not None
    assert vectors.base is not None
    rows = vectors.base.rows
    rows._map.madvise(mmap.MADV_DONTNEED)
    os.posix_fadvise(rows._descriptor, 0, 0, os.POSIX_FADV_DONTNEED)


def ids_of(answer: Answer) -> list[str]:
    return [hit.chunk.id for hit in answer.hits]


def check_same(answers: dict[str, Answer]) -> None:
    """A faster wrong answer is no result. The last digits of a score depend on the embedder's batch."""
    one, other = answers.values()
    if (one.text, ids_of(one)) != (other.text, ids_of(other)):
        raise SystemExit(f"prefetching changed the answer to {one.question!r}")


def _ms(seconds: float) -> float:
    return round(1e3 * seconds, 3)


if __name__ == "__main__":
    raise SystemExit(main())
