"""The generator's face: what every generator can do, and which one a name means."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Unpack

from generator.errors import UnsupportedOperation
from generator.types import (
    Completion,
    GroundedAnswer,
    Passage,
    SamplingOptions,
    SamplingOverrides,
    TokenEvent,
)

if TYPE_CHECKING:
    import torch

    from generator.cancellation import Cancellation

READER = "reader"
Prompt = str | Sequence[int]


class Generator(ABC):
    """Turns prompts into text, and questions with passages into grounded answers.

    Sampling is given as `options`, as keyword arguments (`temperature=0.7`), or both; the latter win.
    """

    @staticmethod
    def load(
        name_or_path: str | Path,
        *,
        device: str | torch.device = "auto",
        dtype: str | torch.dtype = "auto",
        embeddings_folder: Path | None = None,
        adapter: str | Path | None = None,
        quantization: str = "none",
        compile_layers: bool = False,
    ) -> Generator:
        """Load "reader" (the embedded default), a model folder, or a model on the Hugging Face hub.

        The reader takes its word embeddings from `embeddings_folder`, the embedder's model folder. `adapter`
        is a PEFT LoRA folder to merge into the weights. `quantization="int8"` then halves the bytes of the
        weights against bfloat16 (see `generator.quantization`). `compile_layers` compiles the model's layers
        at first use, which is meant for GPUs (see `generator.model.fused_layers`).
        """
        from generator.hardware import resolve_device, resolve_dtype
        from generator.quantization import check_quantization

        place = resolve_device(device)
        number_format = resolve_dtype(dtype, place)
        weights = check_quantization(quantization)
        if name_or_path == READER:
            from generator.embedded import ReaderGenerator

            if adapter is not None:
                raise UnsupportedOperation(
                    "The reader takes no adapters.", hint="Name a model folder instead."
                )
            if weights != "none":
                raise UnsupportedOperation(
                    "The reader is not quantised: its time goes into reading many tokens at once.",
                    hint="Use dtype, or name a model folder instead.",
                )
            if compile_layers:
                raise UnsupportedOperation(
                    "The reader's layers are not compiled.", hint="Name a model folder instead."
                )
            return ReaderGenerator.load(
                device=place, dtype=number_format, embeddings_folder=embeddings_folder
            )
        from generator.checkpoint import CheckpointGenerator

        loaded = CheckpointGenerator.load(
            name_or_path, device=place, dtype=number_format, compile_layers=compile_layers
        )
        if adapter is not None:
            loaded.load_lora(adapter)
            loaded.merge_lora()
        if weights == "int8":
            loaded.quantize_int8()
        return loaded

    @property
    @abstractmethod
    def device(self) -> torch.device:
        """Where it computes."""

    @abstractmethod
    def logits(self, token_ids: torch.Tensor | Sequence[Sequence[int]]) -> torch.Tensor:
        """Scores (batch, tokens, vocabulary) in float32 for token ids (batch, tokens)."""

    @abstractmethod
    def generate(
        self,
        prompts: Prompt | Sequence[Prompt],
        *,
        options: SamplingOptions | None = None,
        **overrides: Unpack[SamplingOverrides],
    ) -> list[Completion]:
        """Continue each prompt, given as text or token ids; together, yet as if each were alone."""

    @abstractmethod
    def stream(
        self,
        prompt: Prompt,
        *,
        options: SamplingOptions | None = None,
        **overrides: Unpack[SamplingOverrides],
    ) -> Iterator[TokenEvent]:
        """Continue one prompt, piece by piece; the pieces joined are the completion's text."""

    @abstractmethod
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
        """Answer from passages: pieces of the text, then the whole answer as the last item.

        With the passages' `scores`, best first, those that differ by at most `score_band` times the best one
        may change places in the prompt to save work; the marks in the text count as the call does.
        Closing the iterator ends it. `cancellation` does so from another thread, also while that waits for
        its next item; what then comes is not the whole answer.
        """

    def stats(self) -> Mapping[str, float]:
        """What was done so far and what is in the making, by name: `..._total` only grows."""
        return {}

    def answer(
        self,
        question: str,
        passages: Sequence[Passage],
        *,
        options: SamplingOptions | None = None,
        **overrides: Unpack[SamplingOverrides],
    ) -> GroundedAnswer:
        """Answer from passages [(id, text), ...]."""
        *_, last = self.answer_stream(question, passages, options=options, **overrides)
        if not isinstance(last, GroundedAnswer):
            raise TypeError("answer_stream must end with a GroundedAnswer")
        return last
