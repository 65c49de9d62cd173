"""Retrieval in rounds: a draft of the answer says what to look for next.

Iterative retrieval-generation (Shao et al., "Enhancing retrieval-augmented large language models with
iterative retrieval-generation synergy", 2023, arXiv 2305.15294): a question together with a draft of its
answer finds passages that the question alone does not, such as those on somebody whom only the draft names.
"""

from __future__ import annotations

import re
from collections import defaultdict
from collections.abc import Collection, Mapping, Sequence
from dataclasses import replace
from types import MappingProxyType
from typing import Any

from retriever.types import Hit, SearchResult, Tier

MAX_DRAFT_CHARS = 400  # of a draft in a query; a longer one would drown the question
_MARK = re.compile(r"\s*\[\d{1,4}(?:\s*[,;]\s*\d{1,4})*\]")
_SENTENCE_END = re.compile(r"[.!?…][\"')\]]*(?=\s|$)|[。！？]")
_ENDED = re.compile(rf"(?:[.!?…][\"')\]]*|[。！？])(?:{_MARK.pattern})*\s*\Z")
_LEAST_SURE_FIRST: tuple[Tier, ...] = ("approximate", "miss", "certified", "exact")


def query_from_draft(question: str, draft: str) -> str:
    """The question and the beginning of a draft: its first sentences that fit, without citation marks.

    What comes after MAX_DRAFT_CHARS changes nothing, so the query of a long draft is known before its end.
    """
    text = _plain(draft)
    if len(text) > MAX_DRAFT_CHARS:
        ends = [end.end() for end in _SENTENCE_END.finditer(text[: MAX_DRAFT_CHARS + 1])]
        fitting = [end for end in ends if end <= MAX_DRAFT_CHARS]
        space = text.rfind(" ", 0, MAX_DRAFT_CHARS + 1)
        text = text[: fitting[-1] if fitting else space if space > 0 else MAX_DRAFT_CHARS]
    return f"{question} {text}".strip()


def is_settled(draft: str) -> bool:
    """Whether a draft's query stays the same however the draft goes on."""
    return len(_plain(draft)) > MAX_DRAFT_CHARS


def query_from_passages(question: str, hits: Sequence[Hit]) -> str:
    """The question and the beginning of what was nearest to it, for a draft that knows no answer."""
    return query_from_draft(question, hits[0].chunk.text) if hits else question


def ends_sentence(text: str) -> bool:
    """Whether a text that is being written has just come to the end of a sentence."""
    return bool(_ENDED.search(text[-64:]))


def merged(results: Sequence[SearchResult], *, k: int, keep: Collection[str] = ()) -> SearchResult:
    """The k best chunks of several searches, by the mean of their reciprocal ranks, ties to the later search.

    Chunks with the ids `keep` stay, whatever else was found. What lies within a better passage goes.
    A hit's score is that mean: scores of different queries say nothing about each other.
    """
    hits: dict[str, Hit] = {}
    scores: defaultdict[str, float] = defaultdict(float)
    for result in reversed(results):
        for hit in result.hits:
            hits.setdefault(hit.chunk.id, hit)
            scores[hit.chunk.id] += 1 / (hit.rank * len(results))
    by_score = sorted(hits, key=lambda id_: -scores[id_])  # stable: the later search's come first
    order: list[str] = []
    for id_ in by_score:
        if not any(_is_within(hits[id_], hits[better]) for better in order):
            order.append(id_)
    staying = [id_ for id_ in order if id_ in keep][:k]
    others = [id_ for id_ in order if id_ not in keep][: k - len(staying)]
    kept = sorted((*staying, *others), key=order.index)
    best = tuple(replace(hits[id_], score=scores[id_], rank=rank) for rank, id_ in enumerate(kept, start=1))
    tier = min((result.tier for result in results), key=_LEAST_SURE_FIRST.index)
    return SearchResult(best, tier, _summed([result.timings for result in results]), results[0].explanation)


def explained(result: SearchResult, rounds: Sequence[Mapping[str, Any]]) -> SearchResult:
    """The result, with what each further round was about in its explanation."""
    explanation = {**result.explanation, "rounds": [dict(one) for one in rounds]}
    return replace(result, explanation=MappingProxyType(explanation))


def num_new(result: SearchResult, known: SearchResult) -> int:
    """How many of a result's chunks are not among those of another one."""
    return len({hit.chunk.id for hit in result.hits} - {hit.chunk.id for hit in known.hits})


def _plain(draft: str) -> str:
    draft = " ".join(draft.split())  # on runs of white space the pattern would backtrack
    return " ".join(_MARK.sub("", draft).split())


def _is_within(hit: Hit, other: Hit) -> bool:
    one, passage = hit.chunk, other.chunk
    return one.document_id == passage.document_id and passage.start <= one.start and one.end <= passage.end


def _summed(timings: Sequence[Mapping[str, float]]) -> Mapping[str, float]:
    total: defaultdict[str, float] = defaultdict(float)
    for seconds in timings:
        for stage, value in seconds.items():
            total[stage] += value
    return MappingProxyType(dict(total))
