from __future__ import annotations

import subprocess
import sys

import pytest

# glibc counts the blocks that it has mapped one by one; they go back to the kernel when they are freed.
PROBE = """
import ctypes, sys
from generator.training.memory import keep_freed_memory

libc = ctypes.CDLL(None)
if not hasattr(libc, "mallinfo2"):  # glibc before 2.33
    sys.exit("no mallinfo2")
names = "arena ordblks smblks hblks hblkhd usmblks fsmblks uordblks fordblks keepcost".split()
Info = type("Info", (ctypes.Structure,), {"_fields_": [(name, ctypes.c_size_t) for name in names]})
libc.mallinfo2.restype = Info
libc.malloc.restype = ctypes.c_void_p

def maps_a_large_block():
    before = libc.mallinfo2().hblks
    assert libc.malloc(ctypes.c_size_t(64 << 20))
    return libc.mallinfo2().hblks > before

untuned = maps_a_large_block()
assert keep_freed_memory()
print(untuned, maps_a_large_block())
"""


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="glibc's allocator")
def test_large_blocks_come_from_the_heap_so_that_freed_ones_are_kept() -> None:
    done = subprocess.run([sys.executable, "-c", PROBE], capture_output=True, text=True, check=False)
    if "no mallinfo2" in done.stderr:
        pytest.skip("this C library does not count its blocks")
    assert done.stdout.split() == ["True", "False"], done.stderr
