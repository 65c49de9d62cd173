"""Decode steps as recorded graphs: the whole forward pass in one launch, over buffers that stay in place.

A GPU computes a decode step faster than Python can ask for its kernels one by one. So a step that gives each
sequence one token is recorded once for each of a few numbers of rows, with its input in static buffers; later
steps fill the buffers and replay. Rows that are left over are padding: they see nothing, and what they write
goes to a scratch block.
"""

from __future__ import annotations

import logging
from collections.abc import Callable
from dataclasses import dataclass
from typing import Protocol

import torch

from generator.cache.pool import KVPool
from generator.engine.layout import StepLayout
from generator.model.attention_backend import PagedBackend
from generator.model.attention_rows import PackedNumbers, QueryRows, padded_to_power, rows_of
from generator.model.transformer import Transformer

_log = logging.getLogger("generator.engine")

MOST_GRAPH_ROWS = 128  # beyond, a step's kernels take longer than asking for them


class GraphRecorder(Protocol):
    """Turns a step into something that does the same on the device without Python."""

    def record(self, step: Callable[[], torch.Tensor]) -> Callable[[], torch.Tensor]:
        """Warm up, record and return what replays.

        `step` reads and writes the same tensors at every call, and may be called any number of times. What
        the replay returns is valid until the next one, of whichever graph. May raise anything.
        """


class CudaGraphRecorder:
    """CUDA graphs that share one pool of memory, because only one of them runs at a time."""

    _NUM_WARM_UPS = 2  # kernels are compiled and chosen, libraries take their workspaces

    def __init__(self, device: torch.device) -> None:
        self._device = device
        self._pool = torch.cuda.graph_pool_handle()

    def record(self, step: Callable[[], torch.Tensor]) -> Callable[[], torch.Tensor]:
        """See `GraphRecorder.record`."""
        with torch.cuda.device(self._device):
            stream = torch.cuda.Stream()
            stream.wait_stream(torch.cuda.current_stream())
            with torch.cuda.stream(stream):
                for _ in range(self._NUM_WARM_UPS):
                    step()
            torch.cuda.current_stream().wait_stream(stream)
            graph = torch.cuda.CUDAGraph()
            # Another thread (an embedder's) may use the device meanwhile; only this one is recorded.
            with torch.cuda.graph(graph, pool=self._pool, capture_error_mode="thread_local"):
                output = step()

        def replay() -> torch.Tensor:
            graph.replay()
            return output

        return replay


@dataclass(frozen=True, slots=True)
class _Graph:
    numbers: PackedNumbers
    replay: Callable[[], torch.Tensor]


class DecodeGraphs:
    """The graphs of one engine, at most one for each power of two, recorded when a step first wants it."""

    def __init__(
        self,
        model: Transformer,
        pool: KVPool,
        backend: PagedBackend,
        recorder: GraphRecorder,
        *,
        max_rows: int,
        max_sequence_tokens: int,
    ) -> None:
        """`pool` must have scratch slots. Steps of more than `max_rows` sequences are left to the caller."""
        self._model = model
        self._pool = pool
        self._backend = backend
        self._recorder: GraphRecorder | None = recorder
        self._max_rows = min(max_rows, MOST_GRAPH_ROWS)
        self._table_sizes = [
            most_visible_blocks(
                group.window,
                max_sequence_tokens=min(max_sequence_tokens, group.num_slots),
                block_size=backend.block_size,
            )
            for group in pool.groups
        ]
        self._graphs: dict[int, _Graph] = {}  # by number of rows

    @property
    def num_rows(self) -> tuple[int, ...]:
        """For how many rows there are graphs."""
        return tuple(sorted(self._graphs))

    def run(self, layout: StepLayout) -> torch.Tensor | None:
        """The scores (tokens, V) of a decode step, valid until the next run; None where there is no graph."""
        num_tokens = len(layout.token_ids)
        if self._recorder is None or num_tokens > self._max_rows:
            return None
        num_rows = padded_to_power(num_tokens)
        graph = self._graphs.get(num_rows)
        if graph is None:
            graph = self._record(num_rows, layout)
            if graph is None:
                return None
        else:
            self._fill(graph.numbers, layout)
        return graph.replay()[:num_tokens]

    def _record(self, num_rows: int, layout: StepLayout) -> _Graph | None:
        """A new graph, its buffers filled with the step at hand: to warm up is to compute that step."""
        num_groups = len(self._pool.groups)
        shapes = {
            "token_ids": (1, num_rows),
            "positions": (1, num_rows),
            **{f"slots.{group}": (num_rows,) for group in range(num_groups)},
            **QueryRows.shapes(num_rows, width=1, table_sizes=self._table_sizes),
        }
        try:
            numbers = PackedNumbers(shapes, device=self._model.device)
            self._fill(numbers, layout)
            replay = self._recorder.record(lambda: self._step(numbers))
        except Exception:  # noqa: BLE001  whatever a driver or compiler objects to, steps go on without graphs
            _log.warning("Decode steps run without graphs: none could be recorded.", exc_info=True)
            self._recorder = None
            self._graphs.clear()
            return None
        self._graphs[num_rows] = graph = _Graph(numbers, replay)
        return graph

    def _fill(self, numbers: PackedNumbers, layout: StepLayout) -> None:
        num_tokens, host = len(layout.token_ids), numbers.host
        for name, values in (("token_ids", layout.token_ids), ("positions", layout.positions)):
            host[name][0, :num_tokens] = values
            host[name][0, num_tokens:] = 0
        for index, group in enumerate(self._pool.groups):
            host[f"slots.{index}"][:num_tokens] = layout.slots[index]
            host[f"slots.{index}"][num_tokens:] = group.num_slots  # the first scratch slot
        rows = rows_of(layout.spans, self._pool.groups, width=1, block_size=self._backend.block_size)
        QueryRows.fill(numbers, rows, no_token=host["token_ids"].shape[1])
        numbers.upload()

    def _step(self, numbers: PackedNumbers) -> torch.Tensor:
        """The forward pass as a function of what the buffers hold; scores (rows, V)."""
        model, there, num_groups = self._model, numbers.device, len(self._pool.groups)
        slots = tuple(there[f"slots.{group}"] for group in range(num_groups))
        context = self._backend.rows_context(
            [QueryRows.of(numbers, num_groups=num_groups)], slots, self._pool
        )
        hidden = model.embed(there["token_ids"], there["positions"])
        hidden = model.run_layers(hidden, there["positions"], context)
        return model.project(model.finish(hidden)[0])


def most_visible_blocks(window: int | None, *, max_sequence_tokens: int, block_size: int) -> int:
    """Blocks that hold what one token sees at most, itself included."""
    if window is not None:
        # The window may begin with the last slot of a block.
        max_sequence_tokens = min(max_sequence_tokens, window + block_size - 1)
    return -(-max_sequence_tokens // block_size)
