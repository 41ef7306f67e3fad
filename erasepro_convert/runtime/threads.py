"""Computing on several cores so that the result does not depend on how many there are.

The libraries' own threads share out a sum, and rounding depends on the shares.  Here each piece of
work is computed in one thread, and the pieces are the same whatever computes them.
"""

import os
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager
from typing import TypeVar

import torch

MOST = 4
"""Threads; each holds intermediate results of its own."""

Item = TypeVar("Item")
Result = TypeVar("Result")


@contextmanager
def one_thread() -> Iterator[None]:
    """Compute in one thread for a while."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        yield
    finally:
        torch.set_num_threads(before)


def parallel_map(work: Callable[[Item], Result], items: Sequence[Item]) -> list[Result]:
    """``work`` on each item, in inference mode, as many at once as there are cores."""

    def alone(item: Item) -> Result:
        with torch.inference_mode():
            return work(item)

    workers = min(MOST, os.cpu_count() or 1, len(items))
    if workers < 2:
        return [alone(item) for item in items]
    with _threads(workers) as pool:
        return list(pool.map(alone, items))


@contextmanager
def in_background(work: Callable[[], Result]) -> Iterator[Future[Result]]:
    """Do ``work`` in another thread, in inference mode, while the block runs."""
    with _threads(1) as pool:
        yield pool.submit(torch.inference_mode()(work))


def _threads(count: int) -> ThreadPoolExecutor:
    # A new thread has the libraries' default, which is one for each core.
    return ThreadPoolExecutor(count, initializer=torch.set_num_threads, initargs=(1,))
