"""What both prefetchers need: how they search, and how they know that a result is current."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, NamedTuple, Protocol

from indexer.types import Filters
from retriever.errors import InvalidK, InvalidRetrievalSettings, RetrieverClosed
from retriever.types import SearchResult


class BatchSearcher(Protocol):
    """What a prefetcher needs of a retriever; Retriever has it. It is called from the prefetcher's thread.

    Where it also has an `index` with `refreshed_version()`, no caller gets a result that is older than its
    call.
    """

    def search_batch(
        self, queries: Sequence[str], *, k: int, filters: Filters | None, use_cache: bool
    ) -> Sequence[SearchResult]:
        """One result a query, in their order."""
        ...


class SearchOptions(NamedTuple):
    """What all queries of one `search_batch` have in common."""

    k: int = 5
    filters: Filters | None = None
    use_cache: bool = True


def search_each(
    retriever: BatchSearcher, queries: Sequence[str], options: SearchOptions
) -> list[SearchResult | Exception]:
    """Each query's result, or what a search for it raises, from one batch where possible.

    A batch that fails is searched for again in halves, so that a bad query among n costs about log2(n) more
    batches and the others nothing else.
    """
    try:
        results = retriever.search_batch(queries, **options._asdict())
        if len(results) != len(queries):
            raise RuntimeError(f"search_batch returned {len(results)} results for {len(queries)} queries")
        return list(results)
    except Exception as error:  # noqa: BLE001  it is raised to whoever asked
        if len(queries) == 1:
            return [error]
    middle = len(queries) // 2  # outside of the handler, or every later error would seem to follow from this
    halves: tuple[Sequence[str], ...] = (queries[:middle], queries[middle:])
    return [outcome for half in halves for outcome in search_each(retriever, half, options)]


def search_options(k: int, filters: Filters | None, use_cache: bool) -> SearchOptions:
    """Raises InvalidK here, because True and 1.0 would share the searches of 1."""
    if isinstance(k, bool) or not isinstance(k, int) or k < 1:
        raise InvalidK(f"k is {k!r}.", hint="Use a whole number from 1.")
    return SearchOptions(k, filters, bool(use_cache))


def version_reader(retriever: BatchSearcher) -> Callable[[], Any]:
    """A function that names the state of the retriever's index: equal versions mean equal answers.

    Without an index to ask, there is only one state. A state that cannot be read is equal to no other one.
    """
    index = getattr(retriever, "index", None)
    if index is None:
        return lambda: None

    def read() -> Any:
        try:
            return index.refreshed_version()
        except Exception:  # noqa: BLE001  the search itself will say what is wrong with the index
            return object()

    return read


def check_setting(name: str, value: float, *, minimum: float) -> None:
    """Raises InvalidRetrievalSettings unless the value is a number of at least `minimum`."""
    if not value >= minimum:
        raise InvalidRetrievalSettings(f"{name} is {value!r}.", hint=f"It has to be at least {minimum:g}.")


def closed(what: str) -> RetrieverClosed:
    """The error for using something after its end."""
    return RetrieverClosed(f"The {what} is closed.", hint="Open a new one.")
