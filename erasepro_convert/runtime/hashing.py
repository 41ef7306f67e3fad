"""A SHA-256 for each tensor that depends on nothing but the tensor.

It covers name (in the original spelling), dtype, shape and values, so a copy that was saved anew,
in another order, container or spelling, can still be matched.
"""

import hashlib
import json
from collections.abc import Iterable, Mapping, Sequence
from typing import Protocol


class Hash(Protocol):
    """A digest in the making."""

    def update(self, data: memoryview, /) -> None:
        """Add bytes."""

    def hexdigest(self) -> str:
        """The digest so far."""


def begin_tensor(name: str, dtype: str, shape: Sequence[int]) -> Hash:
    """The digest of a tensor before its values, which follow packed, row-major, little-endian.

    What goes before them is ``[name, dtype, shape]`` as JSON without white space, and a newline.
    """
    head = json.dumps([name, dtype, list(shape)], ensure_ascii=False, separators=(",", ":"))
    return hashlib.sha256(f"{head}\n".encode())


def tensor_digest(name: str, dtype: str, shape: Sequence[int], chunks: Iterable[memoryview]) -> str:
    """The digest of a tensor whose values come in pieces."""
    digest = begin_tensor(name, dtype, shape)
    for chunk in chunks:
        digest.update(chunk)
    return digest.hexdigest()


def tensors_digest(digests: Mapping[str, str]) -> str:
    """One digest over all tensors: of a line ``digest  name`` each, sorted by name."""
    lines = (f"{digest}  {name}\n" for name, digest in sorted(digests.items()))
    return hashlib.sha256("".join(lines).encode()).hexdigest()


def files_digest(digests: Sequence[str]) -> str:
    """One digest of a checkpoint's weight files: a single one's own, else one over all of them."""
    return digests[0] if len(digests) == 1 else json_digest(sorted(digests))


def canonical(data: object) -> str:
    """JSON in one way only: sorted keys, no white space."""
    return json.dumps(data, sort_keys=True, separators=(",", ":"), ensure_ascii=False)


def pretty(data: object) -> str:
    """JSON for people too: sorted keys, indented, a final newline."""
    return json.dumps(data, indent=2, sort_keys=True, ensure_ascii=False, allow_nan=False) + "\n"


def json_digest(data: object) -> str:
    """The digest of canonical JSON."""
    return hashlib.sha256(canonical(data).encode()).hexdigest()
