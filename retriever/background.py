"""What similarity to an ordinary chunk looks like: the yardstick for whether a chunk stands out."""

from __future__ import annotations

import numpy as np

SAMPLE_SIZE = 2048

# A corpus of a few chunks says little about what is ordinary: it counts together with so many imaginary
# chunks that are as unrelated texts are to MiniLM.
_PRIOR_COUNT = 32
_PRIOR_MEAN = 0.1
_PRIOR_VARIANCE = 0.01


class Background:
    """The mean and the variance of a query's similarity over the corpus, estimated from a sample of its
    vectors.

    Over the vectors x of a corpus with mean m and covariance C, the inner product with a query q has the
    mean q.m and the variance q'Cq, so nothing has to be searched for to know them.
    """

    def __init__(self, sample: np.ndarray) -> None:
        """`sample`: (n, dimension) float32 vectors; n may be 0."""
        self._share = len(sample) / (len(sample) + _PRIOR_COUNT)
        sample = sample.astype(np.float64)
        self._mean = sample.mean(axis=0) if len(sample) else np.zeros(sample.shape[1])
        centred = sample - self._mean
        self._covariance = centred.T @ centred / max(len(sample), 1)
        self._last: tuple[np.ndarray, float, float] | None = None  # a query, and its moments

    def standardise(self, query: np.ndarray, similarities: np.ndarray) -> np.ndarray:
        """(n,) float64: how many standard deviations above the mean each of (n,) similarities is."""
        mean, deviation = self._moments(query)
        return (np.asarray(similarities, np.float64) - mean) / deviation

    def _moments(self, query: np.ndarray) -> tuple[float, float]:
        """Mean and standard deviation; the last query's are kept, since it is asked about again at once."""
        last = self._last  # replaced as a whole, as threads share it
        if last is not None and last[0] is query:
            return last[1:]
        mean, variance = _PRIOR_MEAN, _PRIOR_VARIANCE
        if self._share:
            exact = query.astype(np.float64)
            mean += self._share * (float(exact @ self._mean) - _PRIOR_MEAN)
            variance += self._share * (float(exact @ self._covariance @ exact) - _PRIOR_VARIANCE)
        last = query, mean, float(np.sqrt(variance))
        self._last = last
        return last[1:]
