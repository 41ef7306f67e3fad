"""Keep the C library from holding on to memory that is free."""

import ctypes

M_MMAP_THRESHOLD, M_ARENA_MAX = -3, -8
LARGE = 6 << 20
"""Bytes: above the pieces in which files are read, which are wanted again at once."""
HEAPS = 2


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
