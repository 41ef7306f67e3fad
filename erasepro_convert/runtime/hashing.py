"""A SHA-256 for each tensor that depends on nothing but the tensor.

It covers name (in the original spelling), dtype, shape and values, so a copy that was saved anew,
in another order, container or spelling, can still be matched.
"""

import hashlib
import json
from collections import deque
from collections.abc import Callable, Iterable, Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from typing import Protocol, TypeVar


class Hash(Protocol):
    """A digest in the making."""

    def update(self, data: memoryview, /) -> None:
        """Add bytes."""

    def hexdigest(self) -> str:
        """The digest so far."""


Argument = TypeVar("Argument")


class Lane:
    """A thread for work to be done in order, such as adding bytes to a digest.

    Hashing, reading and writing let other threads run.
    """

    DEPTH = 4
    """How much may wait: what is to be hashed stays in memory so long."""

    def __init__(self) -> None:
        self._thread = ThreadPoolExecutor(1)
        self._waiting: deque[Future[object]] = deque()

    def run(self, work: Callable[[Argument], object], argument: Argument) -> None:
        """Have it done; wait where too much does.  Raises what earlier work raised."""
        if len(self._waiting) == self.DEPTH:
            self._waiting.popleft().result()
        self._waiting.append(self._thread.submit(work, argument))

    def join(self) -> None:
        """Wait until all is done.  Raises what it raised."""
        while self._waiting:
            self._waiting.popleft().result()


def begin_tensor(name: str, dtype: str, shape: Sequence[int]) -> Hash:
    """The digest of a tensor before its values, which follow packed, row-major, little-endian.

    What goes before them is ``[name, dtype, shape]`` as JSON without white space, and a newline.
    """
    head = json.dumps([name, dtype, list(shape)], ensure_ascii=False, separators=(",", ":"))
    return hashlib.sha256(f"{head}\n".encode())


def of_tensor(name: str, dtype: str, shape: Sequence[int], chunks: Iterable[memoryview]) -> str:
    """The digest of a tensor whose values come in pieces."""
    digest = begin_tensor(name, dtype, shape)
    for chunk in chunks:
        digest.update(chunk)
    return digest.hexdigest()


def of_all(digests: Mapping[str, str]) -> str:
    """One digest over all tensors: of a line ``digest  name`` each, sorted by name."""
    lines = (f"{digest}  {name}\n" for name, digest in sorted(digests.items()))
    return hashlib.sha256("".join(lines).encode()).hexdigest()


def of_files(digests: Sequence[str]) -> str:
    """One digest of a checkpoint's weight files: a single one's own, else one over all of them."""
    return digests[0] if len(digests) == 1 else of_json(sorted(digests))


def canonical(data: object) -> str:
    """JSON in one way only: sorted keys, no white space."""
    return json.dumps(data, sort_keys=True, separators=(",", ":"), ensure_ascii=False)


def pretty(data: object) -> str:
    """JSON for people too: sorted keys, indented, a final newline."""
    return json.dumps(data, indent=2, sort_keys=True, ensure_ascii=False, allow_nan=False) + "\n"


def of_json(data: object) -> str:
    """The digest of canonical JSON."""
    return hashlib.sha256(canonical(data).encode()).hexdigest()
