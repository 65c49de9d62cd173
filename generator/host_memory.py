"""How much memory this process may still take without the system having to end somebody."""

from __future__ import annotations

import os
from pathlib import Path

_MEMINFO = Path("/proc/meminfo")
_CGROUP = Path("/sys/fs/cgroup")  # version 2: where a container's limit is


def available_host_bytes(*, meminfo: Path = _MEMINFO, cgroup: Path = _CGROUP) -> int:
    """Bytes that are free, or hold files that the system can read again; within a container's limit.

    Where the system does not say (it is Linux that does), half of the memory that there is, or 4 GiB.
    """
    found = [number for number in (_of_the_system(meminfo), _of_the_container(cgroup)) if number is not None]
    return min(found) if found else _physical_bytes() // 2


def _of_the_system(meminfo: Path) -> int | None:
    return _field(meminfo, "MemAvailable:", scale=1024)


def _of_the_container(cgroup: Path) -> int | None:
    try:
        limit, used = ((cgroup / f"memory.{name}").read_text().strip() for name in ("max", "current"))
    except OSError:
        return None
    if limit == "max":
        return None
    cached_files = _field(cgroup / "memory.stat", "inactive_file", scale=1) or 0
    return max(int(limit) - int(used) + cached_files, 0)


def _field(path: Path, name: str, *, scale: int) -> int | None:
    try:
        lines = path.read_text().splitlines()
    except OSError:
        return None
    return next((int(line.split()[1]) * scale for line in lines if line.split()[0] == name), None)


def _physical_bytes() -> int:
    try:
        return os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")
    except (AttributeError, ValueError, OSError):  # Windows; a system without these names
        return 8 << 30
