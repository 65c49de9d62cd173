"""The text of one output while its tokens come in."""

from __future__ import annotations

from collections.abc import Sequence

from generator.engine.stopping import StopMatcher
from generator.tokenizer import IncrementalDecoder, Tokenizer


class OutputText:
    """Tokens in, text out, up to a stop text. The pieces returned are the whole text, joined."""

    def __init__(self, tokenizer: Tokenizer | None, stops: Sequence[str]) -> None:
        self._decoder = IncrementalDecoder(tokenizer) if tokenizer else None
        self._stops = StopMatcher(stops)

    @property
    def stopped(self) -> bool:
        """Whether a stop text has come."""
        return self._stops.matched is not None

    def push(self, token_id: int) -> str:
        """Text that is certain now; without a tokenizer there is none."""
        return self._stops.push(self._decoder.push(token_id)) if self._decoder else ""

    def finish(self) -> str:
        """Text that was held back."""
        if self._decoder is None or self.stopped:
            return ""
        return self._stops.push(self._decoder.finish()) + self._stops.finish()
