"""Do the sentences that the reader shows hold the answer, and are its yes and no right?

    python benchmarks/reader_wording.py DATA [--questions N]

On SQuAD 2.0's development articles. How and why questions: the share whose known answer is in what is shown.
Yes and no: statements turned into questions by moving the verb, asked of their own sentence, of every other
sentence of the article, and with a capitalised word or number exchanged for another one of the article, where
any verdict is wrong. The last line is one JSON document.
"""

from __future__ import annotations

import argparse
import json
import random
import re
import sys
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

from generator.reader.reader import READER_FOLDER, Reader
from generator.reader.sentences import sentence_spans
from generator.reader.wording import wants_sentence
from generator.reader.yes_no import verdict
from ragserve.evaluation.relevance import holds_answer

_STATEMENT = re.compile(
    r"^((?:The |A |An )?(?:[\w'-]+ ){1,6}?)(is|was|are|were|can|has|had|will) "
    r"((?:[\w',-]+ ){1,12}[\w'-]+)\.?$"
)
_NAME = re.compile(r"\b(?:[A-Z][a-z]+|\d+)\b")


class Statement(NamedTuple):
    question: str
    sentence: str
    paragraph: list[str]
    article: list[str]


def main() -> int:
    parser = argparse.ArgumentParser(description="Measure how answers are worded.")
    parser.add_argument("data", type=Path, help="folder of the public sets")
    parser.add_argument("--folder", type=Path, default=READER_FOLDER, help="the reader")
    parser.add_argument("--embeddings", type=Path, default=None, help="folder of all-MiniLM-L6-v2")
    parser.add_argument("--questions", type=int, default=400, help="how and why questions")
    options = parser.parse_args()
    path = options.data / "squad_v2_dev_20articles.jsonl"
    records = [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()]
    reader = Reader.load(options.folder, embeddings_folder=options.embeddings)
    figures = yes_and_no(records) | sentences_shown(reader, records, options.questions)
    for name, value in figures.items():
        print(f"{name:40} {value:,}")
    print(json.dumps(figures))
    return 0


def sentences_shown(reader: Reader, records: list[dict], count: int) -> dict[str, int]:
    """How often a known answer is shown, and how often two sentences are."""
    asked = [r for r in records if r["answerable"] and wants_sentence(r["question"])]
    asked = random.Random(0).sample(asked, min(count, len(asked)))
    held = two = 0
    for record in asked:
        answer = reader.answer(record["question"], [("p", record["passage"])], threshold=0.0)
        quotes = [record["passage"][span.start : span.end] for span in answer.spans]
        held += any(holds_answer(quote, record["answers"]) for quote in quotes)
        two += len(quotes) > 1
    return {"how_and_why": len(asked), "known_answer_shown": held, "two_sentences_shown": two}


def yes_and_no(records: list[dict]) -> dict[str, int]:
    """Verdicts by what was asked of which sentence."""
    rng = random.Random(0)
    own: Counter[str] = Counter()
    others: Counter[str] = Counter()
    exchanged: Counter[str] = Counter()
    for statement in statements(records):
        own[str(verdict(statement.question, statement.sentence))] += 1
        for other in statement.article:
            if other != statement.sentence:
                others[str(verdict(statement.question, other))] += 1
        if (wrong := with_other_name(statement, rng)) is not None:
            exchanged.update(str(verdict(wrong, sentence)) for sentence in statement.paragraph)
    found = {"own_sentence": own, "other_sentences": others, "exchanged": exchanged}
    return {
        f"{name}_{said.lower()}": counts[said]
        for name, counts in found.items()
        for said in ("Yes", "No", "None")
    }


def statements(records: list[dict]) -> Iterator[Statement]:
    """Short statements of the articles, each with the question it answers with yes."""
    articles: dict[str, dict[str, list[str]]] = {}
    for record in records:
        text = record["passage"]
        articles.setdefault(record["title"], {})[text] = [text[s:e] for s, e in sentence_spans(text)]
    for paragraphs in articles.values():
        article = [sentence for sentences in paragraphs.values() for sentence in sentences]
        for sentences in paragraphs.values():
            for sentence in sentences:
                if match := _STATEMENT.match(sentence):
                    question = f"{match[2].capitalize()} {match[1].strip()} {match[3]}?"
                    yield Statement(question, sentence, sentences, article)


def with_other_name(statement: Statement, rng: random.Random) -> str | None:
    """The question with a capitalised word or a number exchanged for another one of the article."""
    names = _NAME.findall(statement.question)[1:]
    if not names:
        return None
    name = rng.choice(names)
    known = sorted({found for sentence in statement.article for found in _NAME.findall(sentence)} - {name})
    alike = [found for found in known if found[0].isdigit() == name[0].isdigit()]
    return statement.question.replace(name, rng.choice(alike)) if alike else None


if __name__ == "__main__":
    sys.exit(main())
