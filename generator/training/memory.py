"""Keeping the C allocator from giving memory back to the kernel between training steps."""

from __future__ import annotations

import ctypes
import sys

# From glibc's malloc.h.
_M_TRIM_THRESHOLD, _M_TOP_PAD, _M_MMAP_MAX = -1, -2, -4


def keep_freed_memory() -> bool:
    """Make glibc keep freed blocks for the rest of the process; False where there is no glibc.

    A training step frees and asks for the same gigabyte of activations again and again. By default each large
    block is mapped and unmapped, and the page faults cost more than the arithmetic on small matrices.
    """
    if not sys.platform.startswith("linux"):
        return False
    try:
        mallopt = ctypes.CDLL(None).mallopt
    except AttributeError:  # another C library
        return False
    settings = ((_M_MMAP_MAX, 0), (_M_TRIM_THRESHOLD, 2**31 - 1), (_M_TOP_PAD, 2**28))
    accepted = [mallopt(name, value) == 1 for name, value in settings]
    return all(accepted)
