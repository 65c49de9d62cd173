from __future__ import annotations

from pathlib import Path

import pytest
import torch

from generator.cache.memory import KVGroup
from generator.cache.pool import KVPool
from generator.host_memory import available_host_bytes
from generator.model.config import ModelConfig

GIB = 1 << 30


@pytest.fixture
def meminfo(tmp_path: Path) -> Path:
    path = tmp_path / "meminfo"
    path.write_text("MemTotal:       16777216 kB\nMemFree:          524288 kB\nMemAvailable:    8388608 kB\n")
    return path


def container(folder: Path, *, limit: str, used: int, cached: int) -> Path:
    folder.mkdir()
    (folder / "memory.max").write_text(f"{limit}\n")
    (folder / "memory.current").write_text(f"{used}\n")
    (folder / "memory.stat").write_text(f"anon {used - cached}\ninactive_file {cached}\n")
    return folder


def test_memory_that_only_holds_files_is_available(meminfo: Path, tmp_path: Path) -> None:
    assert available_host_bytes(meminfo=meminfo, cgroup=tmp_path / "none") == 8 * GIB


def test_a_containers_limit_counts_and_the_files_that_it_has_cached_do_not(
    meminfo: Path, tmp_path: Path
) -> None:
    cgroup = container(tmp_path / "cgroup", limit=str(2 * GIB), used=GIB, cached=GIB // 2)
    assert available_host_bytes(meminfo=meminfo, cgroup=cgroup) == 1.5 * GIB


def test_a_container_without_a_limit_may_take_what_the_system_has(meminfo: Path, tmp_path: Path) -> None:
    cgroup = container(tmp_path / "cgroup", limit="max", used=GIB, cached=0)
    assert available_host_bytes(meminfo=meminfo, cgroup=cgroup) == 8 * GIB


def test_where_the_system_does_not_say_it_is_half_of_what_there_is(tmp_path: Path) -> None:
    unknown = available_host_bytes(meminfo=tmp_path / "none", cgroup=tmp_path / "none")
    assert 0 < unknown < 1 << 50


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_a_pool_begins_as_zeros_in_whole_cache_lines(dtype: torch.dtype) -> None:
    config = ModelConfig(
        vocab_size=8,
        hidden_size=12,
        intermediate_size=8,
        num_layers=2,
        num_heads=3,
        num_kv_heads=1,
        head_dim=4,
        max_positions=8,
    )
    groups = [KVGroup(window=None, layers=(0, 1), num_slots=5)]
    pool = KVPool(config, groups, device=torch.device("cpu"), dtype=dtype)
    for part in (*pool.keys, *pool.values):
        assert part.shape == (5, 1, 4)
        assert part.dtype == dtype
        assert part.data_ptr() % 64 == 0
        assert not part.any()
