"""A SHA-256 for each tensor that depends on nothing but the tensor.

It covers name (in the original spelling), dtype, shape and values, so a copy that was saved anew,
in another order, container or spelling, can still be matched.
"""

import hashlib
import json
from collections.abc import Iterable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from typing import Protocol


class Hash(Protocol):
    """A digest in the making."""

    def update(self, data: memoryview, /) -> None:
        """Add bytes."""

    def hexdigest(self) -> str:
        """The digest so far."""


@contextmanager
def updating(
    threads: ThreadPoolExecutor, chunks: Iterable[tuple[Hash, memoryview]]
) -> Iterator[None]:
    """Add bytes to several digests while the block runs; hashing lets other threads run."""
    updates = [threads.submit(digest.update, chunk) for digest, chunk in chunks]
    yield
    for update in updates:
        update.result()


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


def canonical(data: object) -> str:
    """JSON in one way only: sorted keys, no white space."""
    return json.dumps(data, sort_keys=True, separators=(",", ":"), ensure_ascii=False)


def of_json(data: object) -> str:
    """The digest of canonical JSON."""
    return hashlib.sha256(canonical(data).encode()).hexdigest()
