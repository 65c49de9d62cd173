"""How likely an answer from past queries is the true one, learnt from those that were compared.

Such an answer is wrong only if a chunk that is on none of the lists read belongs among the best. It would
have to be similar enough to the part r of the query that the past queries do not explain (certificate.py):
its cosine with r would have to be at least the *alignment*,

    alignment = (similarity that it needs - what the past queries explain of it) / |r|.

At 1 no chunk can, which is the certificate; the lower it is, the more likely one does. How much more is
learnt from labels that cost nothing and are exact: whenever a query with such an answer goes through the
true search all the same, the two are compared.

- Each past query has a threshold of its own. The log-odds of a right answer are  b0 + b1 * alignment + own,
  with b0 and b1 fitted to all labels (logistic regression, as vCache, Schroeder et al., 2025, fits for every
  entry by itself) and `own` to those of the query (drawn towards 0, so that a query without labels is judged
  like all others and nothing has to be explored half a dozen times before it is of use).
- Answers fall into strata by their log-odds. The safest strata, as many as together keep a 95% upper bound of
  the share that is wrong within the budget, are served. Some more are on probation, as many as together were
  wrong no more than half as often as the budget allows: they are served too, but each of them is audited, so
  that what is learnt of them comes as fast as before. All others go through the true search: that is the
  exploration.
- An audit is a true search in the background. Of what is not on probation only some answers are audited. The
  audits are labels like the others, and they alone make the rate that is published. Where it threatens the
  budget, the budget of the strata shrinks; where it is beyond doubt over it, everything learnt is dropped and
  has to be earned anew.
"""

from __future__ import annotations

import hashlib
import math
import random
from array import array
from collections import OrderedDict, deque
from collections.abc import Callable, Hashable, Iterator
from dataclasses import dataclass
from typing import Generic, NamedTuple, TypeVar

import numpy as np

from retriever.binomial import lower_bound, upper_bound

_WINDOW = 4096  # answers that are remembered; older ones may be of another traffic
_AUDITS = 4096  # likewise
_PER_QUERY = 32  # labels that a past query keeps
_MAX_QUERIES = 4096  # past queries that keep labels, those of late: 3 MB, or about
_MAX_KINDS = 8  # of requests that learn side by side; the one unused for longest goes
_FIT_EVERY = 32  # labels
_NUMBERS_EACH = 1 << 40  # answers of one calibrator
# Strata of log-odds: [-3, -2), ... [8, 9). Below and above count as the first and the last.
_LOWEST, _NUM_STRATA = -3, 12
# What is thought before there is any label: an alignment of 0.25 is as good as a coin.
_PRIOR = np.array([-2.0, 8.0])
_PRIOR_PRECISION = 0.1
_OWN_VARIANCE = 1.0  # of past queries' own log-odds
_NORMAL_95 = 1.645  # one-sided
_MAX_ODDS = 30.0  # log-odds beyond which nothing is told apart
_MAX_STEP = 2.0  # of a step of Newton's method, which else may leap away

Kind = TypeVar("Kind", bound=Hashable)

_NO_ANSWER, _UNKNOWN = -2, -1  # in the place of a label, which is 1 for right and 0 for wrong


class Decision(NamedTuple):
    """What becomes of an answer from past queries."""

    number: int  # names the answer when its label comes
    serve: bool
    audit: bool  # compare it with the true search although it is served
    probability_wrong: float  # as far as has been learnt
    alignment: float
    threshold: float  # the alignment from which on answers from this past query are served


@dataclass(slots=True)
class _PastQuery:
    """What is known of one, in few bytes: there may be thousands of them."""

    own: float  # its log-odds
    alignments: array[float]  # of its labels, oldest first; in single precision
    right: bytearray  # the labels

    def append(self, alignment: float, *, right: bool) -> None:
        self.alignments.append(alignment)
        self.right.append(right)
        del self.alignments[:-_PER_QUERY], self.right[:-_PER_QUERY]


class Audit(NamedTuple):
    """What the audits of served answers have found: those of late, since the last suspension."""

    num_audited: int
    num_false_hits: int
    num_suspensions: int  # how often everything learnt had to be dropped

    @property
    def false_hit_rate(self) -> float:
        """The share of the audited answers that were false hits; 0 if there were none."""
        return self.num_false_hits / self.num_audited if self.num_audited else 0.0

    @property
    def upper_bound(self) -> float:
        """Clopper and Pearson's 95% upper bound of the rate."""
        return upper_bound(self.num_false_hits, self.num_audited)


NO_AUDIT = Audit(0, 0, 0)


class Calibrator:
    """Decides for answers of one kind (embedder, settings, k). Not for several threads.

    With a budget of 1 everything is served. Answers are numbered from `first_number`.
    """

    def __init__(
        self, *, max_false_hit_rate: float, audit_share: float, first_number: int = 0, seed: int = 0
    ) -> None:
        self.max_false_hit_rate = max_false_hit_rate
        self._audit_share = audit_share
        self._random = random.Random(seed)
        self._audits: deque[bool] = deque(maxlen=_AUDITS)  # whether each was a false hit
        self._num_suspensions = 0
        self._first_number = first_number
        self._next = first_number  # number of the next answer; answer n is remembered in slot n % _WINDOW
        self._forget()

    def decide(self, query: str, alignment: float) -> Decision:
        """What becomes of an answer that leans on a past query, at an alignment."""
        alignment = float(np.clip(alignment, -1, 1))
        past = self._past_queries.get(_digest(query))
        own = past.own if past is not None else 0.0
        intercept, slope = self._coefficients.tolist()
        odds = float(np.clip(intercept + slope * alignment + own, -_MAX_ODDS, _MAX_ODDS))
        stratum = int(_stratum(odds))
        number = self._next
        slot = number % _WINDOW
        self._alignments[slot], self._owns[slot] = alignment, own
        self._strata[slot], self._labels[slot] = stratum, _UNKNOWN
        self._next += 1
        serve, proven = stratum >= self._gate, stratum >= self._proven_gate
        threshold = (_LOWEST + self._gate - own - intercept) / slope if self._gate > 0 else -1.0
        return Decision(
            number=number,
            serve=serve,
            audit=serve and (not proven or self._random.random() < self._audit_share),
            probability_wrong=1 / (1 + math.exp(odds)),
            alignment=alignment,
            threshold=float(min(threshold, 1.0)) if self._gate < _NUM_STRATA else 1.0,
        )

    def learn(self, query: str, decision: Decision, *, right: bool) -> None:
        """Takes in the label of an answer of its own: whether the true search's was as good as the same."""
        if not self._first_number <= decision.number < self._next:
            return
        if max(self._first, self._next - _WINDOW) <= decision.number < self._next:
            self._labels[decision.number % _WINDOW] = right
        self._learn_own(query, decision.alignment, right)
        self._num_labels += 1
        if self._num_labels % _FIT_EVERY == 0:
            self._fit()
        if decision.audit:
            self._audits.append(not right)
            false_hits = sum(self._audits)
            if lower_bound(false_hits, len(self._audits)) > self.max_false_hit_rate:
                self._audits.clear()
                self._num_suspensions += 1
                self._forget()
        self._set_gate()

    def audit(self) -> Audit:
        """What the audits have found."""
        return Audit(len(self._audits), sum(self._audits), self._num_suspensions)

    @property
    def is_serving(self) -> bool:
        """Whether any answer would be served."""
        return self._gate < _NUM_STRATA

    # --- inside

    def _forget(self) -> None:
        self._first = self._next  # answers from before take no label any more
        self._alignments = np.zeros(_WINDOW)
        self._owns = np.zeros(_WINDOW)
        self._strata = np.zeros(_WINDOW, np.int64)
        self._labels = np.full(_WINDOW, _NO_ANSWER, np.int8)
        self._coefficients = _PRIOR
        self._past_queries: OrderedDict[bytes, _PastQuery] = OrderedDict()  # by digest
        self._num_labels = 0
        self._set_gate()

    def _learn_own(self, query: str, alignment: float, right: bool) -> None:
        """A past query's own log-odds: the most likely under its labels and a normal prior."""
        past = self._past_queries.setdefault(_digest(query), _PastQuery(0.0, array("f"), bytearray()))
        past.append(alignment, right=right)
        self._past_queries.move_to_end(_digest(query))
        if len(self._past_queries) > _MAX_QUERIES:
            self._past_queries.popitem(last=False)
        intercept, slope = self._coefficients.tolist()
        own = 0.0
        for _ in range(6):  # Newton's steps
            gradient, curvature = -own / _OWN_VARIANCE, 1 / _OWN_VARIANCE
            for x, label in zip(past.alignments, past.right, strict=True):
                p = 1 / (1 + math.exp(-max(min(intercept + slope * x + own, _MAX_ODDS), -_MAX_ODDS)))
                gradient += label - p
                curvature += p * (1 - p)
            own += gradient / curvature
        past.own = own

    def _fit(self) -> None:
        """The log-odds shared by all past queries: logistic regression with a normal prior."""
        slots = np.flatnonzero(self._labels > _UNKNOWN)
        features = np.stack([np.ones(len(slots)), self._alignments[slots]])  # (2, n)
        labels, own = self._labels[slots], self._owns[slots]
        fitted = self._coefficients
        for _ in range(20):
            p = 1 / (1 + np.exp(-np.clip(fitted @ features + own, -_MAX_ODDS, _MAX_ODDS)))
            gradient = features @ (labels - p) - _PRIOR_PRECISION * (fitted - _PRIOR)
            curvature = (features * (p * (1 - p))) @ features.T + _PRIOR_PRECISION * np.eye(2)
            step = np.linalg.solve(curvature, gradient)
            fitted = fitted + step * min(1.0, _MAX_STEP / max(float(np.abs(step).max()), 1e-12))
            if np.abs(step).max() < 1e-3:
                break
        if np.isfinite(fitted).all() and fitted[1] > 0:  # more alignment is never a reason for more doubt
            self._coefficients = fitted
            self._strata = _stratum(fitted[0] + fitted[1] * self._alignments + self._owns)

    def _set_gate(self) -> None:
        """The lowest stratum that is served, and the lowest not on probation; _NUM_STRATA if none is."""
        if self.max_false_hit_rate >= 1:
            self._gate = self._proven_gate = 0
            return
        seen, known, wrong = (
            np.bincount(self._strata[which], minlength=_NUM_STRATA)
            for which in (self._labels > _NO_ANSWER, self._labels > _UNKNOWN, self._labels == 0)
        )
        # Row g: the strata from g on, and each one's part of what was seen of them. The prior is Jeffreys':
        # half a right answer and half a wrong one, dealt out in these parts.
        ours = np.triu(np.ones((_NUM_STRATA, _NUM_STRATA)))
        total = np.maximum(ours @ seen, 1)
        parts = ours * seen / total[:, None]
        trials = np.maximum(known + parts, 1e-9)
        rates = (wrong + 0.5 * parts) / trials
        variances = parts**2 * rates * (1 - rates) / (trials + 1)
        bounds = _bound_95((parts * rates).sum(axis=1), variances.sum(axis=1))
        guesses = (parts * (2 * wrong + 0.5 * parts) / trials).sum(axis=1)
        some, budget = ours @ seen > 0, self._budget()
        self._proven_gate = _first(some & (bounds <= budget))
        self._gate = min(_first(some & (guesses <= budget)), self._proven_gate)

    def _budget(self) -> float:
        """What the strata may let pass: less than allowed when the audits have found more than allowed.

        The audits count together with imagined ones, so many that one false hit is expected of twice as many,
        at half the rate allowed: a single false hit early on is no proof of anything.
        """
        allowed = self.max_false_hit_rate
        rate = (sum(self._audits) + 0.5) / (len(self._audits) + 1 / allowed)
        return allowed * min(1.0, allowed / rate)


class Calibrators(Generic[Kind]):
    """A Calibrator for each kind of request, as far as they were used of late. Not for several threads."""

    def __init__(self, make: Callable[[int], Calibrator]) -> None:
        """`make` gets the number of the first answer."""
        self._make = make
        self._by_kind: OrderedDict[Kind, Calibrator] = OrderedDict()
        self._num_made = 0

    def __iter__(self) -> Iterator[Kind]:
        return iter(self._by_kind)

    def of(self, kind: Kind) -> Calibrator:
        """The one for a kind, made where there is none."""
        if kind not in self._by_kind:
            # No two use the same numbers: a label may come after the one that it is for was dropped.
            self._by_kind[kind] = self._make(self._num_made * _NUMBERS_EACH)
            self._num_made += 1
            if len(self._by_kind) > _MAX_KINDS:
                self._by_kind.popitem(last=False)
        self._by_kind.move_to_end(kind)
        return self._by_kind[kind]

    def audit(self) -> Audit:
        """What the audits of all kinds have found."""
        audits = [calibrator.audit() for calibrator in self._by_kind.values()]
        return Audit(*(sum(column) for column in zip(NO_AUDIT, *audits, strict=True)))

    def clear(self) -> None:
        """Forgets everything."""
        self._by_kind.clear()


def _digest(query: str) -> bytes:
    """What stands for a past query: queries may be long, and the cache may have let go of them."""
    return hashlib.blake2b(query.encode("utf-8", "surrogatepass"), digest_size=16).digest()


def _bound_95(means: np.ndarray, variances: np.ndarray) -> np.ndarray:
    """(n,) what rates with these means and variances exceed with a probability of 5%.

    Rates of what hardly ever happens are not spread like a bell, but like a gamma distribution: the bound is
    Wilson and Hilferty's ("The distribution of chi-square", 1931), or the bell's where that is higher.
    """
    shapes = np.maximum(means, 1e-12) ** 2 / np.maximum(variances, 1e-24)
    skewed = means * (1 - 1 / (9 * shapes) + _NORMAL_95 / (3 * np.sqrt(shapes))) ** 3
    return np.maximum(skewed, means + _NORMAL_95 * np.sqrt(variances))


def _first(flags: np.ndarray) -> int:
    """The first stratum that is flagged; _NUM_STRATA if none is."""
    return int(flags.argmax()) if flags.any() else _NUM_STRATA


def _stratum(odds: float | np.ndarray) -> np.ndarray:
    return np.clip(np.floor(np.asarray(odds) - _LOWEST), 0, _NUM_STRATA - 1).astype(np.int64)
