"""What cache_traffic.py asks, and of which corpora."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

import numpy as np

from retriever.query_text import normalise_query

POLARITY = Path(__file__).with_name("cache_polarity.tsv")


class Traffic(NamedTuple):
    """Groups of questions that ask for the same, and a stream of them."""

    name: str
    groups: list[list[str]]

    def stream(self, length: int, *, exponent: float, seed: int) -> list[str]:
        """Groups by Zipf's law, within a group any wording: repeats, paraphrases and a long tail."""
        rng = np.random.default_rng(seed)
        order = rng.permutation(len(self.groups))
        weights = 1 / np.arange(1, len(self.groups) + 1) ** exponent
        chosen = rng.choice(order, length, p=weights / weights.sum())
        return [self.groups[g][rng.integers(len(self.groups[g]))] for g in chosen.tolist()]


class Polarity(NamedTuple):
    """Two questions that read alike and ask for different things."""

    kind: str  # negation, number, entity, quotation, identifier, opposite
    one: str
    other: str


def load_traffic(data: Path) -> list[Traffic]:
    """The four sets."""
    pairs = lines(data / "qqp_pairs.jsonl")
    qqp = [[asked(row["text_a"]), asked(row["text_b"])] for row in pairs if row["label"] == 1]
    spoken = [row for row in lines(data / "disfl_pairs.jsonl") if row["disfluent"].strip()]
    disfluent = [[asked(row["original"]), asked(row["disfluent"])] for row in spoken]
    return [
        Traffic("qqp_pairs", qqp),
        Traffic("clinc150", _by_intent(data / "clinc150_train_val.jsonl")),
        Traffic("banking77", _by_intent(data / "banking77_train.jsonl")),
        Traffic("disfl_pairs", disfluent),
    ]


def near_misses(data: Path) -> list[tuple[str, str]]:
    """Pairs of Quora's that look alike and that people judged to ask for different things."""
    rows = lines(data / "qqp_pairs.jsonl")
    return [(asked(row["text_a"]), asked(row["text_b"])) for row in rows if row["label"] == 0]


def asked(text: str) -> str:
    """A question as it is embedded: spellings that nobody can see apart are one."""
    return normalise_query(text, max_chars=16_384)


def polarity() -> list[Polarity]:
    """The pairs of cache_polarity.tsv."""
    rows = POLARITY.read_text(encoding="utf-8").splitlines()[1:]
    pairs = (row.split("\t") for row in rows if row)
    return [Polarity(kind, asked(one), asked(other)) for kind, one, other in pairs]


def load_corpus(data: Path, size: int) -> list[str]:
    """So many different texts: paragraphs of public sets, then their sentences."""
    found: dict[str, None] = {}
    for paragraph in _paragraphs(data):
        found[paragraph] = None
        if len(found) == size:
            break
    paragraphs = list(found)
    texts = dict.fromkeys(paragraphs[: size // 2])
    for paragraph in paragraphs:
        if len(texts) >= size:
            break
        for sentence in re.split(r"(?<=[.!?])\s+", paragraph):
            if 40 <= len(sentence) <= 400:
                texts.setdefault(sentence)
    return list(texts)[:size]


def lines(path: Path) -> list[dict]:
    with path.open(encoding="utf-8") as file:
        return [json.loads(line) for line in file]


def _paragraphs(data: Path) -> Iterator[str]:
    for row in lines(data / "squad_v2_dev_20articles.jsonl"):
        yield row["passage"]
    for name in ("beir_squad_v1_dev", "beir_cranfield", "beir_cisi", "beir_vaswani"):
        for row in lines(data / name / "corpus.jsonl"):
            yield row["text"]
    for row in lines(data / "qa_train_passages.jsonl"):
        yield row["text"]
    for row in lines(data / "squad_v1_train.jsonl"):
        yield row["passage"]
    for row in lines(data / "medquad.jsonl"):
        if row.get("answer"):
            yield row["answer"]


def _by_intent(path: Path) -> list[list[str]]:
    """Questions of one intent, in groups of three that share most words: an intent is wider than a
    question."""
    intents: dict[str, list[str]] = {}
    for row in lines(path):
        intents.setdefault(row["intent"], []).append(asked(row["text"]))
    groups = []
    for texts in intents.values():
        rest = [(text, set(re.findall(r"\w+", text.lower()))) for text in dict.fromkeys(texts)]
        while rest:
            text, words = rest.pop()
            rest.sort(key=lambda one, words=words: len(one[1] & words) / max(len(one[1] | words), 1))
            groups.append([text, *(near for near, _ in rest[-2:])])
            del rest[-2:]
    return groups
