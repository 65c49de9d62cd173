"""What an engine has done so far, as counts."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(slots=True)
class EngineStats:
    """Counts since the engine was made."""

    num_steps: int = 0
    num_prompt_tokens: int = 0  # of prompts whose first token has come
    num_cached_tokens: int = 0  # of them, how many were not computed again
    num_output_tokens: int = 0
    num_drafted_tokens: int = 0
    num_accepted_tokens: int = 0

    @property
    def prefix_hit_rate(self) -> float:
        """Share of the prompt tokens that a cache had."""
        return self.num_cached_tokens / self.num_prompt_tokens if self.num_prompt_tokens else 0.0

    @property
    def acceptance_rate(self) -> float:
        """Share of the drafted tokens that stood."""
        return self.num_accepted_tokens / self.num_drafted_tokens if self.num_drafted_tokens else 0.0
