"""The tensors behind the slots."""

from __future__ import annotations

from collections.abc import Sequence

import torch

from generator.cache.memory import KVGroup, Segment, SlotCopy
from generator.errors import OutOfMemory
from generator.model.config import ModelConfig


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
        tail = (config.num_kv_heads, config.head_dim)
        try:
            # Zeros cost nothing until they are written to, and NaN left over by another program never shows.
            self.keys = [torch.zeros(size, *tail, device=device, dtype=dtype) for size in sizes]
            self.values = [torch.zeros(size, *tail, device=device, dtype=dtype) for size in sizes]
        except RuntimeError as error:  # torch.OutOfMemoryError is one, and the CPU allocator raises it plain
            num_bytes = 2 * sum(sizes) * config.kv_size * dtype.itemsize
            raise OutOfMemory(
                f"A key/value memory of {num_bytes / 1e9:.1f} GB does not fit beside the model.",
                hint="Give less with kv_bytes.",
            ) from error

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
