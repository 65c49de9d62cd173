"""The embedded default generator behind the common face."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING, NoReturn, Unpack

from generator.errors import UnsupportedOperation
from generator.generator import Generator, Prompt
from generator.types import (
    Completion,
    GroundedAnswer,
    Passage,
    SamplingOptions,
    SamplingOverrides,
    TokenEvent,
)

if TYPE_CHECKING:
    from pathlib import Path

    import torch

    from generator.cancellation import Cancellation
    from generator.reader.reader import Reader


class ReaderGenerator(Generator):
    """The reader: answers from passages, in their own words, and does nothing else.

    Its decoding is constrained to spans of the passages; of the sampling options only max_new_tokens applies.
    """

    def __init__(self, reader: Reader) -> None:
        self.reader = reader

    @classmethod
    def load(
        cls, *, device: torch.device, dtype: torch.dtype, embeddings_folder: Path | None
    ) -> ReaderGenerator:
        """Load the weights that ship with the package."""
        from generator.reader.reader import Reader

        return cls(Reader.load(device=device, dtype=dtype, embeddings_folder=embeddings_folder))

    @property
    def device(self) -> torch.device:
        """See `Generator.device`."""
        return self.reader.device

    def answer_stream(
        self,
        question: str,
        passages: Sequence[Passage],
        *,
        options: SamplingOptions | None = None,
        scores: Sequence[float] | None = None,
        score_band: float = 0.0,
        cancellation: Cancellation | None = None,
        **overrides: Unpack[SamplingOverrides],
    ) -> Iterator[TokenEvent | GroundedAnswer]:
        """See `Generator.answer_stream`.

        Each passage is read by itself, so their order saves nothing; the words come in one go, so a
        cancellation has nothing to end.
        """
        limit = overrides.get("max_new_tokens", options.max_new_tokens if options else None)
        return self.reader.answer_stream(question, passages, max_new_tokens=limit)

    def logits(self, token_ids: torch.Tensor | Sequence[Sequence[int]]) -> torch.Tensor:
        """Not something a reader has."""
        _refuse()

    def generate(
        self,
        prompts: Prompt | Sequence[Prompt],
        *,
        options: SamplingOptions | None = None,
        **overrides: Unpack[SamplingOverrides],
    ) -> list[Completion]:
        """Not something a reader does."""
        _refuse()

    def stream(
        self,
        prompt: Prompt,
        *,
        options: SamplingOptions | None = None,
        **overrides: Unpack[SamplingOverrides],
    ) -> Iterator[TokenEvent]:
        """Not something a reader does."""
        _refuse()


def _refuse() -> NoReturn:
    raise UnsupportedOperation(
        "The reader only answers questions from passages.",
        hint="Use answer(), or load a Llama, Mistral, Qwen or SmolLM checkpoint to continue text.",
    )
