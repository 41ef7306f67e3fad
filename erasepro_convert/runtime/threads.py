"""Computing on several cores so that the result does not depend on how many there are.

The libraries' own threads divide a sum among them, and rounding depends on how it is divided.  Here
each item is computed in one thread, and the items do not depend on the number of threads.
"""

import os
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager
from typing import TypeVar

import torch

THREAD_LIMIT = 8
"""Each thread holds some 40 MB of intermediate results of its own."""

Item = TypeVar("Item")
Result = TypeVar("Result")


@contextmanager
def one_thread() -> Iterator[None]:
    """Let torch compute in one thread during the block."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        yield
    finally:
        torch.set_num_threads(before)


def parallel_map(work: Callable[[Item], Result], items: Sequence[Item]) -> list[Result]:
    """Apply ``work`` to each item, in inference mode, to as many at once as there are cores."""
    return list(parallel_results(work, items))


def parallel_results(work: Callable[[Item], Result], items: Sequence[Item]) -> Iterator[Result]:
    """Yield the results of ``parallel_map`` in order, so that no more are held than wait."""

    def work_in_inference_mode(item: Item) -> Result:
        with torch.inference_mode():
            return work(item)

    workers = min(THREAD_LIMIT, os.cpu_count() or 1, len(items))
    if workers < 2:
        yield from map(work_in_inference_mode, items)
        return
    with _single_core_threads(workers) as pool:
        yield from pool.map(work_in_inference_mode, items)


@contextmanager
def running_in_background(work: Callable[[], Result]) -> Iterator[Future[Result]]:
    """Do ``work`` in another thread, in inference mode, while the block runs."""
    with _single_core_threads(1) as pool:
        yield pool.submit(torch.inference_mode()(work))


def _single_core_threads(count: int) -> ThreadPoolExecutor:
    # In a new thread torch would compute on all cores again.
    return ThreadPoolExecutor(count, initializer=torch.set_num_threads, initargs=(1,))
