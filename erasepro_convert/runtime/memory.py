"""What the operating system has to be told about memory, and what it tells."""

import ctypes
import os
from contextlib import suppress
from pathlib import Path

M_MMAP_THRESHOLD, M_ARENA_MAX = -3, -8
CHUNK = 4 << 20
"""Bytes that are read, hashed and written at a time: few enough to stay in the CPU's cache."""

LARGE = 6 << 20
"""Bytes: above the pieces in which files are read, which are wanted again at once."""
HEAPS = 2
CGROUP = ("/sys/fs/cgroup/memory.max", "/sys/fs/cgroup/memory/memory.limit_in_bytes")


def give_back_memory() -> None:
    """Have large blocks go back to the system when they are freed, where glibc is used.

    glibc keeps a heap for each thread, and raises the size from which blocks are kept out of the
    heaps to the largest block freed so far.  A conversion then takes half as much memory again, in
    holes.
    """
    mallopt = getattr(ctypes.CDLL(None), "mallopt", None)
    if mallopt:
        mallopt(M_MMAP_THRESHOLD, LARGE)
        mallopt(M_ARENA_MAX, HEAPS)


def free_memory() -> int:
    """Bytes that new processes can take without driving others out.

    That is what Linux says is available, or a container's limit where it is lower; elsewhere, all
    of the machine's.
    """
    found = [os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")]
    with suppress(OSError):
        lines = Path("/proc/meminfo").read_text("ascii").splitlines()
        found += [int(line.split()[1]) << 10 for line in lines if line.startswith("MemAvailable")]
    for path in CGROUP:
        with suppress(OSError, ValueError):  # "max" is no limit
            found.append(int(Path(path).read_text("ascii")))
    return min(found)
