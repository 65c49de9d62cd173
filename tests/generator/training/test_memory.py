from __future__ import annotations

import subprocess
import sys

import pytest

PROBE = """
import resource, torch
from generator.training.memory import keep_freed_memory
assert keep_freed_memory()
torch.ones(4_000_000)
before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
for _ in range(20):
    torch.ones(4_000_000)
print(resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before)
"""


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="glibc's allocator")
def test_a_freed_block_is_used_again_without_page_faults() -> None:
    # Where the kernel happens to lay a mapping behind the heap, the heap cannot grow and the allocator maps
    # each block anew: address space randomisation decides, so a few processes get a chance.
    assert any(_num_page_faults() < 8000 for _ in range(10))  # untuned: 16 MB of pages, twenty times: 31,000


def _num_page_faults() -> int:
    done = subprocess.run([sys.executable, "-c", PROBE], capture_output=True, text=True, check=True)
    return int(done.stdout)
