"""Several processes that train one model, each on its share of every step's batches.

`torchrun` starts them and says who is who by environment variables. Gradients are summed by hand after the
backward pass: tasks call their models as they like, which a wrapper such as DistributedDataParallel forbids,
and the sum is the same.
"""

from __future__ import annotations

import json
import os
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from datetime import timedelta

import torch
import torch.distributed as dist
from torch import nn

from generator.training.errors import InvalidTrainingConfig

_BUCKET_ELEMENTS = 16 * 2**20  # summed in one message
_MESSAGE_BYTES = 4096  # a task's counts of one step
_PATIENCE = timedelta(hours=2)  # the others wait while the first process validates


@dataclass(frozen=True, slots=True)
class Processes:
    """This process among its peers; a process alone talks to nobody."""

    rank: int = 0
    count: int = 1

    @classmethod
    def from_environment(cls) -> Processes:
        """What `torchrun` has said, or one process alone."""
        try:
            return cls(int(os.environ.get("RANK", "0")), int(os.environ.get("WORLD_SIZE", "1")))
        except ValueError as error:
            raise InvalidTrainingConfig(
                "RANK and WORLD_SIZE in the environment are no whole numbers.",
                hint="Start several processes with torchrun, or unset both.",
            ) from error

    @property
    def is_first(self) -> bool:
        """Whether this process writes, validates and reports."""
        return self.rank == 0

    def device(self, wanted: torch.device) -> torch.device:
        """Where this process computes: on GPUs, the one with its local number."""
        if wanted.type != "cuda" or self.count == 1:
            return wanted
        device = torch.device("cuda", int(os.environ.get("LOCAL_RANK", "0")))
        torch.cuda.set_device(device)
        return device

    def join(self, device: torch.device) -> bool:
        """Meet the others; True where this call has opened the connection, which `leave` then closes."""
        if self.count == 1 or dist.is_initialized():
            return False
        dist.init_process_group(
            "nccl" if device.type == "cuda" else "gloo",
            rank=self.rank,
            world_size=self.count,
            timeout=_PATIENCE,
        )
        return True

    def leave(self) -> None:
        """Close the connection."""
        dist.destroy_process_group()

    def sum_gradients(self, parameters: Iterable[nn.Parameter]) -> None:
        """Replace every gradient by its sum over the processes; an absent one counts as zero."""
        if self.count == 1:
            return
        for bucket in _buckets(parameters):
            flat = torch.cat([gradient.flatten() for gradient in bucket])
            dist.all_reduce(flat)
            for gradient, part in zip(bucket, flat.split([g.numel() for g in bucket]), strict=True):
                gradient.copy_(part.view_as(gradient))

    def sum_counts(self, counts: dict[str, float], device: torch.device) -> dict[str, float]:
        """Sums by name. A process that had no batch has fewer names, so these travel too, as JSON."""
        if self.count == 1:
            return counts
        message = json.dumps(counts).encode().ljust(_MESSAGE_BYTES)
        mine = torch.frombuffer(bytearray(message), dtype=torch.uint8).to(device)
        received = [torch.empty_like(mine) for _ in range(self.count)]
        dist.all_gather(received, mine)
        total: dict[str, float] = {}
        for tensor in received:
            for name, value in json.loads(bytes(tensor.tolist())).items():
                total[name] = total.get(name, 0.0) + value
        return total

    def largest(self, *values: float, device: torch.device) -> list[float]:
        """The largest of each value over the processes: how they agree on the clock and on stopping."""
        if self.count == 1:
            return list(values)
        together = torch.tensor(values, dtype=torch.float64, device=device)
        dist.all_reduce(together, op=dist.ReduceOp.MAX)
        return together.tolist()


def _buckets(parameters: Iterable[nn.Parameter]) -> Iterator[list[torch.Tensor]]:
    """Gradients in groups of one dtype and bounded size."""
    bucket: list[torch.Tensor] = []
    size = 0
    for parameter in parameters:
        if parameter.grad is None:
            parameter.grad = torch.zeros_like(parameter)
        gradient = parameter.grad
        if bucket and (size + gradient.numel() > _BUCKET_ELEMENTS or gradient.dtype != bucket[0].dtype):
            yield bucket
            bucket, size = [], 0
        bucket.append(gradient)
        size += gradient.numel()
    if bucket:
        yield bucket
