"""The tensors behind the slots."""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np
import torch

from generator.cache.memory import KVGroup, Segment, SlotCopy
from generator.errors import OutOfMemory
from generator.host_memory import available_host_bytes
from generator.model.config import ModelConfig

_ALIGNMENT = 64  # bytes: a cache line, and the widest vector register


class KVPool:
    """Keys and values of every layer, (slots, kv heads, head dim) each, allocated once.

    Token by token, so that neighbouring slots of any number are one view and a token is written in one piece.
    Behind a group's slots there may be scratch ones: what a row of padding writes goes there.
    """

    def __init__(
        self,
        config: ModelConfig,
        groups: Sequence[KVGroup],
        *,
        device: torch.device,
        dtype: torch.dtype,
        num_scratch_slots: int = 0,
    ) -> None:
        self.groups = tuple(groups)
        self.group_of = {layer: index for index, group in enumerate(groups) for layer in group.layers}
        sizes = [
            groups[self.group_of[layer]].num_slots + num_scratch_slots for layer in range(config.num_layers)
        ]
        num_bytes = 2 * sum(sizes) * config.kv_size * dtype.itemsize
        if device.type == "cpu" and num_bytes > available_host_bytes():
            raise _does_not_fit(num_bytes)  # the system would grant it, and end the process when it is used
        tail = (config.num_kv_heads, config.head_dim)
        try:
            self.keys = [_zeros((size, *tail), device, dtype) for size in sizes]
            self.values = [_zeros((size, *tail), device, dtype) for size in sizes]
        except (RuntimeError, MemoryError) as error:  # torch.OutOfMemoryError is a RuntimeError
            raise _does_not_fit(num_bytes) from error

    @property
    def num_bytes(self) -> int:
        """Memory held, in bytes."""
        return sum(part.numel() * part.element_size() for part in (*self.keys, *self.values))

    def write(self, layer: int, slots: torch.Tensor, key: torch.Tensor, value: torch.Tensor) -> None:
        """Store (1, Hkv, T, D) at `slots` (T,)."""
        self.keys[layer].index_copy_(0, slots, key[0].transpose(0, 1))
        self.values[layer].index_copy_(0, slots, value[0].transpose(0, 1))

    def read(self, layer: int, segments: Sequence[Segment]) -> tuple[torch.Tensor, torch.Tensor]:
        """Keys and values (1, Hkv, S, D) of segments: a view of one, a copy of several."""
        return _heads_first(self.keys[layer], segments), _heads_first(self.values[layer], segments)

    def copy(self, copies: Sequence[SlotCopy]) -> None:
        """Carry out copies in their order."""
        for group, source, target in copies:
            for layer in self.groups[group].layers:
                for part in (self.keys[layer], self.values[layer]):
                    part[target.start : target.start + target.length] = part[
                        source.start : source.start + source.length
                    ]


def _zeros(shape: tuple[int, ...], device: torch.device, dtype: torch.dtype) -> torch.Tensor:
    """Zeros, so that NaN left over by another program never shows.

    On the CPU they take no memory until they are written to: NumPy asks the system for zeroed pages, where
    PyTorch writes zeros to all of them.
    """
    if device.type != "cpu":
        return torch.zeros(shape, device=device, dtype=dtype)
    num_bytes = math.prod(shape) * dtype.itemsize
    storage = np.zeros(num_bytes + _ALIGNMENT, np.uint8)
    start = -storage.ctypes.data % _ALIGNMENT
    return torch.from_numpy(storage[start : start + num_bytes]).view(dtype).view(shape)


def _does_not_fit(num_bytes: int) -> OutOfMemory:
    return OutOfMemory(
        f"A key/value memory of {num_bytes / 1e9:.1f} GB does not fit beside the model.",
        hint="Give less with kv_bytes.",
    )


def _heads_first(slots: torch.Tensor, segments: Sequence[Segment]) -> torch.Tensor:
    """(slots, Hkv, D) to (1, Hkv, S, D)."""
    if len(segments) == 1:
        [(start, length)] = segments
        _, num_heads, head_dim = slots.shape
        # One operator instead of three, for each layer of each step.
        return slots.as_strided(
            (1, num_heads, length, head_dim),
            (slots.stride(0) * length, head_dim, slots.stride(0), 1),
            slots.storage_offset() + start * slots.stride(0),
        )
    return torch.cat([slots[start : start + length] for start, length in segments]).transpose(0, 1)[None]
