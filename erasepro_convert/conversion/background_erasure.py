"""The erasure in another thread, beside the reading and writing of what it does not edit."""

from collections.abc import Callable, Iterator
from concurrent.futures import CancelledError, Future, ThreadPoolExecutor
from contextlib import contextmanager
from threading import Event
from typing import TYPE_CHECKING

from erasepro_convert.conversion.preflight import Conversion
from erasepro_convert.runtime.dtypes import option_dtype
from erasepro_convert.runtime.progress import Progress

if TYPE_CHECKING:
    from torch import Tensor

    from erasepro_convert.conversion.erase_checkpoint import CheckpointErasure


class BackgroundErasure:
    """The erasure of one checkpoint, which may not be done yet."""

    def __init__(self, conversion: Conversion, future: "Future[CheckpointErasure]") -> None:
        self._conversion = conversion
        self._future = future

    def result(self) -> "CheckpointErasure":
        """Wait for the erasure, and return it.  Raises what it raised."""
        return self._future.result()

    def guarding(self, report: Callable[[int, int], None]) -> Callable[[int, int], None]:
        """Return ``report`` with a check: it raises the erasure's error once that has failed."""

        def guarded(done: int, total: int) -> None:
            if self._future.done():
                self._future.result()
            report(done, total)

        return guarded

    def weight(self, name: str) -> "Tensor":
        """Wait for the erasure, and return a matrix that the recipe edits as it is written.

        Where all targets were erased before, that is the matrix as it was.
        """
        edited = self.result().weights.get(name)
        if edited is not None:
            return edited
        dtype = option_dtype(self._conversion.options.dtype)
        stored = self._conversion.base.read(name)
        return stored.to(dtype) if dtype else stored


@contextmanager
def erasing(
    conversion: Conversion,
    already_erased: frozenset[str] | None,
    progress: Progress,
    *,
    anew: bool = False,
) -> Iterator[BackgroundErasure]:
    """Erase while the block runs; what is left to do at its end is given up."""
    over = Event()

    def report(stage: str, done: int, total: int) -> None:
        if over.is_set():
            raise CancelledError
        progress(stage, done, total)

    def erase() -> "CheckpointErasure":
        # Imported here, so that reading and writing do not wait for torch.
        from erasepro_convert.conversion.erase_checkpoint import erase_checkpoint

        return erase_checkpoint(conversion, already_erased, report, anew=anew)

    with ThreadPoolExecutor(1) as thread:
        future = thread.submit(erase)
        try:
            yield BackgroundErasure(conversion, future)
        finally:
            over.set()
            conversion.base.checkpoint.give_up()
