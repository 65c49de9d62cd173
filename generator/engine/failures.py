"""What to tell the requests of a step that raised."""

from __future__ import annotations

import logging

import torch

from generator.errors import GeneratorError, OutOfMemory, StepFailed

_log = logging.getLogger("generator.engine")


def step_error(error: Exception) -> GeneratorError:
    """The typed error behind whatever a forward pass raised; the unforeseen is logged."""
    if isinstance(error, GeneratorError):
        return error
    if isinstance(error, torch.OutOfMemoryError | MemoryError) or "can't allocate memory" in str(error):
        return OutOfMemory(
            "The step did not fit into the memory of its device.",
            hint="Give the engine a smaller max_tokens_per_step or kv_bytes.",
        )
    _log.error("A step failed.", exc_info=error)
    return StepFailed(f"The model could not be run: {error}.", hint="The log has the details.")
