"""PyTorch's compiler: what this project asks of it, and whether it is there at all."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch

from generator.errors import CompilerUnavailable

_MOST_VARIANTS = 64  # of a function, by shape; PyTorch's own limit of 8 is fewer than there are batch sizes


def compiled(
    function: Callable[..., Any],
    *,
    dynamic: bool | None = None,
    backend: str | Callable[..., Any] = "inductor",
) -> Callable[..., Any]:
    """`function`, compiled at its first call and again for what is new to it; never silently uncompiled."""
    options = {"fullgraph": True, "dynamic": dynamic, "backend": backend}
    try:
        return torch.compile(function, **options, recompile_limit=_MOST_VARIANTS, isolate_recompiles=True)
    except TypeError:  # PyTorch before 2.13, whose limit is global
        limited = torch.compile(function, **options)

    def call(*arguments: Any, **more: Any) -> Any:
        with torch._dynamo.config.patch(recompile_limit=_MOST_VARIANTS):
            return limited(*arguments, **more)

    return call


def check_compiler(device: torch.device) -> None:
    """Raise CompilerUnavailable unless a small function can be compiled for `device` and is right."""
    numbers = torch.arange(8.0, device=device)
    try:
        found = compiled(_probe)(numbers)
    except Exception as error:  # Triton, inductor and the C compiler fail each in their own way
        raise CompilerUnavailable(
            f"PyTorch cannot compile for {device} here: {_first_line(error)}.",
            hint="Install Triton and a C compiler (on Debian: apt install gcc), or do without compiling.",
        ) from error
    if not torch.equal(found, _probe(numbers)):
        raise CompilerUnavailable(
            f"What PyTorch compiles for {device} is wrong.", hint="Do without compiling."
        )


def _probe(numbers: torch.Tensor) -> torch.Tensor:
    return numbers * 2 + 1


def _first_line(error: Exception) -> str:
    lines = str(error).strip().splitlines()
    return lines[0].rstrip(".:") if lines else type(error).__name__
