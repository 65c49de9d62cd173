"""Words that fit where another stood and mean something else: `summer` for `winter`, `bought` for `sold`.

Two views of a word from one BERT tell relatives from synonyms. In the table of word embeddings, words of one
kind are near each other, opposites among them. Read alone by the whole transformer, a word's vector follows
its meaning, and synonyms are near each other too. A substitute is near in the first view, not too near in
the second, has the same ending, and is no other form of the same word. Perhaps one in six is a synonym still.
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping, Sequence
from pathlib import Path

import torch
from torch.nn import functional as F

from generator.model.transformer import Transformer

_WORD = re.compile(r"[a-z]{3,}")
_ENDINGS = ("ing", "est", "ed", "er", "ly", "ies", "s")
NEAREST_KIND, FARTHEST_KIND = (
    0.62,
    0.33,
)  # cosine in the table: nearer are forms of the word, farther anything
NEAREST_MEANING = 0.75  # cosine of the words read alone: nearer are synonyms
_LOOKED_AT = 24  # nearest neighbours of a word


class Substitutes:
    """Up to a dozen substitutes of a lower-case word."""

    def __init__(self, words: Mapping[str, Sequence[str]]) -> None:
        self._words = dict(words)

    def of(self, word: str) -> Sequence[str]:
        """Empty for a word that has none."""
        return self._words.get(word, ())

    @classmethod
    def from_transformer(cls, transformer: Transformer, tokenizer_json: Path) -> Substitutes:
        """From a BERT's word pieces that are whole words."""
        vocabulary: dict[str, int] = json.loads(tokenizer_json.read_text(encoding="utf-8"))["model"]["vocab"]
        known = sorted((index, word) for word, index in vocabulary.items() if _WORD.fullmatch(word))
        if not known:
            return cls({})
        words = [word for _, word in known]
        ids = torch.tensor([index for index, _ in known])
        kinds, meanings = _views(transformer, ids, vocabulary["[CLS]"], vocabulary["[SEP]"])
        found: dict[str, Sequence[str]] = {}
        count = min(_LOOKED_AT, len(words))
        for begin in range(0, len(words), 1024):
            nearest = (kinds[begin : begin + 1024] @ kinds.T).topk(count)  # (1024, count)
            meaning = torch.einsum("bh,bkh->bk", meanings[begin : begin + 1024], meanings[nearest.indices])
            fits = (nearest.values < NEAREST_KIND) & (nearest.values > FARTHEST_KIND)
            fits &= meaning < NEAREST_MEANING
            for row, (indices, usable) in enumerate(
                zip(nearest.indices.tolist(), fits.tolist(), strict=True), start=begin
            ):
                word = words[row]
                others = [words[i] for i, ok in zip(indices, usable, strict=True) if ok]
                if kept := [other for other in others if _same_form(word, other)]:
                    found[word] = tuple(kept[:12])
        return cls(found)


@torch.inference_mode()
def _views(
    transformer: Transformer, ids: torch.Tensor, cls_id: int, sep_id: int
) -> tuple[torch.Tensor, torch.Tensor]:
    """Unit vectors (N, H) of words in the table, and read alone."""
    table = transformer.embed_tokens.weight[ids].float()
    kinds = F.normalize(table - table.mean(0), dim=-1)
    meanings = []
    for part in ids.split(512):
        rows = torch.stack([torch.full_like(part, cls_id), part, torch.full_like(part, sep_id)], dim=1)
        meanings.append(F.normalize(transformer(rows).float().mean(1), dim=-1))
    return kinds, torch.cat(meanings)


def _same_form(word: str, other: str) -> bool:
    """Whether both have the same ending, and neither is a form of the other (four letters in common)."""
    if word[:4] == other[:4] or word in other or other in word:
        return False
    return _ending(word) == _ending(other)


def _ending(word: str) -> str:
    return next((ending for ending in _ENDINGS if word.endswith(ending)), "")
