"""Which way of running steps an engine takes: attention, graphs and compiled layers for a device."""

from __future__ import annotations

import logging

import torch

from generator.cache.memory import KVMemory
from generator.cache.paged import PagedMemory
from generator.cache.pool import KVPool
from generator.engine.decode_graphs import CudaGraphRecorder, DecodeGraphs
from generator.engine.runner import ModelRunner
from generator.errors import CompilerUnavailable, InvalidEngineConfig
from generator.model.attention_backend import AttentionBackend, PagedBackend, SdpaBackend, backend_named
from generator.model.attention_check import agrees_with_reference
from generator.model.compiling import check_compiler
from generator.model.config import ModelConfig
from generator.model.fused_layers import check_fusible, with_fused_layers
from generator.model.transformer import Transformer

_log = logging.getLogger("generator.engine")

_BLOCK_SIZE = 16  # tokens
_GPU_BLOCK_SIZE = 128  # tokens: what FlexAttention's kernels take at once


def default_block_size(device: torch.device) -> int:
    """Tokens in a block of paged memory."""
    return _BLOCK_SIZE if device.type == "cpu" else _GPU_BLOCK_SIZE


def build_runner(
    model: Transformer,
    memory: KVMemory,
    *,
    attention: str,
    deterministic: bool,
    cuda_graphs: bool | None,
    compile_layers: bool,
    max_num_sequences: int,
) -> ModelRunner:
    """Allocate the pool and choose how steps run.

    What is asked for by name and cannot be had is an InvalidEngineConfig or a CompilerUnavailable; what
    "auto" and None would choose but does not work here is left out with a warning.
    """
    device = model.device
    if deterministic and (cuda_graphs or compile_layers):
        raise InvalidEngineConfig(
            "A deterministic engine has no graphs and no compiled layers.",
            hint="Leave cuda_graphs and compile_layers out, or switch deterministic off.",
        )
    if cuda_graphs and device.type != "cuda":
        raise InvalidEngineConfig(f"There are no CUDA graphs on {device}.", hint="Leave cuda_graphs out.")
    block_size = memory.block_size if isinstance(memory, PagedMemory) else None
    backend = choose_backend("fixed" if deterministic else attention, device, block_size)
    pool = KVPool(
        model.config,
        memory.groups,
        device=device,
        dtype=model.dtype,
        num_scratch_slots=backend.block_size if isinstance(backend, PagedBackend) else 0,
    )
    if isinstance(backend, PagedBackend) and (attention == "auto" or device.type != "cpu"):
        backend = tried(backend, pool, model.config, may_fall_back=attention == "auto")
    pages = isinstance(backend, PagedBackend)
    if cuda_graphs and not pages:
        raise InvalidEngineConfig(
            f"The attention {backend.name!r} cannot be recorded as a graph.",
            hint="Set attention to auto and layout to paged, or leave cuda_graphs out.",
        )
    if compile_layers:
        check_fusible(model)
        model = with_fused_layers(model)
    graphs = None
    if pages and device.type == "cuda" and cuda_graphs is not False:
        graphs = DecodeGraphs(
            model,
            pool,
            backend,
            CudaGraphRecorder(device),
            max_rows=max_num_sequences,
            max_sequence_tokens=min(model.config.max_positions, memory.max_sequence_tokens),
        )
    return ModelRunner(model, memory, pool, backend, deterministic=deterministic, graphs=graphs)


def choose_backend(name: str, device: torch.device, block_size: int | None) -> AttentionBackend:
    """The attention of a name; with "auto" one that needs no compiler where there is none."""
    try:
        backend = backend_named(name, device, block_size=block_size)
        if isinstance(backend, PagedBackend) and device.type != "cpu":
            check_compiler(device)
    except CompilerUnavailable as error:
        if name != "auto":
            raise
        _log.warning("Attention falls back to the reference: %s", error)
        return SdpaBackend()
    return backend


def tried(
    backend: PagedBackend, pool: KVPool, config: ModelConfig, *, may_fall_back: bool
) -> AttentionBackend:
    """`backend` if it does here what the reference does, else the reference or InvalidEngineConfig."""
    if agrees_with_reference(backend, pool, config):
        return backend
    if not may_fall_back:
        raise InvalidEngineConfig(
            f"The attention {backend.name!r} does not work here; the log says in which way.",
            hint="Set attention to auto or sdpa.",
        )
    _log.warning("Attention falls back to the reference, which gathers keys and has no graphs.")
    return SdpaBackend()
