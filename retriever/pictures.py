"""Pictures by what they show: the question through a model's text tower, compared with every picture.

How probable it is that a picture is what was asked for (docs/images.md says why it is judged so):

    z(x) = (<q, v(x)> - mean(x)) / deviation      over ordinary texts, not over the corpus: see PROBES
    p(x) = weight / (1 + exp(-(z(x) - midpoint) / scale))

and its chunk scores the larger of p(x) and what its text scores. With a maximum, chunks can only rise, and by
an amount that is known for every picture. So if the k best by text are proven to be that, the k best of all
are among them and the pictures: what is proven of the one ranking is proven of the other.
"""

from __future__ import annotations

import threading
from collections.abc import Sequence
from typing import NamedTuple, Protocol

import numpy as np

from indexer.scoring import exact_scores
from retriever.cache import RetrievalCache
from retriever.cache_keys import VectorKey
from retriever.corpus import CorpusView, Version
from retriever.lists import Ranked
from retriever.settings import RetrievalSettings
from retriever.stopwatch import Stopwatch

# Ordinary texts on unrelated matters. How alike they are to a picture says what likeness means nothing:
# towers differ in that (0.2 is usual for CLIP, 0 for SigLIP), and some pictures are like everything.
PROBES = (
    "a photo of a dog on a beach",
    "a red car in a street",
    "a plate of pasta with tomatoes",
    "a portrait of an old man",
    "a group of people at a table",
    "mountains under a cloudy sky",
    "a screenshot of a settings page",
    "a bar chart of sales by year",
    "a diagram with boxes and arrows",
    "a map of a city",
    "the logo of a company",
    "a page of handwritten notes",
    "an invoice with a table of prices",
    "a kitchen with white cupboards",
    "a child on a bicycle",
    "a bridge over a river at night",
    "When was the contract signed?",
    "How do I reset my password?",
    "What does the error message mean?",
    "Who is responsible for the budget?",
    "the history of the railway",
    "side effects of the medicine",
    "install the package and run the tests",
    "rules for the use of the building",
)
_LEAST_DEVIATION = 1e-4  # of likenesses; a model whose likenesses vary less cannot tell pictures apart


class ImageQueryEmbedder(Protocol):
    """What retrieval needs of an image embedder; indexer.image_embedding.ImageEmbedder has it."""

    fingerprint: str

    def embed_texts(self, texts: Sequence[str]) -> np.ndarray:
        """(n, dimension) float32 unit rows in the space of the pictures."""
        ...


class _Pictures(NamedTuple):
    """The pictures of one state of the corpus."""

    version: Version
    chunks: np.ndarray  # (n,) int64 rising numbers
    vectors: np.ndarray  # (n, dimension) float32
    means: np.ndarray  # (n,) float64 likeness to ordinary texts
    deviation: float  # of that, over all of them


class PictureSearch:
    """Compares questions with pictures. Threads may share it."""

    def __init__(self, embedder: ImageQueryEmbedder, settings: RetrievalSettings) -> None:
        self._embedder = embedder
        self._settings = settings
        self._lock = threading.Lock()
        self._probes: np.ndarray | None = None  # (24, dimension)
        self._known: _Pictures | None = None

    def embed(self, texts: Sequence[str], cache: RetrievalCache | None, watch: Stopwatch) -> np.ndarray:
        """(n, dimension) float32 vectors of questions, each embedded once as long as it is remembered."""
        keys = [VectorKey(self._embedder.fingerprint, text) for text in texts]
        found = [cache.vector(key) if cache is not None else None for key in keys]
        new = [i for i, vector in enumerate(found) if vector is None]
        if new:
            with watch.stage("embed_for_pictures"):
                vectors = self._embedder.embed_texts([texts[i] for i in new])
            seconds = watch.seconds("embed_for_pictures") / len(new)
            for i, vector in zip(new, vectors, strict=True):
                found[i] = vector
                if cache is not None:
                    cache.keep_vector(keys[i], vector, seconds=seconds)
        return np.stack([vector for vector in found if vector is not None])

    @property
    def had_any(self) -> bool:
        """Whether there were pictures when last looked."""
        return self._known is not None and bool(len(self._known.chunks))

    def has_any(self, view: CorpusView) -> bool:
        """Whether there is a picture to be found in this state of the corpus."""
        return bool(len(self._pictures(view).chunks))

    def merged(
        self, view: CorpusView, ranked: Ranked, query: np.ndarray, *, k: int, allowed: np.ndarray | None
    ) -> Ranked:
        """The k best chunks by text or by picture, given the k best by text; ties by id.

        They are as certain as those by text are.
        """
        chunks, scores = self.scores(view, query, allowed=allowed)
        best, texts = ranked.chunks[:k], ranked.scores[:k].astype(np.float64)
        together = np.union1d(best, chunks)
        fused = np.full(len(together), -np.inf)
        fused[np.searchsorted(together, best)] = texts
        at = np.searchsorted(together, chunks)
        fused[at] = np.maximum(fused[at], scores)
        order = np.lexsort((view.ids(together), -fused))[:k]
        certain = len(order) if ranked.num_certain >= k else 0
        return Ranked(together[order], fused[order], certain)

    def scores(
        self, view: CorpusView, query: np.ndarray, *, allowed: np.ndarray | None
    ) -> tuple[np.ndarray, np.ndarray]:
        """(n,) numbers of the chunks that stand for pictures and pass the filters, and (n,) float64 p(x)."""
        pictures, settings = self._pictures(view), self._settings
        here = slice(None) if allowed is None else np.isin(pictures.chunks, allowed)
        likeness = exact_scores(pictures.vectors[here], query).astype(np.float64)
        z = (likeness - pictures.means[here]) / pictures.deviation
        x = np.clip((z - settings.image_midpoint) / settings.image_scale, -500, 500)
        return pictures.chunks[here], settings.image_weight / (1 + np.exp(-x))

    def _pictures(self, view: CorpusView) -> _Pictures:
        """Those of the view's state; the last ones are kept."""
        with self._lock:
            if self._known is None or self._known.version != view.version:
                chunks, vectors = view.images()
                means, deviation = self._ordinary(vectors) if len(chunks) else (np.zeros(0), 1.0)
                self._known = _Pictures(view.version, chunks, vectors, means, deviation)
            return self._known

    def _ordinary(self, vectors: np.ndarray) -> tuple[np.ndarray, float]:
        """(n,) means of the pictures' likeness to ordinary texts, and the deviation that they share."""
        if self._probes is None:
            self._probes = self._embedder.embed_texts(PROBES)
        columns = [exact_scores(vectors, probe).astype(np.float64) for probe in self._probes]
        likenesses = np.stack(columns, axis=1)  # (n, probes)
        deviation = float(np.sqrt(likenesses.var(axis=1).mean()))
        return likenesses.mean(axis=1), max(deviation, _LEAST_DEVIATION)
