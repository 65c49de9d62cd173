"""What can go wrong in the retriever."""

from __future__ import annotations


class RetrieverError(Exception):
    """Base of the retriever package's errors: one sentence of cause, one of remedy, and a stable code."""

    code = "retriever-error"

    def __init__(self, message: str, *, hint: str = "") -> None:
        super().__init__(message, hint)
        self.message = message
        self.hint = hint

    def __str__(self) -> str:
        return f"{self.message} {self.hint}".strip()


class EmptyQuery(RetrieverError):
    """The query has nothing in it that could be searched for."""

    code = "empty-query"


class QueryTooLong(RetrieverError):
    """The query is longer than the settings allow."""

    code = "query-too-long"


class InvalidK(RetrieverError):
    """The number of results asked for is not a positive whole number."""

    code = "invalid-k"


class CacheFileCorrupt(RetrieverError):
    """A saved cache is not what was written; it is left aside."""

    code = "cache-file-corrupt"


class InvalidQueryVector(RetrieverError):
    """The embedder has made a query's vector that is not one: wrong length, zero, NaN."""

    code = "invalid-query-vector"


class InvalidRetrievalSettings(RetrieverError):
    """A setting has a value outside its range."""

    code = "invalid-retrieval-settings"


class RetrieverClosed(RetrieverError):
    """A prefetcher was used after it was closed."""

    code = "retriever-closed"


class RetrieverBusy(RetrieverError):
    """More callers wait for a result than the prefetcher has places for."""

    code = "retriever-busy"


class SearchTimedOut(RetrieverError):
    """The result did not come within the time that the caller gave it."""

    code = "search-timed-out"


class RerankerNotFound(RetrieverError):
    """There is no reranking model under the name, or its files are none that can be read."""

    code = "reranker-not-found"


class RerankingFailed(RetrieverError):
    """The reranking model returned something that is no score for each candidate."""

    code = "reranking-failed"
