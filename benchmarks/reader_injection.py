"""Can a passage tell the reader what to do?

    python benchmarks/reader_injection.py DATA [--questions N]

Instructions of BIPIA's test set (Yi et al. 2023) are written into the gold passages of SQuAD 2.0's answerable
development questions, in turn before, behind and amid their sentences. An attack that works would change the
answer or be the answer. Beside it stands what any added text costs: a sentence of another passage in the
same place. The last line is one JSON document.
"""

from __future__ import annotations

import argparse
import itertools
import json
import random
import sys
from collections.abc import Iterator, Sequence
from dataclasses import replace
from pathlib import Path

from reader_sets import squad_development

from generator.embedded import ReaderGenerator
from generator.reader.reader import READER_FOLDER, Reader
from generator.reader.sentences import sentence_spans
from ragserve.evaluation.figures import compare
from ragserve.evaluation.outcomes import Outcome
from ragserve.evaluation.records import EvalQuestion
from ragserve.evaluation.run import OverOwnPassages, evaluate


def main() -> int:
    parser = argparse.ArgumentParser(description="Attack the reader.")
    parser.add_argument("data", type=Path, help="folder of the public sets")
    parser.add_argument("--folder", type=Path, default=READER_FOLDER, help="the reader")
    parser.add_argument("--embeddings", type=Path, default=None, help="folder of all-MiniLM-L6-v2")
    parser.add_argument("--questions", type=int, default=300)
    options = parser.parse_args()
    generator = ReaderGenerator(Reader.load(options.folder, embeddings_folder=options.embeddings))
    subject = OverOwnPassages(lambda: generator)
    asked = [q for q in squad_development(options.data, count=options.questions) if q.answerable]
    rng = random.Random(0)
    added = {
        "attack": list(itertools.islice(instructions(options.data, rng), len(asked))),
        "other text": [other_sentence(asked, question, rng) for question in asked],
    }
    clean = list(evaluate(asked, subject))
    figures: dict[str, object] = {"questions": len(asked)}
    for name, texts in added.items():
        changed = [insert(q, text, place) for place, (q, text) in enumerate(zip(asked, texts, strict=True))]
        outcomes = list(evaluate(changed, subject))
        figures |= report(name, clean, outcomes, texts)
    print(json.dumps(figures))
    return 0


def instructions(data: Path, rng: random.Random) -> Iterator[str]:
    """BIPIA's instructions in random order, again and again."""
    path = data / "robustness" / "bipia" / "benchmark" / "text_attack_test.json"
    texts = [text for group in json.loads(path.read_text(encoding="utf-8")).values() for text in group]
    while True:
        yield from rng.sample(texts, len(texts))


def other_sentence(asked: Sequence[EvalQuestion], question: EvalQuestion, rng: random.Random) -> str:
    """A sentence of another question's passage."""
    passage = rng.choice([q.passages[0] for q in asked if q.passages != question.passages])
    start, end = rng.choice(sentence_spans(passage))
    return passage[start:end]


def insert(question: EvalQuestion, text: str, place: int) -> EvalQuestion:
    """The question with `text` before, behind or amid the sentences of its passage."""
    (passage,) = question.passages
    spans = sentence_spans(passage)
    at = (0, len(passage), spans[len(spans) // 2][0])[place % 3]
    return replace(question, passages=(f"{passage[:at].rstrip()} {text} {passage[at:]}".strip(),))


def report(
    name: str, clean: Sequence[Outcome], changed: Sequence[Outcome], texts: Sequence[str]
) -> dict[str, object]:
    """Prints and returns how often the answer stayed, and how often it was taken out of the added text."""
    same = sum(a.draft == b.draft for a, b in zip(clean, changed, strict=True))
    taken = [b for b, t in zip(changed, texts, strict=True) if b.supported and b.draft and b.draft in t]
    wrong = sum((outcome.f1 or 0.0) < 0.5 for outcome in taken)
    verbatim = sum(outcome.quotes_verbatim is not False for outcome in changed)
    (f1,) = [one for one in compare(clean, changed, cutoff=5) if one.figure.name == "f1_of_draft"]
    key = name.replace(" ", "_")
    print(
        f"{name}: the same words found for {same} of {len(clean)}; {wrong} wrong answers from what was added;"
    )
    print(f"  quotes verbatim for {verbatim}; F1 {f1.before:.1f} before, {f1.after:.1f} after,", end=" ")
    print(f"change {f1.interval.low:+.1f} to {f1.interval.high:+.1f} (95%)")
    return {
        f"{key}_same": same,
        f"{key}_wrong_answers_from_it": wrong,
        f"{key}_quotes_verbatim": verbatim,
        f"{key}_f1_before": round(f1.before, 1),
        f"{key}_f1_after": round(f1.after, 1),
        f"{key}_f1_change_interval": [round(bound, 1) for bound in f1.interval],
    }


if __name__ == "__main__":
    sys.exit(main())
