"""Stop texts, found wherever token boundaries fall."""

from __future__ import annotations

from collections.abc import Sequence


class StopMatcher:
    """Passes text through until a stop text is complete; what might become one is held back until decided.

    The outcome does not depend on how the text was cut into pieces: the stop text that is complete first
    wins, of several complete at the same character the longest.
    """

    def __init__(self, stops: Sequence[str]) -> None:
        self._stops = tuple(stops)
        self._held = ""
        self.matched: str | None = None

    def push(self, piece: str) -> str:
        """Text that is safe to show; nothing after the match."""
        if self.matched is not None or not piece:
            return ""
        if not self._stops:
            return piece
        text = self._held + piece
        found = [(text.find(stop), stop) for stop in self._stops]
        complete = [(start + len(stop), start, stop) for start, stop in found if start >= 0]
        if complete:
            _, start, self.matched = min(complete)
            self._held = ""
            return text[:start]
        num_held = max(_overlap(text, stop) for stop in self._stops)
        self._held = text[len(text) - num_held :]
        return text[: len(text) - num_held]

    def finish(self) -> str:
        """What was held back and did not become a stop text."""
        held, self._held = self._held, ""
        return held


def _overlap(text: str, stop: str) -> int:
    """Length of the longest end of `text` with which `stop` begins (but is not complete)."""
    for length in range(min(len(text), len(stop) - 1), 0, -1):
        if text.endswith(stop[:length]):
            return length
    return 0
