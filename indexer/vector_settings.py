"""When searching vectors may stop comparing all of them, and how much it may miss then."""

from __future__ import annotations

from dataclasses import dataclass

from indexer.errors import InvalidQuery


@dataclass(frozen=True, slots=True)
class VectorSettings:
    """Up to `exact_chunks` chunks every search compares all vectors; beyond, an approximate index is made.

    It is tuned until `recall_target` of the true 10 nearest chunks are found, measured on the corpus itself.
    """

    exact_chunks: int = 100_000
    recall_target: float = 0.98

    def __post_init__(self) -> None:
        if self.exact_chunks < 0:
            raise InvalidQuery(f"exact_chunks is {self.exact_chunks}.", hint="It has to be at least 0.")
        if not 0 < self.recall_target <= 1:
            raise InvalidQuery(
                f"recall_target is {self.recall_target}.", hint="It is a share: more than 0, at most 1."
            )

    @property
    def max_tail(self) -> int:
        """How many chunks may wait beside an approximate index, compared one by one, to be merged into it."""
        return max(self.exact_chunks // 8, 1)
