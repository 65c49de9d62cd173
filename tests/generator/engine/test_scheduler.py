"""The scheduler and both kinds of key/value memory, as plain data: nobody starves, nothing leaks."""

from __future__ import annotations

from collections.abc import Callable

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from generator.cache.memory import KVGroup, KVMemory
from generator.cache.paged import PagedMemory
from generator.cache.slots import SlotMemory
from generator.engine.scheduler import Scheduler, SchedulerLimits
from generator.engine.sequence import Piece, Sequence, SequenceState
from generator.errors import InvalidEngineConfig

BLOCK = 4
CAPACITY = 48  # tokens that one sequence may have in every memory below


def paged() -> KVMemory:
    return PagedMemory([KVGroup(None, (0,), CAPACITY)], block_size=BLOCK, max_piece_tokens=8)


def paged_with_windows() -> KVMemory:
    groups = [KVGroup(None, (0,), CAPACITY), KVGroup(6, (1, 2), CAPACITY), KVGroup(1, (3,), CAPACITY)]
    return PagedMemory(groups, block_size=BLOCK, max_piece_tokens=8)


def contiguous() -> KVMemory:
    groups = [KVGroup(None, (0,), 3 * CAPACITY), KVGroup(6, (1,), 3 * CAPACITY)]
    return SlotMemory(groups, row_tokens=CAPACITY)


MEMORIES = {"paged": paged, "paged with windows": paged_with_windows, "contiguous": contiguous}
every_memory = pytest.mark.parametrize("build", MEMORIES.values(), ids=MEMORIES)


class Machine:
    """Stands in for the model: each run gives every piece that asks for it the next number."""

    def __init__(self, memory: KVMemory, **limits: object) -> None:
        self.scheduler = Scheduler(memory, SchedulerLimits(**{"max_num_sequences": 4, **limits}))
        self.wanted: dict[int, int] = {}  # length at which a sequence is finished
        self.finished: list[int] = []
        self._ids = iter(range(10**6))

    def add(self, prompt: list[int], num_new: int, *, priority: int = 0) -> Sequence:
        sequence = Sequence(next(self._ids), list(prompt), priority=priority)
        self.wanted[sequence.sequence_id] = len(prompt) + num_new
        self.scheduler.add(sequence)
        return sequence

    def step(self, *, num_accepted: int = 0) -> list[Piece]:
        plan = self.scheduler.schedule()
        self.scheduler.memory.take_copies()
        for piece in plan:
            tokens = len(piece.sequence.token_ids)
            accepted = min(num_accepted, piece.num_draft_tokens)
            new = [*piece.sequence.draft_token_ids[:accepted], tokens % 7] if piece.samples else []
            new = new[: self.wanted[piece.sequence.sequence_id] - tokens]
            self.scheduler.advance(piece, new)
            if len(piece.sequence.token_ids) == self.wanted[piece.sequence.sequence_id]:
                self.finished.append(piece.sequence.sequence_id)
                self.scheduler.finish(piece.sequence)
        self.scheduler.check_integrity()
        return plan

    def run(self, *, at_most: int = 2000) -> None:
        for _ in range(at_most):
            if not self.scheduler.has_pending_work:
                return
            assert self.step(), "a step with work to do did nothing"
        pytest.fail("the work does not end")


requests = st.lists(
    st.tuples(
        st.lists(st.integers(0, 1), min_size=1, max_size=30),  # few token values: prefixes are shared
        st.integers(1, 15),
        st.integers(-2, 2),
    ),
    min_size=1,
    max_size=12,
)


@settings(max_examples=60, deadline=None)
@given(
    requests=requests,
    build=st.sampled_from(list(MEMORIES.values())),
    prefill_first=st.booleans(),
    data=st.data(),
)
def test_everything_finishes_and_all_memory_comes_back(
    requests: list[tuple[list[int], int, int]],
    build: Callable[[], KVMemory],
    prefill_first: bool,
    data: st.DataObject,
) -> None:
    machine = Machine(build(), max_tokens_per_step=8, prefill_first=prefill_first)
    added: list[Sequence] = []
    for prompt, num_new, priority in requests:
        added.append(machine.add(prompt, num_new, priority=priority))
        for _ in range(data.draw(st.integers(0, 3))):
            if machine.scheduler.has_pending_work:
                machine.step()
        if data.draw(st.integers(0, 4)) == 0:  # a client goes away
            machine.scheduler.finish(data.draw(st.sampled_from(added)))
            machine.scheduler.check_integrity()
    machine.run()
    assert all(sequence.state is SequenceState.FINISHED for sequence in added)
    assert machine.scheduler.memory.usage == 0


@settings(max_examples=40, deadline=None)
@given(requests=requests, build=st.sampled_from(list(MEMORIES.values())), num_accepted=st.integers(0, 3))
def test_drafts_never_cost_anyone_memory_and_never_exceed_the_budget(
    requests: list[tuple[list[int], int, int]], build: Callable[[], KVMemory], num_accepted: int
) -> None:
    machine = Machine(build(), max_tokens_per_step=8)
    added = [machine.add(prompt, num_new) for prompt, num_new, _ in requests]
    while machine.scheduler.has_pending_work:
        for sequence in added:
            room = machine.wanted[sequence.sequence_id] - len(sequence.token_ids) - 1
            sequence.draft_token_ids = [1] * min(3, max(0, room)) if sequence.is_decoding else []
        plan = machine.step(num_accepted=num_accepted)
        assert 0 < sum(piece.num_tokens for piece in plan) <= 8


def test_a_long_prompt_is_split_and_decodes_never_wait() -> None:
    machine = Machine(contiguous(), max_tokens_per_step=8)
    short = machine.add([1, 2], 20)
    machine.step()
    long = machine.add([3] * 30, 2)
    sizes = []
    while long.num_uncomputed_tokens > 1:
        plan = {piece.sequence.sequence_id: piece.num_tokens for piece in machine.step()}
        assert plan[short.sequence_id] == 1
        sizes.append(plan[long.sequence_id])
    assert sizes == [7, 7, 7, 7, 2]


def test_prefill_first_runs_whole_prompts_while_decodes_wait() -> None:
    machine = Machine(contiguous(), max_tokens_per_step=8, prefill_first=True)
    machine.add([1, 2], 20)
    machine.step()
    machine.add([3] * 30, 2)
    assert [piece.num_tokens for piece in machine.step()] == [30]
    assert [piece.num_tokens for piece in machine.step()] == [1, 1]


def test_higher_priority_goes_first_but_waiting_wins_in_the_end() -> None:
    machine = Machine(contiguous(), max_num_sequences=1, priority_steps=10)
    machine.add([1], 1)
    humble = machine.add([2], 1, priority=-1)
    for _ in range(40):
        machine.add([3], 1)
        machine.step()
    place = machine.finished.index(humble.sequence_id)
    assert 5 < place < 25


def test_when_memory_runs_out_the_last_in_rank_gives_way_and_is_computed_again() -> None:
    machine = Machine(paged(), max_tokens_per_step=32)
    first, second = machine.add([1] * 20, 20), machine.add([2] * 20, 20)
    machine.run()
    assert first.num_preemptions == 0
    assert second.num_preemptions > 0
    assert machine.finished == [first.sequence_id, second.sequence_id]


@every_memory
def test_the_same_prompt_again_leaves_at_most_one_block_to_compute(build: Callable[[], KVMemory]) -> None:
    for length in range(1, 31):
        machine = Machine(build(), max_tokens_per_step=64)
        prompt = [index * 3 % 11 for index in range(length)]
        machine.add(prompt, 3)
        machine.run()
        again = machine.add(prompt, 3)
        [piece] = machine.step()
        assert 1 <= piece.num_tokens <= BLOCK
        assert again.num_cached_tokens == length - piece.num_tokens


@every_memory
def test_namespaces_share_nothing(build: Callable[[], KVMemory]) -> None:
    memory = build()
    memory.admit(1, [1] * 9, namespace="base")
    memory.reserve(1, 9)
    memory.commit(1, [1] * 9, 9)
    memory.free(1)
    assert memory.admit(2, [1] * 9, namespace="adapter") == 0
    memory.free(2)
    assert memory.admit(3, [1] * 9) == 0
    memory.check_integrity()


def test_a_prefix_in_use_is_never_evicted_and_the_oldest_idle_one_is_first() -> None:
    memory = paged()  # 12 blocks
    for sequence_id, token in ((1, 1), (2, 2), (3, 3)):
        memory.admit(sequence_id, [token] * 9)
        memory.reserve(sequence_id, 9)
        memory.commit(sequence_id, [token] * 9, 9)
    memory.free(2)
    memory.free(1)  # idle, oldest first: 2, 1; in use: 3
    assert memory.admit(4, [4] * 27) is not None  # 7 blocks, 5 of them were free
    memory.check_integrity()
    memory.free(4)
    assert memory.admit(5, [3] * 9) == 8
    memory.free(5)
    assert memory.admit(6, [1] * 9) == 8
    memory.free(6)
    assert memory.admit(7, [2] * 9) == 0


@every_memory
def test_forks_share_until_they_write(build: Callable[[], KVMemory]) -> None:
    memory = build()
    tokens = [1, 2, 3, 4, 5, 6]
    memory.admit(1, tokens)
    memory.reserve(1, 6)
    memory.commit(1, tokens, 6)
    assert memory.fork(1, 2)
    assert memory.reserve(1, 7)
    assert memory.reserve(2, 7)
    memory.check_integrity()
    own = [memory.segments(number, 0, 6, 7)[0].start for number in (1, 2)]
    assert own[0] != own[1]
    copied = sum(copy.source.length for copy in memory.take_copies() if copy.group == 0)
    assert copied == (6 if isinstance(memory, SlotMemory) else 2)
    memory.free(1)
    memory.free(2)
    assert memory.usage == 0


def test_layers_with_a_window_hold_a_window_and_no_more() -> None:
    memory = PagedMemory([KVGroup(6, (0,), 8 * BLOCK)], block_size=BLOCK, max_piece_tokens=8)
    tokens = [1] * 100
    assert memory.max_sequence_tokens > 100
    memory.admit(1, tokens)
    for end in range(8, 97, 8):
        assert memory.reserve(1, end)
        assert sum(segment.length for segment in memory.segments(1, 0, 0, end)) <= 6 + 8 + BLOCK
        memory.commit(1, tokens, end)
        memory.check_integrity()
    memory.free(1)
    assert memory.admit(2, tokens[:97]) == 96  # the last window is enough to go on from


@pytest.mark.parametrize(
    ("limits", "message"),
    [
        ({"max_num_sequences": 0}, "max_num_sequences is 0"),
        ({"max_num_sequences": 9, "max_tokens_per_step": 8}, "does not give each of 9 sequences a token"),
    ],
)
def test_limits_that_cannot_work_are_refused(limits: dict[str, int], message: str) -> None:
    with pytest.raises(InvalidEngineConfig, match=message):
        SchedulerLimits(**limits)
