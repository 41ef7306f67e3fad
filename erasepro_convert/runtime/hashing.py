"""SHA-256 digests of tensors, of files and of JSON.

The digest of a tensor covers its name (in the original spelling), dtype, shape and values and
nothing else.  A copy that was saved in another order, container or spelling has the same digest.
"""

import hashlib
import json
from collections.abc import Iterable, Mapping, Sequence
from typing import Protocol


class Hash(Protocol):
    """A digest that bytes are still added to."""

    def update(self, data: memoryview, /) -> None:
        """Add bytes."""

    def hexdigest(self) -> str:
        """Return the digest of the bytes added so far."""


def begin_tensor_digest(name: str, dtype: str, shape: Sequence[int]) -> Hash:
    """Begin the digest of a tensor; its values are to follow packed, row-major, little-endian.

    The digest begins with ``[name, dtype, shape]`` as JSON without white space, and a newline.
    """
    head = json.dumps([name, dtype, list(shape)], ensure_ascii=False, separators=(",", ":"))
    return hashlib.sha256(f"{head}\n".encode())


def tensor_digest(name: str, dtype: str, shape: Sequence[int], chunks: Iterable[memoryview]) -> str:
    """Return the digest of a tensor whose values come in chunks."""
    digest = begin_tensor_digest(name, dtype, shape)
    for chunk in chunks:
        digest.update(chunk)
    return digest.hexdigest()


def tensors_digest(digests: Mapping[str, str]) -> str:
    """Return one digest over all tensors: that of their lines ``digest  name``, sorted by name."""
    lines = (f"{digest}  {name}\n" for name, digest in sorted(digests.items()))
    return hashlib.sha256("".join(lines).encode()).hexdigest()


def files_digest(digests: Sequence[str]) -> str:
    """Return one digest of all weight files: that of a single file, or one over their digests."""
    return digests[0] if len(digests) == 1 else json_digest(sorted(digests))


def canonical_json(data: object) -> str:
    """Return JSON with sorted keys and no white space, so that there is one way to write it."""
    return json.dumps(data, sort_keys=True, separators=(",", ":"), ensure_ascii=False)


def pretty_json(data: object) -> str:
    """Return JSON that people read too: sorted keys, indented, with a final newline."""
    return json.dumps(data, indent=2, sort_keys=True, ensure_ascii=False, allow_nan=False) + "\n"


def json_digest(data: object) -> str:
    """Return the digest of ``data`` as canonical JSON."""
    return hashlib.sha256(canonical_json(data).encode()).hexdigest()
