"""From a question and passages to an answer: an in-house transformer, its caches, and how it is prompted.

Names are imported on first use, because the models behind them pull in PyTorch.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from generator.cache.kv_cache import KVCache
    from generator.engine.engine import ContinuousBatchingEngine
    from generator.engine.generate import batch_generate, generate_with_cache
    from generator.engine.requests import GenerationRequest, RequestProgress
    from generator.errors import GeneratorError
    from generator.generator import Generator
    from generator.lora import LoraAdapter, attach_lora, merge_lora
    from generator.model.config import ModelConfig
    from generator.model.transformer import Transformer
    from generator.tokenizer import Tokenizer
    from generator.types import (
        AnswerSpan,
        Completion,
        GroundedAnswer,
        SamplingOptions,
        TokenEvent,
        Usage,
    )

_HOMES = {
    "AnswerSpan": "generator.types",
    "Completion": "generator.types",
    "ContinuousBatchingEngine": "generator.engine.engine",
    "GenerationRequest": "generator.engine.requests",
    "Generator": "generator.generator",
    "GeneratorError": "generator.errors",
    "GroundedAnswer": "generator.types",
    "KVCache": "generator.cache.kv_cache",
    "LoraAdapter": "generator.lora",
    "ModelConfig": "generator.model.config",
    "RequestProgress": "generator.engine.requests",
    "SamplingOptions": "generator.types",
    "TokenEvent": "generator.types",
    "Tokenizer": "generator.tokenizer",
    "Transformer": "generator.model.transformer",
    "Usage": "generator.types",
    "attach_lora": "generator.lora",
    "batch_generate": "generator.engine.generate",
    "generate_with_cache": "generator.engine.generate",
    "merge_lora": "generator.lora",
}

__all__ = [
    "AnswerSpan",
    "Completion",
    "ContinuousBatchingEngine",
    "GenerationRequest",
    "Generator",
    "GeneratorError",
    "GroundedAnswer",
    "KVCache",
    "LoraAdapter",
    "ModelConfig",
    "RequestProgress",
    "SamplingOptions",
    "TokenEvent",
    "Tokenizer",
    "Transformer",
    "Usage",
    "attach_lora",
    "batch_generate",
    "generate_with_cache",
    "merge_lora",
]


def __getattr__(name: str) -> Any:
    if name not in _HOMES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module(_HOMES[name]), name)


def __dir__() -> list[str]:
    return __all__
