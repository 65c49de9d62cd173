"""A query as it is embedded, looked up and searched for."""

from __future__ import annotations

import unicodedata

from retriever.errors import EmptyQuery, QueryTooLong


def normalise_query(query: str, *, max_chars: int) -> str:
    """The query in NFKC with single spaces, so that spellings nobody can see apart are one query.

    Raises EmptyQuery where nothing readable is left and QueryTooLong beyond `max_chars` characters, which
    neither the query nor what becomes of it may have: NFKC makes up to 18 characters of one.
    """
    _check_length(query, max_chars)
    # Lone surrogates (undecodable bytes from a shell) have no place in any encoding that comes after.
    text = query.encode("utf-8", "replace").decode("utf-8")
    text = " ".join(unicodedata.normalize("NFKC", text).split())
    _check_length(text, max_chars)
    if not any(character.isprintable() and not character.isspace() for character in text):
        raise EmptyQuery("The query is empty.", hint="Ask something in words.")
    return text


def _check_length(text: str, max_chars: int) -> None:
    if len(text) > max_chars:
        raise QueryTooLong(
            f"The query has {len(text):,} characters, the limit is {max_chars:,}.",
            hint="Ask a shorter question; a whole document belongs into the index.",
        )
