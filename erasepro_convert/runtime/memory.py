"""Settings of the memory allocator, and how much memory is free."""

import ctypes
import gc
import os
from contextlib import suppress
from pathlib import Path

M_TRIM_THRESHOLD, M_MMAP_THRESHOLD, M_ARENA_MAX = -1, -3, -8
"""The numbers of some settings of glibc's ``mallopt``."""
CHUNK_SIZE = 1 << 20
"""Bytes that are read, hashed and written at a time, few enough to stay in a core's cache."""

LARGE_BLOCK = 6 << 20
"""Bytes from which a block goes back to the system when it is freed.

Chunks of files are smaller: their memory is needed again at once."""
FREE_AT_THE_END = 8 << 20
"""Bytes that a heap may keep free at its end."""
HEAPS = 2
"""The heaps that glibc may keep."""
OBJECTS = 50_000
"""New objects after which Python looks for cycles: importing torch makes more, and all stay."""
CGROUP_LIMITS = ("/sys/fs/cgroup/memory.max", "/sys/fs/cgroup/memory/memory.limit_in_bytes")
"""Files with a container's limit, in the new and the old form of control groups."""


def configure_allocator() -> None:
    """Make glibc, where it is used, give large freed blocks back to the system.

    By default glibc keeps a heap for each thread, and puts into the heaps every block that is no
    larger than the largest one freed so far.  A conversion then takes half as much memory again,
    which lies unused between blocks.  Python is made to look for garbage less often.
    """
    mallopt = getattr(ctypes.CDLL(None), "mallopt", None)
    if mallopt:
        mallopt(M_MMAP_THRESHOLD, LARGE_BLOCK)
        mallopt(M_TRIM_THRESHOLD, FREE_AT_THE_END)
        mallopt(M_ARENA_MAX, HEAPS)
    gc.set_threshold(OBJECTS)


def free_memory() -> int:
    """Return the bytes of memory that new processes can take without forcing others to swap.

    This is what Linux reports as available, or a container's limit where it is lower.  On other
    systems it is all memory of the machine.
    """
    limits = [os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")]
    with suppress(OSError):
        lines = Path("/proc/meminfo").read_text("ascii").splitlines()
        limits += [int(line.split()[1]) << 10 for line in lines if line.startswith("MemAvailable")]
    for path in CGROUP_LIMITS:
        with suppress(OSError, ValueError):  # the file says "max" where there is no limit
            limits.append(int(Path(path).read_text("ascii")))
    return min(limits)
